"""The wire protocol of MLflow's registry, endpoint by endpoint, as its clients read it.

Texts and statuses are MLflow's own; where Bulkhead differs on purpose, the test says so.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import override_settings

from models_registry import registry
from models_registry.mlflow import registry_endpoints
from models_registry.models import ModelVersion, RegisteredModel
from tenants.api import ENDPOINTS
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent
from tests.support.api import MODELS, VERSIONS, Api, make_token, refused, said
from tests.support.people import HOSTILE_NAMES, World

PROMPT = "mlflow.prompt.is_prompt"
SEE = "See the API docs for more information about request parameters."
BAD = (400, "INVALID_PARAMETER_VALUE")
GONE = (404, "RESOURCE_DOES_NOT_EXIST")
TAKEN = (400, "RESOURCE_ALREADY_EXISTS")


@pytest.fixture
def alice(world: World) -> Api:
    """The client of alpha's admin."""
    return Api(make_token(world.alice))


@pytest.fixture
def maker(alice: Api) -> Callable[..., dict[str, Any]]:
    """Return what makes a model `m` with as many versions as asked for, and returns the last."""

    def make(versions: int = 1, **fields: Any) -> dict[str, Any]:
        said(alice.post(f"{MODELS}/create", name="m"))
        found: dict[str, Any] = {}
        for _ in range(versions):
            answer = alice.post(f"{VERSIONS}/create", name="m", source="s3://b/m", **fields)
            found = said(answer)["model_version"]
        return found

    return make


def model(api: Api, name: str = "m") -> dict[str, Any]:
    """Return the model as the API has it."""
    found: dict[str, Any] = said(api.get(f"{MODELS}/get", name=name))["registered_model"]
    return found


def version(api: Api, number: str = "1", name: str = "m") -> dict[str, Any]:
    """Return the version as the API has it."""
    answer = api.get(f"{VERSIONS}/get", name=name, version=number)
    found: dict[str, Any] = said(answer)["model_version"]
    return found


# --- what answers look like ----------------------------------------------------------------


def test_what_was_never_set_is_left_out_of_a_model(alice: Api) -> None:
    made = said(alice.post(f"{MODELS}/create", name="m"))["registered_model"]
    assert set(made) == {"name", "creation_timestamp", "last_updated_timestamp"}
    assert made == model(alice)
    assert type(made["creation_timestamp"]) is int
    assert made["creation_timestamp"] > 1_600_000_000_000  # milliseconds


def test_what_was_set_comes_back(alice: Api) -> None:
    tags = [{"key": "b", "value": "2"}, {"key": "a", "value": ""}, {"key": "b", "value": "3"}]
    made = said(alice.post(f"{MODELS}/create", name="m", tags=tags, description="d"))
    assert made["registered_model"]["description"] == "d"
    # Of a key that comes twice the last value, as in MLflow's store.
    expected = [{"key": "a", "value": ""}, {"key": "b", "value": "3"}]
    assert made["registered_model"]["tags"] == expected


def test_a_versions_fields(alice: Api, maker: Callable[..., Any]) -> None:
    """Empty text is there where MLflow's server sets it, and ids are left out where it does not."""
    made = maker()
    times = {key: made.pop(key) for key in ("creation_timestamp", "last_updated_timestamp")}
    assert all(type(time) is int for time in times.values())
    assert made == {
        "name": "m",
        "version": "1",
        "current_stage": "None",
        "description": "",
        "source": "s3://b/m",
        "run_id": "",
        "run_link": "",
        "status": "READY",
    }
    answer = alice.post(
        f"{VERSIONS}/create",
        name="m",
        source="s3://b/m",
        run_id="0" * 32,
        run_link="http://r",
        model_id="m-1",
        description="d",
        tags=[{"key": "k", "value": "v"}],
    )
    full = said(answer)["model_version"]
    assert full == version(alice, "2")
    expected = {"run_id": "0" * 32, "run_link": "http://r", "model_id": "m-1", "description": "d"}
    assert {key: full[key] for key in expected} == expected
    assert full["tags"] == [{"key": "k", "value": "v"}]
    assert full["version"] == "2"


@pytest.mark.parametrize(
    ("status", "wire"),
    [("PENDING", "PENDING_REGISTRATION"), ("FAILED", "FAILED_REGISTRATION"), ("READY", "READY")],
)
def test_a_versions_status_has_mlflows_name(
    world: World, alice: Api, status: str, wire: str
) -> None:
    with tenant_scope(world.alpha, world.alice):
        own = RegisteredModel.objects.get(name="fraud")
        registry.add_version(own, status=status, status_message="why")
    found = version(alice, "3", "fraud")
    assert (found["status"], found["status_message"]) == (wire, "why")


def test_what_says_nothing_is_an_empty_object(alice: Api, maker: Callable[..., Any]) -> None:
    maker()
    for answer in (
        alice.post(f"{MODELS}/set-tag", name="m", key="k", value="v"),
        alice.delete(f"{MODELS}/delete-tag", name="m", key="k"),
        alice.post(f"{VERSIONS}/set-tag", name="m", version="1", key="k", value="v"),
        alice.delete(f"{VERSIONS}/delete-tag", name="m", version="1", key="k"),
        alice.post(f"{MODELS}/alias", name="m", alias="a", version="1"),
        alice.delete(f"{MODELS}/alias", name="m", alias="a"),
        alice.get(f"{MODELS}/search", filter="name = 'nothing'"),
        alice.get(f"{VERSIONS}/search", filter="name = 'nothing'"),
        alice.post(f"{MODELS}/get-latest-versions", name="m", stages=["Production"]),
        alice.delete(f"{VERSIONS}/delete", name="m", version="1"),
        alice.delete(f"{MODELS}/delete", name="m"),
    ):
        assert answer.content == b"{}"
        assert answer["Content-Length"] == "2"
        assert answer.status_code == 200


