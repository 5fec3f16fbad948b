"""What a `models:/` address means, compared with MLflow's own client: it reads it in two places."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models_registry.files.sources import (
    VersionReference,
    is_number,
    is_unambiguous,
    model_uri,
    parse_loaded_uri,
    parse_model_uri,
)
from models_registry.validators import validate_model_name
from tests.support.mlflow_clients import environment
from tests.support.people import HOSTILE_NAMES

#: Reads addresses as `mlflow.pyfunc.load_model` does: first the path of a file is split off.
READER = """
import json, sys
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.utils.models import _parse_model_uri

def read(uri):
    try:
        return _parse_model_uri(uri)._asdict()
    except MlflowException:
        return None

found = {}
for uri in json.load(sys.stdin):
    root, path = ModelsArtifactRepository.split_models_uri(uri)
    inside, _ = ModelsArtifactRepository.split_models_uri(f"{uri}/model/MLmodel")
    found[uri] = {
        "loaded": read(root),
        "looked_up": None if path else read(uri),
        "with_path": read(inside),
    }
json.dump(found, sys.stdout)
"""
#: Each character in a name that may be registered, and names with something in its place.
NAMES = [
    *HOSTILE_NAMES,
    *(f"a{chr(code)}b" for code in range(1, 256) if chr(code) not in "/:"),
    *("#", "a#b@c", "a@b", "@b", "a@", "m-12", "a;b;c", "a%23b", "a\u2028b", "latest", "3"),
]


def addresses() -> list[str]:
    """Return each name with a number, with an alias and with a stage, and hand-written ones."""
    found = []
    for name in NAMES:
        validate_model_name(name)
        found += [model_uri(name, 3), model_uri(name, 3, "champion")]
        found += [f"models:/{name}/latest", f"models:/{name}/Production"]
    return [
        *found,
        "models:/fraud/2#x",
        "models:/fraud/2?x",
        "models:/fraud/2\t",
        "models:/a#b/2#x",
    ]


def as_mlflow(meant: VersionReference | None) -> dict[str, Any] | None:
    """Return what an address means in the words of MLflow's parser."""
    if meant is None:
        return None
    number = None if meant.number is None else str(meant.number)
    stage, alias = meant.stage or None, meant.alias or None
    return {"name": meant.name, "version": number, "stage": stage, "alias": alias, "model_id": None}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return how MLflow's client reads each address."""
    home: Path = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps(addresses()),
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_address_is_unambiguous_exactly_where_mlflow_reads_it_alike(
    readings: dict[str, Any],
) -> None:
    for uri, reading in readings.items():
        alike = reading["loaded"] == reading["looked_up"] == as_mlflow(parse_model_uri(uri))
        assert is_unambiguous(uri) == alike, (uri, reading, parse_model_uri(uri))


def test_the_path_of_a_file_may_follow_where_mlflow_splits_it_off(
    readings: dict[str, Any],
) -> None:
    for uri, reading in readings.items():
        inside = f"{uri}/model/MLmodel"
        if is_unambiguous(inside):
            assert as_mlflow(parse_loaded_uri(inside)) == reading["with_path"], uri
        if is_unambiguous(uri):
            assert as_mlflow(parse_loaded_uri(uri)) == reading["loaded"], uri


def test_mlflow_keeps_a_hash_in_a_name_and_drops_one_behind_the_version(
    readings: dict[str, Any],
) -> None:
    assert readings["models:/a#b/3"]["loaded"]["name"] == "a#b"
    assert readings["models:/fraud/2#x"]["loaded"]["version"] == "2"
    assert readings["models:/fraud/2#x"]["looked_up"]["stage"] == "2#x"


def test_a_name_with_an_at_sign_and_a_number_is_taken_for_an_alias(
    readings: dict[str, Any],
) -> None:
    assert readings["models:/a@b/3"]["loaded"]["alias"] == "b"
    assert is_number("3")
    assert not is_unambiguous("models:/a@b/3")
    assert is_unambiguous("models:/a@b@champion")
