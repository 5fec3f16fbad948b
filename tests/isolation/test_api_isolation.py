"""What a token of alpha's people finds out about team_gamma by the API: nothing.

Whatever team_gamma owns carries the word CANARY. The classes of leaks are numbered as in
``test_isolation``, which tries the pages.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from statistics import median
from threading import Event
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.utils import timezone

from models_registry import registry
from models_registry.models import ArtifactFile, Blob, ModelVersion, RegisteredModel, Upload
from tenants import prepared
from tenants.api import ENDPOINTS, Call, Endpoint, writing
from tenants.identity import directory, tokens
from tenants.isolation.scope import tenant_scope, token_scope
from tenants.models import ApiToken, Membership, Role, User
from tests.support.answers import probability_of_less, whole
from tests.support.api import MODELS, VERSIONS, Api, kept, make_token, refused, said
from tests.support.api_endpoints import TABLE, Row, place
from tests.support.people import CANARY, World, committed, make_world
from tests.support.sql import rows
from tests.support.threads import at_once, wait_until_somebody_waits

THEIRS = f"{CANARY} own"
#: As long as THEIRS, so that lengths can be compared.
NOBODYS, DELETED = "NOBODY own", "REMOVD own"
SECRETS = (CANARY, "team_gamma", "team-gamma", "gina", "hugo")
BAD = (400, "INVALID_PARAMETER_VALUE")
GONE = (404, "RESOURCE_DOES_NOT_EXIST")
TIMES = re.compile(r'("(?:creation|last_updated)_timestamp": ?)\d+')
PAGE_TOKEN = re.compile(r'("next_page_token": ?)"[^"]+"')


@pytest.fixture
def full(world: World) -> World:
    """Gamma has more to hide: files, aliases, a stage, a third version; alpha deleted a model."""
    with tenant_scope(world.gamma, world.hugo):
        for model in RegisteredModel.objects.all():
            registry.set_alias(model, f"{CANARY}-alias", 2)
            third = registry.add_version(model, source=f"s3://{CANARY}/3")
            registry.set_stage(third, "Production")
        give_files(third)
    with tenant_scope(world.alpha, world.alice):
        gone = registry.register_model(DELETED)
        registry.add_version(gone)
        registry.delete_model(gone, in_use=True)
    return world


def give_files(version: ModelVersion) -> None:
    """Give the version a file, and the upload area of its team two more, one of them unfinished."""
    blob = Blob.objects.get_or_create(digest="0" * 64, defaults={"size": 1})[0]
    ArtifactFile.objects.create(version=version, path="model/MLmodel", blob=blob)
    ArtifactFile.objects.create(version=None, path="1/abc/artifacts/model/MLmodel", blob=blob)
    Upload.objects.create(version=None, path="2/unfinished/model/MLmodel")


@pytest.fixture
def alice(full: World) -> Api:
    """The client of alpha's admin, who may do everything there."""
    return Api(make_token(full.alice))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is sent to PostgreSQL, past Django's own count too: API reads are pipelined."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def counted(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(re.sub(r'"s\d+_x\d+"', "SAVEPOINT", str(query)))
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    return sent


def seen(answer: Any, *names: str) -> tuple[int, dict[str, str], str]:
    """Return all that a client sees, but for times, page tokens and what it said itself."""
    status, headers, text = whole(answer, *names)
    return status, headers, PAGE_TOKEN.sub(r"\1", TIMES.sub(r"\1", text))


def undone(call: Callable[[], Any]) -> Any:
    """Return the answer, and undo what the call did."""
    with transaction.atomic():
        answer = call()
        transaction.set_rollback(True)
    return answer


# --- what is not there and what is not yours -----------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """Fields of a request that name something of theirs, and the same that nobody has."""

    theirs: dict[str, str]
    others: tuple[dict[str, str], ...]


ATTEMPTS = (
    Attempt({"name": THEIRS}, ({"name": NOBODYS}, {"name": DELETED})),
    Attempt({"name": THEIRS, "version": "3"}, ({"name": NOBODYS, "version": "3"},)),
    Attempt({"version": "3"}, ({"version": "4"},)),
    Attempt({"alias": f"{CANARY}-alias"}, ({"alias": "NOBODY-alias"},)),
    Attempt({"new_name": THEIRS}, ({"new_name": NOBODYS}, {"new_name": DELETED})),
)


def test_another_teams_things_answer_as_what_never_was(
    full: World, alice: Api, statements: list[str]
) -> None:
    """L2, L3, L9, L11: its model, version and alias by every endpoint, beside random and deleted.

    Status, headers, body and the statements in the database are the same; a name that it has is
    as free as any other.
    """
    before, tried = kept(full.alpha, full.gamma), 0

    def asked(method: str, address: str, row: Row, fields: dict[str, str]) -> Any:
        statements.clear()
        sent = row.fields | fields
        answer = undone(lambda: alice.send(method, place(address), sent))
        return seen(answer, *fields.values()), list(statements)

    for (method, address), row in TABLE.items():
        for attempt in ATTEMPTS:
            if not set(attempt.theirs) <= set(row.fields):
                continue
            asked(method, address, row, attempt.theirs)  # the first one is prepared
            theirs = asked(method, address, row, attempt.theirs)
            for others in attempt.others:
                assert theirs == asked(method, address, row, others), (method, address, others)
            assert len(theirs[1]) >= 2
            assert CANARY not in str(theirs[0]), (method, address)
            tried += 1
    assert tried > 40
    assert kept(full.alpha, full.gamma) == before


