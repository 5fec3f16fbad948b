"""Train the demo's models and write what came out of it as ``models.json``, an import file.

Run by hand, in an environment with the dependency group ``demo``:

    python models_registry/demo/train.py

Every figure is measured: each version is fitted on the training part of a data set that comes with
scikit-learn, and its metrics are taken on the held-out part. Seeds are fixed, so that the same
version of scikit-learn writes the same file. Dates are the demo's own.
"""

import hashlib
import json
import string
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import datasets, metrics
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

FOLDER = Path(__file__).resolve().parent
SEED = 7
TEST_SHARE = 0.3

Data = tuple[Any, Any, Any, Any]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Version:
    """One training run: the estimator and its hyper-parameters, and what to say about them."""

    estimator: type
    description: str
    params: dict[str, Any] = field(default_factory=dict)
    scaled: bool = False
    calibrated: bool = False
    creator: str = ""
    stage: str = "experiment"


@dataclass(frozen=True)
class Model:
    """One registered model: its data, how it is measured, and its training runs in order."""

    team: str
    name: str
    description: str
    task: str
    dataset: str
    owner: str
    data: Callable[[], Data]
    measure: Callable[[Any, Any, Any], Metrics]
    begun: str
    every_days: float
    versions: list[Version]
    aliases: dict[str, int]
    domain: str


# --- data ----------------------------------------------------------------------------------


def split(load: Callable[..., Any], *, stratify: bool = True) -> Data:
    """Return the training and held-out parts of a data set, always the same ones."""
    x, y = load(return_X_y=True)
    return tuple(
        train_test_split(
            x, y, test_size=TEST_SHARE, random_state=SEED, stratify=y if stratify else None
        )
    )


def breast_cancer() -> Data:
    """Return the data with 1 for malignant, which scikit-learn has as 0."""
    x_train, x_test, y_train, y_test = split(datasets.load_breast_cancer)
    return x_train, x_test, 1 - y_train, 1 - y_test


def unseen_nines() -> Data:
    """Return digits 0 to 8 to learn from, and all digits to judge; 1 marks the unseen nine."""
    x_train, x_test, y_train, y_test = split(datasets.load_digits)
    known = y_train != 9
    return x_train[known], x_test, None, (y_test == 9).astype(int)


# --- metrics -------------------------------------------------------------------------------


def binary(model: Any, x: Any, y: Any) -> Metrics:
    """Measure a classifier of two classes."""
    chance, said = model.predict_proba(x)[:, 1], model.predict(x)
    return {
        "auc": metrics.roc_auc_score(y, chance),
        "accuracy": metrics.accuracy_score(y, said),
        "recall": metrics.recall_score(y, said),
        "precision": metrics.precision_score(y, said),
        "log_loss": metrics.log_loss(y, chance),
        "brier": metrics.brier_score_loss(y, chance),
    }


def several(model: Any, x: Any, y: Any) -> Metrics:
    """Measure a classifier of several classes."""
    chances, said = model.predict_proba(x), model.predict(x)
    return {
        "accuracy": metrics.accuracy_score(y, said),
        "f1_macro": metrics.f1_score(y, said, average="macro"),
        "auc": metrics.roc_auc_score(y, chances, multi_class="ovr"),
        "log_loss": metrics.log_loss(y, chances),
    }


def regression(model: Any, x: Any, y: Any) -> Metrics:
    """Measure a regressor."""
    said = model.predict(x)
    return {
        "rmse": metrics.root_mean_squared_error(y, said),
        "mae": metrics.mean_absolute_error(y, said),
        "r2": metrics.r2_score(y, said),
    }


def novelty(model: Any, x: Any, y: Any) -> Metrics:
    """Measure how well low scores single out what the model has never seen."""
    odd = -model.score_samples(x)
    false_alarms, found, _ = metrics.roc_curve(y, odd)
    return {
        "auc": metrics.roc_auc_score(y, odd),
        "average_precision": metrics.average_precision_score(y, odd),
        "false_alarms_at_90_found": float(false_alarms[np.argmax(found >= 0.9)]),
    }


