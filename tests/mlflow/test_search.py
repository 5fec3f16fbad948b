"""MLflow's search language: which rows a filter finds, its errors, its orders and page tokens.

Every filter runs on PostgreSQL as the web role, beside a second team whose rows it must not find.
The words of the errors are those of MLflow's own server, which clients compare.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from django.core import signing
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models_registry import registry
from models_registry.mlflow.search import (
    INVALID_TOKEN,
    MAX_COMPARISONS,
    MAX_FILTER_CHARS,
    MAX_ORDER_CHARS,
    MAX_ORDERS,
    MAX_TOKEN_CHARS,
    TOKEN_SALT,
    InvalidSearch,
    OrderColumn,
    Search,
    models_search,
    page_size,
    read_token,
    versions_search,
    write_token,
)
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.validators import IS_PROMPT, MAX_TAG_VALUE_CHARS
from tenants.isolation.scope import current_tenant_id, tenant_scope
from tenants.models import Tenant
from tests.support.people import CANARY, World
from tests.support.sql import rows

Translate = Callable[[str, Sequence[str]], Search]

TABLES: dict[Translate, tuple[str, str, str]] = {
    models_search: ("models_registry_registeredmodel m", "m", "m.name"),
    versions_search: (
        "models_registry_modelversion v "
        "JOIN models_registry_registeredmodel m ON m.id = v.model_id",
        "v",
        "m.name || '/' || v.number",
    ),
}

#: Names with their tags, and their versions with source, run and tags.
Versions = tuple[tuple[str, str, dict[str, str]], ...]
MODELS: dict[str, tuple[dict[str, str], Versions]] = {
    "fraud": (
        {"team": "risk", "my key": "a b", "a.b": "x", "quote": "it's", "path": "50%\\x_1"},
        (
            ("s3://a/1", "0" * 32, {"framework": "sklearn"}),
            ("s3://a/2", "1" * 32, {"framework": "Torch", "my key": "v"}),
            ("s3://A/3", "", {}),
        ),
    ),
    "Fraud two": ({"team": "Risk"}, (("s3://b/1", "2" * 32, {"framework": "sklearn"}),)),
    "churn_1": ({"team": "growth"}, ()),
    "churnX1": ({}, (("", "", {}),)),
    "ask": ({IS_PROMPT: "true", "team": "risk"}, (("prompt", "", {IS_PROMPT: "true"}),)),
    "said no": ({IS_PROMPT: "false"}, (("s3://d", "", {IS_PROMPT: "false"}),)),
    "it's": ({}, ()),
    'a "b"': ({}, ()),
    "back\\": ({}, ()),
    "100%": ({}, ()),
    "模型 ünï": ({"ключ": "ü", "emoji": "🦊"}, (("s3://模", "", {"k": "型"}),)),
}
PROMPTS = {"ask", "ask/1"}
ALL_MODELS = set(MODELS) - PROMPTS
ALL_VERSIONS = {"fraud/1", "fraud/2", "fraud/3", "Fraud two/1", "churnX1/1", "said no/1"} | {
    "模型 ünï/1"
}


def fill(tenant: Tenant, word: str = "") -> None:
    """Register MODELS in the tenant, each name and value with ``word`` before it."""
    with tenant_scope(tenant):
        RegisteredModel.objects.all().delete()
        for name, (tags, versions) in MODELS.items():
            model = registry.register_model(f"{word}{name}", tags=tags)
            for source, run_id, version_tags in versions:
                registry.add_version(model, source=source, run_id=run_id, tags=version_tags)


@pytest.fixture
def filled(world: World) -> World:
    """Both teams have MODELS, gamma once more with its word in the names."""
    fill(world.gamma, CANARY)
    with tenant_scope(world.gamma):
        for name, (tags, _) in MODELS.items():
            model = registry.register_model(name, tags=tags)
            registry.add_version(model, source=CANARY, tags={"framework": "sklearn", **tags})
    fill(world.alpha)
    return world


def select(
    what: str, translate: Translate, search: Search, more: str = ""
) -> tuple[str, list[Any]]:
    """Return a query as an endpoint makes it, and its parameters."""
    table, rows_of, _ = TABLES[translate]
    sql = f"SELECT {what} FROM {table} WHERE {rows_of}.tenant_id = %s AND {search.where} {more}"
    return sql, [current_tenant_id(), *search.params]


def found(translate: Translate, filter_string: str, order_by: Sequence[str] = ()) -> list[str]:
    """Return what a search finds in the open scope, by name, in its order."""
    search = translate(filter_string, order_by)
    label = TABLES[translate][2]
    sql, params = select(label, translate, search, f"ORDER BY {search.order_by}")
    return [row[0] for row in rows(sql, *params)]


PROMPT = f"tag.`{IS_PROMPT}`"

MODEL_FILTERS: dict[str, set[str]] = {
    "": ALL_MODELS,
    " \n\t ": ALL_MODELS,
    "name = 'fraud'": {"fraud"},
    "name='fraud'": {"fraud"},
    'name = "fraud"': {"fraud"},
    "attribute.name = 'fraud'": {"fraud"},
    "`name` = 'fraud'": {"fraud"},
    "name != 'fraud'": ALL_MODELS - {"fraud"},
    "name LIKE 'fraud%'": {"fraud"},
    "name like '%raud%'": {"fraud", "Fraud two"},
    "name ILIKE 'FRAUD%'": {"fraud", "Fraud two"},
    "name LIKE 'churn_1'": {"churn_1", "churnX1"},
    "name LIKE 'churn\\_1'": {"churn_1"},
    "name LIKE '100\\%'": {"100%"},
    "name LIKE 'back\\'": {"back\\"},
    "name LIKE 'back\\\\'": {"back\\"},
    "name LIKE '\\'": set(),
    "name LIKE '\\\\\\'": set(),
    "name = 'back\\'": {"back\\"},
    "name = '100%'": {"100%"},
    "name = '%s'": set(),
    "name LIKE ''": set(),
    "name = ''": set(),
    "name = 'it''s'": {"it's"},
    'name = "it\'s"': {"it's"},
    "name = 'a \"b\"'": {'a "b"'},
    'name = "a ""b"""': {'a "b"'},
    "name IN ('fraud', 'churn_1', 'nope')": {"fraud", "churn_1"},
    "name in ('it''s',\"fraud\",)": {"it's", "fraud"},
    "name IN('fraud')": {"fraud"},
    "name NOT IN ('fraud', 'churn_1')": ALL_MODELS - {"fraud", "churn_1"},
    "name not  in ('fraud', 'ask')": ALL_MODELS - {"fraud"},
    "name = '模型 ünï'": {"模型 ünï"},
    "name ILIKE '模型 ÜNÏ'": {"模型 ünï"},
    "name = 'fraud' AND name = 'churn_1'": set(),
    "name LIKE '%raud%' and tag.team = 'risk' AND name != 'ask'": {"fraud"},
    "AND name = 'fraud' AND": {"fraud"},
    "name = 'a AND b'": set(),
    "name = ';' AND name = '('": set(),
    "tag.team = 'risk'": {"fraud"},
    "tags.team = 'risk'": {"fraud"},
    "tags.`team` = 'risk'": {"fraud"},
    'tags."team" = "risk"': {"fraud"},
    "tag.team != 'risk'": {"Fraud two", "churn_1"},
    "tag.team LIKE 'r%'": {"fraud"},
    "tag.team ILIKE 'R%'": {"fraud", "Fraud two"},
    "tag.team LIKE '%'": {"fraud", "Fraud two", "churn_1"},
    "tag.`my key` = 'a b'": {"fraud"},
    "tag.\"my key\" = 'a b'": {"fraud"},
    "tag.a.b = 'x'": {"fraud"},
    "tag.`a.b` = 'x'": {"fraud"},
    "tag.quote = 'it''s'": {"fraud"},
    "tag.path LIKE '50\\%\\\\x\\_1'": {"fraud"},
    "tag.ключ = 'ü' AND tag.emoji = '🦊'": {"模型 ünï"},
    "tag.nope != 'x'": set(),
    "tag.nope = ''": set(),
    "tag.`` = ''": set(),
    "tag.`%s' OR 1=1 --` = 'x'": set(),
    f"{PROMPT} != 'true'": ALL_MODELS,
    f"name = 'fraud' AND {PROMPT} != 'true'": {"fraud"},
    f"name LIKE '%' AND {PROMPT} = 'false'": ALL_MODELS,
    f"{PROMPT} LIKE 'tr%'": ALL_MODELS,
    f"{PROMPT} = 'true'": {"ask"},
    f"tags.{IS_PROMPT} = 'true'": {"ask"},
    f"tag.team = 'risk' AND {PROMPT} = 'true'": {"ask"},
    f"{PROMPT} != 'false'": {"ask"},
    f"{PROMPT} = 'TRUE'": set(),
    f"{PROMPT} = 'true' AND {PROMPT} = 'false'": set(),
    f"{PROMPT} = 'false' AND {PROMPT} = 'true'": ALL_MODELS,
    f"name = 'ask' AND {PROMPT} != 'true'": set(),
    "name = 'ask'": set(),
}