def test_another_team_answers_as_one_that_never_was(
    full: World, alice: Api, statements: list[str]
) -> None:
    """L9: named in the header, in the address or in both, down to the statements."""
    for fields in ({"name": "fraud"}, {"name": THEIRS}):
        found = []
        for slug in ("team-gamma", "team-gamma", "team-nobod"):
            for api in (alice.but(team=slug), alice.but(prefix=slug.replace("-", "_"))):
                statements.clear()
                answer = api.get(f"{MODELS}/get", **fields)
                words = (slug[5:], f"/t/{slug}")
                found.append((seen(answer, *words), list(statements)))
        assert found[2:4] == found[4:6]
        assert found[2][0][0] == 404


def test_existing_elsewhere_takes_as_long_as_existing_nowhere(full: World, alice: Api) -> None:
    """L10: requests for both by turns; a rank test with an effect size far above its noise."""
    good = make_token(full.gina)
    fraud = f"{MODELS}/get?name=fraud"  # asked from no address, so that refusals are not counted
    pairs: tuple[tuple[Any, Any], ...] = (
        (
            lambda: alice.get(f"{MODELS}/get", name=THEIRS),
            lambda: alice.get(f"{MODELS}/get", name=NOBODYS),
        ),
        (
            lambda: alice.get(f"{MODELS}/alias", name=THEIRS, alias="champion"),
            lambda: alice.get(f"{MODELS}/alias", name=NOBODYS, alias="champion"),
        ),
        (
            lambda: alice.but(team="team-gamma").get(f"{MODELS}/get", name="fraud"),
            lambda: alice.but(team="team-nobod").get(f"{MODELS}/get", name="fraud"),
        ),
        (
            lambda: Api(good[:-40] + "0" * 40).raw("GET", fraud, REMOTE_ADDR=""),
            lambda: Api(f"bhw_{'0' * 48}").raw("GET", fraud, REMOTE_ADDR=""),
        ),
    )
    for theirs, nobodys in pairs:
        times: dict[Any, list[float]] = {theirs: [], nobodys: []}
        for turn in range(100):
            for ask in (theirs, nobodys) if turn % 2 else (nobodys, theirs):
                start = time.perf_counter()
                ask()
                times[ask].append(time.perf_counter() - start)
        # By chance alone it is 0.5 ± 0.041.
        faster = probability_of_less(times[theirs], times[nobodys])
        assert 0.32 < faster < 0.68, faster
        assert median(times[theirs]) < 1.5 * median(times[nobodys])
        assert median(times[nobodys]) < 1.5 * median(times[theirs])


# --- one request that says two things ------------------------------------------------------


def test_whatever_else_a_request_says_it_is_about_what_it_is_allowed(
    full: World, alice: Api
) -> None:
    """L4: the same field twice, in two places, in two spellings; the team in any place but its."""
    get = f"{MODELS}/get"
    plain = seen(alice.get(get, name="fraud"))
    theirs = quote(THEIRS)
    body = orjson.dumps({"name": THEIRS})
    for answer in (
        alice.raw("GET", f"{get}?name=fraud", body),
        alice.raw("GET", f"{get}?name=fraud&name={theirs}"),
        *(
            alice.raw("GET", f"{get}?name=fraud&{parameter}=team_gamma")
            for parameter in (
                *("workspace", "tenant", "tenant_id", "team", "X-MLFLOW-WORKSPACE", "user_id"),
                *("tenant__slug", "access_token", "token", "Authorization"),
            )
        ),
        *(
            alice.but(headers={header: value}).get(get, name="fraud")
            for header, value in (
                ("Cookie", f"name={theirs}; workspace=team_gamma; sessionid=x"),
                ("name", THEIRS),
                ("X-Tenant", "team_gamma"),
                ("X-HTTP-Method-Override", "DELETE"),
                ("X-Original-URL", "/t/team_gamma/api/2.0/mlflow/registered-models/get"),
                ("X-Rewrite-URL", "/t/team_gamma/api/2.0/mlflow/registered-models/get"),
                ("X-Forwarded-Prefix", "/t/team_gamma"),
                ("X-Script-Name", "/t/team_gamma"),
            )
        ),
    ):
        assert seen(answer) == plain
    # Of two in JSON the last one counts, for every reader of the body; here there is one reader.
    twice = b'{"name": "fraud", "name": "CANARY own"}'
    refused(alice.raw("GET", get, twice), *GONE)
    rename = f"{MODELS}/rename"
    both = {"name": "fraud", "new_name": "new", "newName": THEIRS}
    assert "only one of them" in refused(alice.post(rename, **both), *BAD)
    wanted = f"{MODELS}/set-tag?name={theirs}"
    said(alice.raw("POST", wanted, b'{"name": "fraud", "key": "k", "value": "mine"}'))
    assert {"key": "k", "value": "mine"} in said(alice.get(get, name="fraud"))["registered_model"][
        "tags"
    ]


