"""The registry's verbs: the one write path, for pages, commands and APIs alike.

Each verb runs inside a scope, asks whether the acting person may, checks what it was given, and
writes its audit event in the same transaction. Whatever it raises, nothing is changed then:
PermissionDenied (403) where the role or a suspended team does not allow it, ValidationError (400 or
422) by the field that is wrong, Conflict (409), and DoesNotExist (404) for a row that was deleted
meanwhile. Its docstring says which of them, besides PermissionDenied and DoesNotExist, and when.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from enum import Enum
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from models_registry import validators
from models_registry.errors import Conflict, NameTaken
from models_registry.files import artifacts, mlmodel, sources
from models_registry.files.paths import at_or_below
from models_registry.models import (
    Alias,
    Bookmark,
    ModelVersion,
    RegisteredModel,
)
from tenants import audit
from tenants.access import TenantSuspended, require
from tenants.isolation.scope import current_scope
from tenants.isolation.statements import pipeline
from tenants.models import AuditEvent, User
from tenants.prepared import insert, read_in_scope

P = ParamSpec("P")
R = TypeVar("R")
Tagged = RegisteredModel | ModelVersion

#: At most this many tags, parameters or metrics of one change are in its audit event.
MAX_LOGGED_ENTRIES = 100
#: The fields of a recall and of a scan's result, which a copy of a version takes over.
VERDICTS = ("recalled_at", "recall_reason", "scan", "scan_note")
#: The largest value of PostgreSQL's integer.
MAX_VERSION_NUMBER = 2**31 - 1


class _Unset(Enum):
    UNSET = "unset"


#: The default of an argument that may be None.
UNSET: Final = _Unset.UNSET


NAME_UNIQUE = "model_name_unique_in_tenant"


class AliasMoved(Conflict):
    """The alias does not point where the caller thought.

    ``current`` is the version number that it points at now (None: it is gone), ``moved_by`` and
    ``moved_at`` tell who moved it last, and when.
    """

    def __init__(self, current: int | None, last: AuditEvent | None) -> None:
        self.current = current
        self.moved_by = last.actor_label if last else None
        self.moved_at = last.created_at if last else None
        where = f"points at version {current} now" if current else "is gone"
        super().__init__(f"The alias moved meanwhile: it {where}.")


def _requires(perm: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Ask for ``perm`` and make the verb one transaction."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def verb(*args: P.args, **kwargs: P.kwargs) -> R:
            require(f"models_registry.{perm}")
            with _savepoint_for_pages():
                return function(*args, **kwargs)

        return verb

    return decorate


def _savepoint_for_pages() -> AbstractContextManager[Any]:
    """Make the block a transaction of its own inside that of the request.

    A page goes on after a refused verb, to show the form again. A request with a token does not:
    all of it is undone, so it is spared two trips to the database.
    """
    return transaction.atomic(savepoint=not current_scope().via)


def _check(field: str, validate: Callable[[Any], None], value: Any) -> None:
    try:
        validate(value)
    except ValidationError as error:
        raise ValidationError({field: error.messages}) from None


def _check_text(field: str, value: str, length: int) -> None:
    what = f"The {field.replace('_', ' ')}"
    _check(field, lambda text: validators.validate_text(text, length, what), value)


# --- registered models ---------------------------------------------------------------------


@_requires("add_registeredmodel")
def register_model(
    name: str,
    *,
    description: str = "",
    card: str = "",
    tags: Mapping[str, str] | None = None,
    owner: User | None = None,
    created_at: datetime | None = None,
) -> RegisteredModel:
    """Register a model in the acting tenant.

    Raises NameTaken where the name is in use there, and ValidationError for a bad value.
    """
    _check("name", validators.validate_model_name, name)
    _check_model_fields({"description": description, "card": card, "tags": tags or {}})
    now = created_at or timezone.now()
    model = RegisteredModel(
        name=name,
        description=description,
        card=card,
        tags=dict(tags or {}),
        owner_id=owner.pk if owner else current_scope().user_id,
        created_at=now,
        updated_at=now,
    )
    try:
        with _savepoint_for_pages(), pipeline():
            insert(model)
            audit.record("model.registered", model)
    except IntegrityError as error:
        if NAME_UNIQUE not in str(error):
            raise
        raise NameTaken(name) from None
    return model


@_requires("change_registeredmodel")
def update_model(
    model: RegisteredModel,
    *,
    description: str | _Unset = UNSET,
    card: str | _Unset = UNSET,
    tags: Mapping[str, str] | _Unset = UNSET,
    owner: User | _Unset | None = UNSET,
    expected: datetime | None = None,
) -> RegisteredModel:
    """Change what is given of ``model``; ``expected`` is its ``updated_at`` as the editor saw it.

    Raises Conflict if the model was changed since then, and ValidationError for a bad value.
    """
    given = {"description": description, "card": card, "tags": tags, "owner": owner}
    fields = {name: value for name, value in given.items() if value is not UNSET}
    _check_model_fields(fields)
    locked = _lock(model)
    if expected is not None and locked.updated_at != expected:
        raise Conflict("This model was changed meanwhile; look at it again before you save.")
    _change_model(locked, fields)
    return locked


def _change_model(locked: RegisteredModel, fields: Mapping[str, Any]) -> None:
    changes = _apply(locked, fields)
    if changes["to"]:
        _save(locked, *fields)
        audit.record("model.updated", locked, changes=changes)


@_requires("change_registeredmodel")
def rename_model(model: RegisteredModel, name: str) -> RegisteredModel:
    """Give ``model`` another name; its id, versions, aliases and grants stay.

    Raises NameTaken where the name is in use, and ValidationError for a bad one.
    """
    _check("name", validators.validate_model_name, name)
    locked = _lock(model)
    before, locked.name = locked.name, name
    try:
        with _savepoint_for_pages():
            _save(locked, "name")
    except IntegrityError:
        raise NameTaken(name) from None
    audit.record("model.renamed", locked, changes={"from": before, "to": name})
    return locked


@_requires("delete_registeredmodel")
def archive_model(model: RegisteredModel) -> RegisteredModel:
    """Keep ``model`` for the record only; its aliases stay and go on working.

    Raises nothing else than every verb; one that is archived already stays as it is.
    """
    return _set_archived(model, timezone.now(), "model.archived")


@_requires("delete_registeredmodel")
def restore_model(model: RegisteredModel) -> RegisteredModel:
    """Take ``model`` out of the archive.

    Raises nothing else than every verb; one that is not archived stays as it is.
    """
    return _set_archived(model, None, "model.restored")


@_requires("delete_registeredmodel")
def delete_model(model: RegisteredModel, *, in_use: bool = False) -> None:
    """Delete an archived model with its versions, aliases and grants; it cannot be undone.

    Raises ValidationError if the model is not archived: what is in use is archived first. With
    ``in_use`` it need not be, for clients that know no archive.
    """
    locked = _lock(model)
    if not (locked.is_archived or in_use):
        raise ValidationError("Archive the model first; only an archived model can be deleted.")
    # Lock the versions first: an upload in progress holds its version's lock, and would deadlock.
    versions = len(locked.versions.select_for_update().values_list("pk"))
    # Record before deleting: the event names the row.
    audit.record("model.deleted", locked, changes={"versions": versions})
    locked.delete()


def _set_archived(
    model: RegisteredModel, archived_at: datetime | None, action: str
) -> RegisteredModel:
    locked = _lock(model)
    if locked.is_archived == (archived_at is not None):
        return locked
    locked.archived_at = archived_at
    _save(locked, "archived_at")
    audit.record(action, locked)
    return locked


def _check_model_fields(fields: Mapping[str, Any]) -> None:
    if "description" in fields:
        _check_text("description", fields["description"], validators.MAX_DESCRIPTION_CHARS)
    if "card" in fields:
        _check_text("card", fields["card"], validators.MAX_CARD_CHARS)
    if "tags" in fields:
        _check("tags", validators.validate_tags, fields["tags"])


# --- versions ------------------------------------------------------------------------------


@_requires("add_modelversion")
def add_version(
    model: RegisteredModel,
    *,
    source: str = "",
    run_id: str = "",
    run_link: str = "",
    logged_model_id: str = "",
    description: str = "",
    status: str = ModelVersion.Status.READY,
    status_message: str = "",
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    creator: User | None = None,
    created_at: datetime | None = None,
    number: int | None = None,
    location: str | None = None,
) -> ModelVersion:
    """Add the next version; its number is the highest that the model ever had, plus one.

    The model's row is locked while its counter goes up, so parallel calls get numbers without
    gaps or doubles. Where the source points at files of this team, the version gets them as its
    own. Raises ValidationError for a bad value and where the source points into Bulkhead and
    nothing of this team is there, and Conflict if the files there are deleted meanwhile.

    For copies from elsewhere: a ``number`` may leave a gap, and raises ValidationError if the model
    gave it already, even if that version is gone; with a ``location``, where the files are if the
    source does not say it, the source is kept as it is and looked up nowhere.
    """
    fields = {
        "source": source,
        "run_id": run_id,
        "run_link": run_link,
        "logged_model_id": logged_model_id,
        "description": description,
        "status": status,
        "status_message": status_message,
        "tags": dict(tags or {}),
        "params": dict(params or {}),
        "metrics": dict(metrics or {}),
    }
    _check_version_fields(fields)
    if location is None:
        found = sources.resolve(source, run_id=run_id, logged_model_id=logged_model_id)
        fields |= found.lineage
    else:
        _check_text("location", location, validators.MAX_SOURCE_CHARS)
        found = sources.Source(source, location=location)
    now = created_at or timezone.now()
    version = ModelVersion(
        model=model,
        number=_next_number(model, number),
        location=found.location,
        creator_id=creator.pk if creator else current_scope().user_id,
        created_at=now,
        updated_at=now,
        **fields | {"source": found.text},
    )
    if found.origin is not None:
        _keep_verdicts(version, found.origin)
    with pipeline():
        insert(version)
        audit.record("version.added", version, label=_name(version), changes={"to": version.number})
    if found.folder is not None and not artifacts.snapshot(version, found.folder, found.version):
        raise Conflict("The files at the source were deleted meanwhile; upload them again.")
    return version


def _keep_verdicts(copy: ModelVersion, origin: ModelVersion) -> None:
    """Let a copy be recalled, blocked or passed as what it was made of is at this moment.

    The files are the same, so whatever is wrong with them is wrong with the copy; or copying would
    be the way around a recall. Withdrawing is then said of each, since each is somebody's to use.
    """
    # order_by(): the default order joins the model and would lock its row; a recall locks it first.
    locked = ModelVersion.objects.order_by().select_for_update(no_key=True).filter(pk=origin.pk)
    # The original may be deleted by now; then snapshot() finds no files.
    verdicts = locked.values(*VERDICTS).first() or {}
    for name, value in verdicts.items():
        setattr(copy, name, value)
    if copy.scan == ModelVersion.Scan.PASSED and copy.status != ModelVersion.Status.READY:
        copy.scan, copy.scan_note = ModelVersion.Scan.NONE, ""


COUNT_UP = """
UPDATE models_registry_registeredmodel
   SET last_version = coalesce(%(number)s::bigint, last_version + 1), updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND id = %(id)s
   AND last_version < coalesce(%(number)s::bigint, %(highest)s)
