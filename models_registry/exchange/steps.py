"""Moving models in from a stock MLflow server, and out to one.

Both ways compare what is wanted with what is there and carry out the differences, one step after
the other: a second run does what the first one could not, or nothing. Nothing is deleted: what the
target alone has is told. What cannot be taken is told too, with the reason, and the rest goes on.

A model that comes in is one transaction, without its files: those follow when it is committed, and
each version waits as PENDING until all of its own are there.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from models_registry import registry, validators
from models_registry.exchange.mlflow_client import (
    IS_PROMPT,
    BadAnswer,
    MlflowServer,
    Model,
    RemoteProblem,
    Unreachable,
    Version,
)
from models_registry.files import artifacts
from models_registry.models import ArtifactFile, ModelVersion, RegisteredModel
from tenants.errors import Refusal
from tenants.isolation.scope import tenant_scope
from tenants.models import Tenant
from tenants.text import printable

#: Tags of a version at the MLflow server that hold what could not be kept in its own fields.
KEPT = {name: f"bulkhead.{name}" for name in ("source", "run_id", "logged_model_id")}
#: Sources at the MLflow server, which takes no version without one.
NO_SOURCE = "bulkhead:/no-source"
PLACEHOLDER = "bulkhead:/placeholder"
#: The status message of a version whose files are not all here yet.
COPYING = "Its files are being copied from an MLflow server."
#: More numbers than this are not used up to keep the number of a version.
LARGEST_GAP = 1000

TEXT_LENGTHS = {
    "source": validators.SOURCE_LENGTH,
    "run_id": validators.RUN_ID_LENGTH,
    "run_link": validators.SOURCE_LENGTH,
    "logged_model_id": validators.LOGGED_MODEL_ID_LENGTH,
    "description": validators.DESCRIPTION_LENGTH,
    "status_message": 500,
}


@dataclass
class Report:
    """What became of one model: what changed, what could not be copied, what only the target has.

    ``outcome`` is created, updated, unchanged or left out.
    """

    team: str
    name: str
    outcome: str = "unchanged"
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    only_here: list[str] = field(default_factory=list)

    def changed(self, what: str) -> None:
        """Note a change."""
        self.changes.append(what)
        if self.outcome == "unchanged":
            self.outcome = "updated"

    def lines(self) -> Iterator[str]:
        """Return the report as text; none about a model that is the same on both sides."""
        if self.outcome == "unchanged" and not self.problems and not self.only_here:
            return
        yield f"{self.outcome} {printable(self.name)}"
        yield from (f"  {printable(what)}" for what in self.changes)
        yield from (f"  not copied: {printable(what)}" for what in self.problems)
        yield from (f"  only here: {printable(what)}" for what in self.only_here)


# --- what differs --------------------------------------------------------------------------


@dataclass(frozen=True)
class AddModel:
    """Make the model, with all but its versions and aliases."""

    model: Model

    def __str__(self) -> str:
        return "the model"


@dataclass(frozen=True)
class ChangeModel:
    """Change what is given of the model."""

    description: str | None
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return _listed(_fields(self.description, self.tags))


@dataclass(frozen=True)
class AddVersion:
    """Add a version under its number."""

    version: Version

    @property
    def number(self) -> int:
        """The version's number."""
        return self.version.number

    def __str__(self) -> str:
        return f"version {self.number}"


@dataclass(frozen=True)
class ChangeVersion:
    """Change what is given of a version."""

    number: int
    description: str | None
    tags: Mapping[str, str]
    stage: str | None
    status: str | None

    def __str__(self) -> str:
        fields = _fields(self.description, self.tags)
        fields += [f"stage {self.stage}"] if self.stage is not None else []
        fields += [f"status {self.status}"] if self.status is not None else []
        return f"version {self.number}: {_listed(fields)}"


@dataclass(frozen=True)
class PointAlias:
    """Point an alias at a version."""

    name: str
    number: int
    before: int | None

    def __str__(self) -> str:
        return f"@{self.name}: {f'{self.before} → ' if self.before else ''}{self.number}"


@dataclass(frozen=True)
class Clash:
    """Do nothing: under this number the target has another version."""

    number: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"version {self.number}"


Step = AddModel | ChangeModel | AddVersion | ChangeVersion | PointAlias | Clash