def test_another_team_is_not_found_however_it_is_spelt(full: World, alice: Api) -> None:
    """L4, L9: nor is a team that no name can be; the answer repeats what was asked for."""
    for header, prefix in [
        *(("team-gamma", "team_alpha"), ("", "team_gamma"), ("team-gamma", "")),
        *(("team-gamma,team-alpha", "team_alpha"), ("team-alpha team-gamma", "")),
        *(("TEAM-GAMMA", "team_alpha"), ("team%2dgamma", ""), ("*", ""), ("%", ""), ("-", "")),
        *(
            ("team-gamma\t", ""),
            ("' OR true --", ""),
            ("team_gamma\x00", ""),
            ("", "team_gamma%00"),
        ),
        *(("", "TEAM_GAMMA"), ("", "team%5fgamma"), ("", "%2e%2e"), ("", "team_gamma;a")),
        *(
            ("x" * 5000, ""),
            ("", "x" * 5000),
            ("\N{FULLWIDTH LATIN SMALL LETTER T}eam-gamma", ""),
            ("team\u2010gamma", ""),
        ),
    ]:
        api = alice.but(team=header, prefix=prefix)
        for answer in (
            api.get(f"{MODELS}/get", name=THEIRS),
            api.post(f"{MODELS}/create", name="n"),
        ):
            message = refused(answer, *GONE)
            assert message.startswith("Workspace '")
            assert "own" not in message


def test_an_empty_header_leaves_the_address_to_say_the_team(full: World, alice: Api) -> None:
    """L4."""
    directory.add_member(full.gamma, full.alice, Role.VIEWER)
    for header in ("", " ", "\t"):
        api = alice.but(headers={"X-MLFLOW-WORKSPACE": header}, prefix="team_alpha")
        assert said(api.get(f"{MODELS}/get", name="ALPHA own"))


# --- confused deputies ---------------------------------------------------------------------

HERE = ("http://127.0.0.1:8000", "http://LOCALHOST:8000", "http://u:p@127.0.0.1:8000")
FOLDER = "/api/2.0/mlflow-artifacts/artifacts"


def spellings(path: str) -> list[str]:
    """Return the sources that point at a path among the files of a team."""
    twice = quote(quote(path, safe=""), safe="")
    return [
        f"mlflow-artifacts:/{path}",
        f"mlflow-artifacts:///{path}",
        f"MLFLOW-ARTIFACTS:/{path}",
        f"mlflow-artifacts:{path}",
        f"mlflow-artifacts:/{quote(path, safe='')}",
        f"mlflow-artifacts:/{twice}",
        f"mlflow-artifacts:/./{path}/.",
        f"mlflow-artifacts:/{path}/",
        f"mlflow-artifacts:/{path}?x=1#y",
        f"mlflow-artifacts://127.0.0.1:8000/{path}",
        f"mlflow-artifacts://127.0.0.1:8000{FOLDER}/{path}",
        *(f"{host}{FOLDER}/{path}" for host in HERE),
        *(f"{HERE[0]}/t/{team}{FOLDER}/{path}" for team in ("team_alpha", "team-alpha")),
        *(f"{HERE[0]}/t/{team}{FOLDER}/{path}" for team in ("team_gamma", "team%5fgamma")),
        f"{HERE[0]}/t/team_gamma/%61pi/2.0/mlflow-artifacts/artifacts/{path}",
        f"{HERE[0]}/ajax-api/2.0/mlflow-artifacts/artifacts/{path}",
        f"{HERE[0]}{FOLDER}/{twice}",
        f"{HERE[0]}{FOLDER}/x/../{path}",
        f"mlflow-artifacts:/x/%2e%2e/{path}",
        f"mlflow-artifacts:/x/%252e%252e/{path}",
        f"mlflow-artifacts:/x\\..\\{path}",
    ]