# --- the models ----------------------------------------------------------------------------

MODELS = [
    Model(
        team="team_alpha",
        name="model1",
        description="Tells malignant from benign breast tumours by 30 measurements of cell nuclei.",
        task="binary-classification",
        dataset="breast_cancer",
        domain="diagnostics",
        owner="alice",
        data=breast_cancer,
        measure=binary,
        begun="2026-05-11T08:20:00",
        every_days=22.5,
        versions=[
            Version(
                GaussianNB,
                "Baseline: naive Bayes, nothing tuned.",
                stage="baseline",
            ),
            Version(
                DecisionTreeClassifier,
                "One shallow tree that a clinician can read on a page.",
                {"max_depth": 4, "min_samples_leaf": 5},
            ),
            Version(
                KNeighborsClassifier,
                "Nearest neighbours on scaled measurements.",
                {"n_neighbors": 9, "weights": "distance"},
                scaled=True,
            ),
            Version(
                LogisticRegression,
                "Logistic regression, strongly regularised. Well calibrated from the start.",
                {"C": 0.1, "max_iter": 2000},
                scaled=True,
            ),
            Version(
                RandomForestClassifier,
                "Random forest. Better ranking than one tree, coarse probabilities.",
                {"n_estimators": 300, "max_depth": 8, "min_samples_leaf": 2},
            ),
            Version(
                GradientBoostingClassifier,
                "Gradient boosting with a low learning rate.",
                {"n_estimators": 250, "learning_rate": 0.05, "max_depth": 3},
            ),
            Version(
                SVC,
                "Support vectors with a radial kernel, calibrated. Ranks best of all.",
                {"C": 4.0, "gamma": "scale"},
                scaled=True,
                calibrated=True,
            ),
            Version(
                LogisticRegression,
                "Logistic regression with less regularisation than version 4.",
                {"C": 0.5, "max_iter": 2000},
                scaled=True,
                stage="candidate",
            ),
            Version(
                ExtraTreesClassifier,
                "Extremely randomised trees, balanced to miss fewer tumours. It does not.",
                {"n_estimators": 400, "class_weight": "balanced"},
                stage="candidate",
            ),
        ],
        aliases={"champion": 8, "challenger": 7, "production": 4, "staging": 8, "baseline": 1},
    ),
    Model(
        team="team_alpha",
        name="model2",
        description="Predicts how far diabetes progresses within a year.",
        task="regression",
        dataset="diabetes",
        domain="diagnostics",
        owner="alice",
        data=lambda: split(datasets.load_diabetes, stratify=False),
        measure=regression,
        begun="2026-06-03T13:05:00",
        every_days=26.0,
        versions=[
            Version(LinearRegression, "Baseline: ordinary least squares.", stage="baseline"),
            Version(Ridge, "Ridge regression.", {"alpha": 0.1}, stage="candidate"),
            Version(
                Lasso,
                "Lasso, which does without some of the measurements.",
                {"alpha": 0.1},
                stage="candidate",
            ),
            Version(
                RandomForestRegressor,
                "Random forest, to see whether interactions help on 309 patients.",
                {"n_estimators": 400, "min_samples_leaf": 8, "max_features": 0.5},
            ),
            Version(
                GradientBoostingRegressor,
                "Gradient boosting with a robust loss. Too few patients for it.",
                {"n_estimators": 120, "learning_rate": 0.05, "max_depth": 2, "loss": "huber"},
            ),
            Version(
                ElasticNet,
                "Elastic net. No better than versions 2 and 3, which it lies between.",
                {"alpha": 0.005, "l1_ratio": 0.8},
            ),
            Version(
                SVR,
                "Support vector regression on scaled measurements.",
                {"C": 30.0, "epsilon": 5.0, "kernel": "rbf"},
                scaled=True,
            ),
        ],
        aliases={"champion": 2, "challenger": 3, "production": 2, "staging": 3},
    ),
    Model(
        team="team_beta",
        name="model3",
        description="Names the cultivar of a wine from 13 figures of its chemical analysis.",
        task="multiclass-classification",
        dataset="wine",
        domain="quality-control",
        owner="bela",
        data=lambda: split(datasets.load_wine),
        measure=several,
        begun="2026-07-06T09:45:00",
        every_days=24.0,
        versions=[
            Version(
                DecisionTreeClassifier,
                "Baseline: one tree of three levels.",
                {"max_depth": 3},
                stage="baseline",
            ),
            Version(
                KNeighborsClassifier,
                "Nearest neighbours on raw figures: proline drowns the rest.",
                {"n_neighbors": 5},
            ),
            Version(
                KNeighborsClassifier,
                "The same neighbours on scaled figures.",
                {"n_neighbors": 5},
                scaled=True,
            ),
            Version(
                LinearDiscriminantAnalysis,
                "Discriminant analysis with shrinkage.",
                {"solver": "svd", "shrinkage": 0.3},
            ),
            Version(
                LinearDiscriminantAnalysis,
                "Version 4 again, scaled, with a solver that knows shrinkage.",
                {"solver": "lsqr", "shrinkage": 0.3},
                scaled=True,
                stage="candidate",
            ),
            Version(
                RandomForestClassifier,
                "Random forest.",
                {"n_estimators": 200, "max_features": "sqrt"},
                stage="candidate",
            ),
        ],
        aliases={"champion": 5, "challenger": 6, "production": 3, "staging": 5},
    ),
    Model(
        team="team_gamma",
        name="model4",
        description="Reads handwritten digits from pictures of 8 by 8 pixels.",
        task="image-classification",
        dataset="digits",
        domain="vision",
        owner="gina",
        data=lambda: split(datasets.load_digits),
        measure=several,
        begun="2026-05-18T07:50:00",
        every_days=22.0,
        versions=[
            Version(GaussianNB, "Baseline: naive Bayes on pixels.", stage="baseline"),
            Version(
                LogisticRegression,
                "Multinomial logistic regression.",
                {"C": 0.05, "max_iter": 3000},
                scaled=True,
                creator="hugo",
            ),
            Version(
                RandomForestClassifier,
                "Random forest: sharper than version 2, less sure of itself.",
                {"n_estimators": 300, "min_samples_leaf": 1},
            ),
            Version(
                SVC,
                "Support vectors with a kernel of our own. The job stopped in fit().",
                {"kernel": "precomputed"},
            ),
            Version(
                SVC,
                "Version 4 with the stock radial kernel.",
                {"C": 1.0, "gamma": 0.001},
                calibrated=True,
            ),
            Version(
                KNeighborsClassifier,
                "Three nearest neighbours: accurate, but far too sure where it is wrong.",
                {"n_neighbors": 3, "weights": "distance"},
                creator="hugo",
            ),
            Version(
                MLPClassifier,
                "Two hidden layers.",
                {"hidden_layer_sizes": (96, 48), "max_iter": 400, "learning_rate_init": 0.002},
                scaled=True,
                stage="candidate",
            ),
            Version(
                HistGradientBoostingClassifier,
                "Histogram boosting, stopped early.",
                {"max_iter": 120, "learning_rate": 0.1, "max_leaf_nodes": 15},
                stage="candidate",
            ),
            Version(
                SVC,
                "Version 5 with four times the penalty for errors.",
                {"C": 4.0, "gamma": 0.001},
                calibrated=True,
                stage="candidate",
            ),
        ],
        aliases={"champion": 9, "challenger": 7, "production": 5, "staging": 9, "baseline": 1},
    ),
    Model(
        team="team_gamma",
        name="model5",
        description="Names an iris by the length and width of its petals and sepals.",
        task="multiclass-classification",
        dataset="iris",
        domain="teaching",
        owner="hugo",
        data=lambda: split(datasets.load_iris),
        measure=several,
        begun="2026-08-10T10:15:00",
        every_days=22.0,
        versions=[
            Version(
                DecisionTreeClassifier,
                "Baseline: two questions about the petal.",
                {"max_depth": 2},
                stage="baseline",
            ),
            Version(KNeighborsClassifier, "Seven nearest neighbours.", {"n_neighbors": 7}),
            Version(
                LogisticRegression,
                "Logistic regression, weakly regularised.",
                {"C": 10.0, "max_iter": 2000},
                scaled=True,
                creator="gina",
            ),
            Version(
                LinearDiscriminantAnalysis,
                "Discriminant analysis: Fisher's own method for Fisher's own flowers.",
                creator="gina",
                stage="candidate",
            ),
            Version(
                SVC,
                "Support vectors, radial kernel.",
                {"C": 2.0, "gamma": "scale"},
                scaled=True,
                calibrated=True,
                stage="candidate",
            ),
        ],
        aliases={"champion": 4, "challenger": 5, "production": 4},
    ),
    Model(
        team="team_gamma",
        name="model6",
        description="Flags pictures of digits that look like nothing it was trained on.",
        task="novelty-detection",
        dataset="digits",
        domain="vision",
        owner="gina",
        data=unseen_nines,
        measure=novelty,
        begun="2026-08-24T14:30:00",
        every_days=14.2,
        versions=[
            Version(
                IsolationForest,
                "Baseline: isolation forest on pixels.",
                {"n_estimators": 300},
                stage="baseline",
            ),
            Version(
                OneClassSVM,
                "One-class support vectors.",
                {"kernel": "rbf", "gamma": 0.001, "nu": 0.1},
            ),
            Version(
                PCA,
                "Likelihood under probabilistic PCA with 20 components.",
                {"n_components": 20},
                creator="hugo",
            ),
            Version(
                LocalOutlierFactor,
                "Local outlier factor, 20 neighbours.",
                {"n_neighbors": 20, "novelty": True},
            ),
            Version(
                GaussianMixture,
                "A mixture of nine Gaussians, one for each digit it has seen.",
                {"n_components": 9, "covariance_type": "full", "reg_covar": 0.5},
                creator="hugo",
                stage="candidate",
            ),
            Version(
                LocalOutlierFactor,
                "Version 4 with a smaller neighbourhood.",
                {"n_neighbors": 5, "novelty": True},
                stage="candidate",
            ),
        ],
        aliases={"champion": 6, "challenger": 5, "staging": 6},
    ),
]


