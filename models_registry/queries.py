"""Every question that a page asks the registry; each list costs the same for 2 rows and for 20."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import (
    Count,
    Exists,
    Expression,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from models_registry.files import artifacts
from models_registry.models import (
    Alias,
    ArtifactFile,
    Bookmark,
    DownloadCount,
    ModelGroupGrant,
    ModelUserGrant,
    ModelVersion,
    RegisteredModel,
)
from models_registry.validators import IS_PROMPT
from tenants.isolation.manager import CurrentUserId
from tenants.isolation.scope import current_scope
from tenants.models import AuditEvent, Membership, Role, Tenant

#: How a list of models can be sorted: the value in the URL, its label and the columns.
SORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "updated": ("Last updated", ("-updated_at", "-id")),
    "created": ("Newest", ("-created_at", "-id")),
    "name": ("Name, A to Z", ("name", "id")),
    "-name": ("Name, Z to A", ("-name", "-id")),
    "oldest": ("Oldest", ("created_at", "id")),
}
FACETS = ("framework", "task")
CHARTED_VERSIONS = 50
#: Days that a sparkline shows and that "pulled n times" counts.
USAGE_DAYS = 90
#: At most this many entries of a folder are on its page; the API lists all of them.
MAX_LISTED_ENTRIES = 1000


@dataclass(frozen=True)
class ModelFilter:
    """What a list of models is narrowed to, as it stands in the URL."""

    q: str = ""
    framework: str = ""
    task: str = ""
    owner: str = ""
    alias: str = ""
    tag: str = ""
    show: str = "active"
    sort: str = "updated"

    @property
    def order(self) -> tuple[str, ...]:
        """The columns of the order."""
        return SORTS[self.sort][1]

    @property
    def narrows(self) -> bool:
        """Whether anything is left out that the plain list would show."""
        words = (self.q, self.framework, self.task, self.owner, self.alias, self.tag)
        return any(words) or self.show != "active"

    def url(self, **changes: str) -> str:
        """Return the query string with ``changes`` and without what is as usual."""
        usual = ModelFilter()
        names = ("q", "framework", "task", "owner", "alias", "tag", "show", "sort")
        values = {name: getattr(self, name) for name in names} | changes
        return urlencode(
            {name: values[name] for name in names if values[name] != getattr(usual, name)}
        )


def models_like(chosen: ModelFilter) -> QuerySet[RegisteredModel]:
    """Return the acting tenant's models that ``chosen`` lets through, unsorted.

    MLflow keeps prompts as models; the active ones have a list of their own.
    """
    models = RegisteredModel.objects.all()
    prompt = Q(tags__contains={IS_PROMPT: "true"})
    if chosen.show in {"active", "prompts"}:
        models = models.filter(prompt if chosen.show == "prompts" else ~prompt)
    if chosen.show in {"active", "archived", "prompts"}:
        models = models.filter(archived_at__isnull=chosen.show != "archived")
    elif chosen.show == "starred":
        models = models.filter(_starred())
    for key in FACETS:
        if value := getattr(chosen, key):
            models = models.filter(**{f"tags__{key}": value})
    if chosen.tag:
        key, _, value = chosen.tag.partition("=")
        models = models.filter(tags__contains={key.strip(): value.strip()})
    if chosen.owner:
        models = models.filter(owner__username=chosen.owner)
    if chosen.alias:
        models = models.filter(
            Exists(Alias.objects.filter(model=OuterRef("pk"), name=chosen.alias))
        )
    return _search(models, chosen.q) if chosen.q else models


def _search(models: QuerySet[RegisteredModel], words: str) -> QuerySet[RegisteredModel]:
    """Every word must stand in the name, description, card, a tag or an alias.

    Not an index but a scan of the tenant's own rows: under row-level security PostgreSQL uses
    no index for operators that could leak, and a tenant's rows are few.
    """
    models = models.annotate(tags_text=Cast("tags", TextField()))
    for word in words.split():
        alias = Alias.objects.filter(model=OuterRef("pk"), name__icontains=word.removeprefix("@"))
        models = models.filter(
            Q(name__icontains=word)
            | Q(description__icontains=word)
            | Q(card__icontains=word)
            | Q(tags_text__icontains=word)
            | Exists(alias)
        )
    return models


def for_list(models: QuerySet[RegisteredModel]) -> QuerySet[RegisteredModel]:
    """Add what a row of the list shows: owner, newest version, aliases, whether it is starred."""
    newest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-number").values("number")
    aliases = Alias.objects.select_related("version").only("model_id", "name", "version__number")
    owner = ("owner__username", "owner__first_name", "owner__last_name")
    shown = ("name", "description", "tags", "archived_at", "created_at", "updated_at", *owner)
    return (
        models.select_related("owner")
        .only(*shown)  # without cards: fifty long ones would be megabytes
        .annotate(newest=Subquery(newest[:1]), starred=_starred())
        .prefetch_related(Prefetch("aliases", aliases))
    )


def facets() -> dict[str, list[str]]:
    """Return the values to filter by: frameworks, tasks, owners and aliases of the tenant.

    The tenant's models are read once, for whatever frameworks, tasks and owners go together.
    """
    nothing = Value(None, TextField())
    together: dict[str, Expression] = {key: KeyTextTransform(key, "tags") for key in FACETS}
    together["owner"] = Cast("owner__username", TextField())
    models = (
        RegisteredModel.objects.order_by()
        .annotate(alias=nothing)
        .values_list(*(Coalesce(value, nothing) for value in together.values()), "alias")
    )
    aliases = Alias.objects.order_by().values_list(
        *(nothing for _ in together), Cast("name", TextField())
    )
    kinds = (*FACETS, "owner", "alias")
    found: dict[str, set[str]] = {kind: set() for kind in kinds}
    for row in models.distinct().union(aliases.distinct()):
        for kind, value in zip(kinds, row, strict=True):
            if value:
                found[kind].add(value)
    return {kind: sorted(values) for kind, values in found.items()}


def model_with_star(name: str) -> RegisteredModel | None:
    """Return the acting tenant's model ``name`` with its owner and the acting person's star."""
    models = RegisteredModel.objects.select_related("owner").annotate(starred=_starred())
    return models.filter(name=name).first()


def _starred() -> Exists:
    mine = Bookmark.objects.filter(user_id=CurrentUserId(), starred=True)
    return Exists(mine.filter(model=OuterRef("pk")))


#: The colours of well-known aliases, in the order of importance; other aliases have none.
ALIAS_KINDS = {
    **dict.fromkeys(("production", "prod", "champion", "live"), "ok"),
    **dict.fromkeys(("staging", "stage", "preprod"), "warn"),
    **dict.fromkeys(("challenger", "candidate", "canary", "shadow", "next"), "info"),
}


def ranked(aliases: Iterable[Alias]) -> list[Alias]:
    """Sort aliases: what serves customers first, then what is about to, then the rest."""
    order = list(ALIAS_KINDS)

    def rank(alias: Alias) -> tuple[int, str]:
        name = alias.name.lower()
        return (order.index(name) if name in ALIAS_KINDS else len(order)), name

    return sorted(aliases, key=rank)


# --- one model -----------------------------------------------------------------------------


def versions_of(model: RegisteredModel) -> QuerySet[ModelVersion]:
    """Return the model's versions with their creators and aliases."""
    return (
        ModelVersion.objects.filter(model=model)
        .select_related("creator")
        .prefetch_related("aliases")
    )


