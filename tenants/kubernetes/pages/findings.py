"""What the last look at a namespace found, sorted and put in words for the pages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from django.utils import timezone

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import GPU, Object, Team
from tenants.kubernetes.pages.network import Picture, picture_of
from tenants.kubernetes.quantities import parse, write
from tenants.models import NamespaceState

#: After this time the last look counts as stale.
STALE_AFTER = timedelta(minutes=10)

#: The label and the chip's colour class of each state of an object, the gravest state first. A
#: foreign object is the gravest: it can allow what our objects forbid, although they are in sync.
STATES: dict[str, tuple[str, str]] = {
    "foreign": ("foreign", "bad"),
    "conflict": ("not ours", "bad"),
    "error": ("error", "bad"),
    "drift": ("drift", "warn"),
    "missing": ("missing", "warn"),
    "stale": ("left over", "warn"),
    "pruned": ("removed", ""),
    "corrected": ("corrected", "info"),
    "created": ("created", "info"),
    "in_sync": ("in sync", "ok"),
}
FINE_STATES = frozenset({"in_sync", "created", "corrected", "pruned"})
GRAVITY = {state: place for place, state in enumerate(STATES)}

#: The chip's colour class for each state of a namespace.
CHIPS: dict[str, str] = {
    NamespaceState.State.IN_SYNC: "ok",
    NamespaceState.State.DRIFT: "warn",
    NamespaceState.State.CONFLICT: "bad",
    NamespaceState.State.ERROR: "bad",
}
MODES = {
    "plan": "compared only; nothing is written",
    "observe": "watched; nothing is corrected",
    "enforce": "kept as it should be",
}

_GIB = Fraction(2**30)
#: The resources of a quota: label, unit, and the size of that unit in what the quota counts.
RESOURCES: dict[str, tuple[str, str, Fraction]] = {
    "requests.cpu": ("CPU requested", "cores", Fraction(1)),
    "limits.cpu": ("CPU limits", "cores", Fraction(1)),
    "requests.memory": ("Memory requested", "GiB", _GIB),
    "limits.memory": ("Memory limits", "GiB", _GIB),
    "requests.ephemeral-storage": ("Scratch space requested", "GiB", _GIB),
    "limits.ephemeral-storage": ("Scratch space limits", "GiB", _GIB),
    GPU: ("GPUs", "", Fraction(1)),
    "pods": ("Pods", "", Fraction(1)),
    "persistentvolumeclaims": ("Volume claims", "", Fraction(1)),
    "requests.storage": ("Storage of volumes", "GiB", _GIB),
    "services": ("Services", "", Fraction(1)),
    "services.loadbalancers": ("Load balancers", "", Fraction(1)),
    "services.nodeports": ("Node ports", "", Fraction(1)),
    "count/secrets": ("Secrets", "", Fraction(1)),
    "count/configmaps": ("ConfigMaps", "", Fraction(1)),
    "count/jobs.batch": ("Jobs", "", Fraction(1)),
    "count/cronjobs.batch": ("CronJobs", "", Fraction(1)),
    "count/deployments.apps": ("Deployments", "", Fraction(1)),
    "count/replicasets.apps": ("ReplicaSets", "", Fraction(1)),
}
NO_AMOUNT = "none"
#: The share of a limit from which its bar is shown as a warning.
WARN_SHARE = Fraction(9, 10)


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that the last look found, or missed."""

    kind: str
    name: str
    state: str
    detail: str = ""
    #: The fields that differ, each with the field manager that last wrote it.
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The state in words."""
        return STATES.get(self.state, (self.state, "bad"))[0]

    @property
    def chip(self) -> str:
        """The chip's colour class."""
        return STATES.get(self.state, ("", "bad"))[1]

    @property
    def is_fine(self) -> bool:
        """Whether nobody needs to do anything about it."""
        return self.state in FINE_STATES