# --- training and writing ------------------------------------------------------------------


def train(model: Model, version: Version, data: Data) -> tuple[str, str, Metrics]:
    """Fit one version; return its status, what went wrong, and its metrics."""
    x_train, x_test, y_train, y_test = data
    params = dict(version.params)
    if "random_state" in version.estimator().get_params():
        params["random_state"] = SEED
    estimator = version.estimator(**params)
    if version.scaled:
        estimator = make_pipeline(StandardScaler(), estimator)
    if version.calibrated:
        estimator = CalibratedClassifierCV(estimator, ensemble=False)
    try:
        estimator.fit(x_train, y_train)
    except (ValueError, NotImplementedError) as error:
        return "FAILED", f"{type(error).__name__}: {error}".splitlines()[0], {}
    measured = model.measure(estimator, x_test, y_test)
    return "READY", "", {name: round(float(value), 4) for name, value in measured.items()}


def when(model: Model, index: int) -> datetime:
    """Return a time in working hours, roughly ``every_days`` after the last one."""
    digest = hashlib.sha256(f"{model.name} {index}".encode()).digest()
    day = datetime.fromisoformat(model.begun) + timedelta(days=round(index * model.every_days))
    day -= timedelta(days=max(0, day.weekday() - 4))
    minutes = int.from_bytes(digest[:2]) % (9 * 60) if index else day.hour * 60 + day.minute - 450
    return (day.replace(hour=7, minute=30) + timedelta(minutes=minutes)).replace(tzinfo=UTC)


