"""A tracking server elsewhere, the registry here: runs and files there, names and versions here."""

from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
from mlflow import MlflowClient

from tests.clients.doors import environment, names
from tests.clients.learning import numbers, trained
from tests.clients.talk import refusal


def beside(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Log models in a run and register them, both at once and one after the other; load both.

    The tracking server takes a user and a password, the registry the token in ``~/.netrc``.
    """
    netrc = folder / ".netrc"
    netrc.write_text(f"machine localhost login token password {asked['token']}")
    netrc.chmod(0o600)
    servers = {"MLFLOW_TRACKING_URI": asked["tracking"], "MLFLOW_REGISTRY_URI": asked["registry"]}
    user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": asked["password"]}
    with environment(**servers, **user):
        said = _logged_there_registered_here(asked["experiment"])
    if hasattr(mlflow, "set_workspace"):
        with environment(**servers, **user, MLFLOW_WORKSPACE="team-gamma"):
            said["workspace here"] = names()
            said["workspace there"] = refusal(mlflow.search_experiments)
    netrc.unlink()
    with environment(**servers, MLFLOW_TRACKING_TOKEN=asked["token"]):
        said["here with the token"] = names()
        said["there with the token"] = refusal(mlflow.search_experiments)
    return said


def _logged_there_registered_here(experiment: str) -> dict[str, Any]:
    rows, (first, second) = trained("iris")
    client = MlflowClient()
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as run:
        mlflow.log_metric("accuracy", 0.9)
        mlflow.sklearn.log_model(
            first, "one", registered_model_name="beside", pip_requirements=["scikit-learn"]
        )
        mlflow.sklearn.log_model(second, "two", pip_requirements=["scikit-learn"])
    mlflow.register_model(f"runs:/{run.info.run_id}/two", "beside")
    client.set_registered_model_alias("beside", "champion", "2")
    copied = client.copy_model_version("models:/beside@champion", "beside, copied")
    versions = [client.get_model_version("beside", number) for number in ("1", "2")]
    addresses = ("models:/beside/1", "models:/beside@champion", "models:/beside, copied/1")
    return {
        "run": run.info.run_id,
        "metrics": mlflow.get_run(run.info.run_id).data.metrics,
        "sources": [version.source for version in (*versions, copied)],
        "runs": [version.run_id for version in versions],
        "trained": [numbers(model, rows) for model in (first, second, second)],
        "loaded": [numbers(mlflow.sklearn.load_model(address), rows) for address in addresses],
    }