def test_a_source_cannot_point_at_what_another_team_has(full: World, alice: Api) -> None:
    """L5, L17: its version's files, its uploads and its models, by every spelling.

    The answer is that for nothing there; the team's own, spelt like this, are found.
    """
    with tenant_scope(full.gamma):
        theirs = ModelVersion.objects.exclude(files=None).get()
        # Their files move to folders that alpha has not.
        ArtifactFile.objects.filter(version=None).update(path="9/canary/artifacts/model/MLmodel")
    with tenant_scope(full.alpha, full.alice):
        mine = ModelVersion.objects.get(model__name="fraud", number=1)
        give_files(mine)
    before = kept(full.alpha, full.gamma)

    def register(source: str, **more: str) -> Any:
        add = {"name": "fraud", "source": source} | more
        return undone(lambda: alice.post(f"{VERSIONS}/create", **add))

    random = uuid4()
    for path, nobodys in (
        (f"versions/{theirs.pk}", f"versions/{random}"),
        (f"versions/{theirs.pk}/model", f"versions/{random}/model"),
        (f"versions/{str(theirs.pk).upper()}", f"versions/{str(random).upper()}"),
        (f"versions/{theirs.pk.hex}", f"versions/{random.hex}"),
        ("9/canary/artifacts/model", "9/nobody/artifacts/model"),
        ("9/canary", "9/nobody"),
    ):
        every = zip(spellings(path), spellings(nobodys), strict=True)
        for source, other in every if path.endswith("model") else list(every)[::6]:
            for more in {}, {"run_id": "abc"}, {"model_id": "m-1"}:
                if more and source != f"mlflow-artifacts:/{path}":
                    continue
                answers = []
                for text in (source, other):
                    answer = seen(register(text, **more), text, orjson.dumps(text).decode()[1:-1])
                    answers.append((answer[0], answer[2]))
                assert answers[0] == answers[1], (source, more)
                assert CANARY not in str(answers), source
                if not more:
                    assert answers[0][0] == 400, source
    for source, other in (
        (f"models:/{THEIRS}/1", f"models:/{NOBODYS}/1"),
        (f"models:/{THEIRS}@champion", f"models:/{NOBODYS}@champion"),
        (f"models:/{THEIRS}/latest", f"models:/{NOBODYS}/latest"),
        (f"models:/{THEIRS}/Production", f"models:/{NOBODYS}/Production"),
        (f"models:/fraud@{CANARY}-alias", "models:/fraud@NOBODY-alias"),
        ("models:/fraud/3", "models:/fraud/4"),
        ("models:/fraud/Production", "models:/fraud/Nonsense10"),
        (f"models:/{theirs.pk}", f"models:/{random}"),
        (f"models:/versions/{theirs.pk}", f"models:/versions/{random}"),
        (f"models://team_gamma/{THEIRS}/1", f"models://team_gamma/{NOBODYS}/1"),
        (f"models:/team_gamma/{THEIRS}/1", f"models:/team_gamma/{NOBODYS}/1"),
    ):
        answer = seen(register(source), source)
        assert answer == seen(register(other), other), source
        assert answer[0] == 400, source
    found = 0
    for path in (f"versions/{mine.pk}", f"versions/{mine.pk}/model", "1/abc/artifacts/model"):
        found += sum(register(source).status_code == 200 for source in spellings(path))
    assert found > 30
    said(register("models:/fraud/1"))
    assert kept(full.alpha, full.gamma) == before


# --- lists ---------------------------------------------------------------------------------

SEARCHES: tuple[tuple[str, dict[str, Any]], ...] = tuple(
    (endpoint, fields)
    for endpoint in (f"{MODELS}/search", f"{VERSIONS}/search")
    for fields in (
        {},
        {"max_results": 1},
        {"filter": "name LIKE '%'"},
        {"filter": "name ILIKE '%canary%'"},
        {"filter": f"name = '{THEIRS}'"},
        {"filter": f"name IN ('{THEIRS}', 'fraud')"},
        {"filter": f"name != '{THEIRS}'"},
        {"filter": "name = 'fraud'", "order_by": ["name DESC"]},
        {"filter": f"tags.{CANARY} = '{CANARY}'"},
        {"filter": f"tags.`{CANARY}` LIKE '%'"},
        {"filter": "tag.word ILIKE 'c%'"},
        {"order_by": ["last_updated_timestamp DESC"], "max_results": 2},
    )
)


def reading(api: Api) -> list[Any]:
    """Return what every endpoint that reads says to a client."""
    asked = [(address, row.fields) for (method, address), row in TABLE.items() if method == "GET"]
    found = [api.send("GET", place(address, TABLE["GET", address].rest), f) for address, f in asked]
    return [seen(answer) for answer in (*found, *(api.get(e, **f) for e, f in SEARCHES))]


def test_no_answer_says_a_word_of_another_team(full: World) -> None:
    """L6, L12: nor an id that could be counted, by any endpoint that reads; for any member."""
    for person in (full.alice, full.bob):
        for _, headers, text in reading(Api(make_token(person))):
            for secret in SECRETS:
                assert secret not in text, text
                assert secret not in str(headers)
            assert not re.search(r'"id"|tenant|owner|creator', text), text


def test_searching_finds_nothing_of_another_team(full: World, alice: Api) -> None:
    """L6, L8: the words that only it has find what words find that nobody has."""
    for endpoint, fields in SEARCHES:
        if CANARY not in str(fields):
            continue
        others = orjson.loads(orjson.dumps(fields).replace(CANARY.encode(), b"NOBODY"))
        assert seen(alice.get(endpoint, **fields)) == seen(alice.get(endpoint, **others)), fields


def test_rows_of_another_team_change_no_answer(
    full: World, alice: Api, statements: list[str]
) -> None:
    """L7: fifty models more in B, and every answer to A is the same, by the same statements."""
    reading(alice)
    statements.clear()
    before, sent = reading(alice), list(statements)
    with tenant_scope(full.gamma, full.hugo):
        for number in range(50):
            model = registry.register_model(f"{CANARY} {number}", tags={"word": "c"})
            registry.add_version(model)
            registry.set_alias(model, "champion", 1)
    statements.clear()
    assert reading(alice) == before
    assert statements == sent