def aliases_of(model: RegisteredModel) -> QuerySet[Alias]:
    """Return the model's aliases with the versions that they point at."""
    return Alias.objects.filter(model=model).select_related("version")


def metric_series(versions: list[ModelVersion]) -> dict[str, list[tuple[int, float]]]:
    """Return for each metric its (version number, value), oldest first; 2 values at least."""
    series: dict[str, list[tuple[int, float]]] = {}
    for version in sorted(versions, key=lambda version: version.number):
        for name, value in version.metrics.items():
            series.setdefault(name, []).append((version.number, value))
    return {name: points for name, points in sorted(series.items()) if len(points) > 1}


def history_of(object_id: UUID) -> QuerySet[AuditEvent]:
    """Return what happened to a model and to its versions and aliases, newest first."""
    return AuditEvent.objects.filter(object_id=object_id).select_related("actor")


@dataclass(frozen=True)
class Access:
    """Who may see a model, and why: the team by role, and what was granted."""

    by_role: dict[str, int]
    people: list[ModelUserGrant]
    teams: list[Tenant]

    @property
    def members(self) -> int:
        """How many people of the team may see it."""
        return sum(self.by_role.values())


def access_to(model: RegisteredModel) -> Access:
    """Return who may see ``model``: three queries, whatever their number."""
    roles = Membership.objects.active().filter(tenant_id=current_scope().tenant_id)
    by_role = dict.fromkeys(Role.values, 0)
    for role in roles.values_list("role", flat=True):
        by_role[role] += 1
    people = ModelUserGrant.objects.filter(content_object=model).select_related("user")
    groups = ModelGroupGrant.objects.filter(content_object=model).values("group_id")
    teams = Tenant.objects.filter(group_id__in=groups)
    return Access(by_role, list(people), list(teams))