def _fields(description: str | None, tags: Mapping[str, str]) -> list[str]:
    fields = ["description"] if description is not None else []
    return fields + ([f"tags {', '.join(sorted(tags))}"] if tags else [])


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def steps(wanted: Model, there: Model | None) -> Iterator[Step]:
    """Return what is to be done so that ``there`` has all that ``wanted`` has."""
    if there is None:
        yield AddModel(wanted)
        there = replace(wanted, versions=(), aliases={})
    description, tags = _newer(wanted, there)
    if description is not None or tags:
        yield ChangeModel(description, tags)
    known = {version.number: version for version in there.versions}
    for version in wanted.versions:
        old = known.get(version.number)
        yield from [AddVersion(version)] if old is None else _version_steps(version, old)
    for name, number in sorted(wanted.aliases.items()):
        if there.aliases.get(name) != number:
            yield PointAlias(name, number, there.aliases.get(name))


def _version_steps(wanted: Version, there: Version) -> Iterator[Step]:
    clashing = tuple(name for name in KEPT if not _alike(name, wanted, there))
    if clashing:
        yield Clash(wanted.number, clashing)
        return
    description, tags = _newer(wanted, there)
    stage = wanted.stage if wanted.stage != there.stage else None
    waiting = there.status_message == COPYING
    status = wanted.status if wanted.status != there.status and not waiting else None
    if description is not None or tags or stage is not None or status is not None:
        yield ChangeVersion(wanted.number, description, tags, stage, status)


def _newer(wanted: Model | Version, there: Model | Version) -> tuple[str | None, dict[str, str]]:
    """Return the description and the tags to set; an empty description takes none away."""
    differs = wanted.description and wanted.description != there.description
    tags = {key: value for key, value in wanted.tags.items() if there.tags.get(key) != value}
    return (wanted.description if differs else None), tags


def _alike(name: str, wanted: Version, there: Version) -> bool:
    one, other = getattr(wanted, name), getattr(there, name)
    if one.startswith("mlflow-artifacts:") and other.startswith("mlflow-artifacts:"):
        # The same server may be known under several names.
        one, other = (text.rpartition("://")[2].partition("/")[2] or text for text in (one, other))
    return not one or not other or one.strip("/") == other.strip("/")


def only_here(wanted: Model, there: Model) -> Iterator[str]:
    """Name what the target has and the other side has not."""
    yield from _more(wanted, there)
    versions = {version.number: version for version in wanted.versions}
    for version in there.versions:
        if version.number not in versions:
            yield f"version {version.number}"
        else:
            for what in _more(versions[version.number], version):
                yield f"version {version.number}: {what}"
    for name in sorted(there.aliases.keys() - wanted.aliases.keys()):
        yield f"@{name}"


def _more(wanted: Model | Version, there: Model | Version) -> Iterator[str]:
    if there.description and not wanted.description:
        yield "description"
    for key in sorted(there.tags.keys() - wanted.tags.keys()):
        yield f"tag {key}"


# --- the two sides in the same words -------------------------------------------------------


def received(server: MlflowServer, version: Version) -> Version:
    """Return the server's version as it is kept here.

    Its source names the server, and what ``export`` had to replace is as it was.
    """
    source = "" if version.source == NO_SOURCE else server.absolute(version.source)
    kept: dict[str, Any] = {
        name: version.tags[tag] for name, tag in KEPT.items() if tag in version.tags
    }
    tags = {key: value for key, value in version.tags.items() if key not in KEPT.values()}
    return replace(version, **{"source": source} | kept | {"tags": tags})


def registered(name: str) -> Model | None:
    """Return the acting tenant's model in the same words as the server's."""
    models = RegisteredModel.objects.filter(name=name)
    model = models.prefetch_related("versions", "aliases__version").first()
    if model is None:
        return None
    versions = sorted(model.versions.all(), key=lambda version: version.number)
    return Model(
        name=model.name,
        description=model.description,
        tags=model.tags,
        aliases={alias.name: alias.version.number for alias in model.aliases.all()},
        created_at=model.created_at,
        updated_at=model.updated_at,
        versions=tuple(_registered_version(version) for version in versions),
    )


def _registered_version(version: ModelVersion) -> Version:
    return Version(
        number=version.number,
        source=version.source,
        run_id=version.run_id,
        run_link=version.run_link,
        logged_model_id=version.logged_model_id,
        description=version.description,
        status=version.status,
        status_message=version.status_message,
        stage=version.stage,
        tags=version.tags,
        created_at=version.created_at,
        updated_at=version.updated_at,
    )