ORACLES = (
    *("owner = 'hugo'", "owner.password LIKE 'p%'", "tenant = 'team_gamma'", "tenant_id = '1'"),
    *("tenant.slug = 'team_gamma'", "m.name = 'fraud'", "v.source = 's3'", "id = '1'"),
    *("name = 'x' OR true", "name = (SELECT 1)", "name = name", "1 = 1", "card LIKE '%'"),
    *("name = 'a'; DROP TABLE tenants_user", "name = 'a' -- ", "name = 'a' /* x */", "true"),
    *("name SIMILAR TO 'a'", "name ~ 'a'", "lower(name) = 'a'", "name BETWEEN 'a' AND 'b'"),
    *("creator = 'gina'", "location LIKE '%'", "attribute.tenant_id = 'x'", "user_id = 'hugo'"),
)
ORDERS = (
    *("tenant_id", "tenant", "owner.password", "id", "card", "m.card", "random()", "1", "?"),
    *(
        "name; DROP TABLE x",
        "name ASC, tenant_id",
        "(SELECT 1)",
        "tags.word",
        "location",
        "creator",
    ),
    *("name NULLS FIRST", "name DESC DESC", "name USING >", "CASE WHEN true THEN name END"),
)


def test_filters_and_orders_are_an_allow_list(full: World, alice: Api) -> None:
    """L8: what is not on it is refused before the database hears of it, in words about itself."""
    for endpoint in (f"{MODELS}/search", f"{VERSIONS}/search"):
        for oracle in ORACLES:
            message = refused(alice.get(endpoint, filter=oracle), *BAD)
            assert CANARY not in message, oracle
        for order in ORDERS:
            refused(alice.get(endpoint, order_by=[order]), *BAD)
    plain = seen(alice.get(f"{MODELS}/search"))
    for parameter in ("tenant__slug", "owner__password__startswith", "id__in", "fields", "limit"):
        assert seen(alice.get(f"{MODELS}/search", **{parameter: "x"})) == plain


def test_searches_push_out_no_plan_of_what_comes_again(full: World, alice: Api) -> None:
    """A connection keeps a hundred plans; a search is not one of them."""
    said(alice.get(f"{MODELS}/get", name="fraud"))
    prepared = "SELECT statement FROM pg_prepared_statements ORDER BY statement"
    before = rows(prepared)
    assert any("tenants_apitoken" in statement for (statement,) in before)
    for number in range(110):
        tags = " AND ".join(f"tags.t{n} = 'x'" for n in range(number % 15))
        order = ["name DESC"] if number % 2 else ["last_updated_timestamp"]
        said(alice.get(f"{MODELS}/search", filter=tags, order_by=order))
    after = rows(prepared)
    assert set(before) <= set(after)
    assert len(after) <= len(before) + 1  # what limits a search's time comes again, too


# --- names and ids -------------------------------------------------------------------------


def test_ids_are_random_and_numbers_are_counted_per_model(full: World, alice: Api) -> None:
    """L12: however many versions another team has, the next one here is the third."""
    made = said(alice.post(f"{VERSIONS}/create", name="fraud", source="s3://b"))
    assert made["model_version"]["version"] == "3"
    with tenant_scope(full.alpha):
        assert {row.pk.version for row in ModelVersion.objects.all()} == {4}
        mine = ModelVersion.objects.get(model__name="fraud", number=3)
        give_files(mine)
    where = {"name": "fraud", "version": "3"}
    uri = said(alice.get(f"{VERSIONS}/get-download-uri", **where))["artifact_uri"]
    assert UUID(uri.rpartition("/")[2]) == mine.pk
    assert uri.startswith("http://testserver/t/team_alpha/api/2.0/mlflow-artifacts/artifacts/")


def test_a_name_that_another_team_has_is_free(full: World, alice: Api) -> None:
    """L11: and what each does with it stays with each."""
    made = said(alice.post(f"{MODELS}/create", name=THEIRS))["registered_model"]
    assert set(made) == {"name", "creation_timestamp", "last_updated_timestamp"}
    said(alice.delete(f"{MODELS}/delete", name=THEIRS))
    hugo = Api(make_token(full.hugo))
    assert said(hugo.get(f"{MODELS}/get", name=THEIRS))["registered_model"]["latest_versions"]