def test_aliases_come_where_mlflow_sends_them(alice: Api, maker: Callable[..., Any]) -> None:
    """With get, by alias, on transition and among the latest; not in a search or in a model."""
    maker(2)
    for alias in ("b", "a"):
        said(alice.post(f"{MODELS}/alias", name="m", alias=alias, version="1"))
    assert version(alice)["aliases"] == ["a", "b"]
    assert "aliases" not in version(alice, "2")
    by_alias = said(alice.get(f"{MODELS}/alias", name="m", alias="a"))["model_version"]
    assert by_alias == version(alice)
    moved = alice.post(f"{VERSIONS}/transition-stage", name="m", version="1", stage="Staging")
    assert said(moved)["model_version"]["aliases"] == ["a", "b"]
    latest = said(alice.post(f"{MODELS}/get-latest-versions", name="m"))["model_versions"]
    assert [found.get("aliases") for found in latest] == [["a", "b"], None]
    assert model(alice)["aliases"] == [
        {"alias": "a", "version": "1"},
        {"alias": "b", "version": "1"},
    ]
    assert all("aliases" not in found for found in model(alice)["latest_versions"])
    listed = said(alice.get(f"{VERSIONS}/search", filter="name = 'm'"))["model_versions"]
    assert len(listed) == 2
    assert all("aliases" not in found for found in listed)


def test_the_latest_versions_are_the_newest_of_each_stage(
    alice: Api, maker: Callable[..., Any]
) -> None:
    maker(5)
    for number, stage in (("1", "Production"), ("2", "Production"), ("3", "archived")):
        said(alice.post(f"{VERSIONS}/transition-stage", name="m", version=number, stage=stage))
    newest = [("2", "Production"), ("3", "Archived"), ("5", "None")]
    shown = [(v["version"], v["current_stage"]) for v in model(alice)["latest_versions"]]
    assert shown == newest
    by_post = alice.post(f"{MODELS}/get-latest-versions", name="m")
    by_get = alice.get(f"{MODELS}/get-latest-versions", name="m")
    assert by_post.content == by_get.content
    latest = said(by_get)["model_versions"]
    assert [(v["version"], v["current_stage"]) for v in latest] == newest
    asked = alice.get(f"{MODELS}/get-latest-versions", name="m", stages=["production", "None"])
    assert [v["version"] for v in said(asked)["model_versions"]] == ["2", "5"]


def test_any_name_goes_there_and_back(alice: Api) -> None:
    for name in [*HOSTILE_NAMES, "ünï cödé 模型", "🦀", "null", "0"]:
        said(alice.post(f"{MODELS}/create", name=name, description=name))
        said(alice.post(f"{VERSIONS}/create", name=name, source=f"s3://{name}"))
        said(alice.post(f"{MODELS}/alias", name=name, alias="a", version="1"))
        assert model(alice, name)["description"] == name
        found = said(alice.get(f"{MODELS}/alias", name=name, alias="a"))["model_version"]
        assert (found["name"], found["source"]) == (name, f"s3://{name}")
        assert found["aliases"] == ["a"]


# --- how a request is read -----------------------------------------------------------------


def test_a_get_says_it_in_its_query_or_in_its_body(alice: Api) -> None:
    by_query = alice.get(f"{MODELS}/get", name="fraud")
    by_body = alice.raw("GET", f"{MODELS}/get", b'{"name": "fraud"}')
    assert by_query.content == by_body.content
    assert said(by_body)["registered_model"]["name"] == "fraud"
    # A query that is there hides the body.
    hidden = alice.raw("GET", f"{MODELS}/get?x=1", b'{"name": "fraud"}')
    assert "'name'" in refused(hidden, *BAD)


def test_what_is_not_asked_for_is_ignored(alice: Api) -> None:
    assert said(alice.get(f"{MODELS}/get", name="fraud", unknown="x"))
    assert said(alice.post(f"{MODELS}/create", name="m", deployment_job_id="x", user_id="hugo"))


def test_both_spellings_are_read_and_never_two_at_once(
    alice: Api, maker: Callable[..., Any]
) -> None:
    maker()
    said(alice.post(f"{MODELS}/rename", name="m", newName="n"))
    both = alice.post(f"{MODELS}/rename", name="n", newName="o", new_name="p")
    message = "Request specifies both 'new_name' and 'newName'; provide only one of them."
    assert refused(both, *BAD) == message
    moved = {"name": "n", "version": "1", "stage": "Staging"}
    answer = alice.post(
        f"{VERSIONS}/transition-stage", **moved, archive_existing_versions=True,
        archiveExistingVersions=False,
    )  # fmt: skip
    assert "archive_existing_versions" in refused(answer, *BAD)
    assert version(alice, "1", "n")["current_stage"] == "None"
    found = said(alice.get(f"{MODELS}/search", maxResults=1))
    assert len(found["registered_models"]) == 1


def test_a_field_of_the_wrong_type_is_refused(alice: Api) -> None:
    for value, shown, kind in [
        (123, "123", "int"),
        (1.5, "1.5", "float"),
        (True, "true", "bool"),
        (["a"], '["a"]', "list"),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}', "dict"),
    ]:
        expected = (
            f"Invalid value {shown} for parameter 'name' supplied:  "
            f"Hint: Value was of type '{kind}'. {SEE}"
        )
        assert refused(alice.post(f"{MODELS}/create", name=value), *BAD) == expected


def test_types_of_the_other_fields(alice: Api, maker: Callable[..., Any]) -> None:
    """A version's number is text and nothing else."""
    maker()
    of_version = {"name": "m", "version": "1"}
    wrong = [
        alice.post(f"{MODELS}/alias", name="m", alias="a", version=1),
        alice.delete(f"{VERSIONS}/delete", name="m", version=1),
        alice.post(f"{MODELS}/create", name="n", tags={"k": "v"}),
        alice.post(f"{MODELS}/create", name="n", tags=["k"]),
        alice.post(f"{MODELS}/create", name="n", tags=[{"key": 1, "value": "v"}]),
        alice.post(f"{MODELS}/create", name="n", tags=[{"key": "k", "value": 1}]),
        alice.post(f"{MODELS}/create", name="n", description=7),
        alice.post(f"{MODELS}/get-latest-versions", name="m", stages="None"),
        alice.post(f"{MODELS}/get-latest-versions", name="m", stages=[1]),
        alice.post(
            f"{VERSIONS}/transition-stage",
            **of_version,
            stage="None",
            archive_existing_versions="true",
        ),
        alice.post(f"{MODELS}/set-tag", name="m", key="k", value=1),
    ]
    for answer in wrong:
        assert "Invalid value" in refused(answer, *BAD)
    assert said(alice.get(f"{VERSIONS}/get", **of_version))


def test_a_body_is_json_and_says_so(alice: Api) -> None:
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded"]:
        answer = alice.raw("POST", f"{MODELS}/create", b'{"name": "m"}', content_type)
        message = "Bad Request. Content-Type must be one of ['application/json']."
        assert refused(answer, *BAD) == message
    said(alice.raw("POST", f"{MODELS}/create", b'{"name": "m"}', "application/json; charset=utf-8"))