# --- how often it is fetched ---------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """How often a model or a version was fetched on each of the last days, oldest first."""

    counts: list[int]
    last_day: date

    @property
    def total(self) -> int:
        """How often in all these days."""
        return sum(self.counts)

    @property
    def this_week(self) -> int:
        """How often in the last seven days."""
        return sum(self.counts[-7:])


def usage_of(what: RegisteredModel | ModelVersion) -> Usage:
    """Return the downloads a day (UTC) of a version, or of all versions of a model."""
    today = datetime.now(UTC).date()
    counts = DownloadCount.objects.filter(day__gt=today - timedelta(days=USAGE_DAYS))
    if isinstance(what, ModelVersion):
        counts = counts.filter(version=what)
    else:
        counts = counts.filter(version__in=ModelVersion.objects.filter(model=what))
    by_day = dict(counts.order_by().values_list("day").annotate(Sum("count")))
    days = (today - timedelta(days=ago) for ago in reversed(range(USAGE_DAYS)))
    return Usage([by_day.get(day, 0) for day in days], today)


def with_pulls(versions: QuerySet[ModelVersion]) -> QuerySet[ModelVersion]:
    """Add ``pulls`` to each version: how often it was fetched in the last days."""
    since = datetime.now(UTC).date() - timedelta(days=USAGE_DAYS)
    counts = DownloadCount.objects.filter(version=OuterRef("pk"), day__gt=since)
    pulls = counts.order_by().values("version").annotate(sum=Sum("count")).values("sum")
    return versions.annotate(pulls=Coalesce(Subquery(pulls), 0))


# --- files of a version --------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """What a folder's page shows of one entry; a folder has no ``file``."""

    name: str
    path: str
    size: int
    file: ArtifactFile | None = None


def folder_of(version: ModelVersion, folder: str) -> list[Listed]:
    """Return what lies directly in ``folder`` ('' for all): folders first, then files, by name."""
    prefix = f"{folder}/" if folder else ""
    entries = artifacts.files_under(version, folder)
    entries.sort(key=lambda entry: not entry.is_dir)
    paths = [f"{prefix}{entry.name}" for entry in entries[:MAX_LISTED_ENTRIES] if not entry.is_dir]
    found = ArtifactFile.objects.filter(version=version, path__in=paths).select_related("blob")
    files = {file.path: file for file in found}
    listed = []
    for entry in entries:
        path = f"{prefix}{entry.name}"
        listed.append(Listed(entry.name, path, entry.size, files.get(path)))
    return listed


@dataclass(frozen=True)
class Extent:
    """How many files a version has, and their bytes in all."""

    files: int
    size: int


def extent_of(version: ModelVersion) -> Extent:
    """Return how much a version holds."""
    found = version.files.aggregate(files=Count("pk"), size=Coalesce(Sum("blob__size"), 0))
    return Extent(found["files"], int(found["size"]))


# --- shared with us ------------------------------------------------------------------------


def shared_models() -> QuerySet[RegisteredModel]:
    """Return the models that others share with the acting person or team; no names of people."""
    newest = ModelVersion.shared.filter(model=OuterRef("pk")).order_by("-number").values("number")
    return (
        RegisteredModel.shared.select_related("tenant")
        .annotate(newest=Subquery(newest[:1]))
        .order_by("name", "id")
    )


def shared_versions(model: RegisteredModel) -> QuerySet[ModelVersion]:
    """Return the versions of a shared model."""
    return ModelVersion.shared.filter(model_id=model.pk).order_by("-number")


def shared_aliases(model: RegisteredModel) -> dict[UUID, list[str]]:
    """Return the aliases of a shared model, by version id."""
    found: dict[UUID, list[str]] = {}
    for alias in Alias.shared.filter(model_id=model.pk).order_by("name"):
        found.setdefault(alias.version_id, []).append(alias.name)
    return found


# --- home ----------------------------------------------------------------------------------


def home() -> dict[str, Any]:
    """Return what the team's home shows: my stars, what I looked at, this week's alias moves."""
    mine = Bookmark.objects.filter(user_id=current_scope().user_id).select_related("model")
    moves = AuditEvent.objects.filter(
        action__in=("alias.set", "alias.deleted"),
        created_at__gt=timezone.now() - timedelta(days=7),
    )
    return {
        "starred": mine.filter(starred=True).order_by("model__name")[:12],
        "recent": mine.filter(viewed_at__isnull=False).order_by("-viewed_at")[:8],
        "moves": moves.select_related("actor")[:8],
        "newest": for_list(RegisteredModel.objects.filter(archived_at=None)).order_by(
            "-updated_at", "-id"
        )[:8],
    }