@committed
def test_two_clients_at_once() -> None:
    """L11: one registers a name and the other is told; numbers have neither gaps nor doubles.

    Whatever meets whatever, nobody gets a 500.
    """
    world = make_world()
    alpha, gamma = Api(make_token(world.alice)), Api(make_token(world.hugo))

    def create(api: Api) -> Callable[[], Any]:
        return lambda: api.post(f"{MODELS}/create", name="race")

    def add(api: Api) -> Callable[[], Any]:
        return lambda: api.post(f"{VERSIONS}/create", name="race", source="s3://b")

    made = at_once(*[create(alpha)] * 3, *[create(gamma)] * 3)
    for answers in (made[:3], made[3:]):
        assert sorted(answer.status_code for answer in answers) == [200, 400, 400]
        for answer in answers:
            if answer.status_code == 400:
                message = refused(answer, 400, "RESOURCE_ALREADY_EXISTS")
                assert message == "Registered Model (name=race) already exists."
    added = at_once(*[add(alpha)] * 6, *[add(gamma)] * 4)
    for answers in (added[:6], added[6:]):
        numbers = sorted(int(said(answer)["model_version"]["version"]) for answer in answers)
        assert numbers == list(range(1, len(answers) + 1))
    first = {"name": "race", "version": "1"}
    for _ in range(3):
        mixed = at_once(
            lambda: alpha.delete(f"{VERSIONS}/delete", **first),
            lambda: alpha.post(f"{MODELS}/alias", **first, alias="a"),
            lambda: alpha.post(f"{VERSIONS}/set-tag", **first, key="k", value="v"),
            lambda: alpha.get(f"{VERSIONS}/get-download-uri", **first),
            lambda: alpha.post(f"{VERSIONS}/transition-stage", **first, stage="Staging"),
            lambda: alpha.delete(f"{MODELS}/delete", name="race"),
            add(alpha),
        )
        # 400 is an alias's, whose version went while it waited for the model.
        assert {answer.status_code for answer in mixed} <= {200, 400, 404, 409}, mixed
        create(alpha)()
        add(alpha)()


@committed
def test_an_answer_has_the_name_that_a_model_has_by_then() -> None:
    """L11: a model is renamed while another client waits to write to it."""
    world = make_world()
    alice, renamed = Api(make_token(world.alice)), Event()

    def rename() -> None:
        with tenant_scope(world.alpha, world.alice):
            registry.rename_model(RegisteredModel.objects.get(name="fraud"), "renamed")
            renamed.set()
            wait_until_somebody_waits()

    def add() -> Any:
        renamed.wait(120)
        return alice.post(f"{VERSIONS}/create", name="fraud", source="s3://b")

    _, added = at_once(rename, add)
    assert said(added)["model_version"]["name"] == "renamed"


@committed
def test_a_token_is_used_by_many_at_once() -> None:
    """A request that takes long keeps no other of its token waiting."""
    world = make_world()
    secret = make_token(world.alice)

    def read() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        return Api(secret).get(f"{MODELS}/get", name="fraud")

    long = tokens.credential(secret)
    assert long is not None
    with token_scope(long):
        [answer] = at_once(read)
        assert said(answer)
        assert ApiToken.objects.get().last_used_at is not None
    assert ApiToken.objects.get().last_used_at is not None


# --- one person, two teams -----------------------------------------------------------------


def test_a_person_of_two_teams_never_gets_them_mixed(full: World) -> None:
    """L20: one token, one connection, the team by turns; and nobody on the way keeps an answer."""
    directory.add_member(full.gamma, full.alice, Role.VIEWER)
    both = Api(make_token(full.alice))
    alone = {
        "alpha": reading(Api(make_token(full.carol))),
        "gamma": reading(Api(make_token(full.gina))),
    }
    for turn in range(4):
        for word, team in (("alpha", "team-alpha"), ("gamma", "team_gamma")):
            api = both.but(team=team) if turn % 2 else both.but(prefix=team)
            found = reading(api)
            for mine, theirs in zip(found, alone[word], strict=True):
                if "workspace" not in mine[2]:
                    assert mine == theirs
                assert mine[1]["Cache-Control"] == "private, no-store"
    # The role is that of the team that is meant.
    said(both.but(team="team-alpha").post(f"{MODELS}/create", name="mine"))
    answer = both.but(team="team-gamma").post(f"{MODELS}/create", name="mine")
    refused(answer, 403, "PERMISSION_DENIED")


# --- taking rights back --------------------------------------------------------------------


def test_a_right_taken_back_is_gone_at_the_next_request(full: World) -> None:
    """L21: lowered, removed, expired, deactivated, revoked, suspended."""
    mia = Api(make_token(full.mia))
    membership = full.mia.memberships.get()

    def reads_and_writes() -> tuple[int, int]:
        read = mia.get(f"{MODELS}/get", name="fraud").status_code
        wrote = mia.post(f"{MODELS}/set-tag", name="fraud", key="k", value=uuid4().hex)
        return read, wrote.status_code

    assert reads_and_writes() == (200, 200)
    directory.change_role(membership, Role.VIEWER)
    assert reads_and_writes() == (200, 403)
    directory.change_role(membership, Role.MAINTAINER)
    directory.suspend_tenant(full.alpha)
    assert reads_and_writes() == (200, 403)
    directory.resume_tenant(full.alpha)
    past = timezone.now() - timedelta(hours=1)
    own = ApiToken.objects.filter(user=full.mia)
    changes: tuple[tuple[Callable[[], Any], Callable[[], Any]], ...] = (
        (
            lambda: Membership.objects.filter(pk=membership.pk).update(expires_at=past),
            lambda: Membership.objects.filter(pk=membership.pk).update(expires_at=None),
        ),
        (lambda: own.update(revoked_at=past), lambda: own.update(revoked_at=None)),
        (
            lambda: own.update(expires_at=past),
            lambda: own.update(expires_at=timezone.now() + timedelta(days=1)),
        ),
        (lambda: own.update(scope="read"), lambda: own.update(scope="write")),
        (
            lambda: User.objects.filter(pk=full.mia.pk).update(is_active=False),
            lambda: User.objects.filter(pk=full.mia.pk).update(is_active=True),
        ),
        (lambda: own.update(tenant=full.gamma), lambda: own.update(tenant=None)),
    )
    for change, undo in changes:
        assert reads_and_writes() == (200, 200)
        change()
        assert reads_and_writes() in ((401, 401), (200, 403))
        undo()
    directory.remove_member(membership)
    assert reads_and_writes() == (401, 401)