RETURNING name, last_version, updated_at"""


def _next_number(model: RegisteredModel, number: int | None) -> int:
    """Count the model's versions up; its row stays locked until the transaction ends."""
    values = {
        "number": number,
        "highest": MAX_VERSION_NUMBER,
        "now": timezone.now(),
        "tenant_id": current_scope().tenant_id,
        "id": model.pk,
    }
    row = None
    if number is None or number <= MAX_VERSION_NUMBER:
        row = next(iter(read_in_scope(COUNT_UP, values)), None)
    if row is None:
        raise _no_such_number(RegisteredModel.objects.get(pk=model.pk), number)
    model.name, model.last_version, model.updated_at = (
        row  # another transaction may have renamed it
    )
    return model.last_version


def _no_such_number(model: RegisteredModel, number: int | None) -> ValidationError:
    following = model.last_version + 1
    why = f"the next number is {following}"
    if following > MAX_VERSION_NUMBER:
        why = "no number is left"
    wanted = following if number is None else number
    return ValidationError({"number": f"There can be no version {wanted}: {why}."})


@_requires("change_modelversion")
def update_version(
    version: ModelVersion,
    *,
    description: str | _Unset = UNSET,
    source: str | _Unset = UNSET,
    run_id: str | _Unset = UNSET,
    run_link: str | _Unset = UNSET,
    status: str | _Unset = UNSET,
    status_message: str | _Unset = UNSET,
    tags: Mapping[str, str] | _Unset = UNSET,
    params: Mapping[str, str] | _Unset = UNSET,
    metrics: Mapping[str, float] | _Unset = UNSET,
    expected: datetime | None = None,
) -> ModelVersion:
    """Change what is given of ``version``; with ``expected`` as in ``update_model``.

    Raises Conflict if it was changed since then, and ValidationError for a bad value, where it
    would be PENDING again (a complete version takes no more files), and where a person gives a
    PENDING one another status, past what ``finish_version`` checks.
    """
    given = {
        "description": description,
        "source": source,
        "run_id": run_id,
        "run_link": run_link,
        "status": status,
        "status_message": status_message,
        "tags": tags,
        "params": params,
        "metrics": metrics,
    }
    fields = {name: value for name, value in given.items() if value is not UNSET}
    _check_version_fields(fields)
    locked = _lock(version)
    if expected is not None and locked.updated_at != expected:
        raise Conflict("This version was changed meanwhile; look at it again before you save.")
    if status == ModelVersion.Status.PENDING != locked.status:
        raise ValidationError({"status": "A version is pending only until it is complete."})
    if status is not UNSET and status != locked.status == ModelVersion.Status.PENDING:
        _check_not_past_finishing()
    _change_version(locked, fields)
    return locked


