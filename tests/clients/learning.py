"""The models of the tests: real ones, small, of data that scikit-learn brings along."""

from pathlib import Path
from typing import Any

import mlflow.sklearn
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

DATA = {"iris": load_iris, "wine": load_wine}


def trained(data: str) -> tuple[Any, list[Any]]:
    """Return the rows of a data set, and two models that have learned from it."""
    rows, classes = DATA[data](return_X_y=True)
    logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, classes)
    return rows, [logistic, SVC().fit(rows, classes)]


def numbers(model: Any, rows: Any) -> list[Any]:
    """Return what the model computes for the rows, to the last digit."""
    return [list(map(float, row)) for row in model.decision_function(rows)]


def save(model: Any, folder: Path) -> None:
    """Save the model as MLflow does; naming the packages spares it from looking for them."""
    mlflow.sklearn.save_model(model, folder, pip_requirements=["scikit-learn"])


def upload(folder: Path, uri: str) -> None:
    """Send a folder through the client's own repository of files."""
    repository: Any = get_artifact_repository(uri)  # it has no types
    repository.log_artifacts(str(folder))