VERSION_FILTERS: dict[str, set[str]] = {
    "": ALL_VERSIONS,
    "name = 'fraud'": {"fraud/1", "fraud/2", "fraud/3"},
    "name ILIKE 'fraud%'": {"fraud/1", "fraud/2", "fraud/3", "Fraud two/1"},
    "name IN ('churnX1', 'Fraud two')": {"churnX1/1", "Fraud two/1"},
    "name NOT IN ('fraud')": ALL_VERSIONS - {"fraud/1", "fraud/2", "fraud/3"},
    f"run_id = '{'0' * 32}'": {"fraud/1"},
    f"attribute.run_id IN ('{'0' * 32}', '{'2' * 32}')": {"fraud/1", "Fraud two/1"},
    f"name = 'fraud' AND run_id NOT IN ('{'0' * 32}')": {"fraud/2", "fraud/3"},
    "run_id LIKE '1%'": {"fraud/2"},
    "source_path = 's3://a/1'": {"fraud/1"},
    "source_path != 's3://a/1' AND name = 'fraud'": {"fraud/2", "fraud/3"},
    "source_path LIKE 's3://a/%'": {"fraud/1", "fraud/2"},
    "source_path ILIKE 's3://a/%'": {"fraud/1", "fraud/2", "fraud/3"},
    "version_number = 2": {"fraud/2"},
    "version_number = '2'": {"fraud/2"},
    "version_number != 1": {"fraud/2", "fraud/3"},
    "version_number > 2": {"fraud/3"},
    "version_number >= 2 AND version_number < 3": {"fraud/2"},
    "version_number <= 1 AND name = 'fraud'": {"fraud/1"},
    "version_number = -1": set(),
    "version_number > -99999999999999999999": ALL_VERSIONS,
    "version_number < 99999999999999999999": ALL_VERSIONS,
    "version_number >= 99999999999999999999": set(),
    "version_number <= 2147483648": ALL_VERSIONS,
    "version_number != 4294967297": ALL_VERSIONS,
    f"version_number < '{'9' * 4000}'": ALL_VERSIONS,
    "tags.framework = 'sklearn'": {"fraud/1", "Fraud two/1"},
    "tag.framework != 'sklearn'": {"fraud/2"},
    "tag.framework ILIKE 't%'": {"fraud/2"},
    "tag.framework LIKE 'T%'": {"fraud/2"},
    "tag.`my key` = 'v' AND version_number = 2": {"fraud/2"},
    "tag.team = 'risk'": set(),
    "tag.k = '型'": {"模型 ünï/1"},
    f"{PROMPT} != 'true'": ALL_VERSIONS,
    f"{PROMPT} = 'false'": ALL_VERSIONS,
    f"{PROMPT} = 'true'": {"ask/1"},
    f"name = 'ask' AND {PROMPT} = 'true'": {"ask/1"},
    f"{PROMPT} != 'false'": {"ask/1"},
    "name = 'ask'": set(),
}


