"""Copying models from a stock MLflow server to teams here.

A model that comes in is one transaction, without its files: those follow when it is committed, and
each version waits as PENDING until all of its own are there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from models_registry import registry, validators
from models_registry.exchange.mlflow_client import (
    MlflowModel,
    MlflowServer,
    MlflowVersion,
    RemoteProblem,
    ServerUnreachable,
)
from models_registry.exchange.steps import (
    COPYING,
    NO_SOURCE,
    AddModel,
    AddVersion,
    ChangeModel,
    ChangeVersion,
    ModelReport,
    NumberConflict,
    PointAlias,
    Step,
    amount,
    only_here,
    received,
    registered,
    steps,
)
from models_registry.files import artifacts
from models_registry.models import ModelVersion, RegisteredModel
from tenants.errors import Refusal
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant

# --- what can be kept here -----------------------------------------------------------------


def _fitting(model: MlflowModel, problems: list[str]) -> MlflowModel:
    """Return what of the server's model can be kept here; the rest becomes problems."""
    fields = _fitting_fields(model, "", problems)
    versions = []
    for version in model.versions:
        prefix = f"version {version.number}: "
        kept = _fitting_fields(version, prefix, problems)
        for name, choices in (("status", ModelVersion.Status), ("stage", ModelVersion.Stage)):
            if getattr(version, name) not in choices.values:
                problems.append(f"{prefix}there is no {name} “{getattr(version, name)}”.")
                kept[name] = getattr(MlflowVersion(0), name)
        versions.append(replace(version, **kept))
    return replace(model, versions=tuple(versions), **fields)


def _fitting_fields(
    thing: MlflowModel | MlflowVersion, prefix: str, problems: list[str]
) -> dict[str, Any]:
    """Return the texts that cannot be kept, emptied, and the tags that can be kept."""
    fields: dict[str, Any] = {}
    for name, length in validators.MAX_VERSION_CHARS.items():
        what = f"The {name.replace('_', ' ')}"
        why = _why_not(validators.validate_text, getattr(thing, name, ""), length, what)
        if why:
            problems.append(f"{prefix}{why}")
            fields[name] = ""
    kept: dict[str, str] = {}
    for key, value in sorted(thing.tags.items()):
        why = _why_not(validators.validate_tags, {key: value})
        if not why and len(kept) == validators.MAX_ENTRIES:
            why = f"{validators.MAX_ENTRIES:,} tags are allowed."
        if why:
            problems.append(f"{prefix}tag {key}: {why}")
        else:
            kept[key] = value
    return fields | {"tags": kept}


def _why_not(validate: Callable[..., None], *values: Any) -> str:
    """Return why a value is refused, or '' if it is not."""
    try:
        validate(*values)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


# --- copying -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A version's files at the server: the folder's path, and their sizes by path below it."""

    path: str
    sizes: Mapping[str, int]