def _check_not_past_finishing() -> None:
    # FAILED too, since a FAILED version may become READY. Commands, which copy a status, may.
    if current_scope().role is not None:
        raise ValidationError({"status": "This version is pending: finish it on its files' page."})


def _change_version(locked: ModelVersion, fields: Mapping[str, Any]) -> None:
    elsewhere = fields.get("source", locked.source) != locked.source
    incomplete = fields.get("status", locked.status) == ModelVersion.Status.PENDING
    if locked.scan == ModelVersion.Scan.PASSED and (elsewhere or incomplete):
        # The scan passed files that the version no longer points at.
        fields = {**fields, "scan": ModelVersion.Scan.NONE, "scan_note": ""}
    changes = _apply(locked, fields)
    if changes["to"]:
        _save(locked, *fields)
        _touch(locked.model_id)
        audit.record("version.updated", locked, label=_name(locked), changes=changes)


@_requires("change_modelversion")
def set_stage(version: ModelVersion, stage: str, *, archive_existing: bool = False) -> ModelVersion:
    """Move ``version`` to one of MLflow's stages.

    With ``archive_existing`` the others that are in an active stage go to the archive; raises
    ValidationError for a stage that is none.
    """
    if stage not in ModelVersion.Stage.values:
        raise ValidationError({"stage": f"“{stage}” is no stage."})
    locked = _lock(version)
    if archive_existing:
        for other in locked.model.versions.filter(stage=stage).exclude(pk=locked.pk):
            _move_to_stage(other, ModelVersion.Stage.ARCHIVED)
    _move_to_stage(locked, stage)
    return locked