@pytest.mark.parametrize(
    ("translate", "filters"),
    [(models_search, MODEL_FILTERS), (versions_search, VERSION_FILTERS)],
)
def test_a_filter_finds_what_it_says(
    filled: World, translate: Translate, filters: dict[str, set[str]]
) -> None:
    with tenant_scope(filled.alpha):
        results = {text: sorted(found(translate, text)) for text in filters}
    assert results == {text: sorted(names) for text, names in filters.items()}


def test_the_other_team_finds_its_own(filled: World) -> None:
    with tenant_scope(filled.gamma):
        assert f"{CANARY}fraud" in found(models_search, f"name LIKE '{CANARY}%'")
        assert f"{CANARY}fraud/1" in found(versions_search, f"name LIKE '{CANARY}%'")
    with tenant_scope(filled.alpha):
        assert found(models_search, f"name LIKE '{CANARY}%'") == []
        assert found(versions_search, f"source_path = '{CANARY}'") == []


# --- errors --------------------------------------------------------------------------------

NOT_QUOTED = (
    "Parameter value is either not quoted or unidentified quote types used for string value {}. "
    "Use either single or double quotes."
)
ATTRIBUTE_VALUE = (
    "Expected a quoted string value or a list of quoted string values for attributes. Got value {}"
)
TAG_VALUE = "Expected a quoted string value for tag (e.g. 'my-value'). Got value {}"
NO_LIST = (
    "While parsing a list in the query, expected a non-empty list of string values, but got {}"
)
OTHER_IN_LIST = (
    "While parsing a list in the query, expected string value, punctuation, or whitespace, "
    "but got different type in list: {}"
)
ENTITY = "Invalid entity type '{}'. Valid entity types are ('attribute', 'tag', 'tags')"
CLAUSES = "Invalid clause(s) in filter string: {}"
IDENTIFIER = "Invalid comparison clause. Expected 'Identifier' found '{}'"
SEVERAL = "Search filter contained multiple expression {!r}. Provide AND-ed expression list."
VERSION_KEYS = "{'name', 'run_id', 'source_path', 'version_number'}"
ORDER_KEYS = "{'creation_timestamp', 'last_updated_timestamp', 'name', 'version_number'}"
NUMERIC = (
    "Only the '{'creation_timestamp', 'last_updated_timestamp', 'version_number'}' attributes "
    "support comparison with numeric values."
)

