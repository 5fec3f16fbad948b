"""Whatever is sent to the API, the answer is JSON of a known shape, and never a 500."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from django.core.cache import cache
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.api import ENDPOINTS
from tenants.errors import STATUSES
from tests.support.api import MODELS, VERSIONS, Api, kept, make_token
from tests.support.api_endpoints import METHODS, TABLE, place
from tests.support.people import CANARY, World

EVERYWHERE = sorted((method, address) for address, found in ENDPOINTS.items() for method in found)


def examples(number: int) -> settings:
    """Return how many examples are tried, and the same ones in every run."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


ANY_TEXT = st.text(max_size=300)
#: Texts that mean something somewhere on the way.
NASTY = st.sampled_from(
    [
        *("", " ", "\x00", "a\x00b", "\ud7ff\ue000", "\U0010ffff", "\u202e", "é\u0301", "%00", "%"),
        *("..", "../..", "a/b", "a:b", "'", '"', "';--", "$1", "%s", "{}", "{0}", "\\", "\\u0000"),
        *("latest", "v1", "None", "null", "true", "NaN", "-1", "0", "1" * 5000, "9" * 20, "1e9"),
        *("x" * 257, "x" * 100_001, "fraud", f"{CANARY} own", "champion", "Production"),
        *("models:/fraud/1", "models:/fraud@champion", "models:/", "models:/a/b/c", "models:x/1"),
        *("mlflow-artifacts:/", "mlflow-artifacts://[::1/x", "http://[", "http://a:b:c/", "s3:"),
        *("http://127.0.0.1:8000/api/2.0/mlflow-artifacts/artifacts/", "http://x:99999999/", "://"),
        *("mlflow-artifacts:/versions/00000000-0000-0000-0000-000000000000", "runs:/", "//", "?"),
        *("mlflow-artifacts:/" + "%25" * 20, "http://127.0.0.1:8000/%", "http://\u2100/x", "m:/"),
    ]
)
TEXT = ANY_TEXT | NASTY
SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
PAIRS = st.lists(st.fixed_dictionaries({}, optional={"key": SCALAR, "value": SCALAR}), max_size=4)
FIELDS = (
    *("name", "new_name", "newName", "version", "alias", "key", "value", "tags", "description"),
    *("source", "run_id", "runId", "run_link", "model_id", "stage", "stages", "filter", "order_by"),
    *("max_results", "page_token", "archive_existing_versions", "path", "deployment_job_id"),
)
WORDS = st.sampled_from(
    [
        *("name", "tags.k", "tag.`a b`", 'tags."x"', "version_number", "run_id", "source_path"),
        *("=", "!=", "<", ">=", "LIKE", "ILIKE", "IN", "NOT IN", "AND", "OR", "NOT", "IS NULL"),
        *("'fraud'", "'%'", "'\\'", "'\\\\%'", '"a"', "('a', 'b')", "()", "(1)", "1", "-1", "1.5"),
        *("'", "`", '"', "(", ")", ",", ";", "--", "/*", "\x00", "%s", "9" * 30, "1e400", "0x1"),
        *(
            "\ud7ff",
            "'\u2028'",
            "tags",
            ".",
            "tags.",
            "attribute.name",
            "'mlflow.prompt.is_prompt'",
        ),
    ]
)
FILTER = st.lists(WORDS, max_size=7).map(" ".join) | TEXT
ORDER = st.lists(
    st.builds(
        "{} {}".format,
        st.sampled_from(["name", "timestamp", "version_number", "x", "`name`", "tags.k", ""])
        | TEXT,
        st.sampled_from(["", "ASC", "desc", "NULLS", "ASC DESC", "\x00"]),
    ),
    max_size=4,
)
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=200)


@pytest.fixture
def alice(world: World) -> Iterator[Api]:
    """The client of alpha's admin; whatever happens, nothing of gamma's changes."""
    before = kept(world.gamma)
    yield Api(make_token(world.alice))
    assert kept(world.gamma) == before