def _move_to_stage(version: ModelVersion, stage: str) -> None:
    before, version.stage = version.stage, stage
    if before == stage:
        return
    _save(version, "stage")
    _touch(version.model_id)
    changes = {"from": {"stage": before}, "to": {"stage": stage}}
    audit.record("version.updated", version, label=_name(version), changes=changes)


@_requires("change_modelversion")
def finish_version(version: ModelVersion) -> ModelVersion:
    """Make a PENDING version READY: its files are complete, and it takes no others.

    Raises ValidationError where it is not pending, has no files, an upload has not ended, or its
    MLmodel names files that are not there.
    """
    locked = _lock(version)
    _hold_files(locked)
    if locked.status != ModelVersion.Status.PENDING:
        raise ValidationError("The files of this version are complete already.")
    paths = list(locked.files.values_list("path", flat=True))
    if not paths:
        raise ValidationError("This version has no files yet; upload them first.")
    unfinished = artifacts.unfinished(locked).first()
    if unfinished is not None:
        raise ValidationError(
            f"The upload of “{unfinished.path}” has not ended: wait for it, upload the file "
            "again, or discard it."
        )
    described = mlmodel.of_version(locked)
    missing = described.missing(paths) if described else []
    if missing:
        raise ValidationError(
            f"The MLmodel names files that are not here: {', '.join(missing)}. Upload them first."
        )
    _apply(locked, {"status": ModelVersion.Status.READY, "status_message": ""})
    _save(locked, "status", "status_message")
    _touch(locked.model_id)
    changes = {
        "from": {"status": ModelVersion.Status.PENDING},
        "to": {"status": ModelVersion.Status.READY, "files": len(paths)},
    }
    audit.record("version.updated", locked, label=_name(locked), changes=changes)
    return locked


