"""A program in a pod: it has no secret, only the files that its cluster mounts."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from tests.clients.doors import names
from tests.clients.learning import numbers, save, trained, upload
from tests.clients.talk import refusal


def pod(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Register a model, load it again, and try to get at another team's."""
    if asked["mounted"]:
        _mount(Path(asked["mounted"]))
    client = MlflowClient()
    said: dict[str, Any] = {"before": names()}
    rows, [model, _] = trained(asked["data"])
    save(model, folder / "saved")
    name = asked["makes"]
    upload(folder / "saved", f"mlflow-artifacts:/{name}")
    version = mlflow.register_model(f"mlflow-artifacts:/{name}", name)
    client.set_registered_model_alias(name, "champion", version.version)
    loaded = mlflow.sklearn.load_model(f"models:/{name}@champion")
    said["after"] = names()
    said["same"] = numbers(loaded, rows) == numbers(model, rows)
    said["others"] = refusal(lambda: client.get_registered_model(asked["others"]))
    said["nobody's"] = refusal(lambda: client.get_registered_model("nobody's"))
    said["delete"] = refusal(lambda: client.delete_registered_model(name))
    if hasattr(mlflow, "set_workspace"):  # MLflow 2 knows no workspaces
        said["workspaces"] = [found.name for found in mlflow.list_workspaces()]
        try:
            mlflow.set_workspace(asked["other workspace"])
            said["other workspace"] = refusal(names)
        finally:
            mlflow.set_workspace(None)
    return said


def _mount(folder: Path) -> None:
    """Let the client find the files there; a test has no right to put any where a cluster does."""
    from mlflow.tracking.request_auth import kubernetes_request_auth_provider as provider

    provider._SERVICE_ACCOUNT_TOKEN_PATH = folder / "token"
    provider._SERVICE_ACCOUNT_NAMESPACE_PATH = folder / "namespace"
