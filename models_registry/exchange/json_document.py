"""Importing models from JSON, and writing them out in the same form.

A document is understood as a whole before anything is written: ``parse`` returns a plan, or
raises ImportProblem with the place inside the document. ``apply`` then carries the plan out in
one transaction, through the registry's verbs and in a scope for each team. What the document
does not mention is left as it is, so importing it again changes nothing.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction

from models_registry import registry, validators
from models_registry.models import ModelVersion, RegisteredModel
from tenants.documents import Malformed, Node, Path, as_text
from tenants.isolation.scope import tenant_scope
from tenants.models import SLUG, Membership, Tenant, User
from tenants.text import printable

#: Models that are read from the database at a time, to be compared with the document's.
CHUNK_MODELS = 100


class ImportProblem(Malformed):
    """The document cannot be imported, and nothing was; the message says where and why."""

    def __init__(self, message: str, path: Path | None = None) -> None:
        super().__init__(printable(message), path)


# --- the plan ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedVersion:
    """A version by its number; ``fields`` are those that the document gives."""

    path: Path
    number: int
    fields: dict[str, Any]
    creator: str | None = None
    created_at: datetime | None = None
    #: The reason of a recall and the scanner's note of a block; None where the document has none.
    recalled: str | None = None
    blocked: str | None = None


@dataclass(frozen=True)
class PlannedModel:
    """A model by its name; ``fields`` are those that the document gives, ``owner`` a user name."""

    path: Path
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    archived: bool | None = None
    versions: tuple[PlannedVersion, ...] = ()
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedTeam:
    """A team's models, in the document's order."""

    path: Path
    slug: str
    models: tuple[PlannedModel, ...]


Plan = tuple[PlannedTeam, ...]


def parse(document: str | bytes) -> Plan:
    """Understand a JSON document, or raise ImportProblem.

    Each team has a list of models, or an object with a list ``models``; a model is a name, or an
    object with a name. Versions are numbered in the document's order unless they say otherwise.
    """
    try:
        teams = _fields(Node(_load(document)))
        return tuple(_team(slug, node) for slug, node in teams.items())
    except Malformed as error:
        raise ImportProblem(error.message, error.path) from None


def _load(document: str | bytes) -> Any:
    try:
        text = document.decode("utf-8-sig") if isinstance(document, bytes) else document
        return json.loads(text, object_pairs_hook=_Object)
    except UnicodeDecodeError as error:
        raise ImportProblem(f"This is not UTF-8 text: see byte {error.start + 1}.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ImportProblem(f"This is not JSON: {error.msg} in {place}.") from None
    except RecursionError:
        raise ImportProblem("This is not an import file: it is nested too deeply.") from None
    except ValueError:  # Python refuses integers of more than 4,300 digits
        raise ImportProblem("This cannot be read: a number in it is too long.") from None


class _Object(dict[str, Any]):
    """A JSON object that remembers a key given twice; of two values one would be lost."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: str | None = None
        if len(self) < len(pairs):
            [(self.repeated, _)] = Counter(key for key, _ in pairs).most_common(1)


Reader = Callable[[Node], Any]


def _fields(node: Node, known: Collection[str] = ()) -> dict[str, Node]:
    """Return an object's values by key, where no key is given twice; raises Malformed."""
    if isinstance(node.value, _Object) and node.value.repeated is not None:
        repeated = Node(None, (*node.path, node.value.repeated))
        raise repeated.malformed("this key is given twice")
    return node.fields(known)