def as_text(time: datetime) -> str:
    """Write a time as the import file has it."""
    return time.isoformat().replace("+00:00", "Z")


def write_version(model: Model, index: int, version: Version, data: Data) -> dict[str, Any]:
    """Train one version and return its entry of the import file."""
    status, message, measured = train(model, version, data)
    run_id = hashlib.sha256(f"{model.team}/{model.name}/{index + 1}".encode()).hexdigest()[:32]
    params = {"algorithm": version.estimator.__name__} | version.params
    if version.scaled:
        params["scaler"] = "StandardScaler"
    if version.calibrated:
        params["calibration"] = "sigmoid"
    if "random_state" in version.estimator().get_params():
        params["random_state"] = SEED
    entry: dict[str, Any] = {
        "source": f"runs:/{run_id}/model",
        "run_id": run_id,
        "description": version.description,
        "status": status,
        "status_message": message,
        "tags": {
            "algorithm": version.estimator.__name__,
            "kind": version.stage,
            "scikit-learn": sklearn.__version__,
        },
        "params": {name: str(value) for name, value in params.items()},
        "metrics": measured,
        "creator": version.creator or model.owner,
        "created_at": as_text(when(model, index)),
    }
    return {name: value for name, value in entry.items() if value != ""}


def results(versions: list[dict[str, Any]], aliases: dict[str, int]) -> str:
    """Return a Markdown table of the versions' metrics for the model's card."""
    names = list(next(entry["metrics"] for entry in versions if entry["metrics"]))
    lines = [
        f"| Version | Algorithm | {' | '.join(names)} |",
        f"|--:|:--|{'--:|' * len(names)}",
    ]
    for number, entry in enumerate(versions, start=1):
        if not entry["metrics"]:
            continue
        algorithm = entry["params"]["algorithm"]
        bold = "**" if aliases.get("champion") == number else ""
        figures = " | ".join(f"{entry['metrics'][name]:.4g}" for name in names)
        lines.append(f"| {bold}{number}{bold} | {algorithm} | {figures} |")
    return "\n".join(lines)


