"""MLmodel is read for people: what a stranger wrote in it becomes words or a problem, at once."""

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry.files import artifacts, mlmodel
from models_registry.files.mlmodel import MAX_FILE_BYTES, MAX_ITEMS, Column, Flavor, read
from models_registry.files.plain_yaml import BadYaml
from models_registry.files.plain_yaml import read as read_yaml
from models_registry.models import ModelVersion
from tenants.isolation.scope import tenant_scope
from tests.support.people import World, give_files

INPUTS = [
    {"type": "double", "name": "age", "required": True},
    {"type": "string", "name": "city", "required": False},
    {"type": "array", "items": {"type": "long"}, "name": "clicks"},
    {"type": "object", "properties": {"x": {"type": "float"}}, "name": "where"},
    {"type": "map", "values": {"type": "boolean"}, "name": "flags"},
]
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]
PARAMS = [{"name": "temperature", "type": "double", "default": 0.5, "shape": None}]
WRITTEN = {
    "flavors": {
        "python_function": {
            "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "python_version": "3.10",
        },
        "sklearn": {"code": None, "pickled_model": "model.pkl", "sklearn_version": "1.7.2"},
    },
    "mlflow_version": "3.17.0",
    "model_size_bytes": 5_000_000,
    "run_id": None,
    "signature": {
        "inputs": json.dumps(INPUTS),
        "outputs": json.dumps(TENSOR),
        "params": json.dumps(PARAMS),
    },
    "utc_time_created": "2026-11-24 06:00:00.000000",
}


def written(**changes: Any) -> bytes:
    """Return an MLmodel as MLflow writes it, with changes."""
    return yaml.safe_dump(WRITTEN | changes, sort_keys=False).encode()


# --- what it says --------------------------------------------------------------------------


def test_an_mlmodel_says_what_a_person_wants_to_know() -> None:
    found = read(written())
    assert found.problems == []
    assert found.flavors == [Flavor("python_function", ""), Flavor("sklearn", "1.7.2")]
    assert found.python == "3.10"  # not the number 3.1
    assert found.size == 5_000_000
    assert found.facts == [
        ("MLflow", "3.17.0"),
        ("Created (UTC)", "2026-11-24 06:00:00"),
    ]
    assert found.signature == {
        "inputs": [
            Column("age", "double", True),
            Column("city", "string", False),
            Column("clicks", "array of long", True),
            Column("where", "object (x: float)", True),
            Column("flags", "map of boolean", True),
        ],
        "outputs": [Column("", "tensor of float64 (any, 4)", True)],
        "params": [Column("temperature", "double", False)],
    }


SAVE = """
import sys
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

model = LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
signature = infer_signature({"a": 1.0}, [1.0])
mlflow.sklearn.save_model(
    model, sys.argv[1], signature=signature, pip_requirements=["scikit-learn"]
)
"""


def test_what_mlflow_itself_writes_is_read(tmp_path: Path) -> None:
    """In a process of its own: importing MLflow warns of many things."""
    where = tmp_path / "model"
    subprocess.run([sys.executable, "-c", SAVE, where], check=True, capture_output=True)
    found = read((where / "MLmodel").read_bytes())
    assert found.problems == []
    assert {"sklearn", "python_function"} == {flavor.name for flavor in found.flavors}
    assert found.python.startswith("3.")
    assert found.size
    assert found.signature["inputs"] == [Column("a", "double", True)]
    paths = [path.relative_to(where).as_posix() for path in where.rglob("*") if path.is_file()]
    assert found.named
    assert found.missing(paths) == []
    assert found.missing(["MLmodel"]) == found.named


def test_the_files_that_it_names_are_missed_where_they_are_not() -> None:
    flavors = {
        "python_function": {"data": "data", "model_path": "nested/model.pkl", "python_model": None},
        "pyfunc": {"artifacts": {"words": {"path": "artifacts/words.txt", "uri": "s3://x"}}},
        "odd": {"data": "../../etc/passwd", "model_path": ["a"], "pickled_model": "null"},
        "here": {"data": "."},
    }
    found = read(written(flavors=flavors), "model")
    assert found.named == ["data", "nested/model.pkl", "artifacts/words.txt"]
    assert found.missing([]) == [
        "model/data",
        "model/nested/model.pkl",
        "model/artifacts/words.txt",
    ]
    # A folder is there if anything is in it; one of another name that begins alike is not it.
    there = ["model/data/weights.bin", "model/nested/model.pkl", "model/artifacts/words.txt.gz"]
    assert found.missing(there) == ["model/artifacts/words.txt"]


# --- hostile content -----------------------------------------------------------------------

BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{name}: &{name} [{','.join(f'*{before}' for _ in range(9))}]\n".encode()
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)