def _record(node: Node, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Read an object whose keys are known."""
    return {key: readers[key](field) for key, field in _fields(node, readers).items()}


@contextmanager
def _at(path: Path) -> Iterator[None]:
    """Say where a value is that the registry's own rules refuse."""
    try:
        yield
    except ValidationError as error:
        raise ImportProblem(" ".join(error.messages), path) from None
    except PermissionDenied as error:
        raise ImportProblem(str(error), path) from None


def _text(length: int) -> Reader:
    def read(node: Node) -> str:
        text = node.text()
        with _at(node.path):
            validators.validate_text(text, length, "The text")
        return text

    return read


def _texts(what: str, length: int) -> Reader:
    return _entries(what, Node.text, lambda entry: validators.validate_texts(entry, what, length))


def _metrics() -> Reader:
    def check(node: Node) -> None:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise node.malformed("expected a number")

    read = _entries("metric", check, validators.validate_metrics)
    return lambda node: {key: float(value) for key, value in read(node).items()}


def _entries(what: str, check: Reader, validate: Callable[[Any], None]) -> Reader:
    def read(node: Node) -> dict[str, Any]:
        entries = _fields(node)
        if len(entries) > validators.MAX_ENTRIES:
            raise node.malformed(f"more than {validators.MAX_ENTRIES:,} {what}s")
        for key, entry in entries.items():
            check(entry)
            with _at(entry.path):
                validate({key: entry.value})
        return dict(node.value)

    return read


def _flag(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise node.malformed("expected true or false")
    return node.value


def _number(node: Node) -> int:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise node.malformed("expected a version number")
    return value


def _time(node: Node) -> datetime:
    try:
        time = datetime.fromisoformat(node.value) if isinstance(node.value, str) else None
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise node.malformed("expected a time with its zone, such as 2026-10-01T09:00:00Z")


def _username(node: Node) -> str | None:
    return None if node.value is None else str(_text(150)(node))


def _status(node: Node) -> str:
    if not isinstance(node.value, str) or node.value not in ModelVersion.Status.values:
        raise node.malformed(f"expected one of {', '.join(ModelVersion.Status.values)}")
    return node.value


def _model_name(node: Node) -> str:
    name = node.text()
    with _at(node.path):
        validators.validate_model_name(name)
    return name


def _aliases(node: Node) -> dict[str, int]:
    aliases = _fields(node)
    for name, alias in aliases.items():
        with _at(alias.path):
            validators.validate_alias_name(name)
        _number(alias)
    return dict(node.value)


VERSION_FIELDS: dict[str, Reader] = {
    "source": _text(validators.MAX_SOURCE_CHARS),
    "run_id": _text(validators.MAX_RUN_ID_CHARS),
    "run_link": _text(validators.MAX_SOURCE_CHARS),
    "description": _text(validators.MAX_DESCRIPTION_CHARS),
    "status": _status,
    "status_message": _text(validators.MAX_STATUS_MESSAGE_CHARS),
    "tags": _texts("tag", validators.MAX_TAG_VALUE_CHARS),
    "params": _texts("parameter", validators.MAX_PARAM_VALUE_CHARS),
    "metrics": _metrics(),
}
#: Present only where true. A passed scan is not exported: the document brings no files with it.
VERDICT_KEYS: dict[str, Reader] = {
    "recalled": _text(validators.MAX_NOTE_CHARS),
    "blocked": _text(validators.MAX_NOTE_CHARS),
}
VERSION_KEYS = (
    VERSION_FIELDS | {"number": _number, "creator": _username, "created_at": _time} | VERDICT_KEYS
)


def _versions(node: Node) -> tuple[PlannedVersion, ...]:
    versions: list[PlannedVersion] = []
    for item in node.items():
        record = _record(item, VERSION_KEYS)
        last = versions[-1].number if versions else 0
        number = record.pop("number", last + 1)
        if number <= last:
            raise item.field("number").malformed(f"expected a number above {last}")
        other = {
            key: record.pop(key) for key in {*VERSION_KEYS} - {*VERSION_FIELDS} if key in record
        }
        versions.append(PlannedVersion(item.path, number, record, **other))
    return tuple(versions)


MODEL_FIELDS: dict[str, Reader] = {
    "description": _text(validators.MAX_DESCRIPTION_CHARS),
    "card": _text(validators.MAX_CARD_CHARS),
    "tags": _texts("tag", validators.MAX_TAG_VALUE_CHARS),
    "owner": _username,
}
MODEL_KEYS = (
    {"name": _model_name}
    | MODEL_FIELDS
    | {"created_at": _time, "archived": _flag, "versions": _versions, "aliases": _aliases}
)


def _model(node: Node) -> PlannedModel:
    if isinstance(node.value, str):
        return PlannedModel(node.path, _model_name(node))
    if not isinstance(node.value, dict):
        raise node.malformed("expected a model's name or an object")
    record = _record(node, MODEL_KEYS)
    if "name" not in record:
        raise node.malformed("the key name is missing")
    numbers = {version.number for version in record.get("versions", ())}
    for alias, number in record.get("aliases", {}).items():
        if "versions" in record and number not in numbers:
            missing = node.field("aliases").field(alias)
            raise missing.malformed(f"there is no version {number} in this file")
    fields = {key: record.pop(key) for key in MODEL_FIELDS if key in record}
    return PlannedModel(node.path, fields=fields, **record)


def _team(slug: str, node: Node) -> PlannedTeam:
    if not re.fullmatch(SLUG, slug):
        raise node.malformed("no team can have this name")
    if isinstance(node.value, dict):
        fields = _fields(node, ("models",))
        if "models" not in fields:
            raise node.malformed("the key models is missing")
        node = fields["models"]
    elif not isinstance(node.value, list):
        raise node.malformed("expected a list of models, or an object with the key models")
    models: dict[str, PlannedModel] = {}
    for item in node.items():
        model = _model(item)
        if model.name in models:
            first = as_text(models[model.name].path, "$")
            raise item.malformed(f"{model.name} is at {first} already")
        models[model.name] = model
    return PlannedTeam(node.path, slug, tuple(models.values()))


# --- carrying it out -----------------------------------------------------------------------


@dataclass
class TeamReport:
    """What became of a team's models, by name; a model counts with its versions and aliases."""

    slug: str
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.slug}: {len(self.created)} created, {len(self.updated)} updated, "
            f"{len(self.unchanged)} unchanged"
        )


