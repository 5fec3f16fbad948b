"""Whether a workload may use the model that it names: the registry's word on each reference.

A model is named by an annotation (``registered-model`` with ``model-version``) or by MLflow's
address of it (``models:/fraud/3``). Its name is the team's own, or the id under which another
team's model is shared; in an annotation its team may stand before it (``team_gamma/fraud``; `_` and
`-` are equal). Only what is shared with the team counts: what one person was given is not for pods.

Another team's model and one that does not exist get the same answer, by the same one statement.
A model in the archive may be used: its aliases go on working, and what serves it must come up again
after a restart. What nobody may use any more is recalled.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from models_registry.files import sources
from models_registry.files.paths import NO_ROW_ID, as_id
from models_registry.files.sources import VersionReference
from models_registry.models import ModelVersion
from models_registry.validators import MAX_NAME_CHARS
from tenants.isolation.scope import current_scope
from tenants.kubernetes import workloads
from tenants.kubernetes.workloads import Reference, Verdict
from tenants.prepared import read_in_scope
from tenants.text import is_storable, shown
from tenants.workspaces import same_team, workspace_name

# The team's own model comes before a shared one: a name may look like a shared model's id.
MODEL = """
SELECT 1 AS place, id, tenant_id FROM models_registry_registeredmodel
 WHERE tenant_id = %(tenant)s AND name = %(own)s
 UNION ALL
SELECT 2, model.id, model.tenant_id
  FROM models_registry_modelgroupgrant granted
  JOIN models_registry_registeredmodel model ON model.id = granted.content_object_id
  JOIN tenants_tenant owner ON owner.id = model.tenant_id
 WHERE granted.group_id = %(group)s AND model.tenant_id <> %(tenant)s
   AND (model.id = %(id)s
        OR (model.name = %(shared)s AND replace(owner.slug, '_', '-') = %(team)s))
 ORDER BY place LIMIT 1"""

#: The condition on the version for each way to name one; of several the newest is meant.
WHICH = {
    "number": "version.number = %(which)s",
    "stage": "version.stage = %(which)s",
    "alias": """version.id = (
           SELECT version_id FROM models_registry_alias alias
            WHERE alias.tenant_id = model.tenant_id AND alias.model_id = model.id
              AND alias.name = %(which)s)""",
    "newest": "true",
}
LOOK_UP = {
    by: f"""
SELECT version.number, version.status, version.recalled_at IS NOT NULL, version.scan
  FROM ({MODEL}) model
  LEFT JOIN LATERAL (
       SELECT version.* FROM models_registry_modelversion version
        WHERE version.tenant_id = model.tenant_id AND version.model_id = model.id AND {condition}
        ORDER BY version.number DESC LIMIT 1) version ON true"""  # noqa: S608 - constants
    for by, condition in WHICH.items()
}

UNKNOWN = "{} is not registered for this namespace."


@dataclass(frozen=True, slots=True)
class Meant:
    """A version that a reference names, and the words for it, which are the manifest's own."""

    named: VersionReference
    model: str
    version: str


def verdict_on(reference: Reference) -> Verdict:
    """Say what is wrong with a model that a workload names, for the acting team.

    It repeats what the manifest says and tells nothing else of another team: not why its version
    is recalled, nor which number an alias of its has.
    """
    if not reference.uri:
        meant = _annotated(reference.model, reference.version)
    else:
        address = f"models:/{reference.uri.partition(':')[2].lstrip('/')}"
        if sources.LOGGED_MODEL.fullmatch(address):
            return Verdict()  # a logged model of another tracking server
        meant = _addressed(address, quoted(reference.uri))
    if isinstance(meant, str):
        return Verdict(meant)
    return Verdict(_problem_with(meant), meant.named.alias)


def _addressed(address: str, words: str) -> Meant | str:
    """Return what ``models:/…`` means, or what is wrong with how it is written."""
    if not sources.is_unambiguous(address):
        return f"{words} can be read in two ways; name the version by annotations instead."
    named = sources.parse_loaded_uri(address)
    if named is None:
        return f"{words} names no version of a model; write models:/name/3 or models:/name@alias."
    return Meant(named, words, words)


def _annotated(model: str, version: str) -> Meant | str:
    """Return what the annotations mean, or what is wrong with how they are written."""
    name = quoted(model)
    if not version:
        key = settings.KUBERNETES.label(workloads.VERSION_ANNOTATION)
        return f"{name} is named without a version; say in {key} which one, such as 3 or @champion."
    words = f"{name} version {quoted(version)}"
    if sources.is_number(version):
        return Meant(VersionReference(model, number=int(version)), name, words)
    if len(version) > 1 and version.startswith("@"):
        return Meant(VersionReference(model, alias=version[1:]), name, words)
    return f"{words} is no version: write a number, such as 3, or an alias, such as @champion."


def _problem_with(meant: Meant) -> str | None:
    row = _look_up(meant.named)
    if row is None:
        return UNKNOWN.format(meant.model)
    number, status, is_recalled, scan = row
    if number is None:
        return f"{meant.version} does not exist: the model has no such version."
    if is_recalled:
        return f"{meant.version} is recalled: nothing may use it any more."
    if scan not in (ModelVersion.Scan.NONE, ModelVersion.Scan.PASSED):
        return f"{meant.version} is blocked by a scan: it must not run."
    if status != ModelVersion.Status.READY:
        return f"{meant.version} is not ready: its files are not complete, or it failed."
    return None


def _look_up(named: VersionReference) -> tuple[Any, ...] | None:
    """Return number, status, recall and scan of the version; numberless where there is none."""
    by, which = _by(named)
    text = named.name if all(map(_can_be_asked, (named.name, str(which)))) else ""
    team, slash, name = text.partition("/")
    scope = current_scope()
    values = {
        "tenant": scope.tenant_id,
        "group": scope.group_id,
        "own": name if slash and same_team(team, scope.slug) else text,
        "id": NO_ROW_ID if slash else as_id(text),
        "team": workspace_name(team) if slash else "",
        "shared": name if slash else "",
        "which": which if text else type(which)(),
    }
    rows = read_in_scope(LOOK_UP[by], values)
    return rows[0] if rows else None


def _can_be_asked(text: str) -> bool:
    """Tell whether PostgreSQL takes the text, which no name here is too long for."""
    return is_storable(text) and len(text) <= 2 * MAX_NAME_CHARS


def _by(named: VersionReference) -> tuple[str, str | int]:
    """Return what the version is named by."""
    if named.number is not None:
        return "number", named.number
    if named.alias:
        return "alias", named.alias
    return ("stage", named.stage) if named.stage else ("newest", "")


def quoted(text: str) -> str:
    """Return what a manifest says in quotes, in one line and not at any length."""
    return f"“{shown(text)}”"