@dataclass(frozen=True, slots=True)
class Limit:
    """One resource of a quota: its limit, and its usage if a cluster reported it."""

    resource: str
    label: str
    #: “1.5 of 4 cores”, or “4 cores” where the usage is unknown.
    text: str
    #: The share of the limit that is used; None where usage or limit is unknown.
    share: Fraction | None = None
    #: The bundle's limit, where the cluster has another one.
    wanted: str = ""

    @property
    def bar(self) -> str:
        """The share as the value of a bar from 0 to 1."""
        if self.share is None:
            return ""
        return f"{float(max(Fraction(0), min(self.share, Fraction(1)))):.3f}"

    @property
    def look(self) -> str:
        """The bar's colour class."""
        if self.share is None or self.share < WARN_SHARE:
            return ""
        return "full" if self.share >= 1 else "nearly"

    @property
    def percent(self) -> int:
        """The share in percent, 0 to 999, rounded down, so that 100 means full."""
        return max(0, min(999, int((self.share or 0) * 100)))


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster on the team's page: its state, limits, objects and network."""

    state: NamespaceState
    limits: list[Limit]
    #: Labels of the resources whose limit is zero.
    forbidden: list[str]
    picture: Picture
    #: Whether the namespace's objects were read; if not, the page shows the bundle only.
    is_known: bool
    wrong: list[FoundObject] = field(default_factory=list)
    fine: list[FoundObject] = field(default_factory=list)

    @property
    def chip(self) -> str:
        """The colour class of the state's chip."""
        return CHIPS.get(self.state.state, "bad")

    @property
    def mode(self) -> str:
        """What the sync does here, in words."""
        return MODES.get(self.state.mode, self.state.mode)

    @property
    def is_in_sync(self) -> bool:
        """Whether the namespace is what it should be."""
        return self.state.state == NamespaceState.State.IN_SYNC

    @property
    def is_stale(self) -> bool:
        """Whether nobody has looked for some time."""
        return is_stale(self.state)

    @property
    def is_conflict(self) -> bool:
        """Whether the namespace in this cluster is somebody else's."""
        return self.state.state == NamespaceState.State.CONFLICT

    @property
    def foreign(self) -> int:
        """How many foreign objects there are: each can allow what the bundle forbids."""
        return sum(finding.state == "foreign" for finding in self.wrong)


def look_at(
    state: NamespaceState, team: Team, objects: Iterable[Object], here: Installation
) -> ClusterView:
    """Return a state as the page shows it, with the bundle's ``objects`` for comparison."""
    objects = list(objects)
    found = findings_of(state)
    closed = any(
        finding.kind == "Namespace" and finding.state in ("missing", "conflict")
        for finding in found
    )
    limits, forbidden = limits_of(objects, state.quota)
    return ClusterView(
        state=state,
        limits=limits,
        forbidden=forbidden,
        picture=picture_of(objects, team.namespace, here, state.objects_found),
        is_known=bool(found) and not closed,
        wrong=[finding for finding in found if not finding.is_fine],
        fine=[finding for finding in found if finding.is_fine],
    )


def is_stale(state: NamespaceState) -> bool:
    """Tell whether the last look is longer ago than STALE_AFTER."""
    return timezone.now() - state.checked_at > STALE_AFTER


def findings_of(state: NamespaceState) -> list[FoundObject]:
    """Return the objects of a state, the gravest first."""
    found = [
        FoundObject(
            kind=str(entry.get("kind", "")),
            name=str(entry.get("name", "")),
            state=str(entry.get("state", "")),
            detail=str(entry.get("detail") or ""),
            fields=tuple(
                (str(differs.get("field", "")), str(differs.get("manager") or ""))
                for differs in entry.get("fields") or ()
            ),
        )
        for entry in state.objects_found
    ]
    # The sort is stable: objects of one state stay in the order in which they are applied.
    return sorted(found, key=lambda finding: GRAVITY.get(finding.state, -1))


