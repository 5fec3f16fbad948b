"""The whole life of a model, from its training to its deletion."""

from pathlib import Path
from typing import Any

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import mlflow.sklearn
from mlflow import MlflowClient

from tests.clients.learning import numbers, save, trained, upload
from tests.clients.talk import refusal

NAME = "quality"


def register(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, save, upload and register two versions of one model, and describe them."""
    client = MlflowClient()
    seen = client.get_registered_model(asked["seen"])
    rows, models = trained(asked["data"])
    client.create_registered_model(NAME, tags={"team": asked["team"]}, description="first words")
    versions = []
    for number, model in enumerate(models, 1):
        save(model, folder / f"saved-{number}")
        uri = f"mlflow-artifacts:/models/{NAME}/{number}"
        upload(folder / f"saved-{number}", uri)
        version = mlflow.register_model(uri, NAME, tags={"data": asked["data"]})
        versions.append([version.version, version.status, version.source])
    client.update_registered_model(NAME, description=f"Tells {asked['data']} apart")
    client.set_registered_model_tag(NAME, "task", "classification")
    client.set_registered_model_tag(NAME, "wrong", "tag")
    client.delete_registered_model_tag(NAME, "wrong")
    client.update_model_version(NAME, "1", description="a **logistic** regression")
    client.set_model_version_tag(NAME, "1", "kernel", "none")
    client.set_model_version_tag(NAME, "1", "wrong", "tag")
    client.delete_model_version_tag(NAME, "1", "wrong")
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_registered_model_alias(NAME, "challenger", "2")
    found = client.get_registered_model(NAME)
    first = client.get_model_version(NAME, "1")
    return {
        "client": mlflow.__version__,
        "seen": [seen.description, seen.tags],
        "versions": versions,
        "trained": [numbers(model, rows) for model in models],
        "predicted": [list(map(int, model.predict(rows))) for model in models],
        "model": [found.description, found.tags, found.aliases],
        "version": [first.description, first.tags, sorted(first.aliases), first.current_stage],
        "by alias": client.get_model_version_by_alias(NAME, "champion").version,
    }


def stage(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Move versions through the stages, which MLflow 3 still has, though it warns of them."""
    client = MlflowClient()

    def stages() -> list[str | None]:
        versions = client.search_model_versions(f"name = '{NAME}'")
        return [v.current_stage for v in sorted(versions, key=lambda v: int(v.version))]

    client.transition_model_version_stage(NAME, "1", "Production")
    client.transition_model_version_stage(NAME, "2", "staging")
    before = stages()
    latest = {v.current_stage: v.version for v in client.get_latest_versions(NAME)}
    only = [v.version for v in client.get_latest_versions(NAME, ["Production"])]
    client.transition_model_version_stage(NAME, "2", "Production", archive_existing_versions=True)
    return {"before": before, "latest": latest, "only": only, "after": stages()}


def load(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load the versions by each kind of address that there is."""
    rows, _ = trained(asked["data"])
    addresses = {
        f"models:/{NAME}/1": "1",
        f"models:/{NAME}/2": "2",
        f"models:/{NAME}@champion": "1",
        f"models:/{NAME}@challenger": "2",
        f"models:/{NAME}/latest": "2",
        f"models:/{NAME}/Production": "2",
    }
    loaded, predicted = {}, {}
    for address in addresses:
        loaded[address] = numbers(mlflow.sklearn.load_model(address), rows)
        model = mlflow.pyfunc.load_model(address)
        predicted[address] = list(map(int, model.predict(rows)))
    for number in (1, 2):
        target = folder / f"downloaded-{number}"
        target.mkdir()
        mlflow.artifacts.download_artifacts(f"models:/{NAME}/{number}", dst_path=str(target))
    one = mlflow.artifacts.download_artifacts(f"models:/{NAME}/1/MLmodel", dst_path=str(folder))
    listed = mlflow.artifacts.list_artifacts(f"models:/{NAME}/1")
    return {
        "is": addresses,
        "loaded": loaded,
        "predicted": predicted,
        "one": Path(one).read_text(),
        "listed": {file.path: file.file_size for file in listed},
    }


def change(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Copy, rename and delete, on a model beside the first one."""
    client = MlflowClient()
    rows, _ = trained(asked["data"])
    copied = client.copy_model_version(f"models:/{NAME}@champion", "copied")
    again = client.copy_model_version(f"models:/{NAME}/2", "copied")
    client.set_registered_model_alias("copied", "champion", copied.version)
    client.rename_registered_model("copied", "renamed")
    old = refusal(lambda: client.get_registered_model("copied"))
    loaded = numbers(mlflow.sklearn.load_model("models:/renamed@champion"), rows)
    client.delete_registered_model_alias("renamed", "champion")
    client.delete_registered_model_alias("renamed", "champion")  # twice is no error
    no_alias = refusal(lambda: client.get_model_version_by_alias("renamed", "champion"))
    client.delete_model_version("renamed", again.version)
    no_version = refusal(lambda: client.get_model_version("renamed", again.version))
    left = [v.version for v in client.search_model_versions("name = 'renamed'")]
    client.delete_registered_model("renamed")
    return {
        "copies": [[v.name, v.version, v.source] for v in (copied, again)],
        "loaded": loaded,
        "old name": old,
        "no alias": no_alias,
        "no version": no_version,
        "left": left,
        "deleted": refusal(lambda: client.get_registered_model("renamed")),
        "names": sorted(model.name for model in client.search_registered_models()),
    }