#: The same for models and versions.
FILTER_ERRORS = {
    "name = 'a' OR name = 'b'": CLAUSES.format("OR"),
    "name = 'a' or name = 'b'": CLAUSES.format("or"),
    "NOT name = 'a'": CLAUSES.format("NOT"),
    "(name = 'a')": CLAUSES.format("(name = 'a')"),
    "name = 'a';": CLAUSES.format(";"),
    "name = 'a'; DROP TABLE x": SEVERAL.format("name = 'a'; DROP TABLE x"),
    "name": CLAUSES.format("name"),
    "name =": CLAUSES.format("name, ="),
    "= 'a'": CLAUSES.format("=, 'a'"),
    "name LIKE": CLAUSES.format("name, LIKE"),
    "name 'a'": CLAUSES.format("name, 'a'"),
    "name IN 'a'": CLAUSES.format("name, IN, 'a'"),
    "name IS NULL": CLAUSES.format("name, IS, NULL"),
    "name BETWEEN 'a' AND 'b'": CLAUSES.format("name, BETWEEN, 'a', 'b'"),
    "name = 'a' name = 'b'": CLAUSES.format("name = 'b'"),
    "name = 'a' AND bad": CLAUSES.format("bad"),
    "name = 'open": CLAUSES.format("name, =, 'open"),
    "tag.`open = 'a'": CLAUSES.format("tag., `open = 'a'"),
    "name = 'a' = 'b'": CLAUSES.format("=, 'b'"),
    "name = 'it's'": CLAUSES.format("s, '"),
    "name IN ('a'": CLAUSES.format("name, IN, (, 'a'"),
    "%s %(x)s": CLAUSES.format("%s, %, (x), s"),
    "'name' = 'a'": IDENTIFIER.format("'name'"),
    "1 = 'a'": IDENTIFIER.format("1"),
    "tags.my-key = 'a'": IDENTIFIER.format("tags.my-key"),
    "('a') = 'a'": IDENTIFIER.format("('a')"),
    "attributes.name = 'a'": ENTITY.format("attributes"),
    "attr.name = 'a'": ENTITY.format("attr"),
    "metrics.auc > 1": ENTITY.format("metrics"),
    "m.name = 'a'": ENTITY.format("m"),
    "name > 'a'": "Invalid comparator for attribute: >",
    "name == 'a'": "Invalid comparator for attribute: ==",
    "name <> 'a'": "Invalid comparator for attribute: <>",
    "name RLIKE 'a'": "Invalid comparator for attribute: RLIKE",
    "name not like 'a'": "Invalid comparator for attribute: NOT LIKE",
    "name = ('a')": "Invalid comparator for attribute: =",
    "tag.a > 'a'": "Invalid comparator for tag: >",
    "tag.a ~ 'a'": "Invalid comparator for tag: ~",
    "name = fraud": NOT_QUOTED.format("fraud"),
    "name = `fraud`": NOT_QUOTED.format("`fraud`"),
    "tag.a = b": NOT_QUOTED.format("b"),
    "name = a-b": ATTRIBUTE_VALUE.format("a-b"),
    "tag.a = 1": TAG_VALUE.format("1"),
    "tag.a = 1.5": TAG_VALUE.format("1.5"),
    "tag.a IN ('b')": TAG_VALUE.format("('b')"),
    "name IN ()": NO_LIST.format("empty list"),
    "name IN (a)": NO_LIST.format("ill-formed list."),
    "name IN ('a' 'b')": NO_LIST.format("ill-formed list."),
    "name IN (,)": NO_LIST.format("ill-formed list."),
    "name IN (1, 2)": OTHER_IN_LIST.format("(1, 2)"),
    "name IN ('a', 1)": OTHER_IN_LIST.format("('a', 1)"),
    "name = '\x00'": "The filter holds a NUL character, which cannot be stored.",
    "tag.`\ud800` = 'a'": "The filter is not valid Unicode text.",
    "x" * (MAX_FILTER_CHARS + 1): "The filter has 20,001 characters; at most 20,000 are allowed.",
    " AND ".join(["name = 'a'"] * (MAX_COMPARISONS + 1)): (
        "The filter has 101 comparisons; at most 100 are allowed."
    ),
    "x" * 600: CLAUSES.format("x" * 500 + "…"),
}
MODEL_FILTER_ERRORS = {
    "bad = 'a'": "Invalid attribute key 'bad' specified. Valid keys are '{'name'}'",
    "tenant_id = 'a'": "Invalid attribute key 'tenant_id' specified. Valid keys are '{'name'}'",
    "attribute.bad = 'a'": "Invalid attribute key 'bad' specified. Valid keys are '{'name'}'",
    "version_number = 1": (
        "Invalid attribute key 'version_number' specified. Valid keys are '{'name'}'"
    ),
    "name = 1": ATTRIBUTE_VALUE.format("1"),
    "name IN (1) AND bad = 'a'": OTHER_IN_LIST.format("(1)"),
}
VERSION_FILTER_ERRORS = {
    "bad = 'a'": f"Invalid attribute key 'bad' specified. Valid keys are '{VERSION_KEYS}'",
    "version = 1": f"Invalid attribute key 'version' specified. Valid keys are '{VERSION_KEYS}'",
    "current_stage = 'None'": (
        f"Invalid attribute key 'current_stage' specified. Valid keys are '{VERSION_KEYS}'"
    ),
    "name = 1": NUMERIC,
    "run_id = 1.5": NUMERIC,
    "version_number LIKE '1'": "Invalid comparator for attribute version_number: LIKE",
    "version_number = 1.5": "Invalid value for numeric attribute 'version_number': 1.5",
    "version_number = 1e9": "Invalid value for numeric attribute 'version_number': 1000000000.0",
    "version_number = 'a'": "Invalid value for numeric attribute 'version_number': 'a'",
    "version_number = ''": "Invalid value for numeric attribute 'version_number': ''",
    f"version_number = {'9' * 5000}": "Invalid value for numeric attribute 'version_number': inf",
    "version_number = one": NOT_QUOTED.format("one"),
    "version_number IN ('1')": (
        "Only ['name', 'run_id'] attributes support comparison with a list of quoted string values."
    ),
    "source_path IN ('a')": (
        "Only ['name', 'run_id'] attributes support comparison with a list of quoted string values."
    ),
}


@pytest.mark.parametrize("filter_string", [*FILTER_ERRORS, *MODEL_FILTER_ERRORS])
def test_a_wrong_filter_of_models_is_explained(filter_string: str) -> None:
    with pytest.raises(InvalidSearch) as error:
        models_search(filter_string, ())
    assert str(error.value) == {**FILTER_ERRORS, **MODEL_FILTER_ERRORS}[filter_string]


