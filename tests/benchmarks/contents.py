"""The same registry in Bulkhead's tables and in those of stock MLflow, filled by SQL.

Each model has two tags, two versions with a tag each, and an alias that points at the second.
What a run of the benchmark makes beside them is called ``made-…``, and is taken away before the
next run.
"""

from collections.abc import Sequence
from typing import Any

VERSIONS = 2
ALIAS = "champion"
MADE = "made-"
SUBJECTS = ("churn", "demand", "energy", "fraud", "intent", "price", "risk", "spam", "traffic")
DESCRIPTION = "Tells how likely it is, from the cases of the last twelve weeks."
VERSION_DESCRIPTION = "Trained on the data of the last twelve weeks."
MODEL_TAGS = {"framework": "lightgbm", "task": "classification"}
VERSION_TAGS = {"framework": "lightgbm"}
SOURCE = "s3://models/{name}/{number}"


def names(models: int) -> list[str]:
    """Return the names of ``models`` models, from a list of subjects."""
    return [f"{SUBJECTS[number % len(SUBJECTS)]}-{number:06}" for number in range(1, models + 1)]


def parameters(chosen: Sequence[str]) -> dict[str, Any]:
    """Return what the statements below take, for models of these names."""
    return {
        "names": list(chosen),
        "versions": VERSIONS,
        "alias": ALIAS,
        "description": DESCRIPTION,
        "version_description": VERSION_DESCRIPTION,
        "keys": list(MODEL_TAGS),
        "values": list(MODEL_TAGS.values()),
        "version_keys": list(VERSION_TAGS),
        "version_values": list(VERSION_TAGS.values()),
        "made": f"{MADE}%",
    }


#: To be run in the scope of the tenant ``tenant``.
FILL_BULKHEAD = """
WITH model AS (
    INSERT INTO models_registry_registeredmodel
           (id, tenant_id, name, description, card, tags, last_version, created_at, updated_at)
    SELECT gen_random_uuid(), %(tenant)s, name, %(description)s, '',
           jsonb_object(%(keys)s, %(values)s), %(versions)s,
           now() - n * interval '1 minute', now() - n * interval '1 minute'
      FROM unnest(%(names)s::text[]) WITH ORDINALITY AS model (name, n)
        ON CONFLICT (tenant_id, name) DO NOTHING
 RETURNING id, name, created_at
), version AS (
    INSERT INTO models_registry_modelversion
           (id, tenant_id, model_id, number, source, location, run_id, run_link, logged_model_id,
            status, status_message, description, tags, params, metrics, stage, recall_reason,
            scan, scan_note, created_at, updated_at)
    SELECT gen_random_uuid(), %(tenant)s, id, number, 's3://models/' || name || '/' || number, '',
           md5(name || number), '', '', 'READY', '', %(version_description)s,
           jsonb_object(%(version_keys)s, %(version_values)s), '{}', '{}', 'None', '', '', '',
           created_at, created_at
      FROM model, generate_series(1, %(versions)s) AS number
 RETURNING id, model_id, number, updated_at
)
INSERT INTO models_registry_alias (id, tenant_id, model_id, version_id, name, updated_at)
SELECT gen_random_uuid(), %(tenant)s, model_id, id, %(alias)s, updated_at
  FROM version WHERE number = %(versions)s"""

#: To be run as the owner in the scope of the tenant.
TIDY_BULKHEAD = """
DELETE FROM models_registry_modelversion version USING models_registry_registeredmodel model
 WHERE model.tenant_id = %(tenant)s AND version.tenant_id = model.tenant_id
   AND version.model_id = model.id AND (version.number > %(versions)s OR model.name LIKE %(made)s);
DELETE FROM models_registry_registeredmodel WHERE tenant_id = %(tenant)s AND name LIKE %(made)s;
UPDATE models_registry_registeredmodel SET last_version = %(versions)s, updated_at = created_at
 WHERE tenant_id = %(tenant)s AND last_version > %(versions)s;
DELETE FROM tenants_auditevent WHERE tenant_id = %(tenant)s"""

FILL_STOCK = """
WITH drawn AS (
    SELECT name, extract(epoch FROM now() - n * interval '1 minute')::bigint * 1000 AS moment
      FROM unnest(%(names)s::text[]) WITH ORDINALITY AS model (name, n)
), model AS (
    INSERT INTO registered_models
           (workspace, name, description, creation_time, last_updated_time)
    SELECT %(workspace)s, name, %(description)s, moment, moment FROM drawn
        ON CONFLICT DO NOTHING
 RETURNING name, creation_time
), tag AS (
    INSERT INTO registered_model_tags (workspace, name, key, value)
    SELECT %(workspace)s, name, tag.key, tag.value
      FROM model, unnest(%(keys)s::text[], %(values)s::text[]) AS tag (key, value)
), version AS (
    INSERT INTO model_versions
           (workspace, name, version, description, current_stage, source, storage_location, run_id,
            run_link, status, creation_time, last_updated_time)
    SELECT %(workspace)s, name, number, %(version_description)s, 'None',
           's3://models/' || name || '/' || number, 's3://models/' || name || '/' || number,
           md5(name || number), '', 'READY', creation_time, creation_time
      FROM model, generate_series(1, %(versions)s) AS number
 RETURNING name, version
), version_tag AS (
    INSERT INTO model_version_tags (workspace, name, version, key, value)
    SELECT %(workspace)s, name, version, tag.key, tag.value
      FROM version,
           unnest(%(version_keys)s::text[], %(version_values)s::text[]) AS tag (key, value)
)
INSERT INTO registered_model_aliases (workspace, name, alias, version)
SELECT %(workspace)s, name, %(alias)s, %(versions)s FROM model"""

TIDY_STOCK = """
DELETE FROM model_version_tags WHERE version > %(versions)s OR name LIKE %(made)s;
DELETE FROM model_versions WHERE version > %(versions)s OR name LIKE %(made)s;
DELETE FROM registered_model_tags WHERE name LIKE %(made)s;
DELETE FROM registered_models WHERE name LIKE %(made)s;
VACUUM (ANALYZE)"""