def _fitting(model: Model, problems: list[str]) -> Model:
    """Return what of the server's model can be kept here; the rest becomes problems."""
    fields = _fitting_fields(model, "", problems)
    versions = []
    for version in model.versions:
        place = f"version {version.number}: "
        kept = _fitting_fields(version, place, problems)
        for name, choices in (("status", ModelVersion.Status), ("stage", ModelVersion.Stage)):
            if getattr(version, name) not in choices.values:
                problems.append(f"{place}there is no {name} “{getattr(version, name)}”.")
                kept[name] = getattr(Version(0), name)
        versions.append(replace(version, **kept))
    return replace(model, versions=tuple(versions), **fields)


def _fitting_fields(thing: Model | Version, place: str, problems: list[str]) -> dict[str, Any]:
    """Return the texts that cannot be kept, emptied, and the tags that can be kept."""
    fields: dict[str, Any] = {}
    for name, length in TEXT_LENGTHS.items():
        what = f"The {name.replace('_', ' ')}"
        why = _why_not(validators.validate_text, getattr(thing, name, ""), length, what)
        if why:
            problems.append(f"{place}{why}")
            fields[name] = ""
    kept: dict[str, str] = {}
    for key, value in sorted(thing.tags.items()):
        why = _why_not(validators.validate_tags, {key: value})
        if not why and len(kept) == validators.ENTRIES:
            why = f"{validators.ENTRIES:,} tags are allowed."
        if why:
            problems.append(f"{place}tag {key}: {why}")
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


# --- in ------------------------------------------------------------------------------------


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
        self, models: Iterable[Model], team_of: Callable[[Model], Tenant | None]
    ) -> Iterator[Report]:
        """Copy the models, each to its team; raises Unreachable if the server goes away."""
        for model in models:
            try:
                whole = replace(model, versions=self._server.versions(model))
                tenant = team_of(whole)
            except Unreachable:
                raise
            except RemoteProblem as problem:
                yield Report("", model.name, "left out", problems=[str(problem)])
                continue
            if tenant is None:
                yield Report("", model.name, "left out")
            else:
                yield self.copy(whole, tenant)

    def copy(self, model: Model, tenant: Tenant) -> Report:
        """Copy one model, whole with its versions; raises Unreachable if the server goes away."""
        report = Report(tenant.slug, model.name)
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

    def _locations(self, model: Model, tenant: Tenant, report: Report) -> dict[int, str]:
        """Return where the files of versions are that are not here yet, if the source is no place.

        One such as ``models:/m-…`` says nothing away from its server. That is asked before the
        transaction begins.
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
                except Unreachable:
                    raise
                except RemoteProblem as problem:
                    report.problems.append(f"version {version.number}: where it is: {problem}")
        return found

    def _copy_rows(
        self,
        wanted: Model,
        tenant: Tenant,
        folders: Mapping[int, Folder],
        locations: Mapping[int, str],
        report: Report,
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
                        if isinstance(step, AddVersion | Clash):
                            numbers.discard(step.number)
                    else:
                        report.changed(str(step))
                writer.keep_times()
            if self._dry_run:
                transaction.set_rollback(True)
        return numbers

    # --- files -----------------------------------------------------------------------------

    def _folders(self, model: Model, report: Report) -> dict[int, Folder]:
        """Return the files of each version that has any behind the server's artifact proxy."""
        found = {}
        for version in () if model.is_prompt else model.versions:
            if version.source == NO_SOURCE:
                continue
            try:
                found[version.number] = self._folder(model.name, version.number)
            except Unreachable:
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
        self, wanted: Model, version: Version, folder: Folder, tenant: Tenant, report: Report
    ) -> None:
        """Copy the files of one version that are not here; it is PENDING until they are."""
        place = f"version {version.number}: "
        with tenant_scope(tenant):
            row = _row(wanted.name, version.number)
            here = _sizes(row) if row else {}
        waits = row is not None and row.status_message == COPYING
        missing = {
            path: size
            for path, size in folder.sizes.items()
            if path not in here or (waits and here[path] != size)
        }
        report.only_here.extend(f"{place}file {path}" for path in here if path not in folder.sizes)
        for path, size in folder.sizes.items():
            if path not in missing and here[path] != size:
                report.problems.append(
                    f"{place}file {path}: {here[path]:,} bytes here, {size:,} there"
                )
        if missing and here and row and row.status != ModelVersion.Status.PENDING:
            report.problems.append(f"{place}files: it is complete here and takes no others")
            return
        if missing:
            report.changed(f"{place}{_amount(missing.values())}")
        if row is None or self._dry_run or not (missing or waits):
            return
        with tenant_scope(tenant):
            registry.await_files(row, COPYING)
        complete = True
        for path in sorted(missing):
            why = self._copy_file(tenant, row, folder, path)
            if why:
                report.problems.append(f"{place}file {path}: {why}")
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
        except Unreachable:
            raise
        except ValidationError as error:
            return " ".join(error.messages)
        except (RemoteProblem, Refusal) as error:
            return str(error) or "there is no room for it here"
        return ""