@_requires("recall_modelversion")
def recall_version(version: ModelVersion, reason: str) -> ModelVersion:
    """Say that nothing may use ``version`` any more, and why; it stays, with its aliases.

    No pod that names it starts from then on, also none that takes the place of one that runs; what
    runs goes on. Copies made before are versions of their own, and are recalled by themselves.
    Raises ValidationError without a reason or for a bad one, and Conflict where it is recalled
    already: another person's reason is not overwritten.
    """
    reason = reason.strip()
    if not reason:
        raise ValidationError({"reason": "Say why: whoever comes upon it wants to know."})
    _check_text("reason", reason, validators.MAX_NOTE_CHARS)
    locked = _lock(version)
    _hold_files(locked)
    if locked.is_recalled:
        raise Conflict(f"Version {locked.number} is recalled already.")
    locked.recalled_at, locked.recall_reason = timezone.now(), reason
    _save(locked, "recalled_at", "recall_reason")
    _touch(locked.model_id)
    audit.record(
        "version.recalled", locked, label=_name(locked), changes={"to": _for_audit(reason)}
    )
    return locked


@_requires("recall_modelversion")
def withdraw_recall(version: ModelVersion) -> ModelVersion:
    """Let a recalled version be used again; one that is not recalled stays as it is.

    Raises nothing else than every verb.
    """
    locked = _lock(version)
    if not locked.is_recalled:
        return locked
    reason, locked.recalled_at, locked.recall_reason = locked.recall_reason, None, ""
    _save(locked, "recalled_at", "recall_reason")
    _touch(locked.model_id)
    audit.record(
        "version.recall_withdrawn",
        locked,
        label=_name(locked),
        changes={"from": _for_audit(reason)},
    )
    return locked


