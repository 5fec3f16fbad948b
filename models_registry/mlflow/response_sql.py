"""The registry as MLflow's clients read it: JSON that PostgreSQL writes, one statement an answer.

Each expression reads the row ``m`` (a registered model) or ``v`` (a version of it). What was never
set is left out, as MLflow does; times are milliseconds since 1970, version numbers are text.
"""

from collections.abc import Mapping

from models_registry.mlflow.search import Search
from tenants.isolation.statements import ACTING_TENANT

#: The first wall, in SQL: what a statement reads first belongs to the tenant that the credential
#: proves. The statements are for ``prepared.query_as`` and ``prepared.query_in_scope``.
OWN_MODELS = f"models_registry_registeredmodel m WHERE m.tenant_id = {ACTING_TENANT}"
OWN_VERSIONS = f"""models_registry_registeredmodel m
  JOIN models_registry_modelversion v ON v.tenant_id = m.tenant_id AND v.model_id = m.id
 WHERE m.tenant_id = {ACTING_TENANT}"""

STATUSES = "CASE v.status WHEN 'READY' THEN 'READY' ELSE v.status || '_REGISTRATION' END"


def _object(always: Mapping[str, str], sometimes: Mapping[str, str]) -> str:
    """Return SQL that writes a JSON object as text; values are SQL that writes JSON.

    A member of ``sometimes`` is left out where its value is NULL. The text is concatenated:
    json_build_object with json_strip_nulls takes twice as long.
    """
    members = ", ', ', ".join(f"'\"{name}\": ', {value}" for name, value in always.items())
    more = [f"', \"{name}\": ' || {value}" for name, value in sometimes.items()]
    pieces = ", ".join(["'{'", members, *more, "'}'"])
    return f"concat({pieces})"


def _text(sql: str) -> str:
    return f"to_json({sql})"


def _word(sql: str) -> str:
    """Return SQL that writes as text a value that needs no JSON escaping."""
    return f"'\"', {sql}, '\"'"


def _list(item: str, rest: str, order: str = "") -> str:
    """Return SQL that writes a JSON list of the items of a query; NULL where there are none."""
    return f"(SELECT '[' || string_agg({item}, ', '{order}) || ']' FROM {rest})"


def _milliseconds(column: str) -> str:
    return f"(date_part('epoch', {column}) * 1000)::bigint"


def _tags(column: str) -> str:
    """Return the tags in ``column`` as a list of keys and values; NULL without any."""
    item = _object({"key": _text("key"), "value": _text("value")}, {})
    listed = _list(item, f"jsonb_each_text({column})")
    return f"CASE WHEN {column} <> '{{}}' THEN {listed} END"


_ALIASES_OF_VERSION = _list(
    "to_json(a.name)::text",
    "models_registry_alias a WHERE a.tenant_id = v.tenant_id AND a.version_id = v.id",
    " ORDER BY a.name",
)


def version(*, aliases: bool) -> str:
    """Return the expression for a version, with the aliases that point at it or without."""
    return _object(
        {
            "name": _text("m.name"),
            "version": _word("v.number"),
            "creation_timestamp": _milliseconds("v.created_at"),
            "last_updated_timestamp": _milliseconds("v.updated_at"),
            "current_stage": _word("v.stage"),
            "description": _text("v.description"),
            "source": _text("v.source"),
            "run_id": _text("v.run_id"),
            "status": _word(STATUSES),
            "run_link": _text("v.run_link"),
        },
        {
            "status_message": _text("nullif(v.status_message, '')"),
            "model_id": _text("nullif(v.logged_model_id, '')"),
            "tags": _tags("v.tags"),
        }
        | ({"aliases": _ALIASES_OF_VERSION} if aliases else {}),
    )


VERSION = version(aliases=True)
LISTED_VERSION = version(aliases=False)

_VERSIONS_OF_MODEL = """SELECT * FROM models_registry_modelversion
         WHERE tenant_id = m.tenant_id AND model_id = m.id"""
#: The newest version of each stage: two looks at an index where no version is in a stage.
_NEWEST = f"""(
        ({_VERSIONS_OF_MODEL} AND stage = 'None' ORDER BY number DESC LIMIT 1)
        UNION ALL
        SELECT newest.* FROM unnest(CASE WHEN EXISTS ({_VERSIONS_OF_MODEL} AND stage <> 'None')
                                    THEN ARRAY['Staging', 'Production', 'Archived'] END) AS name
         CROSS JOIN LATERAL (
               {_VERSIONS_OF_MODEL} AND stage <> 'None' AND stage = name
                ORDER BY number DESC LIMIT 1) newest) v"""

_BY_NUMBER = " ORDER BY v.number"

MODEL = _object(
    {
        "name": _text("m.name"),
        "creation_timestamp": _milliseconds("m.created_at"),
        "last_updated_timestamp": _milliseconds("m.updated_at"),
    },
    {
        "description": _text("nullif(m.description, '')"),
        "latest_versions": _list(LISTED_VERSION, _NEWEST, _BY_NUMBER),
        "tags": _tags("m.tags"),
        "aliases": _list(
            _object({"alias": _text("a.name"), "version": _word("v.number")}, {}),
            """models_registry_alias a
          JOIN models_registry_modelversion v ON v.tenant_id = a.tenant_id AND v.id = a.version_id
         WHERE a.tenant_id = m.tenant_id AND a.model_id = m.id""",
            " ORDER BY a.name",
        ),
    },
)

GET_MODEL = f"SELECT {MODEL} FROM {OWN_MODELS} AND m.name = %s"
GET_VERSION = f"SELECT {VERSION} FROM {OWN_VERSIONS} AND m.name = %s AND v.number = %s"

#: Finds the model whether or not the alias points anywhere: two refusals differ.
GET_BY_ALIAS = f"""
SELECT (SELECT {VERSION}
          FROM models_registry_alias a
          JOIN models_registry_modelversion v ON v.tenant_id = a.tenant_id AND v.id = a.version_id
         WHERE a.tenant_id = m.tenant_id AND a.model_id = m.id AND a.name = %s)
  FROM {OWN_MODELS} AND m.name = %s"""
GET_HIGHEST = f"""
SELECT (SELECT {VERSION} FROM models_registry_modelversion v
         WHERE v.tenant_id = m.tenant_id AND v.model_id = m.id ORDER BY v.number DESC LIMIT 1)
  FROM {OWN_MODELS} AND m.name = %s"""

GET_NEWEST = f"""
SELECT {_list(VERSION, f"{_NEWEST} WHERE v.stage = ANY (%s)", _BY_NUMBER)}
  FROM {OWN_MODELS} AND m.name = %s"""


def page(body: str, rows: str, search: Search, after: str) -> str:
    """Return the statement for a page: each row's JSON, and its position for a page token.

    The last two values are how many rows come at most, and how many bytes; the row with which the
    bytes are reached is the last.
    """
    return f"""
SELECT body, position
  FROM (SELECT body, position,
               coalesce(sum(octet_length(body)) OVER (
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
          FROM (SELECT {body} AS body, ({search.position})::text AS position
                  FROM {rows} AND {search.where} AND {after}
                 ORDER BY {search.order_by} LIMIT %s) found) page
 WHERE before < %s"""