def apply(plan: Plan, *, dry_run: bool = False) -> list[TeamReport]:
    """Carry out ``plan``, all of it or nothing; with ``dry_run`` only tell what would happen.

    Raises ImportProblem for a team that does not exist, an owner who is no member, and whatever
    else the registry refuses.
    """
    with transaction.atomic():
        tenants = {
            tenant.slug: tenant
            for tenant in Tenant.objects.filter(slug__in=[team.slug for team in plan])
        }
        for team in plan:
            if team.slug not in tenants:
                raise ImportProblem("there is no such team", (team.slug,))
        reports = [_apply_team(tenants[team.slug], team) for team in plan]
        if dry_run:
            transaction.set_rollback(True)
    return reports


def _apply_team(tenant: Tenant, team: PlannedTeam) -> TeamReport:
    report = TeamReport(tenant.slug)
    memberships = Membership.objects.filter(tenant=tenant).select_related("user")
    people = {membership.user.username: membership.user for membership in memberships}
    with tenant_scope(tenant):
        for start in range(0, len(team.models), CHUNK_MODELS):
            some = team.models[start : start + CHUNK_MODELS]
            there = _registered([model.name for model in some])
            for planned in some:
                model = there.get(planned.name)
                changed = _apply_model(planned, model, people)
                names = report.updated if changed else report.unchanged
                (names if model else report.created).append(planned.name)
    return report


def _registered(names: list[str]) -> dict[str, RegisteredModel]:
    models = RegisteredModel.objects.filter(name__in=names).select_related("owner")
    return {model.name: model for model in models.prefetch_related("versions", "aliases__version")}


def _apply_model(
    planned: PlannedModel, model: RegisteredModel | None, people: Mapping[str, User]
) -> bool:
    """Make the model what the document says; tell whether that changed anything."""
    versions: dict[int, ModelVersion] = {}
    aliases: dict[str, int] = {}
    changed = model is None
    if model is None:
        fields = _with_owner(planned.fields, planned.path, people)
        with _at(planned.path):
            model = registry.register_model(planned.name, **fields, created_at=planned.created_at)
    else:
        versions = {version.number: version for version in model.versions.all()}
        aliases = {alias.name: alias.version.number for alias in model.aliases.all()}
        changed = _update_model(planned, model, people)
    for version in planned.versions:
        changed |= _apply_version(version, model, versions.get(version.number), people)
    for name, number in planned.aliases.items():
        if aliases.get(name) != number:
            with _at((*planned.path, "aliases", name)):
                registry.set_alias(model, name, number)
            changed = True
    if planned.archived is not None and planned.archived != model.is_archived:
        with _at(planned.path):
            (registry.archive_model if planned.archived else registry.restore_model)(model)
        changed = True
    return changed