def _amount(sizes: Collection[int]) -> str:
    return f"{len(sizes):,} file{'s' * (len(sizes) != 1)}, {sum(sizes):,} bytes"


def _waiting(there: Model, folders: Mapping[int, Folder]) -> Iterator[str]:
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


def _keep_times(model: RegisteredModel, wanted: Model, numbers: set[int]) -> None:
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
        self, wanted: Model, folders: Mapping[int, Folder], locations: Mapping[int, str]
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
            case Clash(_, names):
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

    def _add(self, version: Version) -> None:
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


# --- out -----------------------------------------------------------------------------------


Files = list[ArtifactFile]


def _sent(files: Files) -> list[int]:
    return [file.blob.size for file in files]


def _missing(files: Files, there: Mapping[str, int]) -> Files:
    return [file for file in files if there.get(file.path) != file.blob.size]


class _Shelf:
    """Where a team's files lie at the server: in runs of an experiment of the team's own.

    MLflow takes files of its own proxy as a version's source only if they are a run's.
    """

    def __init__(self, server: MlflowServer, tenant: Tenant) -> None:
        self._server = server
        self._tenant = tenant

    @cached_property
    def _experiment(self) -> str:
        name = f"bulkhead/{self._tenant.slug}"
        return self._server.experiment(name, f"mlflow-artifacts:/{name}")

    def files(self, name: str) -> dict[int, Files]:
        """Return the files of the model's versions, by number."""
        found: dict[int, Files] = {}
        with tenant_scope(self._tenant):
            files = ArtifactFile.objects.filter(version__model__name=name)
            for file in files.select_related("blob", "version").order_by("path"):
                if file.version is not None:
                    found.setdefault(file.version.number, []).append(file)
        return found

    def put(self, name: str, version: Version, files: Files, report: Report) -> Version:
        """Send the files of a version, and return it with their place as its source."""
        label = f"{name} version {version.number}"
        tag = ("bulkhead.version", str(files[0].version_id))
        run = self._server.run_tagged(self._experiment, label, tag)
        folder = self._server.proxied(f"{run.artifact_uri}/model")
        if folder is None:
            raise RemoteProblem(f"the server hands no files out that are at {run.artifact_uri}")
        there = self._server.files(folder)
        missing = _missing(files, there)
        self.send(folder, missing, f"version {version.number}: ", report)
        return replace(version, source=f"{run.artifact_uri}/model", run_id=run.id)

    def send(self, folder: str, files: Files, place: str, report: Report) -> None:
        """Send files, and look whether they are there then."""
        for file in files:
            try:
                chunks = artifacts.open_file(file)
                self._server.upload(f"{folder}/{file.path}", chunks, file.blob.size)
            except Unreachable:
                raise
            except (RemoteProblem, Refusal) as problem:
                report.problems.append(f"{place}file {file.path}: {problem}")
        there = self._server.files(folder) if files else {}
        for file in _missing(files, there):
            report.problems.append(f"{place}file {file.path}: it is not there whole")