def test_nothing_but_a_token_says_who_is_there(full: World, alice: Api) -> None:
    """L24: headers that a proxy might set change nothing, with a token and without."""
    forged = {
        "Remote-User": "hugo",
        "X-Remote-User": "hugo",
        "X-Forwarded-User": "hugo",
        "X-Forwarded-Email": "hugo@example.com",
        "X-Auth-Request-User": "hugo",
        "kubeflow-userid": "hugo",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "team_gamma.example",
        "Forwarded": "for=127.0.0.1;host=team_gamma",
        "X-Real-IP": "127.0.0.1",
        "Proxy-Authorization": f"Bearer {alice.token}",
        "Cookie": f"token={alice.token}",
    }
    get = f"{MODELS}/get"
    for name, value in (*forged.items(), ("REMOTE_USER", "hugo")):
        plain = seen(Api().get(get, name="fraud"))
        if name == "REMOTE_USER":
            nobody = Api().raw("GET", f"{get}?name=fraud", REMOTE_USER=value)
        else:
            nobody = Api(headers={name: value}).get(get, name="fraud")
        assert seen(nobody) == plain
        assert plain[0] == 401
        named = alice.but(headers={name: value})
        assert seen(named.get(get, name="fraud")) == seen(alice.get(get, name="fraud"))
        assert seen(named.get(get, name=THEIRS))[0] == 404


def test_a_token_is_what_it_is_letter_by_letter(full: World, alice: Api) -> None:
    """L22: no case is folded and nothing is trimmed that belongs to it."""
    secret = make_token(full.alice, "read")
    for text in (
        *(secret.swapcase(), secret.upper(), secret.replace("bhr_", "BHR_"), f"{secret}\x00"),
        *(secret.replace("bhr_", "bhw_"), f"x{secret}", f"{secret}x", f"{secret},{alice.token}"),
        *(secret[:12], f"{secret[:12]}{'0' * 40}", f"{secret} {secret}", secret.replace("_", "-")),
    ):
        cache.clear()
        refused(Api(text).get(f"{MODELS}/get", name="fraud"), 401, "UNAUTHENTICATED")


def test_guessing_is_slowed_down_and_nobody_with_a_token_is(full: World, alice: Api) -> None:
    """By GET as by POST; per address, which no header changes."""
    cache.clear()
    ways = (("GET", "get"), ("POST", "create"), ("HEAD", "get"), ("DELETE", "delete"))
    for number in range(60):
        method, endpoint = ways[number % len(ways)]
        guess = Api(f"bhw_{number:048}").send(method, f"{MODELS}/{endpoint}", {"name": "fraud"})
        assert guess.status_code == 401, number
    for api in (Api("bhw_x"), Api(), Api(headers={"X-Forwarded-For": "192.0.2.9"})):
        answer = api.get(f"{MODELS}/get", name="fraud")
        message = refused(answer, 429, "REQUEST_LIMIT_EXCEEDED")
        assert answer["Retry-After"] == "60"
        assert "wait" in message
    said(alice.get(f"{MODELS}/get", name="fraud"))
    said(Api().get("3.0/mlflow/server-info"))
    other = Api().raw("GET", f"{MODELS}/get?name=fraud", REMOTE_ADDR="192.0.2.9")
    refused(other, 401, "UNAUTHENTICATED")
    said(alice.raw("GET", f"{MODELS}/get?name=fraud", REMOTE_ADDR="192.0.2.9"))
    cache.clear()


# --- faults --------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the product writes to its log, as it is written."""
    with caplog.at_level(logging.INFO):
        yield caplog