def test_a_body_that_says_nothing_lacks_what_is_required(alice: Api) -> None:
    for body in [b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"{}"]:
        answer = alice.raw("POST", f"{MODELS}/create", body)
        assert refused(answer, *BAD) == f"Missing value for required parameter 'name'. {SEE}"


def test_a_body_may_be_encoded_twice(alice: Api) -> None:
    body = orjson.dumps(orjson.dumps({"name": "m"}).decode())
    said(alice.raw("POST", f"{MODELS}/create", body))
    assert model(alice)["name"] == "m"


REQUIRED = {
    ("POST", f"{MODELS}/create"): ["name"],
    ("GET", f"{MODELS}/get"): ["name"],
    ("POST", f"{MODELS}/rename"): ["name", "new_name"],
    ("PATCH", f"{MODELS}/update"): ["name"],
    ("DELETE", f"{MODELS}/delete"): ["name"],
    ("POST", f"{MODELS}/get-latest-versions"): ["name"],
    ("GET", f"{MODELS}/get-latest-versions"): ["name"],
    ("POST", f"{MODELS}/set-tag"): ["name", "key"],
    ("DELETE", f"{MODELS}/delete-tag"): ["name", "key"],
    ("POST", f"{MODELS}/alias"): ["name", "alias", "version"],
    ("DELETE", f"{MODELS}/alias"): ["name", "alias"],
    ("GET", f"{MODELS}/alias"): ["name", "alias"],
    ("POST", f"{VERSIONS}/create"): ["name", "source"],
    ("GET", f"{VERSIONS}/get"): ["name", "version"],
    ("PATCH", f"{VERSIONS}/update"): ["name", "version"],
    ("DELETE", f"{VERSIONS}/delete"): ["name", "version"],
    ("GET", f"{VERSIONS}/get-download-uri"): ["name", "version"],
    ("POST", f"{VERSIONS}/transition-stage"): ["name", "version", "stage"],
    ("POST", f"{VERSIONS}/set-tag"): ["name", "version", "key"],
    ("DELETE", f"{VERSIONS}/delete-tag"): ["name", "version", "key"],
}
GOOD = {
    "name": "fraud",
    "new_name": "new",
    "version": "1",
    "alias": "new",
    "key": "k",
    "source": "s3://b",
    "stage": "Staging",
}


def test_each_required_field_is_asked_for(alice: Api) -> None:
    """Absent, null and empty are the same; a blank name is named as missing too."""
    for (method, endpoint), required in REQUIRED.items():
        for left_out in required:
            for value in ({}, {left_out: None}, {left_out: ""}):
                fields = {name: GOOD[name] for name in required if name != left_out} | value
                if method == "GET" and None in fields.values():
                    continue
                message = refused(alice.send(method, endpoint, fields), *BAD)
                expected = f"Missing value for required parameter '{left_out}'."
                assert message.startswith(expected), (method, endpoint, fields)
        blank = {name: GOOD[name] for name in required} | {"name": "  "}
        message = refused(alice.send(method, endpoint, blank), *BAD)
        assert message == "Missing value for required parameter 'name'.", endpoint


# --- refusals in MLflow's words ------------------------------------------------------------


def test_what_is_not_there(alice: Api, maker: Callable[..., Any]) -> None:
    maker()
    no_model = "Registered Model with name=nope not found"
    for method, endpoint in REQUIRED:
        if endpoint.startswith(VERSIONS) and endpoint != f"{VERSIONS}/create":
            continue
        if endpoint in (f"{MODELS}/create", f"{MODELS}/alias") and method == "POST":
            continue
        fields = {name: GOOD[name] for name in REQUIRED[method, endpoint]} | {"name": "nope"}
        assert refused(alice.send(method, endpoint, fields), *GONE) == no_model, endpoint
    for name, number in (("nope", "1"), ("m", "99")):
        nothing = f"Model Version (name={name}, version={number}) not found"
        for method, endpoint in REQUIRED:
            if not endpoint.startswith(VERSIONS) or endpoint == f"{VERSIONS}/create":
                continue
            fields = {field: GOOD[field] for field in REQUIRED[method, endpoint]}
            fields |= {"name": name, "version": number}
            assert refused(alice.send(method, endpoint, fields), *GONE) == nothing, endpoint
        answer = alice.post(f"{MODELS}/alias", name=name, alias="a", version=number)
        assert refused(answer, *GONE) == nothing


def test_an_alias_that_is_not_there_is_a_bad_value(alice: Api, maker: Callable[..., Any]) -> None:
    maker(0)
    asked = alice.get(f"{MODELS}/alias", name="m", alias="nope")
    assert refused(asked, *BAD) == "Registered model alias nope not found."
    asked = alice.get(f"{MODELS}/alias", name="m", alias="v1")
    assert refused(asked, *BAD) == "Registered model alias v1 not found."
    asked = alice.get(f"{MODELS}/alias", name="m", alias="latest")
    assert refused(asked, *GONE) == "Latest version not found for model m."


def test_the_alias_latest_is_the_highest_version(alice: Api, maker: Callable[..., Any]) -> None:
    maker(3)
    said(alice.post(f"{VERSIONS}/transition-stage", name="m", version="3", stage="Archived"))
    for alias in ("latest", "LATEST"):
        found = said(alice.get(f"{MODELS}/alias", name="m", alias=alias))["model_version"]
        assert found["version"] == "3"


def test_a_name_can_be_taken_once(alice: Api, maker: Callable[..., Any]) -> None:
    """Renaming says no SQL, as MLflow's own server does."""
    maker(0)
    message = "Registered Model (name=fraud) already exists."
    assert refused(alice.post(f"{MODELS}/create", name="fraud"), *TAKEN) == message
    assert refused(alice.post(f"{MODELS}/rename", name="m", new_name="fraud"), *TAKEN) == message


def test_a_name_with_a_slash_or_colon(alice: Api) -> None:
    for name in ["a/b", "a:b", "/", ":"]:
        message = f"Invalid model name '{name}'. Names cannot contain '/' or ':'."
        assert refused(alice.post(f"{MODELS}/create", name=name), *BAD) == message
        assert refused(alice.get(f"{MODELS}/get", name=name), *BAD) == message