@pytest.mark.parametrize("filter_string", [*FILTER_ERRORS, *VERSION_FILTER_ERRORS])
def test_a_wrong_filter_of_versions_is_explained(filter_string: str) -> None:
    with pytest.raises(InvalidSearch) as error:
        versions_search(filter_string, ())
    assert str(error.value) == {**FILTER_ERRORS, **VERSION_FILTER_ERRORS}[filter_string]


UNPARSED = "Invalid order_by clause '{}'. Could not be parsed."
MODEL_ORDER = "Invalid order by key '{}' specified. Valid keys are '{{'name', 'timestamp'}}'"
VERSION_ORDER = f"Invalid attribute key '{{}}' specified. Valid keys are '{{{ORDER_KEYS}}}'"
ORDER_ERRORS: list[tuple[Translate, tuple[str, ...], str]] = [
    *(
        (translate, order, text)
        for translate in TABLES
        for order, text in {
            ("",): UNPARSED.format(""),
            (" ",): UNPARSED.format(" "),
            ("name;",): UNPARSED.format("name;"),
            ("name, timestamp",): UNPARSED.format("name, timestamp"),
            ("name DESC NULLS",): UNPARSED.format("name DESC NULLS"),
            ("name foo",): "Invalid ordering key in order_by clause 'name foo'.",
            ("name", "name"): "`order_by` contains duplicate fields: ['name', 'name']",
            ("name", "name DESC"): "`order_by` contains duplicate fields: ['name', 'name DESC']",
            ("name\x00",): "The order_by clause holds a NUL character, which cannot be stored.",
            ("\udcff",): "The order_by clause is not valid Unicode text.",
            ("x" * (MAX_ORDER_CHARS + 1),): (
                "The order_by clause has 501 characters; at most 500 are allowed."
            ),
            ("name",) * (MAX_ORDERS + 1): "order_by has 11 clauses; at most 10 are allowed.",
        }.items()
    ),
    (models_search, ("bad",), MODEL_ORDER.format("bad")),
    (models_search, ("bad DESC",), MODEL_ORDER.format("bad")),
    (models_search, ("creation_timestamp",), MODEL_ORDER.format("creation_timestamp")),
    (models_search, ("attribute.name",), MODEL_ORDER.format("attribute.name")),
    (models_search, ("version_number",), MODEL_ORDER.format("version_number")),
    (
        models_search,
        ("timestamp", "last_updated_timestamp"),
        "`order_by` contains duplicate fields: ['timestamp', 'last_updated_timestamp']",
    ),
    (versions_search, ("bad",), VERSION_ORDER.format("bad")),
    (versions_search, ("timestamp DESC",), VERSION_ORDER.format("timestamp")),
    (versions_search, ("attr.name",), ENTITY.format("attr")),
    (
        versions_search,
        ("tag.foo",),
        f"Invalid order by key 'foo' specified. Valid keys are {ORDER_KEYS}",
    ),
]


@pytest.mark.parametrize(("translate", "order_by", "text"), ORDER_ERRORS)
def test_a_wrong_order_is_explained(
    translate: Translate, order_by: tuple[str, ...], text: str
) -> None:
    with pytest.raises(InvalidSearch) as error:
        translate("", order_by)
    assert str(error.value) == text


# --- orders and pages ----------------------------------------------------------------------

DIRECTIONS = ("ASC", "DESC")
MODEL_ORDERS: list[tuple[str, ...]] = [
    (),
    ("name",),
    ("name desc",),
    ("`name` DESC",),
    ("timestamp",),
    ("last_updated_timestamp DESC",),
    *((f"timestamp {a}", f"name {b}") for a, b in product(DIRECTIONS, DIRECTIONS)),
    *((f"name {a}", f"timestamp {b}") for a, b in product(DIRECTIONS, DIRECTIONS)),
]
VERSION_ORDERS: list[tuple[str, ...]] = [
    (),
    ("name",),
    ("version_number",),
    ("attribute.version_number DESC",),
    ("creation_timestamp",),
    ("creation_timestamp DESC", "last_updated_timestamp"),
    *(
        (f"last_updated_timestamp {a}", f"name {b}", f"version_number {c}")
        for a, b, c in product(DIRECTIONS, DIRECTIONS, DIRECTIONS)
    ),
    *(
        (f"version_number {a}", f"creation_timestamp {b}", f"name {c}")
        for a, b, c in product(DIRECTIONS, DIRECTIONS, DIRECTIONS)
    ),
]
#: MLflow's words, and what the rows of the fixture `many` are sorted by for them.
COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "name": lambda row: row["name"],
    "version_number": lambda row: row["number"],
    "timestamp": lambda row: row["updated"],
    "last_updated_timestamp": lambda row: row["updated"],
    "creation_timestamp": lambda row: row["created"],
}