def judged(call: Callable[[], Any]) -> Any:
    """Return the answer if it is one; what the call did is undone."""
    with transaction.atomic():
        answer = call()
        transaction.set_rollback(True)
    assert answer.status_code < 500 or answer.status_code == 501, answer.content
    assert CANARY not in str(answer.headers)
    assert len(answer.content) < 100_000
    if not answer.content:
        return answer
    assert answer["Content-Type"] == "application/json", answer.status_code
    body = orjson.loads(answer.content)
    assert isinstance(body, dict)
    if answer.status_code != 200:
        assert set(body) == {"error_code", "message"}
        assert body["error_code"] in STATUSES
    return answer


def fields_of(method: str, address: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return requests that are nearly right: what works there, with some fields spoilt."""
    good = st.fixed_dictionaries(
        {}, optional={name: st.just(value) for name, value in TABLE[method, address].fields.items()}
    )
    spoilt = st.dictionaries(st.sampled_from(FIELDS), JSON | TEXT | PAIRS | st.just([]), max_size=3)
    return st.builds(lambda one, other: one | other, good, spoilt)


CALLS = st.sampled_from(EVERYWHERE).flatmap(
    lambda where: st.tuples(st.just(where), fields_of(*where), st.text(max_size=20))
)


@given(call=CALLS)
@examples(250)
def test_any_json_at_any_endpoint(alice: Api, call: tuple[tuple[str, str], Any, str]) -> None:
    (method, address), fields, rest = call
    path = place(address, quote(rest) if address.endswith("/") else "")
    body = orjson.dumps(fields)
    judged(lambda: alice.raw(method, path, body))


@given(call=CALLS, twice=st.booleans())
@examples(100)
def test_any_query_at_any_endpoint(
    alice: Api, call: tuple[tuple[str, str], Any, str], twice: bool
) -> None:
    (method, address), fields, rest = call
    found = [(name, value) for name, value in fields.items() if isinstance(value, str | int)]
    pairs = [f"{quote(name)}={quote(str(value)[:9000])}" for name, value in found]
    path = place(address, quote(rest) if address.endswith("/") else "")
    judged(lambda: alice.raw(method, f"{path}?{'&'.join(pairs * (1 + twice))}", b"{}"))


@given(
    where=st.sampled_from(EVERYWHERE),
    body=st.binary(max_size=300) | JSON.map(orjson.dumps),
    content_type=st.sampled_from(
        ["application/json", "application/json; charset=utf-16", "multipart/form-data", "a/b", "x"]
    ),
)
@examples(100)
def test_any_bytes_at_any_endpoint(
    alice: Api, where: tuple[str, str], body: bytes, content_type: str
) -> None:
    judged(lambda: alice.raw(where[0], place(where[1]), body, content_type))


HOSTILE_BODIES = (
    b"[" * 100_000,
    b'{"name":' * 2_000 + b"1" + b"}" * 2_000,
    b'{"name":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    b'{"tags":' + b"[" * 900 + b"]" * 900 + b',"name":"x"}',
    b'{"name": ' + b"9" * 100_000 + b"}",
    b'{"name": 1e999}',
    b'{"name": -0.0}',
    b'{"name": NaN}',
    b'{"name": "\\ud800"}',
    b'{"name": "\xed\xa0\x80"}',
    b'{"name": "\xff"}',
    b'{"name": "a", "name": ["b"]}',
    b'{"na\\u006de": "a"}',
    b'{"__proto__": {"name": "x"}, "constructor": 1}',
    b"\xef\xbb\xbf{}",
    b'"{\\"name\\": \\"twice\\"}"',
    b'"\\"\\\\\\"three times\\\\\\"\\""',
    b'{"name": "x", "tags": [' + b'{"key": "k", "value": "v"},' * 5_000 + b"{}]}",
    orjson.dumps({"name": "x", "tags": [{"key": f"k{n}", "value": ""} for n in range(1001)]}),
    orjson.dumps({"name": "fraud", "stages": ["None"] * 50_000}),
    orjson.dumps({"name": "x", "description": "d" * 4_000_000}),
    orjson.dumps({f"field {n}": n for n in range(50_000)}),
)


def test_bodies_made_to_break_a_reader(alice: Api) -> None:
    """Deep, long, huge, doubled or not Unicode; by each endpoint that reads a body."""
    for method, address in EVERYWHERE:
        if method == "GET" or f"{MODELS}/" not in address:
            continue
        for body in HOSTILE_BODIES:
            judged(partial(alice.raw, method, place(address), body))


@given(chosen=FILTER, order=ORDER, size=SCALAR, token=TEXT | st.binary().map(bytes.hex))
@examples(80)
def test_any_search(alice: Api, chosen: str, order: list[str], size: Any, token: str) -> None:
    for endpoint in (f"{MODELS}/search", f"{VERSIONS}/search"):
        asked = {"filter": chosen, "order_by": order, "max_results": size, "page_token": token}
        for fields in (asked, {"filter": chosen}, {"order_by": order}):
            said = {name: value for name, value in fields.items() if value is not None}
            body = orjson.dumps(said)
            judged(partial(alice.raw, "GET", endpoint, body))


@given(cut=st.integers(0, 120), letter=st.characters(max_codepoint=127))
@examples(60)
def test_any_edited_page_token(alice: Api, cut: int, letter: str) -> None:
    asked = {"max_results": 1, "filter": "name LIKE '%'"}
    token = orjson.loads(alice.get(f"{MODELS}/search", **asked).content)["next_page_token"]
    edited = token[:cut] + letter + token[cut + 1 :]
    answer = judged(lambda: alice.get(f"{MODELS}/search", **asked, page_token=edited))
    assert answer.status_code == (200 if edited == token else 400)


@given(name=TEXT, version=TEXT, alias=TEXT)
@examples(60)
def test_any_name_that_is_taken_can_be_used(
    alice: Api, name: str, version: str, alias: str
) -> None:
    """What one endpoint lets in, every other one finds again."""

    def everything() -> Any:
        made = alice.post(f"{MODELS}/create", name=name)
        if made.status_code == 200:
            assert alice.get(f"{MODELS}/get", name=name).status_code == 200
            assert alice.post(f"{VERSIONS}/create", name=name, source="s3://b").status_code == 200
            pointed = alice.post(f"{MODELS}/alias", name=name, alias=alias, version="1")
            found = alice.get(f"{MODELS}/alias", name=name, alias=alias)
            assert alias.lower() == "latest" or pointed.status_code == found.status_code
            source = f"models:/{name}/1"
            copied = alice.post(f"{VERSIONS}/create", name="fraud", source=source)
            assert judged(lambda: copied).status_code == 200
        judged(lambda: alice.get(f"{VERSIONS}/get", name=name[:1000], version=version[:1000]))
        return made

    judged(everything)


@given(
    authorization=HEADER | HEADER.map("Bearer {}".format) | HEADER.map("Basic {}".format),
    team=HEADER,
    host=HEADER,
    method=st.sampled_from(METHODS),
)
@examples(50)
def test_any_headers(alice: Api, authorization: str, team: str, host: str, method: str) -> None:
    cache.clear()
    path = f"{MODELS}/get?name=fraud"
    judged(lambda: alice.but(headers={"Authorization": authorization}).raw(method, path))
    judged(lambda: alice.but(team=team).raw(method, path))
    judged(lambda: alice.raw(method, path, HTTP_HOST=host))
    judged(lambda: alice.raw(method, path, REMOTE_ADDR=team, HTTP_X_FORWARDED_FOR=host))


@given(team=TEXT, rest=TEXT, method=st.sampled_from(METHODS), token=st.booleans())
@examples(60)
def test_any_address(alice: Api, team: str, rest: str, method: str, token: bool) -> None:
    cache.clear()
    api = alice if token else Api()
    for path in (
        f"/api/{quote(rest[:5000])}",
        f"/t/{quote(team[:5000], safe='')}/api/2.0/mlflow/{MODELS}/get?name={quote(rest[:5000])}",
        f"/api/3.0/mlflow/workspaces/{quote(rest[:5000])}",
    ):
        if "/t/" in path and "/" in team:
            continue  # no address of the API, but of a page
        judged(partial(api.raw, method, path))