def _update_model(
    planned: PlannedModel, model: RegisteredModel, people: Mapping[str, User]
) -> bool:
    there = {key: getattr(model, key) for key in planned.fields}
    if "owner" in there:
        there["owner"] = model.owner.username if model.owner else None
    fields = {key: value for key, value in planned.fields.items() if value != there[key]}
    if fields:
        with _at(planned.path):
            registry.update_model(model, **_with_owner(fields, planned.path, people))
    return bool(fields)


def _apply_version(
    planned: PlannedVersion,
    model: RegisteredModel,
    version: ModelVersion | None,
    people: Mapping[str, User],
) -> bool:
    if version is None:
        creator = _person(planned.creator, (*planned.path, "creator"), people)
        with _at(planned.path):
            version = registry.add_version(
                model, **planned.fields, creator=creator, created_at=planned.created_at
            )
        if version.number != planned.number:
            # The registry numbers versions consecutively and never gives a number twice.
            gone = planned.number < version.number
            raise ImportProblem(
                f"version {planned.number} {'was deleted' if gone else 'cannot be added yet'}; "
                f"the next version of {model.name} is {version.number}",
                planned.path,
            )
        _apply_verdicts(planned, version)
        return True
    fields = {
        key: value
        for key, value in planned.fields.items()
        if not _equal(value, getattr(version, key))
    }
    if fields:
        with _at(planned.path):
            registry.update_version(version, **fields)
    return _apply_verdicts(planned, version) or bool(fields)


def _apply_verdicts(planned: PlannedVersion, version: ModelVersion) -> bool:
    """Recall and block as the document says; what it does not say, an older one did not know."""
    changed = False
    with _at(planned.path):
        if planned.recalled is not None and not version.is_recalled:
            registry.recall_version(version, planned.recalled)
            changed = True
        if planned.blocked is not None and not version.is_blocked:
            registry.record_scan(version, ModelVersion.Scan.BLOCKED, planned.blocked)
            changed = True
    return changed


def _equal(given: Any, there: Any) -> bool:
    # PostgreSQL returns 1e23 as an integer, which Python does not find equal to the float.
    if isinstance(there, dict):
        there = {k: float(v) if isinstance(v, int) else v for k, v in there.items()}
    return bool(given == there)


def _with_owner(
    fields: Mapping[str, Any], path: Path, people: Mapping[str, User]
) -> dict[str, Any]:
    if "owner" not in fields:
        return dict(fields)
    return {**fields, "owner": _person(fields["owner"], (*path, "owner"), people)}


def _person(username: str | None, path: Path, people: Mapping[str, User]) -> User | None:
    if username is None:
        return None
    if username not in people:
        raise ImportProblem(f"{username} is no member of this team", path)
    return people[username]


# --- writing out ---------------------------------------------------------------------------


def export(tenant: Tenant) -> list[dict[str, Any]]:
    """Return all models of a team as an import file has them."""
    with tenant_scope(tenant):
        models = RegisteredModel.objects.select_related("owner").prefetch_related(
            "versions__creator", "aliases__version"
        )
        return [_model_row(model) for model in sorted(models, key=lambda model: model.name)]


def _model_row(model: RegisteredModel) -> dict[str, Any]:
    versions = sorted(model.versions.all(), key=lambda version: version.number)
    aliases = sorted(model.aliases.all(), key=lambda alias: alias.name)
    return {
        "name": model.name,
        "description": model.description,
        "card": model.card,
        "tags": model.tags,
        "owner": model.owner.username if model.owner else None,
        "created_at": model.created_at.isoformat(),
        "archived": model.is_archived,
        "versions": [_version_row(version) for version in versions],
        "aliases": {alias.name: alias.version.number for alias in aliases},
    }


def _version_row(version: ModelVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        **{key: getattr(version, key) for key in VERSION_FIELDS},
        "creator": version.creator.username if version.creator else None,
        "created_at": version.created_at.isoformat(),
        **({"recalled": version.recall_reason} if version.is_recalled else {}),
        **({"blocked": version.scan_note} if version.is_blocked else {}),
    }