@pytest.fixture
def many(world: World) -> World:
    """Models and versions of which several share each time, a microsecond from the next."""
    start = timezone.now() - timedelta(days=1)
    with tenant_scope(world.alpha):
        RegisteredModel.objects.all().delete()
        for at in range(9):
            model = registry.register_model(f"m{at}")
            for number in range(1, 3):
                version = registry.add_version(model)
                ModelVersion.objects.filter(pk=version.pk).update(
                    created_at=start + timedelta(microseconds=(at + number) // 4),
                    updated_at=start - timedelta(microseconds=at * number // 5),
                )
            RegisteredModel.objects.filter(pk=model.pk).update(
                updated_at=start + timedelta(microseconds=at // 3)
            )
    return world


def expected(translate: Translate, order_by: tuple[str, ...]) -> list[str]:
    """Sort all rows in Python, by what MLflow says that the order means."""
    table: list[dict[str, Any]]
    if translate is models_search:
        table = [
            {"label": model.name, "name": model.name, "updated": model.updated_at}
            for model in RegisteredModel.objects.all()
        ]
        order = (*order_by, "name ASC")
    else:
        table = [
            {
                "label": f"{version.model.name}/{version.number}",
                "name": version.model.name,
                "number": version.number,
                "created": version.created_at,
                "updated": version.updated_at,
            }
            for version in ModelVersion.objects.select_related("model")
        ]
        order = (*(order_by or ("last_updated_timestamp DESC",)), "name ASC", "version_number DESC")
    for clause in reversed(order):
        word, *direction = clause.removeprefix("attribute.").replace("`", "").split()
        table.sort(key=COLUMNS[word], reverse=bool(direction) and direction[0].upper() == "DESC")
    return [row["label"] for row in table]


def walk(translate: Translate, order_by: tuple[str, ...], size: int) -> list[str]:
    """Return what all pages show, one after the other, as an endpoint makes them."""
    query = json.dumps(["walk", order_by])
    search, label = translate("", order_by), TABLES[translate][2]
    seen: list[str] = []
    token = ""
    while True:
        condition, position = "", ()
        if token:
            condition, position = search.after(read_token(token, query).position)
        more = f"{'AND ' if condition else ''}{condition} ORDER BY {search.order_by} LIMIT %s"
        sql, params = select(f"{label}, {search.position}", translate, search, more)
        page = rows(sql, *params, *position, size + 1)
        seen += [row[0] for row in page[:size]]
        if len(page) <= size:
            return seen
        token = write_token(current_tenant_id(), query, page[size - 1][1])


@pytest.mark.parametrize(
    ("translate", "orders"), [(models_search, MODEL_ORDERS), (versions_search, VERSION_ORDERS)]
)
def test_the_pages_together_are_the_sorted_list(
    many: World, translate: Translate, orders: list[tuple[str, ...]]
) -> None:
    with tenant_scope(many.alpha):
        for order_by in orders:
            whole = expected(translate, order_by)
            assert len(whole) in (9, 18)
            assert found(translate, "", order_by) == whole, order_by
            for size in (1, 4, 9, 50):
                assert walk(translate, order_by, size) == whole, (order_by, size)


def test_a_page_begins_behind_a_row_whatever_its_name(filled: World) -> None:
    with tenant_scope(filled.alpha):
        assert walk(models_search, ("name DESC",), 1) == found(models_search, "", ("name DESC",))


def test_a_position_keeps_microseconds_in_any_date_style(many: World) -> None:
    search = models_search("", ("timestamp",))
    with tenant_scope(many.alpha):
        moment = RegisteredModel.objects.get(name="m8").updated_at
        rows("SELECT set_config('datestyle', 'SQL, DMY', true)")
        sql, params = select(search.position, models_search, search, "AND m.name = 'm8'")
        position = rows(sql, *params)[0][0]
        condition, values = search.after([position[0], ""])
        sql, params = select("m.name", models_search, search, f"AND {condition}")
        assert {row[0] for row in rows(sql, *params, *values)} == {"m6", "m7", "m8"}
        rows("SELECT set_config('datestyle', 'ISO, MDY', true)")
    assert datetime.fromisoformat(position[0]) == moment


def test_the_order_is_total_and_says_how_to_read_a_position() -> None:
    assert models_search("", ()).order == (OrderColumn("m.name", False, "text"),)
    assert models_search("", ("timestamp DESC",)).order_by == "m.updated_at DESC, m.name ASC"
    newest = "v.updated_at DESC, m.name ASC, v.number DESC"
    assert versions_search("", ()).order_by == newest
    assert versions_search("", ("version_number",)).order_by == "v.number ASC, m.name ASC"
    casts = [key.cast for key in versions_search("", ()).order]
    assert casts == ["timestamptz", "text", "integer"]


def test_a_position_of_another_order_is_refused() -> None:
    with pytest.raises(InvalidSearch, match=INVALID_TOKEN):
        models_search("", ("timestamp",)).after(["fraud"])


def test_no_value_stands_in_the_sql() -> None:
    hostile = "x' OR true --"
    filter_string = f'name = "{hostile}" AND tag."{hostile}" LIKE "{hostile}"'
    search = models_search(filter_string, ("name",))
    sql = search.where + search.after([hostile])[0] + search.order_by + search.position
    assert hostile not in sql
    assert search.where.count("%s") == len(search.params) == 3


# --- tokens --------------------------------------------------------------------------------

QUERY = json.dumps(["registered-models/search", "name = 'a'", []])


def test_a_token_gives_back_what_was_put_in() -> None:
    tenant, position = uuid4(), ["模型 🦊\n", "2026-11-24T10:00:00.123456+00:00", "7"]
    token = write_token(tenant, QUERY, position)
    read = read_token(token, QUERY)
    assert (read.tenant_id, read.position) == (tenant, position)
    assert re.fullmatch(r"[A-Za-z0-9_.:-]+", token)
    assert len(write_token(tenant, QUERY, ["🦊" * 256])) < MAX_TOKEN_CHARS


def test_two_teams_have_different_tokens_and_the_caller_sees_whose_one_is() -> None:
    mine, theirs = uuid4(), uuid4()
    token = write_token(theirs, QUERY, ["a"])
    assert token != write_token(mine, QUERY, ["a"])
    assert read_token(token, QUERY).tenant_id == theirs


def _wrong_tokens() -> list[str]:
    token = write_token(uuid4(), QUERY, ["a"])
    body, *signature = token.split(":")
    other = signing.dumps([uuid4().hex, "0" * 32, ["a"]], salt=TOKEN_SALT)
    foreign = signing.dumps([uuid4().hex, "0" * 32, ["a"]], salt="something else")
    return [
        "",
        "x",
        ":",
        "::",
        token[:-1],
        token + "x",
        f"{token}\n",
        token.swapcase(),
        ":".join(["A" + body[1:], *signature]),
        ":".join(["", *signature]),
        body,
        other,
        foreign,
        "eyJvZmZzZXQiOiAxMDB9",  # MLflow's own, {"offset": 100}
        "\x00",
        "模" * 50,
        "é:é:é",
        "\ud800:\ud800:\ud800",
        "a" * (MAX_TOKEN_CHARS + 1),
    ]


def test_a_token_that_was_not_made_here_is_refused() -> None:
    for token in _wrong_tokens():
        with pytest.raises(InvalidSearch) as error:
            read_token(token, QUERY)
        assert str(error.value) == "Invalid page token, could not base64-decode"


@pytest.mark.parametrize("query", ["", QUERY + " ", QUERY.replace("a", "b"), "\ud800"])
def test_a_token_of_another_query_is_refused(query: str) -> None:
    token = write_token(uuid4(), QUERY, ["a"])
    with pytest.raises(InvalidSearch, match=f"^{INVALID_TOKEN}$"):
        read_token(token, query)


def test_a_token_of_another_secret_is_refused() -> None:
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[]):
        token = write_token(uuid4(), QUERY, ["a"])
    with pytest.raises(InvalidSearch, match=f"^{INVALID_TOKEN}$"):
        read_token(token, QUERY)


# --- page sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [(None, 100), ("1", 1), (1, 1), ("1000", 1000), (1000, 1000), ("007", 7), (0, 0), ("0", 0)],
)
def test_a_page_size_is_read(text: str | int | None, size: int) -> None:
    assert page_size(text, 100, 1000, 0) == size


@pytest.mark.parametrize(
    ("text", "shown", "kind"),
    [
        ("1001", '"1001"', "str"),
        (1001, "1001", "int"),
        ("", '""', "str"),
        ("ten", '"ten"', "str"),
        ("1.5", '"1.5"', "str"),
        (" 1", '" 1"', "str"),
        ("1_0", '"1_0"', "str"),
        ("٣", '"\\u0663"', "str"),
        ("\x00", '"\\u0000"', "str"),
        ("\ud800", '"\\ud800"', "str"),
        ("9" * 20, f'"{"9" * 20}"', "str"),
        (10**30, f"{10**30}", "int"),
        (-(10**30), f"-{10**30}", "int"),
        (True, "true", "bool"),
    ],
)
def test_a_wrong_page_size_is_explained(text: str | int, shown: str, kind: str) -> None:
    with pytest.raises(InvalidSearch) as error:
        page_size(text, 100, 1000, 0)
    assert str(error.value) == (
        f"Invalid value {shown} for parameter 'max_results' supplied:  "
        f"Hint: Value was of type '{kind}'. "
        "See the API docs for more information about request parameters."
    )


@pytest.mark.parametrize(("text", "least"), [("0", 1), (0, 1), (-1, 1), ("-1", 0)])
def test_too_small_a_page_is_explained(text: str | int, least: int) -> None:
    with pytest.raises(InvalidSearch) as error:
        page_size(text, 100, 200_000, least)
    assert str(error.value) == (
        f"Invalid value for max_results. It must be a positive integer, but got {text}"
    )


# --- anything at all -----------------------------------------------------------------------

#: Any text, with NUL and halves of characters.
anything = st.text(st.characters(exclude_categories=()), max_size=300)
pieces = st.sampled_from(
    "name run_id source_path version_number version tag.a tags.`b c` tag. attribute.name AND OR "
    "NOT IN LIKE ILIKE RLIKE = != > >= < <= == ' '' \" ` ( ) , ; . % _ \\ \\' -- /* 1 -1 1.5 1e999 "
    "'a' \"b\" 'a\\' '%' '\\' ('a','b') () ('a',1) (a) 99999999999999999999 "
    f"'true' 'false' tag.`{IS_PROMPT}` %s %(a)s %% $1 {{}} \x00 \ud800 🦊 \n asc DESC timestamp "
    "last_updated_timestamp creation_timestamp".split(" ")
)
written = st.lists(pieces | st.text(max_size=5), max_size=12).map(" ".join)
comparison = st.tuples(
    st.sampled_from(["name", "tag.team", "tags.`a b`", "run_id", "source_path", "version_number"]),
    st.sampled_from(["=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", ">", "<="]),
    (anything | st.text("%_\\ab'", max_size=20)).map(lambda text: text.replace("'", "''"))
    | st.integers(),
).map(lambda parts: f"{parts[0]} {parts[1]} {_value(parts[1], parts[2])}")
plausible = st.lists(comparison, max_size=4).map(" AND ".join)

property_test = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _value(comparator: str, value: str | int) -> str:
    if "IN" in comparator:
        return f"('{value}', 'x')"
    return f"'{value}'" if isinstance(value, str) else str(value)


def runs_or_is_refused(translate: Translate, filter_string: str, order_by: list[str]) -> bool:
    """Run the search and its next page; whether it was understood. Any other error fails."""
    try:
        search = translate(filter_string, order_by)
    except InvalidSearch as error:
        str(error).encode()  # an answer can carry it
        return False
    label = TABLES[translate][2]
    order = f"ORDER BY {search.order_by} LIMIT 3"
    sql, params = select(f"{label}, {search.position}", translate, search, order)
    page = rows(sql, *params)
    for row in page:
        assert CANARY not in row[0]
        condition, position = search.after(row[1])
        sql, params = select(label, translate, search, f"AND {condition} {order}")
        assert row[0] not in {row[0] for row in rows(sql, *params, *position)}
    return True


@property_test
@given(filter_string=anything | written | plausible)
@example(filter_string="name LIKE '" + "%a" * 9000 + "'")
@example(filter_string="name ILIKE '" + "_%" * 9000 + "'")
@example(filter_string="tag.`" + "x" * 19_000 + "` = ''")
@example(filter_string="name IN (" + "''," * 6000 + ")")
@example(filter_string=" AND ".join(["tag.team ILIKE '%a%b%'"] * MAX_COMPARISONS))
def test_any_filter_runs_or_is_refused(filled: World, filter_string: str) -> None:
    with tenant_scope(filled.alpha):
        for translate in TABLES:
            runs_or_is_refused(translate, filter_string, [])


@property_test
@given(filter_string=plausible)
def test_what_is_written_by_the_rules_is_read(filter_string: str) -> None:
    try:
        versions_search(filter_string, ())
    except InvalidSearch as error:
        # The words may not go together, or hold what is no text; but each was found.
        assert re.match("Invalid comparator|Invalid value|Only|Expected|The filter", str(error))


@property_test
@given(
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)
)
@example(value="it's")
@example(value="\\")
@example(value="'")
def test_a_value_is_compared_as_it_was_written(filled: World, value: str) -> None:
    quoted = value.replace("'", "''")
    with tenant_scope(filled.alpha):
        model = RegisteredModel.objects.get(name="churnX1")
        RegisteredModel.objects.filter(pk=model.pk).update(tags={"any key": value})
        assert found(models_search, f"tag.`any key` = '{quoted}'") == ["churnX1"]
        literal = re.sub(r"([\\%_])", r"\\\1", quoted)
        assert found(models_search, f"tag.`any key` LIKE '{literal}'") == ["churnX1"]