def test_a_name_that_is_a_path(alice: Api) -> None:
    for name in [".", ".."]:
        answer = alice.post(f"{MODELS}/create", name=name)
        assert refused(answer, *BAD).startswith(f"Invalid model name '{name}'.")


def test_a_version_that_is_no_number(alice: Api) -> None:
    for number in ["abc", "1.0", "\N{ARABIC-INDIC DIGIT ONE}", "1e3", "--1", "1 2", "-"]:
        answer = alice.get(f"{VERSIONS}/get", name="fraud", version=number)
        assert refused(answer, *BAD) == f"Parameter 'version' must be an integer, got '{number}'."


def test_a_number_that_no_version_has(alice: Api) -> None:
    for number in ["0", "-1", "2147483648", "9" * 30]:
        refused(alice.get(f"{VERSIONS}/get", name="fraud", version=number), *GONE)


def test_stages(alice: Api, maker: Callable[..., Any]) -> None:
    """Where MLflow's own server breaks (500), archiving in no active stage is refused (400)."""
    maker(3)
    move = f"{VERSIONS}/transition-stage"
    answer = alice.post(move, name="m", version="1", stage="Bogus")
    assert refused(answer, *BAD) == (
        "Invalid Model Version stage: Bogus. "
        "Value must be one of None, Staging, Production, Archived."
    )
    for stage in ("None", "archived"):
        answer = alice.post(
            move, name="m", version="1", stage=stage, archive_existing_versions=True
        )
        assert refused(answer, *BAD).startswith(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage."
        )
    for number in ("1", "2"):
        answer = alice.post(move, name="m", version=number, stage="PRODUCTION")
        assert said(answer)["model_version"]["current_stage"] == "Production"
    said(alice.post(move, name="m", version="3", stage="staging"))
    answer = alice.post(
        move, name="m", version="2", stage="Production", archive_existing_versions=True
    )
    assert said(answer)["model_version"]["current_stage"] == "Production"
    stages = [version(alice, number)["current_stage"] for number in "123"]
    assert stages == ["Archived", "Production", "Staging"]
    answer = alice.get(f"{MODELS}/get-latest-versions", name="m", stages=["Bogus"])
    assert refused(answer, *BAD).startswith("Invalid Model Version stage: Bogus.")


def test_reserved_and_malformed_aliases_are_refused(alice: Api) -> None:
    for alias, message in [
        ("latest", "'latest' alias name (case insensitive) is reserved."),
        ("LaTest", "'latest' alias name (case insensitive) is reserved."),
        ("v1", "Version alias name 'v1' is reserved."),
        ("V22", "Version alias name 'V22' is reserved."),
        (
            "bad alias",
            "Invalid alias name: 'bad alias'. Names may only contain alphanumerics, "
            "underscores (_), and dashes (-).",
        ),
    ]:
        answer = alice.post(f"{MODELS}/alias", name="fraud", alias=alias, version="1")
        assert refused(answer, *BAD) == message


def test_the_longest_values_are_kept_and_longer_ones_are_refused(
    alice: Api, maker: Callable[..., Any]
) -> None:
    """The longest that is kept is kept, and one more is refused; nothing is cut."""
    maker()
    of_version = {"name": "m", "version": "1"}
    long_key = "'key' exceeds the maximum length of 250 characters"
    long_value = "'value' exceeds the maximum length of 100000 characters"
    for endpoint, named in ((MODELS, {"name": "m"}), (VERSIONS, of_version)):
        set_tag = f"{endpoint}/set-tag"
        said(alice.post(set_tag, **named, key="k" * 250, value="v" * 100_000))
        assert refused(alice.post(set_tag, **named, key="k" * 251), *BAD) == long_key
        assert refused(alice.post(set_tag, **named, key="k", value="v" * 100_001), *BAD) == (
            long_value
        )
        for key in ("a*b", "../a", "a//b", "ü\t"):
            assert "Invalid tag name" in refused(alice.post(set_tag, **named, key=key), *BAD)
    tags = [{"key": "k" * 251, "value": ""}]
    assert refused(alice.post(f"{MODELS}/create", name="n", tags=tags), *BAD) == long_key
    said(alice.post(f"{MODELS}/create", name="n" * 256, description="d" * 5000))
    refused(alice.post(f"{MODELS}/create", name="n" * 257), *BAD)
    refused(alice.post(f"{MODELS}/create", name="o", description="d" * 5001), *BAD)
    refused(alice.get(f"{MODELS}/get", name="n" * 257), *BAD)
    said(alice.post(f"{MODELS}/alias", **of_version, alias="a" * 255))
    refused(alice.post(f"{MODELS}/alias", **of_version, alias="a" * 256), *BAD)
    add = f"{VERSIONS}/create"
    longest = {"source": f"s3://{'s' * 495}", "run_link": "l" * 500, "run_id": "r" * 32}
    said(alice.post(add, name="m", **longest, model_id="m" * 64, description="d" * 5000))
    for field in ("source", "run_link", "run_id"):
        too_long = longest | {field: f"{longest[field]}x"}
        refused(alice.post(add, name="m", **too_long), *BAD)
    assert len(said(alice.get(f"{VERSIONS}/search", filter="name='m'"))["model_versions"]) == 2


def test_a_refusal_repeats_no_more_than_a_page(alice: Api) -> None:
    """What was sent may be megabytes long."""
    long = "x" * 1_000_000
    for answer in (
        alice.get(f"{VERSIONS}/get", name="fraud", version=long[:8000]),
        alice.post(f"{VERSIONS}/transition-stage", name="fraud", version="1", stage=long),
        alice.post(f"{VERSIONS}/create", name="fraud", source=long),
        alice.post(f"{MODELS}/create", name=[long]),
        alice.but(team=long[:60_000]).get(f"{MODELS}/get", name="fraud"),
        alice.get(f"3.0/mlflow/workspaces/{long[:8000]}"),
    ):
        assert answer.status_code in (400, 404)
        assert len(answer.content) < 3000