class Exporter:
    """Copies a team's models to a server; with ``dry_run`` it only tells what it would do."""

    def __init__(
        self, server: MlflowServer, tenant: Tenant, *, with_files: bool, dry_run: bool
    ) -> None:
        self._server = server
        self._tenant = tenant
        self._with_files = with_files
        self._dry_run = dry_run
        self._shelf = _Shelf(server, tenant)

    def names(self) -> list[str]:
        """Return the names of the team's models, in order."""
        with tenant_scope(self._tenant):
            return sorted(RegisteredModel.objects.values_list("name", flat=True))

    def copy_all(self, names: Iterable[str], there: Mapping[str, Model]) -> Iterator[Report]:
        """Copy the models of these names; raises Unreachable if the server goes away.

        ``there`` are the server's models by name, without their versions.
        """
        for name in names:
            with tenant_scope(self._tenant):
                wanted = registered(name)
            if wanted is not None:  # else it was deleted meanwhile
                yield self.copy(wanted, there.get(name))

    def copy(self, wanted: Model, there: Model | None) -> Report:
        """Copy one model; raises Unreachable if the server goes away."""
        report = Report(self._tenant.slug, wanted.name)
        try:
            found = self._server.versions(there) if there else ()
        except Unreachable:
            raise
        except RemoteProblem as problem:
            report.problems.append(str(problem))
            return report
        if there is None:
            report.outcome = "created"
        else:
            kept = [received(self._server, v) for v in found if v.source != PLACEHOLDER]
            there = replace(there, versions=tuple(kept))
            report.only_here.extend(only_here(wanted, there))
        files = self._shelf.files(wanted.name) if self._with_files else {}
        sender = _Sender(self._server, wanted.name, found, self._shelf, files, report)
        if self._carry_out(steps(wanted, there), sender, files, report):
            self._send_files(wanted.name, found, files, report)
            if not self._dry_run:
                sender.clear_placeholders()
        return report

    def _carry_out(
        self,
        todo: Iterable[Step],
        sender: "_Sender",
        files: Mapping[int, Files],
        report: Report,
    ) -> bool:
        """Carry out the steps; tell whether the model is there now."""
        for step in todo:
            try:
                if isinstance(step, Clash) or not self._dry_run:
                    sender.do(step)
            except Unreachable:
                raise
            except RemoteProblem as problem:
                report.problems.append(f"{step}: {problem}")
                if isinstance(step, AddModel):
                    report.outcome = "left out"
                    return False
            else:
                report.changed(str(step))
                if isinstance(step, AddVersion) and step.number in files:
                    report.changed(f"{step}: {_amount(_sent(files[step.number]))}")
        return True

    def _send_files(
        self, name: str, found: Iterable[Version], files: Mapping[int, Files], report: Report
    ) -> None:
        """Send the files of versions that are there already, where they are not."""
        for version in found:
            if version.number not in files or version.source == PLACEHOLDER:
                continue
            place = f"version {version.number}: "
            try:
                uri = self._server.files_uri(name, version.number)
                folder = self._server.proxied(uri)
                there = {} if folder is None else self._server.files(folder)
                missing = _missing(files[version.number], there)
                if not missing:
                    continue
                # Other places are not ours to write to.
                if folder is None or KEPT["source"] not in version.tags:
                    raise RemoteProblem(
                        f"{len(missing):,} files are not at {uri}, and MLflow lets nobody change "
                        "where a version's files are"
                    )
                report.changed(f"{place}{_amount(_sent(missing))}")
                if not self._dry_run:
                    self._shelf.send(folder, missing, place, report)
            except Unreachable:
                raise
            except RemoteProblem as problem:
                report.problems.append(f"{place}files: {problem}")