def write_model(model: Model) -> dict[str, Any]:
    """Train all versions of a model and return its entry of the import file."""
    data = model.data()
    versions = [write_version(model, i, version, data) for i, version in enumerate(model.versions)]
    card = string.Template((FOLDER / "cards" / f"{model.name}.md").read_text())
    return {
        "name": model.name,
        "description": model.description,
        "card": card.substitute(
            results=results(versions, model.aliases),
            trained=len(data[0]),
            tested=len(data[1]),
            champion=versions[model.aliases["champion"] - 1]["params"]["algorithm"],
        ),
        "tags": {
            "framework": "scikit-learn",
            "task": model.task,
            "dataset": model.dataset,
            "domain": model.domain,
        },
        "owner": model.owner,
        "created_at": as_text(when(model, 0) - timedelta(minutes=25)),
        "versions": versions,
        "aliases": model.aliases,
    }


def main() -> None:
    """Train everything and write ``models.json`` beside this file."""
    warnings.simplefilter("error", ConvergenceWarning)
    teams: dict[str, list[dict[str, Any]]] = {}
    for model in MODELS:
        entry = write_model(model)
        teams.setdefault(model.team, []).append(entry)
        print(f"{model.team} {model.name}")
        for number, version in enumerate(entry["versions"], start=1):
            print(f"  {number} {version['created_at']} {version['metrics'] or version['status']}")
    path = FOLDER / "models.json"
    path.write_text(json.dumps(teams, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