def record_scan(version: ModelVersion, verdict: str, note: str = "") -> ModelVersion:
    """Keep what a scanner found in the version's files: ``passed``, or ``blocked``, and a note.

    For commands alone: raises PermissionDenied where a person acts. A suspended team's versions are
    scanned too, since others may use them. Raises ValidationError for another verdict, and where a
    version passes whose files are not complete.
    """
    _check_no_person()
    if verdict not in (ModelVersion.Scan.PASSED, ModelVersion.Scan.BLOCKED):
        raise ValidationError({"scan": f"“{verdict}” is neither passed nor blocked."})
    _check_text("note", note, validators.MAX_NOTE_CHARS)
    with _savepoint_for_pages():
        locked = _lock(version)
        _hold_files(locked)
        ready = locked.status == ModelVersion.Status.READY
        if verdict == ModelVersion.Scan.PASSED and not ready:
            raise ValidationError({"scan": "It is not ready: files may come that nobody scanned."})
        changes = _apply(locked, {"scan": verdict, "scan_note": note})
        if changes["to"]:
            _save(locked, "scan", "scan_note")
            _touch(locked.model_id)
            verdicts = {"from": changes["from"].get("scan", verdict), "to": verdict, "note": note}
            audit.record("version.scanned", locked, label=_name(locked), changes=verdicts)
    return locked


@_requires("add_modelversion")
def remove_files(version: ModelVersion, path: str) -> int:
    """Remove the file at ``path`` of a PENDING version, or all below it; return how many.

    What is being uploaded to such a path, or broke off, is given up; its bytes go with the next
    ``collect_garbage``. Raises ValidationError for a bad path and for a version that is complete.
    """
    removed = artifacts.delete_under(version, path)
    given_up, _ = version.uploads.filter(at_or_below(path)).delete()
    return removed + given_up


@_requires("delete_modelversion")
def delete_version(version: ModelVersion, *, with_aliases: bool = False) -> None:
    """Delete a version; raises ValidationError if aliases point at it, unless ``with_aliases``."""
    locked = _lock(version)
    _hold_files(locked)
    aliases = sorted(alias.name for alias in locked.aliases.all())
    if aliases and not with_aliases:
        raise ValidationError(
            f"Version {locked.number} is @{', @'.join(aliases)}; move or delete the alias first."
        )
    for alias in aliases:
        _record_alias("alias.deleted", locked.model, alias, locked.number, None)
    audit.record("version.deleted", locked, label=_name(locked), changes={"from": locked.number})
    _touch(locked.model_id)
    locked.delete()


def _check_version_fields(fields: Mapping[str, Any]) -> None:
    for field, length in validators.MAX_VERSION_CHARS.items():
        if field in fields:
            _check_text(field, fields[field], length)
    if "status" in fields and fields["status"] not in ModelVersion.Status.values:
        allowed = ", ".join(ModelVersion.Status.values)
        raise ValidationError({"status": f"“{fields['status']}” is none of {allowed}."})
    for field, validate in (
        ("tags", validators.validate_tags),
        ("params", validators.validate_params),
        ("metrics", validators.validate_metrics),
    ):
        if field in fields:
            _check(field, validate, fields[field])


# --- tags, one at a time -------------------------------------------------------------------


def set_tag(obj: Tagged, key: str, value: str) -> None:
    """Set one tag of a model or a version.

    Raises ValidationError for a bad name or value, and where the row would have too many tags.
    """
    _check("tags", validators.validate_tags, {key: value})
    _change_tags(obj, lambda tags: tags | {key: value})


def delete_tag(obj: Tagged, key: str) -> None:
    """Delete one tag of a model or a version; one that is not there is no error.

    Raises nothing else than every verb.
    """
    _change_tags(obj, lambda tags: {name: tags[name] for name in tags if name != key})