class Importer:
    """Copies models from a server; with ``dry_run`` it only tells what it would do."""

    def __init__(self, server: MlflowServer, *, with_files: bool, dry_run: bool) -> None:
        self._server = server
        self._with_files = with_files
        self._dry_run = dry_run

    def copy_all(
        self, models: Iterable[MlflowModel], team_of: Callable[[MlflowModel], Tenant | None]
    ) -> Iterator[ModelReport]:
        """Copy the models, each to its team; raises ServerUnreachable if the server goes away."""
        for model in models:
            try:
                whole = replace(model, versions=self._server.versions(model))
                tenant = team_of(whole)
            except ServerUnreachable:
                raise
            except RemoteProblem as problem:
                yield ModelReport("", model.name, "left out", problems=[str(problem)])
                continue
            if tenant is None:
                yield ModelReport("", model.name, "left out")
            else:
                yield self.copy(whole, tenant)

    def copy(self, model: MlflowModel, tenant: Tenant) -> ModelReport:
        """Copy one model with its versions; raises ServerUnreachable if the server goes away."""
        report = ModelReport(tenant.slug, model.name)
        if why := _why_not(validators.validate_model_name, model.name):
            report.outcome = "left out"
            report.problems.append(why)
            return report
        versions = tuple(received(self._server, version) for version in model.versions)
        wanted = _fitting(replace(model, versions=versions), report.problems)
        folders = self._folders(model, report) if self._with_files else {}
        locations = self._locations(model, tenant, report)
        copied = self._copy_rows(wanted, tenant, folders, locations, report)
        for version in wanted.versions:
            if version.number in folders and version.number in copied:
                self._copy_files(wanted, version, folders[version.number], tenant, report)
        return report

    def _locations(self, model: MlflowModel, tenant: Tenant, report: ModelReport) -> dict[int, str]:
        """Return the addresses of the files of new versions whose source says none, by number.

        One such as ``models:/m-…`` means nothing away from its server. The server is asked before
        the transaction begins.
        """
        with tenant_scope(tenant):
            versions = ModelVersion.objects.filter(model__name=model.name)
            there = set(versions.values_list("number", flat=True))
        found = {}
        for version in model.versions:
            if version.source.startswith("models:/") and version.number not in there:
                try:
                    uri = self._server.files_uri(model.name, version.number)
                    found[version.number] = self._server.absolute(uri)
                except ServerUnreachable:
                    raise
                except RemoteProblem as problem:
                    report.problems.append(f"version {version.number}: where it is: {problem}")
        return found

    def _copy_rows(
        self,
        wanted: MlflowModel,
        tenant: Tenant,
        folders: Mapping[int, Folder],
        locations: Mapping[int, str],
        report: ModelReport,
    ) -> set[int]:
        """Copy everything but files; return the numbers of the versions that are here now."""
        numbers = {version.number for version in wanted.versions}
        with transaction.atomic():
            with tenant_scope(tenant):
                there = registered(wanted.name)
                if there is None:
                    report.outcome = "created"
                else:
                    report.only_here.extend(only_here(wanted, there))
                    report.problems.extend(_waiting(there, folders))
                writer = _Writer(wanted, folders, locations)
                for step in steps(wanted, there):
                    try:
                        writer.do(step)
                    except ValidationError as error:
                        report.problems.append(f"{step}: {' '.join(error.messages)}")
                        if isinstance(step, AddModel):
                            report.outcome = "left out"
                            return set()
                        if isinstance(step, AddVersion | NumberConflict):
                            numbers.discard(step.number)
                    else:
                        report.changed(str(step))
                writer.keep_times()
            if self._dry_run:
                transaction.set_rollback(True)
        return numbers

    # --- files -----------------------------------------------------------------------------

    def _folders(self, model: MlflowModel, report: ModelReport) -> dict[int, Folder]:
        """Return the files of each version that has any behind the server's artifact proxy."""
        found = {}
        for version in () if model.is_prompt else model.versions:
            if version.source == NO_SOURCE:
                continue
            try:
                found[version.number] = self._folder(model.name, version.number)
            except ServerUnreachable:
                raise
            except RemoteProblem as problem:
                report.problems.append(f"version {version.number}: files: {problem}")
        return found

    def _folder(self, name: str, number: int) -> Folder:
        uri = self._server.files_uri(name, number)
        path = self._server.proxied(uri)
        if path is None:
            raise RemoteProblem(f"they are at {uri}, which this server does not hand out")
        sizes = self._server.files(path)
        if not sizes:
            raise RemoteProblem(f"there are none at {uri}")
        return Folder(path, sizes)

    def _copy_files(
        self,
        wanted: MlflowModel,
        version: MlflowVersion,
        folder: Folder,
        tenant: Tenant,
        report: ModelReport,
    ) -> None:
        """Copy the files of one version that are not here; it is PENDING until they are."""
        prefix = f"version {version.number}: "
        with tenant_scope(tenant):
            row = _row(wanted.name, version.number)
            here = _sizes(row) if row else {}
        waits = row is not None and row.status_message == COPYING
        missing = {
            path: size
            for path, size in folder.sizes.items()
            if path not in here or (waits and here[path] != size)
        }
        report.only_here.extend(f"{prefix}file {path}" for path in here if path not in folder.sizes)
        for path, size in folder.sizes.items():
            if path not in missing and here[path] != size:
                report.problems.append(
                    f"{prefix}file {path}: {here[path]:,} bytes here, {size:,} there"
                )
        if missing and here and row and row.status != ModelVersion.Status.PENDING:
            report.problems.append(f"{prefix}files: it is complete here and takes no others")
            return
        if missing:
            report.changed(f"{prefix}{amount(missing.values())}")
        if row is None or self._dry_run or not (missing or waits):
            return
        with tenant_scope(tenant):
            registry.await_files(row, COPYING)
        complete = True
        for path in sorted(missing):
            why = self._copy_file(tenant, row, folder, path)
            if why:
                report.problems.append(f"{prefix}file {path}: {why}")
                complete = False
        with tenant_scope(tenant):
            if complete:
                registry.update_version(
                    row, status=version.status, status_message=version.status_message
                )
            _keep_times(row.model, wanted, {version.number})

    def _copy_file(self, tenant: Tenant, row: ModelVersion, folder: Folder, path: str) -> str:
        """Copy one file, and return why it could not be, or ''."""
        chunks = self._server.download(f"{folder.path}/{path}")
        try:
            acting = partial(tenant_scope, tenant)
            artifacts.add_file(acting, row, path, chunks, length=folder.sizes[path])
        except ServerUnreachable:
            raise
        except ValidationError as error:
            return " ".join(error.messages)
        except (RemoteProblem, Refusal) as error:
            return str(error) or "there is no room for it here"
        return ""