def test_bad_searches(alice: Api) -> None:
    for endpoint, fields, message in (
        (MODELS, {"filter": "bad = 'x'"}, "Invalid attribute key 'bad' specified. Valid keys are"),
        (MODELS, {"filter": "name='a' OR name='b'"}, "Invalid clause(s) in filter string: OR"),
        (MODELS, {"order_by": ["bad"]}, "Invalid order by key 'bad' specified. Valid keys are"),
        (MODELS, {"page_token": "nonsense"}, "Invalid page token, could not base64-decode"),
        (MODELS, {"max_results": "1001"}, "Invalid value \"1001\" for parameter 'max_results'"),
        (MODELS, {"max_results": "x"}, "Invalid value \"x\" for parameter 'max_results'"),
        (VERSIONS, {"max_results": "200001"}, "Invalid value"),
        (VERSIONS, {"max_results": "0"}, "Invalid value for max_results."),
        (VERSIONS, {"filter": "current_stage = 'None'"}, "Invalid attribute key 'current_stage'"),
    ):
        answer = alice.get(f"{endpoint}/search", **fields)
        assert refused(answer, *BAD).startswith(message), fields


# --- what the endpoints do -----------------------------------------------------------------


def test_retrying_what_clients_retry_changes_nothing(
    world: World, alice: Api, maker: Callable[..., Any]
) -> None:
    """set-tag and alias are sent again after a fault of the network; no second event either."""
    maker()
    for endpoint, fields in (
        ("set-tag", {"key": "k", "value": "v"}),
        ("alias", {"alias": "a", "version": "1"}),
    ):
        said(alice.post(f"{MODELS}/{endpoint}", name="m", **fields))
        before = model(alice), version(alice)
        with tenant_scope(world.alpha):
            events = AuditEvent.objects.count()
        said(alice.post(f"{MODELS}/{endpoint}", name="m", **fields))
        assert (model(alice), version(alice)) == before
        with tenant_scope(world.alpha):
            assert AuditEvent.objects.count() == events
    said(alice.delete(f"{MODELS}/alias", name="m", alias="a"))
    said(alice.delete(f"{MODELS}/alias", name="m", alias="a"))
    said(alice.delete(f"{MODELS}/delete-tag", name="m", key="k"))
    said(alice.delete(f"{MODELS}/delete-tag", name="m", key="k"))


def test_a_description_that_is_not_given_becomes_empty(
    alice: Api, maker: Callable[..., Any]
) -> None:
    maker(1, description="first")
    answer = alice.patch(f"{MODELS}/update", name="m", description="new")
    assert said(answer)["registered_model"]["description"] == "new"
    assert "description" not in said(alice.patch(f"{MODELS}/update", name="m"))["registered_model"]
    of_version = {"name": "m", "version": "1"}
    answer = alice.patch(f"{VERSIONS}/update", **of_version, description="new")
    assert said(answer)["model_version"]["description"] == "new"
    answer = alice.patch(f"{VERSIONS}/update", **of_version)
    assert said(answer)["model_version"]["description"] == ""


def test_a_renamed_model_keeps_what_it_has(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2)
    said(alice.post(f"{MODELS}/alias", name="m", alias="a", version="1"))
    renamed = said(alice.post(f"{MODELS}/rename", name="m", new_name="n"))["registered_model"]
    assert renamed == model(alice, "n")
    assert renamed["aliases"] == [{"alias": "a", "version": "1"}]
    assert version(alice, "1", "n")["name"] == "n"
    refused(alice.get(f"{MODELS}/get", name="m"), *GONE)
    said(alice.post(f"{MODELS}/rename", name="n", new_name="n"))


def test_a_versions_number_is_never_given_again(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2)
    said(alice.delete(f"{VERSIONS}/delete", name="m", version="2"))
    answer = alice.post(f"{VERSIONS}/create", name="m", source="s3://b")
    assert said(answer)["model_version"]["version"] == "3"


def test_a_deleted_version_takes_its_aliases_along(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2)
    for alias, number in (("a", "1"), ("b", "1"), ("c", "2")):
        said(alice.post(f"{MODELS}/alias", name="m", alias=alias, version=number))
    said(alice.delete(f"{VERSIONS}/delete", name="m", version="1"))
    refused(alice.get(f"{VERSIONS}/get", name="m", version="1"), *GONE)
    refused(alice.delete(f"{VERSIONS}/delete", name="m", version="1"), *GONE)
    assert model(alice)["aliases"] == [{"alias": "c", "version": "2"}]
    assert refused(alice.get(f"{MODELS}/alias", name="m", alias="a"), *BAD)


def test_a_deleted_model_is_gone_with_all_it_had(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2)
    said(alice.post(f"{MODELS}/alias", name="m", alias="a", version="1"))
    said(alice.delete(f"{MODELS}/delete", name="m"))
    refused(alice.get(f"{MODELS}/get", name="m"), *GONE)
    refused(alice.get(f"{VERSIONS}/get", name="m", version="1"), *GONE)
    refused(alice.delete(f"{MODELS}/delete", name="m"), *GONE)
    # Its name is free, and nothing of the old model comes back with it.
    said(alice.post(f"{MODELS}/create", name="m"))
    assert "aliases" not in model(alice)
    answer = alice.post(f"{VERSIONS}/create", name="m", source="s3://b")
    assert said(answer)["model_version"]["version"] == "1"


def test_an_alias_moves(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2)
    for number in ("1", "2"):
        said(alice.post(f"{MODELS}/alias", name="m", alias="a", version=number))
        found = said(alice.get(f"{MODELS}/alias", name="m", alias="a"))["model_version"]
        assert found["version"] == number
    assert model(alice)["aliases"] == [{"alias": "a", "version": "2"}]


def test_tags_are_set_and_deleted_one_at_a_time(alice: Api, maker: Callable[..., Any]) -> None:
    maker(1, tags=[{"key": "old", "value": "1"}])
    of_version = {"name": "m", "version": "1"}
    said(alice.post(f"{VERSIONS}/set-tag", **of_version, key="new", value="ü"))
    said(alice.post(f"{VERSIONS}/set-tag", **of_version, key="empty"))
    said(alice.delete(f"{VERSIONS}/delete-tag", **of_version, key="old"))
    said(alice.delete(f"{VERSIONS}/delete-tag", **of_version, key="never there"))
    # As with MLflow's own server, the order of tags says nothing: shorter names come first.
    found = [{"key": "new", "value": "ü"}, {"key": "empty", "value": ""}]
    assert version(alice)["tags"] == found