def test_a_fault_says_nothing_but_its_number(
    full: World, alice: Api, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """L28: neither values, nor names of exceptions, tables or files; and no scope is left open."""

    def break_with(raises: Callable[[], Any]) -> Any:
        def function(call: Call) -> Any:
            with writing(call):
                return raises()

        there = {"GET": Endpoint("GET", "9.9/broken", function)}
        monkeypatch.setitem(ENDPOINTS, "9.9/broken", there)
        return Api(make_token(full.hugo)).get("9.9/broken")

    def by_value() -> None:
        raise RuntimeError(f"in hand: {[model.name for model in RegisteredModel.objects.all()]}")

    def by_sql() -> None:
        RegisteredModel.objects.create(name="fraud")

    for fault in (by_value, by_sql):
        answer = break_with(fault)
        message = refused(answer, 500, "INTERNAL_ERROR")
        number = answer["X-Request-ID"]
        assert message == f"Something broke here; its number is {number}."
        assert re.fullmatch(r"[0-9a-f]{32}", number)
        assert CANARY not in str(answer.headers)
        assert number in log.text
        assert rows("SELECT * FROM models_registry_registeredmodel") == []
        said(alice.get(f"{MODELS}/get", name="fraud"))


@pytest.mark.parametrize("state", ["40P01", "40001", "23503"])
def test_a_clash_is_a_conflict_and_no_fault(
    full: World, alice: Api, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """L28: raised by PostgreSQL itself, as where two requests wait for each other."""

    def clash(call: Call) -> Any:
        with writing(call):
            rows(f"DO $$ BEGIN RAISE 'CANARY' USING ERRCODE = '{state}'; END $$")

    monkeypatch.setitem(ENDPOINTS, "9.9/test", {"POST": Endpoint("POST", "9.9/test", clash)})
    message = refused(alice.post("9.9/test"), 409, "RESOURCE_CONFLICT")
    assert message == "Somebody changed the same meanwhile; try again."


def test_a_search_that_takes_for_ever_is_given_up(
    world: World, alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client's pattern does not keep the database from the others."""
    said(alice.post(f"{MODELS}/set-tag", name="fraud", key="k", value="a" * 100_000))
    slow = f"tags.k LIKE '%{'a' * 3_000}b%'"
    with monkeypatch.context() as patch:
        limit = "SELECT set_config('statement_timeout', '50ms', true)"
        patch.setattr(prepared, "LIMIT_SEARCH_TIME", limit)
        message = refused(alice.get(f"{MODELS}/search", filter=slow), *BAD)
    assert message == "This takes too long here; ask for less, or by a simpler pattern."
    assert said(alice.get(f"{MODELS}/search", filter="tags.k LIKE 'a%'"))


def test_what_is_deleted_meanwhile_is_not_there(
    full: World, alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(call: Call) -> Any:
        with writing(call):
            registry.set_tag(RegisteredModel(name="was here"), "k", "v")

    monkeypatch.setitem(ENDPOINTS, "9.9/test", {"POST": Endpoint("POST", "9.9/test", late)})
    message = refused(alice.post("9.9/test"), *GONE)
    assert message == "What the request names was deleted meanwhile."
    said(alice.get(f"{MODELS}/get", name="fraud"))


@committed
def test_a_database_that_is_gone_is_said_to_be_and_comes_back() -> None:
    """L28: the client is told to try again; the next request has a new connection."""
    world = make_world()
    alice = Api(make_token(world.alice))
    asked: tuple[Callable[[], Any], ...] = (
        lambda: alice.get(f"{MODELS}/get", name="fraud"),
        lambda: alice.post(f"{MODELS}/set-tag", name="fraud", key="k"),
        lambda: alice.get("3.0/mlflow/workspaces"),
        lambda: alice.get(f"{MODELS}/search"),
    )
    for ask in asked:
        said(ask())
        [[own]] = rows("SELECT pg_backend_pid()")
        [killed] = at_once(partial(rows, "SELECT pg_terminate_backend(%s, 5000)", own))
        assert killed == [(True,)]
        message = refused(ask(), 503, "TEMPORARILY_UNAVAILABLE")
        assert message == "The database does not answer; try again."
        said(ask())


def test_what_is_refused_is_not_repeated_in_the_log(
    full: World, alice: Api, log: pytest.LogCaptureFixture
) -> None:
    """L28: nor is a token, whole or in part."""
    alice.get(f"{MODELS}/get", name=THEIRS)
    alice.but(team="team-gamma").get(f"{MODELS}/get", name=THEIRS)
    alice.post(f"{MODELS}/create", name=f"{CANARY}/:")
    alice.post(f"{VERSIONS}/create", name="fraud", source=f"mlflow-artifacts:/{CANARY}")
    alice.get(f"{MODELS}/search", filter=f"{CANARY} = 'x'")
    bob = Api(make_token(full.bob))
    bob.post(f"{MODELS}/create", name=CANARY)
    Api(f"{CANARY}{bob.token}").get(f"{MODELS}/get", name=CANARY)
    assert CANARY not in log.text
    for secret in (alice.token, bob.token):
        assert secret[12:] not in log.text


def test_a_suspended_or_emptied_team_tells_other_teams_nothing(full: World, alice: Api) -> None:
    """L9, L34: nor does a model that is registered anew under a freed name."""
    before = seen(alice.but(team="team-gamma").get(f"{MODELS}/get", name="fraud"))
    directory.suspend_tenant(full.gamma)
    assert seen(alice.but(team="team-gamma").get(f"{MODELS}/get", name="fraud")) == before
    said(alice.post(f"{MODELS}/create", name=DELETED))
    fresh = said(alice.get(f"{MODELS}/get", name=DELETED))["registered_model"]
    assert "latest_versions" not in fresh
    assert "aliases" not in fresh