HOSTILE = {
    "nothing": b"",
    "not text": b"\xff\xfe\x00",
    "a list": b"- a\n- b\n",
    "a text": b"just words",
    "not YAML": b"flavors: [",
    "a NUL": b"flavors: \x00",
    "a tag of Python": b"!!python/object/apply:os.system ['touch /tmp/bulkhead-was-here']",
    "a pickle": pickle.dumps({"flavors": {}}),
    "aliases": BOMB,
    "depth": b"flavors: " + b"[" * 5000,
    "depth in blocks": b"".join(b" " * at + b"a:\n" for at in range(400)),
    "length": b"a: " + b"x" * (MAX_FILE_BYTES + 1),
    "a merge": b"<<: *x\n",
    "a list as a key": b"? [a, b]\n: c\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_a_problem_in_words(name: str) -> None:
    """L37: at once, whatever it would have cost, and nothing in it is obeyed."""
    start = time.process_time()
    found = read(HOSTILE[name])
    assert time.process_time() - start < 2
    assert len(found.problems) == 1
    assert found.problems[0].startswith("The MLmodel ")
    assert found.problems[0].endswith(".")
    assert (found.flavors, found.signature, found.named) == ([], {}, [])


ODD: dict[str, list[Any]] = {
    "flavors": ["x", ["a"], {"a": "b"}, {"a": None}, {"python_function": ["x"]}, {"x": {"y": {}}}],
    "signature": [
        *("x", ["a"], {"inputs": "["}, {"inputs": "{}"}, {"inputs": "3"}, {"inputs": "[[[1]]]"}),
        *({"inputs": "[" * 10_000}, {"outputs": '[{"type": {"a": 1}}]'}, {"params": ["a"]}),
        {"inputs": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": [], "shape": "x"}}])},
        {"inputs": json.dumps([{"type": "tensor", "tensor-spec": {"shape": [True, 10**30]}}])},
        {"inputs": json.dumps([{"name": "x" * 400, "type": "y" * 400}] * 210)},
        {"inputs": json.dumps([{"type": "object", "properties": {str(n): {} for n in range(99)}}])},
        {"inputs": '[{"name": "\\ud800"}]'},
    ],
    "model_size_bytes": ["-1", "1e9", "9" * 400, [], "٣", None, "0x10"],
    "mlflow_version": [[], {}, "x" * 10_000, None, "1:1:1:1", "0b1"],
    "utc_time_created": [[1], "2026-01-01"],
}


@pytest.mark.parametrize("key", ODD)
def test_what_is_odd_is_left_out_or_cut(key: str) -> None:
    """L37: whatever stands where another thing belongs, the rest is read, and texts stay short."""
    for value in ODD[key]:
        found = read(written(**{key: value}))
        texts = [*found.problems, *(text for fact in found.facts for text in fact)]
        for columns in found.signature.values():
            assert len(columns) <= MAX_ITEMS
            texts += [text for column in columns for text in (column.name, column.type)]
        assert all(len(text) <= mlmodel.MAX_TEXT_CHARS + 50 for text in texts), value
        "".join(texts).encode()  # it can be sent
        assert found.size is None or found.size >= 0


def test_halves_of_characters_cannot_break_a_page() -> None:
    found = read(b'flavors: {"a\\ud800": {}}\nmlflow_version: "\\udfff"\n')
    "".join([flavor.name for flavor in found.flavors] + found.problems).encode()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode()))
def test_no_bytes_raise_anything(content: bytes) -> None:
    """L37."""
    read(content)
    read(b"flavors:\n  x: y\n" + content)


def test_yaml_is_read_as_texts() -> None:
    found = read_yaml("a: no\nb: 3.10\nc: 12:30:00\nd: !!int '5'\ne: null", "It", depth=4)
    assert found == {"a": "no", "b": "3.10", "c": "12:30:00", "d": "5", "e": "null"}
    with pytest.raises(BadYaml, match="It is nested more than 2 levels deep"):
        read_yaml("[[[1]]]", "It", depth=2)
    with pytest.raises(BadYaml, match="in line 6"):
        read_yaml("a: b\n[", "It", depth=2, first_line=4)


# --- where it lies -------------------------------------------------------------------------


def described(world: World, files: dict[str, bytes]) -> mlmodel.MLModel | None:
    """Return what is read of a version with these files."""
    version = give_files(world.alpha, "fraud", files)
    with tenant_scope(world.alpha):
        return mlmodel.of_version(ModelVersion.objects.get(pk=version.pk))


FOUND_AT: list[tuple[list[str], str | None]] = [
    (["MLmodel"], ""),
    (["model/MLmodel", "model/data"], "model"),
    (["MLmodel", "a/MLmodel"], ""),
    (["a/MLmodel", "b/MLmodel"], None),
    (["a/b/MLmodel"], None),
    (["mlmodel", "MLmodel.txt", "xMLmodel"], None),
]


@pytest.mark.parametrize(("paths", "folder"), FOUND_AT)
def test_mlmodel_is_looked_for_at_the_top_and_one_level_below(
    world: World, paths: list[str], folder: str | None
) -> None:
    found = described(world, dict.fromkeys(paths, written()))
    assert (found.folder if found else None) == folder


def test_requirements_are_read_from_beside_the_mlmodel(world: World) -> None:
    lines = b"# comment\nscikit-learn==1.7.2\n\n  numpy  \n\xff\n" + b"x\n" * 500
    files = {"m/MLmodel": written(), "m/requirements.txt": lines, "requirements.txt": b"other"}
    found = described(world, files)
    assert found is not None
    assert found.requirements[:4] == ["# comment", "scikit-learn==1.7.2", "numpy", "\ufffd"]
    assert (len(found.requirements), found.more_requirements) == (mlmodel.MAX_ITEMS, True)
    files["m/requirements.txt"] = b"x\n" * mlmodel.MAX_ITEMS
    found = described(world, files)
    assert found is not None
    assert (len(found.requirements), found.more_requirements) == (mlmodel.MAX_ITEMS, False)


def test_bytes_that_are_gone_are_a_problem_in_words(world: World) -> None:
    version = give_files(world.alpha, "fraud", {"MLmodel": written()})
    with tenant_scope(world.alpha):
        file = artifacts.file_at(version, "MLmodel")
        assert file is not None
        artifacts.store().discard(file.blob.key)
        found = mlmodel.of_version(version)
    assert found is not None
    assert found.problems == ["The store of files does not answer; try again later."]