def test_prompts_are_models_that_a_search_must_ask_for(alice: Api) -> None:
    """Their version's source is a placeholder of the client's, and only theirs may be one."""
    is_prompt = [{"key": PROMPT, "value": "true"}]
    said(alice.post(f"{MODELS}/create", name="p", tags=is_prompt))
    for source in ("dummy-source", "prompt-template"):
        text = {"key": "mlflow.prompt.text", "value": "Hi {{ name }}"}
        answer = alice.post(f"{VERSIONS}/create", name="p", source=source, tags=[*is_prompt, text])
        assert said(answer)["model_version"]["source"] == source
        refused(alice.post(f"{VERSIONS}/create", name="p", source=source), *BAD)
    answer = alice.post(f"{VERSIONS}/create", name="p", source="s3://b", tags=is_prompt)
    assert refused(answer, *BAD) == (
        "Invalid prompt source: 's3://b'. Prompt sources must use an MLflow placeholder."
    )

    def names(chosen: str) -> list[str]:
        found = said(alice.get(f"{MODELS}/search", filter=chosen)).get("registered_models", [])
        return [model["name"] for model in found]

    assert names("") == names(f"tag.`{PROMPT}` != 'true'") == ["ALPHA own", "fraud"]
    assert names(f"tags.`{PROMPT}` = 'true'") == ["p"]


def test_sources_that_are_refused(alice: Api) -> None:
    for source in [
        *("/etc/passwd", "file:///etc/passwd", "FILE:/etc", "./m", "C:\\m", "m", ""),
        *("runs:/other/model", "runs:/", "models:/", "models:/x", "models://host/x/1"),
    ]:
        answer = alice.post(f"{VERSIONS}/create", name="fraud", source=source, run_id="r")
        message = refused(answer, *BAD)
        assert message.startswith(("Invalid model version source: ", "Missing value")), message
        assert "version=3" in refused(
            alice.get(f"{VERSIONS}/get", name="fraud", version="3"), *GONE
        )


@pytest.mark.parametrize(
    ("source", "run_id"),
    [
        *(("s3://b/m", ""), ("gs://b/m", ""), ("runs:/abc/model", "abc"), ("models:/m-1", "")),
        *(("https://elsewhere.example/api/2.0/mlflow-artifacts/artifacts/1/2", ""),),
        *(("mlflow-artifacts://elsewhere.example/1/2", ""), ("dbfs:/m", "")),
    ],
)
def test_sources_elsewhere_are_kept_as_they_are(alice: Api, source: str, run_id: str) -> None:
    answer = alice.post(f"{VERSIONS}/create", name="fraud", source=source, run_id=run_id)
    assert said(answer)["model_version"]["source"] == source
    found = said(alice.get(f"{VERSIONS}/get-download-uri", name="fraud", version="3"))
    assert found == {"artifact_uri": source}


def test_a_source_that_is_a_version_here(alice: Api) -> None:
    """By number, latest, stage and alias; names may hold signs that addresses escape."""
    for name in ("n@a", "100%25 {x}"):
        said(alice.post(f"{MODELS}/create", name=name))
        for _ in range(3):
            said(alice.post(f"{VERSIONS}/create", name=name, source=f"s3://{name}"))
        moved = {"name": name, "version": "2", "stage": "Production"}
        said(alice.post(f"{VERSIONS}/transition-stage", **moved))
        said(alice.post(f"{MODELS}/alias", name=name, alias="al", version="1"))
        for which, number in (
            *(("/3", 3), ("/latest", 3), ("/LATEST", 3), ("@al", 1)),
            *(("/Production", 2), ("/production", 2), ("/none", 3)),
        ):
            answer = alice.post(f"{VERSIONS}/create", name="fraud", source=f"models:/{name}{which}")
            made = said(answer)["model_version"]
            assert made["source"] == f"models:/{name}/{number}", which
            where = {"name": "fraud", "version": made["version"]}
            uri = said(alice.get(f"{VERSIONS}/get-download-uri", **where))
            assert uri == {"artifact_uri": f"s3://{name}"}
        for which in ("/4", "/0", "@no", "/Staging", "/nonsense", "/1/2", "@", "/"):
            answer = alice.post(f"{VERSIONS}/create", name="fraud", source=f"models:/{name}{which}")
            assert "Invalid model version source" in refused(answer, *BAD), which


@override_settings(ALLOWED_HOSTS=["*", ".example.org", "mlops.example.com", "[::1]"])
def test_which_addresses_are_this_site(alice: Api) -> None:
    """What is this site's must be there; what is another's is kept as text."""
    folder = "/api/2.0/mlflow-artifacts/artifacts/1/m"
    for host in (
        *(
            "127.0.0.1:8000",
            "mlops.example.com:8000",
            "a.example.org:8000",
            "MLOPS.Example.Com:8000",
        ),
        *("[::1]:8000", "user:pw@mlops.example.com:8000", "mlops.example.com.:8000"),
    ):
        for start in (f"http://{host}{folder}", f"http://{host}/t/team_alpha{folder}"):
            answer = alice.post(f"{VERSIONS}/create", name="fraud", source=start)
            assert "There is nothing there" in refused(answer, *BAD), start
        answer = alice.post(
            f"{VERSIONS}/create", name="fraud", source=f"mlflow-artifacts://{host}/1/m"
        )
        assert "There is nothing there" in refused(answer, *BAD), host
    for host in (
        *("elsewhere.example", "127.0.0.1:5000", "127.0.0.1", "mlops.example.com", "[::2]:8000"),
        *("mlops.example.com:8000@elsewhere.example", "badexample.org:8000", "[::1]"),
    ):
        said(alice.post(f"{VERSIONS}/create", name="fraud", source=f"http://{host}{folder}"))


# --- searches ------------------------------------------------------------------------------


def test_pages_hold_each_row_once_in_order(alice: Api) -> None:
    for number in range(7):
        said(alice.post(f"{MODELS}/create", name=f"page {number}"))
    found, token, pages = [], "", 0
    while True:
        asked = {"filter": "name LIKE 'page %'", "max_results": 3, "order_by": ["name DESC"]}
        page = said(
            alice.get(f"{MODELS}/search", **asked, **({"page_token": token} if token else {}))
        )
        found += [model["name"] for model in page["registered_models"]]
        pages += 1
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == [f"page {number}" for number in reversed(range(7))]
    assert pages == 3


