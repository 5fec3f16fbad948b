"""The registry as MLflow's clients read it: JSON that PostgreSQL writes, one statement an answer.

Each expression reads the row ``m`` (a registered model) or ``v`` (a version of it). What was never
set is left out, as MLflow does; times are milliseconds since 1970, version numbers are text.
"""

from models_registry.mlflow_search import Search
from tenants.rls import TENANT

#: The first wall, in SQL: what a statement reads first is the acting tenant's.
OWN_MODELS = f"models_registry_registeredmodel m WHERE m.tenant_id = {TENANT}"
OWN_VERSIONS = f"""models_registry_registeredmodel m
  JOIN models_registry_modelversion v ON v.tenant_id = m.tenant_id AND v.model_id = m.id
 WHERE m.tenant_id = {TENANT}"""

STATUSES = "CASE v.status WHEN 'READY' THEN 'READY' ELSE v.status || '_REGISTRATION' END"


def _milliseconds(column: str) -> str:
    return f"floor(extract(epoch FROM {column}) * 1000)::bigint"


def _tags(column: str) -> str:
    """Return the tags in ``column`` as a list of keys and values; NULL without any."""
    return (
        f"CASE WHEN {column} <> '{{}}' THEN (SELECT json_agg(json_build_object("
        f"'key', key, 'value', value) ORDER BY key) FROM jsonb_each_text({column})) END"
    )


_ALIASES_OF_VERSION = """(
    SELECT json_agg(a.name ORDER BY a.name) FROM models_registry_alias a
     WHERE a.tenant_id = v.tenant_id AND a.version_id = v.id)"""


def version(*, aliases: bool) -> str:
    """Return the expression for a version, with the aliases that point at it or without."""
    more = f", 'aliases', {_ALIASES_OF_VERSION}" if aliases else ""
    return f"""json_strip_nulls(json_build_object(
    'name', m.name,
    'version', v.number::text,
    'creation_timestamp', {_milliseconds("v.created_at")},
    'last_updated_timestamp', {_milliseconds("v.updated_at")},
    'current_stage', v.stage,
    'description', v.description,
    'source', v.source,
    'run_id', v.run_id,
    'status', {STATUSES},
    'status_message', nullif(v.status_message, ''),
    'run_link', v.run_link,
    'model_id', nullif(v.logged_model_id, ''),
    'tags', {_tags("v.tags")}{more}))"""


VERSION = version(aliases=True)
LISTED_VERSION = version(aliases=False)

#: The newest version of each stage: one look at an index for each of the four.
_NEWEST = """unnest(ARRAY['None', 'Staging', 'Production', 'Archived']) AS stage
  CROSS JOIN LATERAL (
        SELECT * FROM models_registry_modelversion
         WHERE tenant_id = m.tenant_id AND model_id = m.id
           AND models_registry_modelversion.stage = stage.stage
         ORDER BY number DESC LIMIT 1) v"""

MODEL = f"""json_strip_nulls(json_build_object(
    'name', m.name,
    'creation_timestamp', {_milliseconds("m.created_at")},
    'last_updated_timestamp', {_milliseconds("m.updated_at")},
    'description', nullif(m.description, ''),
    'latest_versions', (SELECT json_agg({LISTED_VERSION} ORDER BY v.number) FROM {_NEWEST}),
    'tags', {_tags("m.tags")},
    'aliases', (
        SELECT json_agg(json_build_object('alias', a.name, 'version', v.number::text)
                        ORDER BY a.name)
          FROM models_registry_alias a
          JOIN models_registry_modelversion v ON v.tenant_id = a.tenant_id AND v.id = a.version_id
         WHERE a.tenant_id = m.tenant_id AND a.model_id = m.id)))"""

GET_MODEL = f"SELECT ({MODEL})::text FROM {OWN_MODELS} AND m.name = %s"
GET_VERSION = f"SELECT ({VERSION})::text FROM {OWN_VERSIONS} AND m.name = %s AND v.number = %s"

#: Finds the model whether or not the alias points anywhere: two refusals differ.
GET_BY_ALIAS = f"""
SELECT (SELECT ({VERSION})::text
          FROM models_registry_alias a
          JOIN models_registry_modelversion v ON v.tenant_id = a.tenant_id AND v.id = a.version_id
         WHERE a.tenant_id = m.tenant_id AND a.model_id = m.id AND a.name = %s)
  FROM {OWN_MODELS} AND m.name = %s"""
GET_HIGHEST = f"""
SELECT (SELECT ({VERSION})::text FROM models_registry_modelversion v
         WHERE v.tenant_id = m.tenant_id AND v.model_id = m.id ORDER BY v.number DESC LIMIT 1)
  FROM {OWN_MODELS} AND m.name = %s"""

GET_NEWEST = f"""
SELECT (SELECT json_agg({VERSION} ORDER BY v.number)::text FROM {_NEWEST}
         WHERE v.stage = ANY (%s))
  FROM {OWN_MODELS} AND m.name = %s"""


def page(body: str, rows: str, search: Search, after: str) -> str:
    """Return the statement for a page: each row's JSON, and its position for a page token."""
    return (
        f"SELECT ({body})::text, {search.position} FROM {rows} AND {search.where} AND {after} "
        f"ORDER BY {search.order_by} LIMIT %s"
    )