@property_test
@given(order_by=st.lists(anything | written, max_size=3))
def test_any_order_runs_or_is_refused(filled: World, order_by: list[str]) -> None:
    with tenant_scope(filled.alpha):
        for translate in TABLES:
            runs_or_is_refused(translate, "", order_by)


@property_test
@given(token=anything | st.text("abcAB01_-:.", max_size=80))
def test_any_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidSearch, match=f"^{INVALID_TOKEN}$"):
        read_token(token, QUERY)


@property_test
@given(text=anything | st.integers() | st.integers(-5, 2000).map(str))
def test_any_page_size_is_in_its_bounds_or_refused(text: str | int) -> None:
    try:
        assert 1 <= page_size(text, 100, 1000, 1) <= 1000
    except InvalidSearch as error:
        str(error).encode()


UNITS = [
    "'",
    '"',
    "`",
    "''",
    "(",
    "()",
    "('",
    "'(",
    '("',
    "a.",
    "1",
    "1e",
    "-",
    "AND`",
    "`",
    "\\",
    "'a'(",
    ",",
]


@pytest.mark.parametrize("start", ["", "name = ", "name IN (", "tag.`", "((", "'"])
def test_the_longest_filter_is_read_at_once(start: str) -> None:
    for unit in [*UNITS, " ", "AND ", "NOT IN ", "a='b' AND ", "a IN ('b',", "`a`."]:
        filter_string = (start + unit * MAX_FILTER_CHARS)[:MAX_FILTER_CHARS]
        began = time.process_time()
        with suppress(InvalidSearch):
            versions_search(filter_string, ())
        assert time.process_time() - began < 1, unit


@pytest.mark.parametrize("unit", ["%a", "%_", "_%a%", "%aa_", "%aaaaaaaaab", "\\a%"])
@pytest.mark.parametrize("comparator", ["LIKE", "ILIKE"])
def test_the_longest_pattern_is_compared_at_once(filled: World, unit: str, comparator: str) -> None:
    pattern = (unit * MAX_FILTER_CHARS)[: MAX_FILTER_CHARS - 100]
    with tenant_scope(filled.alpha):
        RegisteredModel.objects.update(tags={"long": "a" * MAX_TAG_VALUE_CHARS})
        for end in ("", "b"):
            began = time.perf_counter()
            found(models_search, f"tag.long {comparator} '{pattern}{end}'")
            assert time.perf_counter() - began < 30