def test_a_page_token_goes_on_with_its_own_search_alone(world: World, alice: Api) -> None:
    """L7: of another filter, order, endpoint or team, and an edited one, it is no token."""
    directory.add_member(world.gamma, world.alice, "viewer")
    here = alice.but(team="team_alpha")
    asked = {"filter": "name LIKE '%'", "max_results": 1, "order_by": ["name"]}
    token = said(here.get(f"{MODELS}/search", **asked))["next_page_token"]
    again = asked | {"page_token": token}
    assert said(here.get(f"{MODELS}/search", **again))["registered_models"][0]["name"] == "fraud"
    said(here.get(f"{MODELS}/search", **again | {"max_results": 2}))
    middle = len(token) // 2
    edited = token[:middle] + ("a" if token[middle] != "a" else "b") + token[middle + 1 :]
    for answer in (
        here.but(team="team_gamma").get(f"{MODELS}/search", **again),
        here.get(f"{VERSIONS}/search", **again),
        here.get(f"{MODELS}/search", **again | {"filter": "name LIKE '%a%'"}),
        here.get(f"{MODELS}/search", **again | {"order_by": ["name DESC"]}),
        here.get(f"{MODELS}/search", **again | {"page_token": edited}),
        here.get(f"{MODELS}/search", **again | {"page_token": "eyJvZmZzZXQiOiAxfQ=="}),
    ):
        assert refused(answer, *BAD) == "Invalid page token, could not base64-decode"


def test_a_search_reads_its_fields(alice: Api, maker: Callable[..., Any]) -> None:
    maker(2, tags=[{"key": "k", "value": "v"}])
    found = said(
        alice.get(
            f"{VERSIONS}/search",
            filter="name = 'm' AND tags.k = 'v'",
            order_by=["name", "version_number ASC"],
        )
    )
    assert [row["version"] for row in found["model_versions"]] == ["1", "2"]
    by_body = alice.raw(
        "GET", f"{VERSIONS}/search", b'{"filter": "name = \'m\'", "max_results": 1}'
    )
    assert [row["version"] for row in said(by_body)["model_versions"]] == ["2"]
    assert said(alice.get(f"{MODELS}/search", max_results=0)) == {}


# --- workspaces, and the door itself -------------------------------------------------------


def test_workspaces_are_the_teams_that_the_token_opens(world: World, alice: Api) -> None:
    directory.add_member(world.gamma, world.alice, "viewer")
    alpha = {"name": "team-alpha", "description": "Alpha"}
    found = said(alice.get("3.0/mlflow/workspaces"))["workspaces"]
    assert [workspace["name"] for workspace in found] == ["team-alpha", "team-gamma"]
    assert found[0] == alpha
    assert said(alice.get("3.0/mlflow/workspaces/team-alpha")) == {"workspace": alpha}
    assert said(alice.get("3.0/mlflow/workspaces/team_alpha")) == {"workspace": alpha}
    bob = Api(make_token(world.bob))
    assert said(bob.get("3.0/mlflow/workspaces")) == {"workspaces": [alpha]}
    theirs = refused(bob.get("3.0/mlflow/workspaces/team-gamma"), *GONE)
    nobodys = refused(bob.get("3.0/mlflow/workspaces/team-nobod"), *GONE)
    assert theirs.replace("gamma", "nobod") == nobodys == "Workspace 'team-nobod' not found"
    for method, endpoint in (
        *(("POST", "workspaces"), ("PATCH", "workspaces/team-alpha")),
        *(("DELETE", "workspaces/team-alpha"), ("DELETE", "workspaces/team-nobod")),
    ):
        answer = alice.send(method, f"3.0/mlflow/{endpoint}", {"name": "x"})
        assert "platform admins" in refused(answer, 403, "PERMISSION_DENIED")


def test_which_team_a_request_is_for(world: World) -> None:
    """The token's, the header's, the address's, the person's only one; else it must be said."""
    directory.add_member(world.gamma, world.carol, "viewer")
    secret = make_token(world.carol)
    both = Api(secret)
    message = refused(both.get(f"{MODELS}/get", name="ALPHA own"), *BAD)
    assert "team-alpha, team-gamma" in message
    assert "MLFLOW_WORKSPACE" in message
    for name, api in (
        ("ALPHA own", both.but(team="team-alpha")),
        ("ALPHA own", both.but(team="team_alpha")),
        ("ALPHA own", both.but(prefix="team_alpha")),
        ("ALPHA own", both.but(prefix="team-alpha")),
        ("CANARY own", both.but(team="team-gamma", prefix="team_alpha")),
        ("CANARY own", Api(make_token(world.carol, tenant=world.gamma))),
        ("CANARY own", Api(make_token(world.gina))),
    ):
        assert model(api, name)["name"] == name
    bound = Api(make_token(world.carol, tenant=world.gamma), team="team-alpha")
    message = refused(bound.get(f"{MODELS}/get", name="fraud"), 403, "PERMISSION_DENIED")
    assert message.startswith("This token opens the workspace 'team-gamma' alone")


def test_server_info_needs_no_token_and_knows_nobody(world: World) -> None:
    answers = {
        Api(token).get("3.0/mlflow/server-info").content
        for token in ("", "nonsense", make_token(world.alice), make_token(world.gina))
    }
    [body] = answers
    assert orjson.loads(body)["workspaces_enabled"] is True


def test_the_pages_of_mlflow_may_ask_under_their_own_address(alice: Api) -> None:
    for prefix in ("", "team_alpha"):
        for kind in ("api", "ajax-api"):
            api = alice.but(kind=kind, prefix=prefix)
            assert api.get(f"{MODELS}/get", name="fraud").content == (
                alice.get(f"{MODELS}/get", name="fraud").content
            )
            refused(api.get("2.0/mlflow/nothing"), 404, "ENDPOINT_NOT_FOUND")


def test_an_unknown_address_is_404_in_json(alice: Api) -> None:
    for endpoint in [
        *("2.0/preview/mlflow/registered-models/get", "2.0/mlflow/registered-models/get/"),
        *("2.0/mlflow/registered-models", "2.0/mlflow/experiments/search", "", "/api/"),
        *("1.0/mlflow/registered-models/get", "2.0//mlflow/registered-models/get", "/api/%00"),
        "2.0/mlflow/REGISTERED-MODELS/get",
    ]:
        message = refused(alice.get(endpoint), 404, "ENDPOINT_NOT_FOUND")
        assert message == "There is no such endpoint."
        refused(Api().get(endpoint), 404, "ENDPOINT_NOT_FOUND")