def _waiting(there: MlflowModel, folders: Mapping[int, Folder]) -> Iterator[str]:
    """Say of which versions the files are not all here, and not copied now."""
    for version in there.versions:
        if version.status_message == COPYING and version.number not in folders:
            yield f"version {version.number}: its files are not all here; use --with-artifacts"


def _row(name: str, number: int) -> ModelVersion | None:
    versions = ModelVersion.objects.select_related("model")
    return versions.filter(model__name=name, number=number).first()


def _sizes(version: ModelVersion) -> dict[str, int]:
    """Return the sizes of the version's files, in bytes, by path."""
    return dict(version.files.values_list("path", "blob__size"))


def _keep_times(model: RegisteredModel, wanted: MlflowModel, numbers: set[int]) -> None:
    """Let what was changed have the times that it has at the server."""
    times = {
        version.number: version.updated_at
        for version in wanted.versions
        if version.number in numbers and version.updated_at is not None
    }
    if wanted.updated_at is not None:
        registry.set_times(model, wanted.updated_at, times)


class _Writer:
    """Carries out the steps of one model in the open scope."""

    def __init__(
        self, wanted: MlflowModel, folders: Mapping[int, Folder], locations: Mapping[int, str]
    ) -> None:
        self._wanted = wanted
        self._folders = folders
        self._locations = locations
        self._changed: set[int] = set()
        self._is_changed = False

    def do(self, step: Step) -> None:
        """Carry out one step; raises ValidationError where the registry refuses."""
        match step:
            case AddModel(model):
                registry.register_model(
                    model.name,
                    description=model.description,
                    tags=model.tags,
                    created_at=model.created_at,
                )
            case ChangeModel(description, tags):
                self._change(registry.update_model, self._model, description, tags)
            case AddVersion(version):
                self._add(version)
            case ChangeVersion(number, description, tags, stage, status):
                found = self._version(number)
                self._change(registry.update_version, found, description, tags)
                if stage is not None:
                    registry.set_stage(found, stage)
                if status is not None:
                    registry.update_version(found, status=status)
                self._changed.add(number)
            case PointAlias(name, number):
                registry.set_alias(self._model, name, number)
            case NumberConflict(_, names):
                raise ValidationError(
                    f"here it is another version, with another {' and '.join(names)}; it is left "
                    "as it is."
                )
        self._is_changed = True

    def keep_times(self) -> None:
        """Let what was changed have the times that it has at the server."""
        if self._is_changed:
            _keep_times(self._model, self._wanted, self._changed)

    @property
    def _model(self) -> RegisteredModel:
        return RegisteredModel.objects.get(name=self._wanted.name)

    def _version(self, number: int) -> ModelVersion:
        return ModelVersion.objects.get(model__name=self._wanted.name, number=number)

    def _change(
        self,
        update: Callable[..., Any],
        row: RegisteredModel | ModelVersion,
        description: str | None,
        tags: Mapping[str, str],
    ) -> None:
        fields: dict[str, Any] = {"tags": {**row.tags, **tags}} if tags else {}
        if description is not None:
            fields["description"] = description
        if fields:
            update(row, **fields)

    def _add(self, version: MlflowVersion) -> None:
        waits = version.number in self._folders
        added = registry.add_version(
            self._model,
            number=version.number,
            source=version.source,
            location=self._locations.get(version.number, ""),
            run_id=version.run_id,
            run_link=version.run_link,
            logged_model_id=version.logged_model_id,
            description=version.description,
            status=ModelVersion.Status.PENDING if waits else version.status,
            status_message=COPYING if waits else version.status_message,
            tags=version.tags,
            created_at=version.created_at,
        )
        if version.stage != ModelVersion.Stage.NONE:
            registry.set_stage(added, version.stage)
        self._changed.add(version.number)