def limits_of(
    objects: Iterable[Object], quota: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[list[Limit], list[str]]:
    """Return the limits of the bundle's quotas, with the usage that a cluster reported.

    What may not be there, and is not, is listed by its name alone.
    """
    wanted: dict[str, str] = {}
    for obj in objects:
        if obj["kind"] == "ResourceQuota":
            wanted |= obj["spec"]["hard"]
    there = quota or {}
    limits = [
        _limit(resource, wanted.get(resource, ""), there.get(resource, {}))
        for resource in dict.fromkeys([*wanted, *there])
    ]
    shown = [limit for limit in limits if limit.text != NO_AMOUNT or limit.wanted]
    hidden = [limit.label for limit in limits if limit not in shown]
    return shown, [name if name[:2].isupper() else name[:1].lower() + name[1:] for name in hidden]


def _limit(resource: str, wanted: str, there: Mapping[str, str]) -> Limit:
    label, unit, size = RESOURCES.get(resource, (resource, "", Fraction(1)))
    hard, used = there.get("hard", wanted), there.get("used")
    try:
        limit = parse(hard)
        use = None if used is None else parse(used)
        other = parse(wanted) != limit if wanted else False
    except ValueError:
        text = hard if used is None else f"{used} of {hard}"
        return Limit(resource, label, text, wanted=wanted if wanted not in ("", hard) else "")
    text = _amount(limit / size, unit)
    if use is not None:
        text = f"{write(use / size)} of {text}" if limit or use else text
    share = use / limit if use is not None and limit else None
    return Limit(resource, label, text, share, _amount(parse(wanted) / size, unit) if other else "")


def _amount(number: Fraction, unit: str) -> str:
    if not number:
        return NO_AMOUNT
    return f"{write(number)} {'core' if unit == 'cores' and number == 1 else unit}".strip()


# --- who is what in the cluster ------------------------------------------------------------

#: Each role in the cluster, in a sentence.
ROLE_DESCRIPTIONS = {
    "viewer": "See what runs, its settings and its logs, but no secrets",
    "editor": "Run deployments and jobs, and change their settings and volumes",
    "admin": "What an editor may, and read and write secrets",
}
#: The purpose of each service account.
ACCOUNT_DESCRIPTIONS = {
    names.DEFAULT: "Pods that name no account",
    names.MODEL_SERVER: "Pods that serve models; the gateway reaches these",
    names.MODEL_TRAINER: "Jobs that train models",
    names.REGISTRY_SYNC: f"May change one ConfigMap, {names.SYNC_CONFIG_MAP}",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A role in the cluster, its subjects there, and the members that have it here."""

    role: str
    may: str
    kind: str
    subjects: list[str]
    people: list[str]


def roles_of(team: Team, objects: Iterable[Object]) -> list[Bound]:
    """Return the roles in the cluster with their subjects, as the bundle binds them."""
    bindings = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "RoleBinding"}
    bound = []
    for role, here in names.CLUSTER_ROLES.items():
        subjects = bindings[names.binding(role)]["subjects"]
        bound.append(
            Bound(
                role,
                ROLE_DESCRIPTIONS[role],
                subjects[0]["kind"] if subjects else "",
                [subject["name"] for subject in subjects],
                [name for name, held in team.members if held in here],
            )
        )
    return bound


def accounts_of(objects: Iterable[Object]) -> dict[str, str]:
    """Return the service accounts, each with its purpose."""
    found = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"]
    return {name: ACCOUNT_DESCRIPTIONS.get(name, "") for name in found}


def defaults_of(objects: Iterable[Object]) -> list[dict[str, str]]:
    """Return the defaults and the bounds of a container, for each resource."""
    limits = [
        limit
        for obj in objects
        if obj["kind"] == "LimitRange"
        for limit in obj["spec"]["limits"]
        if limit["type"] == "Container"
    ]
    return [
        {
            "resource": {"cpu": "CPU", "memory": "Memory"}.get(resource, "Scratch space"),
            **{name: limit.get(key, {}).get(resource, "") for name, key in DEFAULTS.items()},
        }
        for limit in limits
        for resource in limit["default"]
    ]


DEFAULTS = {"request": "defaultRequest", "limit": "default", "least": "min", "most": "max"}