class _Sender:
    """Carries out the steps of one model at the server, which has the versions ``found``."""

    def __init__(
        self,
        server: MlflowServer,
        name: str,
        found: Sequence[Version],
        shelf: _Shelf,
        files: Mapping[int, Files],
        report: Report,
    ) -> None:
        self._server = server
        self._name = name
        self._shelf = shelf
        self._files = files
        self._report = report
        self._last = found[-1].number if found else 0
        self._placeholders = [v.number for v in found if v.source == PLACEHOLDER]
        self._refused: int | None = None

    def do(self, step: Step) -> None:
        """Carry out one step; raises RemoteProblem where the server refuses."""
        match step:
            case AddModel(model):
                self._server.create_model(model.name, model.description, _mark(model.tags))
                self._tag(model.tags)
            case ChangeModel(description, tags):
                if description is not None:
                    self._server.describe_model(self._name, description)
                self._tag(tags)
            case AddVersion(version):
                self._add(version)
            case ChangeVersion(number, description, tags, stage, status):
                if description is not None:
                    self._server.describe_version(self._name, number, description)
                self._finish(number, tags, stage, status)
            case PointAlias(name, number):
                self._server.set_alias(self._name, name, number)
            case Clash(_, names):
                raise RemoteProblem(
                    f"there it is another version, with another {' and '.join(names)}; it is left "
                    "as it is"
                )

    def _add(self, version: Version) -> None:
        if self._refused is not None:
            raise RemoteProblem(
                f"it waits for version {self._refused}, since numbers there only go up"
            )
        if version.number <= self._last:
            raise RemoteProblem("the server has given its number before")
        self._use_up_numbers_before(version.number)
        sent, tags = _outgoing(self._server, version)
        files = self._files.get(version.number)
        try:
            if files:
                tags |= {KEPT["source"]: version.source, KEPT["run_id"]: version.run_id}
                sent = self._shelf.put(self._name, version, files, self._report)
            self._last = self._server.create_version(self._name, sent, tags)
        except RemoteProblem:
            self._refused = version.number
            raise
        if self._last != version.number:
            self._server.delete_version(self._name, self._last)
            raise RemoteProblem(f"the server has given its number before, and now {self._last}")
        status = version.status if version.status != ModelVersion.Status.READY else None
        stage = version.stage if version.stage != ModelVersion.Stage.NONE else None
        self._finish(version.number, version.tags, stage, status)

    def _use_up_numbers_before(self, number: int) -> None:
        """Have the server count on: a number that is missing here is a deleted version's.

        The placeholders stay until the version itself is there. After a crash in between, they
        are what tells how far the server has counted.
        """
        if number - self._last > LARGEST_GAP:
            raise RemoteProblem(f"more than {LARGEST_GAP:,} numbers before it are not in use")
        placeholder = Version(0, source=PLACEHOLDER, description="Bulkhead's export deletes it.")
        while self._last + 1 < number:
            given = self._server.create_version(self._name, placeholder, {})
            if given <= self._last:
                raise BadAnswer(f"the server gave the number {given} twice")
            self._placeholders.append(given)
            self._last = given

    def clear_placeholders(self) -> None:
        """Delete the placeholders, but for the last one if a version still has to follow it."""
        for number in self._placeholders:
            if self._refused is None or number < self._last:
                what = f"version {number}, a placeholder"
                self._try(what, self._server.delete_version, self._name, number)

    def _finish(
        self, number: int, tags: Mapping[str, str], stage: str | None, status: str | None
    ) -> None:
        for key, value in tags.items():
            what = f"version {number}: tag {key}"
            self._try(what, self._server.tag_version, self._name, number, key, value)
        if stage is not None:
            what = f"version {number}: stage {stage}"
            self._try(what, self._server.set_stage, self._name, number, stage)
        if status is not None:
            self._report.problems.append(
                f"version {number}: status {status}: MLflow sets the status itself"
            )

    def _tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._try(f"tag {key}", self._server.tag_model, self._name, key, value)

    def _try(self, what: str, send: Callable[..., None], *values: Any) -> None:
        try:
            send(*values)
        except Unreachable:
            raise
        except RemoteProblem as problem:
            self._report.problems.append(f"{what}: {problem}")


def _mark(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag that makes a prompt of a model or version, which is set from the beginning."""
    return {key: value for key, value in tags.items() if key == IS_PROMPT}


def _outgoing(server: MlflowServer, version: Version) -> tuple[Version, dict[str, str]]:
    """Return the version as it is sent, and the tags that it has from the beginning."""
    tags = _mark(version.tags)
    source = server.relative(version.source) or NO_SOURCE
    if version.logged_model_id and version.logged_model_id not in source:
        tags[KEPT["logged_model_id"]] = version.logged_model_id
    return replace(version, source=source), tags


def without_a_place(tenant: Tenant) -> list[str]:
    """Name what the team's models have that MLflow's have not."""
    with tenant_scope(tenant):
        models = RegisteredModel.objects.all()
        versions = ModelVersion.objects.all()
        counts = {
            "model cards": models.exclude(card="").count(),
            "archived models": models.exclude(archived_at=None).count(),
            "versions with parameters or metrics": versions.exclude(params={}, metrics={}).count(),
        }
    return [f"{what}: {count:,}" for what, count in counts.items() if count]
