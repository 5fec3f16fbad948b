"""Tokens and teams: who is let in, who is not, and what a user's program then catches."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from tests.clients.learning import numbers, trained, upload
from tests.clients.talk import refusal

VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_WORKSPACE",
)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Change the variables that a client reads at each call; those not named are unset."""
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    address = before["MLFLOW_TRACKING_URI"] or ""
    os.environ.update({"MLFLOW_TRACKING_URI": address, **variables})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def names() -> list[str]:
    """Return the models that a new client sees."""
    return sorted(model.name for model in MlflowClient().search_registered_models())


def refusals(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the error of each mistake that a program may make."""
    client = MlflowClient()
    client.create_registered_model("taken")
    client.create_model_version("taken", "s3://bucket/taken")
    mistakes: dict[str, Callable[[], Any]] = {
        "taken": lambda: client.create_registered_model("taken"),
        "onto taken": lambda: client.rename_registered_model("quality", "taken"),
        "no model": lambda: client.get_registered_model("nobody's"),
        "others' model": lambda: client.get_registered_model(asked["others"]),
        "no version": lambda: client.get_model_version("taken", "9"),
        "others' version": lambda: client.get_model_version(asked["others"], "1"),
        "delete others'": lambda: client.delete_registered_model(asked["others"]),
        "no alias": lambda: client.get_model_version_by_alias("taken", "nowhere"),
        "alias of nothing": lambda: client.set_registered_model_alias("taken", "here", "9"),
        "bad stage": lambda: client.transition_model_version_stage("taken", "1", "Bogus"),
        "bad filter": lambda: client.search_registered_models("color = 'blue'"),
        "nothing there": lambda: client.create_model_version(
            "taken", "mlflow-artifacts:/nothing/there"
        ),
        "others' files": lambda: client.create_model_version("taken", asked["others files"]),
        "load nothing": lambda: mlflow.pyfunc.load_model("models:/nobody's/1"),
    }
    return {what: refusal(mistake) for what, mistake in mistakes.items()}


def tokens(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Come with each kind of token, good and bad."""
    said: dict[str, Any] = {}
    for kind in ("wrong", "revoked", "expired"):
        with environment(MLFLOW_TRACKING_TOKEN=asked[kind]):
            said[kind] = refusal(names)
    with environment():
        said["none"] = refusal(names)
    with environment(MLFLOW_TRACKING_TOKEN=asked["reads"]):
        said["reads"] = {
            "names": names(),
            "type": type(mlflow.pyfunc.load_model("models:/quality/1")).__name__,
            "register": refusal(
                lambda: mlflow.register_model("mlflow-artifacts:/models/quality/1", "mine")
            ),
            "delete": refusal(lambda: MlflowClient().delete_registered_model("quality")),
        }
    with environment(MLFLOW_TRACKING_TOKEN=asked["robot"]):
        MlflowClient().create_registered_model("made by robo")
        said["robot"] = names()
    with environment(MLFLOW_TRACKING_USERNAME="x", MLFLOW_TRACKING_PASSWORD=asked["robot"]):
        MlflowClient().create_registered_model("made with a password")
        said["password"] = names()
    return said


def teams(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Work in two teams with the one token of somebody who is in both.

    The model is the one that was saved before, by ``life``.
    """
    rows, _ = trained(asked["data"])
    token, site, made = asked["both"], os.environ["MLFLOW_TRACKING_URI"], asked["makes"]
    said: dict[str, Any] = {}
    with environment(MLFLOW_TRACKING_TOKEN=token):
        said["unnamed"] = refusal(names)
    for slug in ("team_alpha", "team_gamma"):
        uri = f"{site}/t/{slug}"
        with environment(MLFLOW_TRACKING_TOKEN=token, MLFLOW_TRACKING_URI=uri):
            upload(folder / "saved-1", f"mlflow-artifacts:/{made}")
            mlflow.register_model(f"mlflow-artifacts:/{made}", f"{made} {slug}")
            loaded = mlflow.sklearn.load_model(f"models:/{made} {slug}/1")
            said[slug] = {"names": names(), "loaded": numbers(loaded, rows)}
    uri = f"{site}/t/team_nobody"
    with environment(MLFLOW_TRACKING_TOKEN=token, MLFLOW_TRACKING_URI=uri):
        said["nobody's"] = refusal(names)
    uri = f"{site}/t/{asked['other team']}"
    with environment(MLFLOW_TRACKING_TOKEN=asked["writes"], MLFLOW_TRACKING_URI=uri):
        said["others'"] = refusal(names)
    if hasattr(mlflow, "set_workspace"):  # MLflow 2 knows no workspaces
        said["workspaces"] = _workspaces(asked, token, rows)
    return said


def _workspaces(asked: dict[str, Any], token: str, rows: Any) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for slug in ("team-alpha", "team-gamma"):
        name = f"{asked['makes']} {slug}"
        with environment(MLFLOW_TRACKING_TOKEN=token, MLFLOW_WORKSPACE=slug):
            mlflow.register_model(f"mlflow-artifacts:/{asked['makes']}", name)
            loaded = mlflow.sklearn.load_model(f"models:/{name}/1")
            said[slug] = {"names": names(), "loaded": numbers(loaded, rows)}
    with environment(MLFLOW_TRACKING_TOKEN=token):
        said["listed"] = sorted(found.name for found in mlflow.list_workspaces())
        said["got"] = mlflow.get_workspace("team-gamma").name
        try:
            for slug in ("team-alpha", "team-gamma"):
                mlflow.set_workspace(slug)
                said[f"set {slug}"] = names()
            mlflow.set_workspace("team-nobody")
            said["nobody's"] = refusal(names)
        finally:
            mlflow.set_workspace(None)
    other = asked["other team"].replace("_", "-")
    with environment(MLFLOW_TRACKING_TOKEN=asked["writes"], MLFLOW_WORKSPACE=other):
        said["others'"] = refusal(names)
    with environment(MLFLOW_TRACKING_TOKEN=asked["robot"], MLFLOW_WORKSPACE=other):
        said["robot elsewhere"] = refusal(names)
    return said


def prompts(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Register a prompt, which MLflow keeps as a model of a kind of its own."""
    at = getattr(mlflow, "genai", mlflow)
    at = at if hasattr(at, "register_prompt") else mlflow
    at.register_prompt(name="greeting", template="Hello {{ name }}!", tags={"tone": "kind"})
    at.register_prompt(name="greeting", template="Good day, {{ name }}.")
    loaded = at.load_prompt("prompts:/greeting/1")
    newest = at.load_prompt("greeting", version=2)
    return {
        "template": loaded.template,
        "newest": newest.format(name="Ada"),
        "names": names(),
        "versions": [v.name for v in MlflowClient().search_model_versions("name = 'greeting'")],
        "asked for": [
            model.name
            for model in MlflowClient().search_registered_models(
                "tags.`mlflow.prompt.is_prompt` = 'true'"
            )
        ],
        "as a model": refusal(lambda: mlflow.pyfunc.load_model("models:/greeting/1")),
    }