def _change_tags(obj: Tagged, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    # Lock the row before reading its tags, or two writers would each drop the other's tag.
    if isinstance(obj, RegisteredModel):
        _change_model_tags(obj, change)
    else:
        _change_version_tags(obj, change)


@_requires("change_registeredmodel")
def _change_model_tags(
    model: RegisteredModel, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    locked = _lock(model)
    _change_model(locked, _tags(change(locked.tags)))


@_requires("change_modelversion")
def _change_version_tags(
    version: ModelVersion, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    locked = _lock(version)
    _change_version(locked, _tags(change(locked.tags)))


def _tags(tags: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return the tags as the fields to change, if there are not too many of them."""
    _check("tags", validators.validate_tags, tags)
    return {"tags": tags}


# --- aliases -------------------------------------------------------------------------------


@_requires("change_alias")
def set_alias(
    model: RegisteredModel,
    alias: str,
    number: int,
    *,
    expected: int | _Unset | None = UNSET,
) -> Alias:
    """Point ``alias`` at version ``number``; with ``expected``, only if it points there now.

    ``expected`` is a version's number, or None for "there is no such alias". Raises AliasMoved if
    it was moved meanwhile, and ValidationError for a bad name or a version that is not there.
    """
    _check("alias", validators.validate_alias_name, alias)
    locked = _lock(model)
    current = _current(locked, alias, expected)
    version = locked.versions.filter(number=number).first()
    if version is None:
        raise ValidationError(
            {"version": f"Model Version (name={locked.name}, version={number}) not found"}
        )
    if current is not None and current.version.number == number:
        return current
    before = current.version.number if current else None
    row, _ = Alias.objects.update_or_create(
        model=locked,
        name=alias,
        defaults={"version": version, "updated_at": timezone.now()},
    )
    _touch(locked.pk)
    _record_alias("alias.set", locked, alias, before, number)
    return row


@_requires("delete_alias")
def delete_alias(
    model: RegisteredModel, alias: str, *, expected: int | _Unset | None = UNSET
) -> None:
    """Delete ``alias``; one that is not there is no error unless a version was ``expected``.

    Raises AliasMoved where it does not point at the ``expected`` version.
    """
    locked = _lock(model)
    current = _current(locked, alias, expected)
    if current is None:
        return
    before = current.version.number
    current.delete()
    _touch(locked.pk)
    _record_alias("alias.deleted", locked, alias, before, None)


def _current(model: RegisteredModel, alias: str, expected: int | _Unset | None) -> Alias | None:
    current = model.aliases.select_related("version").filter(name=alias).first()
    number = current.version.number if current else None
    if expected is not UNSET and expected != number:
        moves = AuditEvent.objects.filter(
            object_id=model.pk, action__startswith="alias.", changes__alias=alias
        )
        raise AliasMoved(number, moves.first())
    return current


def _record_alias(
    action: str, model: RegisteredModel, alias: str, before: int | None, after: int | None
) -> None:
    audit.record(action, model, changes={"alias": alias, "from": before, "to": after})


# --- for copies from elsewhere -------------------------------------------------------------


@_requires("change_modelversion")
def await_files(version: ModelVersion, message: str) -> ModelVersion:
    """Make a copied version PENDING until its files have followed; ``message`` says that they do.

    For commands alone: raises PermissionDenied where a person acts. Raises ValidationError for a
    version that is complete with files of its own: it takes no others.
    """
    _check_no_person()
    _check_version_fields({"status_message": message})
    locked = _lock(version)
    if locked.status != ModelVersion.Status.PENDING and locked.files.exists():
        raise ValidationError({"status": "It is complete and takes no more files."})
    _change_version(locked, {"status": ModelVersion.Status.PENDING, "status_message": message})
    return locked


@_requires("change_registeredmodel")
def set_times(
    model: RegisteredModel, updated_at: datetime, versions: Mapping[int, datetime]
) -> None:
    """Give a copied model, and versions of it by number, the times of their last change elsewhere.

    For commands alone: raises PermissionDenied where a person acts. It writes no event; those of
    the copying keep their own times, so the log still says when it happened here.
    """
    _check_no_person()
    locked = _lock(model)
    for number, time in versions.items():
        locked.versions.filter(number=number).update(updated_at=time)
    RegisteredModel.objects.filter(pk=locked.pk).update(updated_at=updated_at)


def _check_no_person() -> None:
    if current_scope().role is not None:
        raise PermissionDenied("Only a command may do this, and no person.")


# --- bookmarks: a person's own, so no event ------------------------------------------------


def star(model: RegisteredModel, on: bool) -> None:
    """Star the model for the acting person, or take the star away.

    Raises PermissionDenied, also in a suspended team.
    """
    scope = require("models_registry.view_registeredmodel")
    if scope.suspended:
        raise TenantSuspended
    Bookmark.objects.update_or_create(model=model, user_id=scope.user_id, defaults={"starred": on})


REMEMBER_VIEW = """
INSERT INTO models_registry_bookmark (id, tenant_id, user_id, model_id, starred, viewed_at)
VALUES (gen_random_uuid(), %s, %s, %s, false, now())
ON CONFLICT (tenant_id, user_id, model_id) DO UPDATE SET viewed_at = now()
  WHERE models_registry_bookmark.viewed_at IS NULL
     OR models_registry_bookmark.viewed_at < now() - interval '1 minute'"""


def record_view(model: RegisteredModel) -> None:
    """Remember that the acting person looked at the model; written once a minute at most.

    Asks for no permission: callers show the model, and so have asked.
    """
    scope = current_scope()
    if scope.user_id is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(REMEMBER_VIEW, [scope.tenant_id, scope.user_id, model.pk])


COUNT_DOWNLOAD = """
INSERT INTO models_registry_downloadcount (id, tenant_id, version_id, day, count)
VALUES (gen_random_uuid(), %s, %s, (now() AT TIME ZONE 'UTC')::date, 1)
ON CONFLICT (tenant_id, version_id, day)
DO UPDATE SET count = models_registry_downloadcount.count + 1"""


def count_download(version: ModelVersion) -> None:
    """Count that the version was fetched today; a suspended team's counts stand still.

    Raises PermissionDenied where the scope may not see versions.
    """
    scope = require("models_registry.view_modelversion")
    if scope.suspended:
        return
    with connection.cursor() as cursor:
        cursor.execute(COUNT_DOWNLOAD, [scope.tenant_id, version.pk])


# --- shared by the verbs -------------------------------------------------------------------

RowT = TypeVar("RowT", RegisteredModel, ModelVersion)


def _lock(row: RowT) -> RowT:
    """Return the row as it is now, locked until the transaction ends.

    A version's model is locked first, always: two verbs never wait for each other in a circle.
    """
    if isinstance(row, ModelVersion):
        RegisteredModel.objects.select_for_update().get(pk=row.model_id)
        return ModelVersion.objects.select_related("model").get(pk=row.pk)
    return RegisteredModel.objects.select_for_update().get(pk=row.pk)


def _hold_files(version: ModelVersion) -> None:
    """Let no file of the version come or go, and no copy be made, until the transaction ends.

    Adding or deleting a file takes a shared lock on the version's row, so this waits for it.
    """
    ModelVersion.objects.select_for_update().get(pk=version.pk)


def _apply(row: models.Model, fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Set ``fields`` and return the changes for the audit log; long texts are cut."""
    before, after = {}, {}
    for name, value in fields.items():
        old = getattr(row, name)
        if old == value:
            continue
        setattr(row, name, value)
        before[name], after[name] = _difference(old, value)
    return {"from": before, "to": after}


def _difference(old: Any, new: Any) -> tuple[Any, Any]:
    """Return what the log keeps of a change: of tags and the like, only those that differ.

    The log is kept for ever, and a small change of a large row must not grow it by the row.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return _for_audit(old), _for_audit(new)
    differing = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    before, after = (
        {name: _for_audit(side[name]) for name in differing[:MAX_LOGGED_ENTRIES] if name in side}
        for side in (old, new)
    )
    return before, after


def _for_audit(value: Any) -> Any:
    if isinstance(value, User):
        return value.username
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:200]}…"
    return value


def _save(row: RegisteredModel | ModelVersion, *fields: str) -> None:
    row.updated_at = timezone.now()
    row.save(update_fields=[*fields, "updated_at"])


def _touch(model_id: Any) -> None:
    RegisteredModel.objects.filter(pk=model_id).update(updated_at=timezone.now())


def _name(version: ModelVersion) -> str:
    return f"{version.model.name} version {version.number}"