def test_a_method_that_is_not_answered_is_405_in_json(alice: Api) -> None:
    for address, methods in ENDPOINTS.items():
        if address.endswith("/"):
            continue
        place = f"/{address}" if address.startswith("model-") else address
        allowed = set(methods) | ({"HEAD"} if "GET" in methods else set())
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"} - allowed:
            answer = alice.raw(method, place)
            refused(answer, 405, "BAD_REQUEST")
            assert answer["Allow"] == ", ".join(sorted(methods)), (method, address)


def test_head_is_get_without_a_body(alice: Api) -> None:
    head = alice.send("HEAD", f"{MODELS}/get", {"name": "fraud"})
    get = alice.get(f"{MODELS}/get", name="fraud")
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Length"] == str(len(get.content))


def test_a_token_may_come_as_a_password(world: World) -> None:
    """MLflow's client sends Basic where a username is set; the name is whatever it is."""
    from base64 import b64encode

    secret = make_token(world.alice)
    for username in ("", "anybody", "ü", "a" * 300):
        basic = b64encode(f"{username}:{secret}".encode()).decode()
        api = Api(headers={"Authorization": f"Basic {basic}"})
        assert model(api, "fraud")["name"] == "fraud"
    for header in (f"bearer {secret}", f"BEARER   {secret} "):
        assert model(Api(headers={"Authorization": header}), "fraud")
    for header in (
        secret,
        f"Token {secret}",
        f"Basic {secret}",
        "Basic ====",
        "Basic \xe9",
        "Bearer",
        "",
    ):
        answer = Api(headers={"Authorization": header}).get(f"{MODELS}/get", name="fraud")
        refused(answer, 401, "UNAUTHENTICATED")
        assert answer["WWW-Authenticate"] == 'Bearer realm="Bulkhead", Basic realm="Bulkhead"'


def test_no_answer_is_kept_by_anybody_on_the_way(alice: Api) -> None:
    """L20."""
    for answer in (
        alice.get(f"{MODELS}/get", name="fraud"),
        alice.get(f"{MODELS}/get", name="nope"),
        Api().get(f"{MODELS}/get", name="fraud"),
        alice.get("2.0/mlflow/nothing"),
        alice.get("3.0/mlflow/server-info"),
    ):
        assert answer["Cache-Control"] == "private, no-store"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert not answer.cookies


def test_what_cannot_be_read_is_no_fault_of_ours(alice: Api) -> None:
    """A wrong host, too many fields and too large a body: 400 and 413, in JSON."""
    get = f"{MODELS}/get?name=fraud"
    wrong_host = alice.raw("GET", get, HTTP_HOST="elsewhere.example")
    message = "The request cannot be read."
    assert refused(wrong_host, 400, "BAD_REQUEST") == message
    many = "&".join(f"a{number}=1" for number in range(1001))
    assert refused(alice.raw("GET", f"{get}&{many}"), 400, "BAD_REQUEST") == message
    huge = alice.raw("POST", f"{MODELS}/create", b"x" * (5 * 1024 * 1024 + 1))
    assert refused(huge, 413, "BAD_REQUEST") == "The body is too large."


def test_a_write_is_in_the_log_with_who_did_it_and_how(
    world: World, alice: Api, maker: Callable[..., Any]
) -> None:
    maker()
    with tenant_scope(world.alpha):
        event = AuditEvent.objects.filter(action="version.added").order_by("created_at").last()
    assert event is not None
    assert (event.actor_id, event.actor_label) == (world.alice.pk, "alice")
    assert event.ip == "127.0.0.1"
    assert event.via == alice.token[:12]
    assert re.fullmatch(r"bhw_\w{8}", event.via)


def test_downloads_are_counted(world: World, alice: Api) -> None:
    for _ in range(2):
        said(alice.get(f"{VERSIONS}/get-download-uri", name="fraud", version="1"))
    with tenant_scope(world.alpha):
        counted = ModelVersion.objects.get(model__name="fraud", number=1).downloads.get()
    assert counted.count == 2


def test_a_page_ends_where_its_rows_are_large(
    alice: Api, maker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much was asked for, the server holds no more at a time, and the rest comes after."""
    maker(7, tags=[{"key": "k", "value": "x" * 1000}])
    monkeypatch.setattr(registry_endpoints, "MAX_PAGE_BYTES", 3000)
    seen, token, pages = [], "", 0
    while pages < 10:
        asked = {"filter": "name = 'm'", "max_results": "100", "page_token": token}
        page = said(alice.get(f"{VERSIONS}/search", **asked))
        seen += [row["version"] for row in page.get("model_versions", [])]
        pages += 1
        token = page.get("next_page_token", "")
        if not token:
            break
    assert sorted(seen) == [str(number) for number in range(1, 8)]
    assert pages >= 3


def test_a_version_of_a_version_keeps_run_and_logged_model(
    alice: Api, maker: Callable[..., Any]
) -> None:
    """As MLflow's own server has it; other ones are refused, and so is a prompt as a source."""
    run = "0123456789abcdef" * 2
    maker(1, run_id=run)
    said(alice.post(f"{MODELS}/create", name="copy"))
    copied = {"name": "copy", "source": "models:/m/1"}
    found = said(alice.post(f"{VERSIONS}/create", **copied))["model_version"]
    assert (found["run_id"], found["source"]) == (run, "models:/m/1")
    uri = said(alice.get(f"{VERSIONS}/get-download-uri", name="copy", version="1"))
    assert uri == {"artifact_uri": "s3://b/m"}
    refused(alice.post(f"{VERSIONS}/create", **copied, run_id="f" * 32), *BAD)
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    said(alice.post(f"{MODELS}/create", name="prompt", tags=prompt))
    said(alice.post(f"{VERSIONS}/create", name="prompt", source="dummy-source", tags=prompt))
    refused(alice.post(f"{VERSIONS}/create", name="copy", source="models:/prompt/1"), *BAD)


def test_a_registered_model_may_be_named_like_a_logged_one(alice: Api) -> None:
    said(alice.post(f"{MODELS}/create", name="m-fraud"))
    said(alice.post(f"{VERSIONS}/create", name="m-fraud", source="s3://b/fraud"))
    said(alice.post(f"{VERSIONS}/create", name="m-fraud", source="models:/m-fraud/1"))
    uri = said(alice.get(f"{VERSIONS}/get-download-uri", name="m-fraud", version="2"))
    assert uri == {"artifact_uri": "s3://b/fraud"}
    logged = {"name": "m-fraud", "source": f"models:/m-{'0' * 32}", "model_id": f"m-{'0' * 32}"}
    said(alice.post(f"{VERSIONS}/create", **logged))
