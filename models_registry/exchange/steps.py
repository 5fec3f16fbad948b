"""What differs between a team's models and those of an MLflow server: one step for each difference.

The same steps are carried out here (``mlflow_import``) or at the server (``mlflow_export``), one
after the other: a second run does what the first one could not, or nothing. Nothing is deleted:
what the target alone has is reported. What cannot be copied is reported too, with the reason, and
the rest goes on.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from models_registry.exchange.mlflow_client import (
    MlflowModel,
    MlflowServer,
    MlflowVersion,
)
from models_registry.models import ModelVersion, RegisteredModel
from tenants.text import printable

#: Tags that keep a version's fields at the MLflow server where its own could not.
KEPT_AS_TAGS = {name: f"bulkhead.{name}" for name in ("source", "run_id", "logged_model_id")}
#: The source that stands for none: the MLflow server takes no version without one.
NO_SOURCE = "bulkhead:/no-source"
#: The status message of a version until all its files have been copied.
COPYING = "Its files are being copied from an MLflow server."


@dataclass
class ModelReport:
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

    model: MlflowModel

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

    version: MlflowVersion

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
class NumberConflict:
    """Do nothing: under this number the target has another version."""

    number: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"version {self.number}"


Step = AddModel | ChangeModel | AddVersion | ChangeVersion | PointAlias | NumberConflict


def _fields(description: str | None, tags: Mapping[str, str]) -> list[str]:
    fields = ["description"] if description is not None else []
    return fields + ([f"tags {', '.join(sorted(tags))}"] if tags else [])


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def steps(wanted: MlflowModel, there: MlflowModel | None) -> Iterator[Step]:
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


def _version_steps(wanted: MlflowVersion, there: MlflowVersion) -> Iterator[Step]:
    clashing = tuple(name for name in KEPT_AS_TAGS if not _alike(name, wanted, there))
    if clashing:
        yield NumberConflict(wanted.number, clashing)
        return
    description, tags = _newer(wanted, there)
    stage = wanted.stage if wanted.stage != there.stage else None
    waiting = there.status_message == COPYING
    status = wanted.status if wanted.status != there.status and not waiting else None
    if description is not None or tags or stage is not None or status is not None:
        yield ChangeVersion(wanted.number, description, tags, stage, status)


def _newer(
    wanted: MlflowModel | MlflowVersion, there: MlflowModel | MlflowVersion
) -> tuple[str | None, dict[str, str]]:
    """Return the description and the tags to set; an empty description takes none away."""
    differs = wanted.description and wanted.description != there.description
    tags = {key: value for key, value in wanted.tags.items() if there.tags.get(key) != value}
    return (wanted.description if differs else None), tags


def _alike(name: str, wanted: MlflowVersion, there: MlflowVersion) -> bool:
    one, other = getattr(wanted, name), getattr(there, name)
    if one.startswith("mlflow-artifacts:") and other.startswith("mlflow-artifacts:"):
        # Host names are not compared: the same server may be known under several.
        one, other = (text.rpartition("://")[2].partition("/")[2] or text for text in (one, other))
    return not one or not other or one.strip("/") == other.strip("/")


def only_here(wanted: MlflowModel, there: MlflowModel) -> Iterator[str]:
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


def _more(wanted: MlflowModel | MlflowVersion, there: MlflowModel | MlflowVersion) -> Iterator[str]:
    if there.description and not wanted.description:
        yield "description"
    for key in sorted(there.tags.keys() - wanted.tags.keys()):
        yield f"tag {key}"


def amount(sizes: Collection[int]) -> str:
    """Say how many files of these sizes there are, and of how many bytes together."""
    return f"{len(sizes):,} file{'s' * (len(sizes) != 1)}, {sum(sizes):,} bytes"


# --- the two sides in the same words -------------------------------------------------------


def received(server: MlflowServer, version: MlflowVersion) -> MlflowVersion:
    """Return the server's version as it is kept here.

    Its source names the server, and what ``export`` had to replace is as it was.
    """
    source = "" if version.source == NO_SOURCE else server.absolute(version.source)
    kept: dict[str, Any] = {
        name: version.tags[tag] for name, tag in KEPT_AS_TAGS.items() if tag in version.tags
    }
    tags = {key: value for key, value in version.tags.items() if key not in KEPT_AS_TAGS.values()}
    return replace(version, **{"source": source} | kept | {"tags": tags})


def registered(name: str) -> MlflowModel | None:
    """Return the acting tenant's model in the same words as the server's."""
    models = RegisteredModel.objects.filter(name=name)
    model = models.prefetch_related("versions", "aliases__version").first()
    if model is None:
        return None
    versions = sorted(model.versions.all(), key=lambda version: version.number)
    return MlflowModel(
        name=model.name,
        description=model.description,
        tags=model.tags,
        aliases={alias.name: alias.version.number for alias in model.aliases.all()},
        created_at=model.created_at,
        updated_at=model.updated_at,
        versions=tuple(_registered_version(version) for version in versions),
    )


def _registered_version(version: ModelVersion) -> MlflowVersion:
    return MlflowVersion(
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
