"""Making tenants' namespaces what they should be, or only saying in what they are not.

A look goes object by object, and an object's error does not stop the others. It reads the tenant
from the database, talks to the cluster outside any transaction, and then writes what it found as
one ``NamespaceState``. A namespace that is not the tenant's is never touched, and nothing is
deleted but what was asked to be pruned and was made here.

No lock keeps two syncs of one tenant apart: each applies the whole bundle of its own moment, which
changes nothing where it is applied already. What a slower one puts back, the next round corrects.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection
from django.utils import timezone

from tenants import audit
from tenants.clusters import Cluster, Installation
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.bundle.objects import Object, Team, render, team_of
from tenants.kubernetes.sync import drift
from tenants.kubernetes.sync.client import (
    Answer,
    ClusterApi,
    ClusterApiError,
    ClusterError,
    ClusterUnreachable,
    ObjectListing,
    OfficialClient,
)
from tenants.kubernetes.sync.running import audit_workloads
from tenants.models import NamespaceState, Tenant
from tenants.text import clean

logger = logging.getLogger("bulkhead.kubernetes")

State = NamespaceState.State
#: An object as ``NamespaceState.objects_found`` keeps it: kind, name, state, and maybe a detail.
Entry = dict[str, Any]

#: At most this many entries are kept in each list of a state, and this many objects of a kind read.
MAX_ENTRIES = 500
MAX_WORKLOADS = 5_000
#: At most this many times an object is corrected that somebody else keeps changing.
MAX_ATTEMPTS = 3

#: The kinds that run pods, each with its API versions; the first that the cluster serves is read.
WORKLOADS = (
    ("Pod", ("v1",)),
    ("Deployment", ("apps/v1",)),
    ("StatefulSet", ("apps/v1",)),
    ("DaemonSet", ("apps/v1",)),
    ("Job", ("batch/v1",)),
    ("CronJob", ("batch/v1", "batch/v1beta1")),
)
#: Kinds with immutable fields; an object that differs in one is deleted and created again.
IMMUTABLE_KINDS = frozenset({"RoleBinding", "ResourceQuota"})
#: Errors raised by objects that are not shaped as the Kubernetes API documents.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Mode(StrEnum):
    """What a sync does: only tell (plan), save what it finds (observe), or correct it (enforce)."""

    PLAN = "plan"
    OBSERVE = "observe"
    ENFORCE = "enforce"


class Stopped(ClusterError):
    """The look ended early, since nothing more could be done in the namespace."""


@dataclass(slots=True)
class Observation:
    """What a look at a namespace found."""

    version: str = ""
    entries: list[Entry] = field(default_factory=list)
    quota: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    workloads: list[Object] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, texts: Iterable[str]) -> None:
        """Keep warnings, each once."""
        for text in map(clean, texts):
            if text not in self.warnings:
                self.warnings.append(text)

    @property
    def state(self) -> NamespaceState.State:
        """The state of the namespace: the worst of its objects'."""
        states = {entry["state"] for entry in self.entries}
        if "error" in states:
            return State.ERROR
        if "conflict" in states:
            return State.CONFLICT
        return State.DRIFT if states & {"missing", "drift", "foreign", "stale"} else State.IN_SYNC

    @property
    def error(self) -> str:
        """The first error in a sentence; empty if there was none."""
        failed = [entry for entry in self.entries if entry["state"] in ("error", "conflict")]
        if not failed:
            return ""
        first = failed[0]
        more = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
        return clean(f"{first['kind']} {first['name']}: {first['detail']}{more}")


@dataclass(frozen=True, slots=True)
class Order:
    """The cluster and the mode of a sync."""

    cluster: Cluster
    mode: Mode
    prune: bool = False


def sync_tenant(
    tenant: Tenant, api: ClusterApi, cluster: Cluster, mode: str, prune: bool = False
) -> NamespaceState:
    """Look at the tenant's namespace, correct it if ``mode`` is enforce, and return its state.

    The state is saved, except by a plan. What cannot be done is in the state; the database's errors
    are raised.
    """
    return _sync(tenant, api, Order(cluster, Mode(mode), prune))[0]


def sync_all(
    tenants: Iterable[Tenant],
    order: Order,
    connect: Callable[[Cluster], ClusterApi] = OfficialClient,
) -> Iterator[NamespaceState]:
    """Sync one tenant after the other, and yield their states.

    Whatever happens to one of them, the others have their turn; only a cluster that answers nobody
    any more is not asked for each of them. A state that the database does not take is yielded too.
    """
    api: ClusterApi | ClusterError
    try:
        api = connect(order.cluster)
    except ClusterError as error:
        _log(order, error)
        api = error
    for tenant in tenants:
        try:
            state, failure = _sync(tenant, api, order)
        except DatabaseError as error:
            leave_broken_connection()
            failure = ClusterError("Bulkhead's database did not answer.", str(error))
            _log(order, failure, tenant)
            state = _failure(tenant, order, failure)
        yield state
        if isinstance(failure, ClusterUnreachable) and not isinstance(api, ClusterError):
            api = _while_it_answers(api)


def leave_broken_connection() -> None:
    """Close the database's connection if it broke or is old, so that the next query opens another.

    A transaction that is open around all of this cannot go on in another connection.
    """
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def _while_it_answers(api: ClusterApi) -> ClusterApi | ClusterError:
    try:
        api.version()
    except ClusterError as error:
        return error
    return api


def _sync(
    tenant: Tenant, api: ClusterApi | ClusterError, order: Order
) -> tuple[NamespaceState, ClusterError | None]:
    """Return the tenant's state, and the error if the look failed."""
    if isinstance(api, ClusterError):
        return _keep_failure(tenant, order, api), api
    try:
        team = team_of(Tenant.objects.get(pk=tenant.pk))
    except ValidationError as error:
        failure = ClusterError(f"The team's size is none: {' '.join(error.messages)}")
        return _keep_failure(tenant, order, failure), failure
    look = _Reconciler(api, team, settings.KUBERNETES, order.mode, order.prune)
    try:
        with _understood():
            look.run()
        return _keep(tenant, order, look), None
    except ClusterError as failure:
        _log(order, failure, tenant)
        return _keep_failure(tenant, order, failure, look.found.entries[:MAX_ENTRIES]), failure


@contextmanager
def _understood() -> Iterator[None]:
    """Raise ClusterError where an object is not shaped as the API documents.

    A cluster may say anything, and so may whoever writes objects there; it must stop no other
    team's sync.
    """
    try:
        yield
    except MALFORMED as error:
        raise ClusterError("What the cluster answers is not understood.", repr(error)) from error


class _Reconciler:
    """Compares one namespace with its bundle, once, and corrects it if the mode says so."""

    def __init__(
        self, api: ClusterApi, team: Team, installation: Installation, mode: Mode, prune: bool
    ) -> None:
        self.api = api
        self.mode = mode
        self.prune = prune
        self.team = team
        self.prefix = installation.prefix
        self.label, self.id_label = installation.label("tenant"), installation.label("tenant-id")
        self.wanted = render(team, installation)
        self.found = Observation()
        self.live: dict[tuple[str, str], Object] = {}
        self.unlisted: dict[str, ClusterApiError] = {}
        self.is_new = False

    @property
    def digest(self) -> str:
        """The SHA-256 of what is wanted."""
        return hashlib.sha256(json.dumps(self.wanted, sort_keys=True).encode()).hexdigest()

    @property
    def corrects(self) -> bool:
        return self.mode is Mode.ENFORCE

    def run(self) -> None:
        """Fill ``found``; raises ClusterError where nothing can be found or done."""
        self.found.version = clean(self.api.version())
        namespace, *objects = self.wanted
        live = self._namespace(namespace)
        if live is None and not self.corrects:
            for obj in self.wanted:
                self._add(obj, "missing")
            return
        if live is None:
            live = self._make(namespace)
        if not drift.belongs_to(live, namespace, self.id_label):
            self._add(namespace, "conflict", detail=self._whose(live))
            return
        if drift.is_leaving(live):
            raise Stopped("The namespace is being deleted; nothing can be made in it until then.")
        self._object(self._exactly(namespace, live), live)
        self._list_objects()
        for obj in objects:
            self._object(obj, self.live.get(_key(obj)))
        self._beside()
        quotas = [
            self.live[_key(obj)]
            for obj in objects
            if obj["kind"] == "ResourceQuota" and _key(obj) in self.live
        ]
        self.found.quota = drift.quota_use(quotas)
        if self.mode is not Mode.PLAN:
            self._list_workloads()

    def _namespace(self, wanted: Object) -> Object | None:
        try:
            return self.api.get("v1", "Namespace", wanted["metadata"]["name"]).object
        except ClusterApiError as error:
            if error.status != 404:
                raise
            return None

    def _make(self, wanted: Object) -> Object:
        """Create the namespace and return it, or the one that was created meanwhile.

        An apply would take over a namespace that somebody made since it was asked for. The labels
        that say whose it is are there from the beginning; all else is applied.
        """
        labels = wanted["metadata"]["labels"]
        ours = (drift.MANAGED_BY_LABEL, self.label, self.id_label)
        metadata = {
            "name": wanted["metadata"]["name"],
            "labels": {label: labels[label] for label in ours},
        }
        try:
            answer = self.api.create(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            )
        except ClusterApiError as error:
            live = self._namespace(wanted) if error.reason == "AlreadyExists" else None
            if live is None:
                raise
            return live
        self.is_new = True
        return answer.object

    def _exactly(self, wanted: Object, live: Object) -> Object:
        """Return the wanted namespace with the live one's uid: no other of its name is changed."""
        uid = live["metadata"]["uid"]
        return {**wanted, "metadata": {**wanted["metadata"], "uid": uid}}

    def _whose(self, live: Object) -> str:
        labels = live["metadata"].get("labels") or {}
        wrong = self.id_label
        if labels.get(wrong) == str(self.team.id):
            wrong = drift.MANAGED_BY_LABEL
        problem = f"has no label {wrong}" if wrong not in labels else f"has another label {wrong}"
        return (
            f"There is a namespace of this name that {problem}. It is somebody else's, so nothing "
            "in it was looked at or changed."
        )

    def _list_objects(self) -> None:
        for version, kind in dict.fromkeys((o["apiVersion"], o["kind"]) for o in self.wanted[1:]):
            try:
                listing = self.api.list(version, kind, self.team.namespace)
            except ClusterApiError as error:
                if error.is_of_all:
                    raise Stopped(error.message) from error
                self.unlisted[kind] = error
                continue
            if not listing.complete:
                self.found.warn([f"There are more objects of kind {kind} than were looked at."])
            self.live |= {_key(obj): obj for obj in listing.items}

    def _object(self, wanted: Object, live: Object | None) -> None:
        """Look at one object of the bundle, correct it if need be, and add what was found."""
        try:
            if wanted["kind"] in self.unlisted:
                raise self.unlisted[wanted["kind"]]
            if live is None or self.is_new:
                self._absent(wanted)
            else:
                self._present(wanted, live)
        except ClusterApiError as error:
            if error.is_of_all or (wanted["kind"] == "Namespace" and _is_another(error)):
                raise Stopped(error.message) from error
            self._add(wanted, "error", detail=error.message)

    def _absent(self, wanted: Object) -> None:
        if self.corrects:
            self._apply(wanted)
            self._add(wanted, "created")
        else:
            self._try(wanted)
            self._add(wanted, "missing")

    def _present(self, wanted: Object, live: Object) -> None:
        paths = drift.differences(wanted, live, self.prefix)
        fields: list[dict[str, str]] = drift.culprits(live, paths, None)
        try:
            refusal, after = self._try(wanted)
            fields = drift.culprits(live, paths, refusal)
            if fields and self.corrects:
                self._correct(wanted, fields)
            elif fields:
                self._add(wanted, "drift", fields=fields)
            else:
                if self.corrects and not (after and drift.is_unchanged(live, after)):
                    self._apply(wanted)  # equal, but not managed by us: take over the fields
                self._add(wanted, "in_sync")
        except ClusterApiError as error:
            if not (error.status == 422 and paths and wanted["kind"] in IMMUTABLE_KINDS):
                raise
            self._anew(wanted, live, fields)

    def _try(self, wanted: Object) -> tuple[ClusterApiError | None, Object | None]:
        """Return the conflict of an apply without force, or the object after it; a dry run."""
        try:
            answer = self.api.apply(wanted, force=False, dry_run=True)
        except ClusterApiError as error:
            if not error.conflicts:
                raise
            return error, None
        self.found.warn(answer.warnings)
        return None, answer.object

    def _apply(self, wanted: Object) -> Object:
        answer = self.api.apply(wanted, force=True)
        self.found.warn(answer.warnings)
        self.live[_key(wanted)] = answer.object
        return answer.object

    def _correct(self, wanted: Object, fields: list[dict[str, str]]) -> None:
        """Apply the object, and replace it if others' additions survive the apply."""
        for attempt in range(MAX_ATTEMPTS):
            live = self._apply(wanted)
            left = drift.differences(wanted, live, self.prefix)
            if not left:
                self._add(wanted, "corrected", fields=fields)
                return
            if attempt < MAX_ATTEMPTS - 1:
                self._replace(drift.corrected(wanted, live, self.prefix))
        detail = "It was corrected, and differs again: somebody is changing it all the time."
        self._add(wanted, "drift", detail=detail, fields=drift.culprits(live, left, None))

    def _replace(self, obj: Object) -> Answer | None:
        try:
            return self.api.replace(obj)
        except ClusterApiError as error:
            if error.status != 409:
                raise
            return None  # changed since it was read; the next apply shows its state

    def _anew(self, wanted: Object, live: Object, fields: list[dict[str, str]]) -> None:
        detail = "A field that differs cannot be changed: the object has to be made anew."
        if not self.corrects:
            self._add(wanted, "drift", detail=detail, fields=fields)
            return
        self.api.delete(live)
        self._apply(wanted)
        self._add(wanted, "corrected", detail="It was made anew.", fields=fields)

    def _beside(self) -> None:
        """Add the objects that are not in the bundle: stale ones of ours, and foreign ones."""
        ours = {_key(obj) for obj in self.wanted}
        for key in sorted(set(self.live) - ours):
            obj = self.live[key]
            if drift.belongs_to(obj, self.wanted[0], self.id_label) and drift.was_applied(obj):
                self._stale(obj)
            elif obj["kind"] in drift.ADDITIVE_KINDS:
                by = drift.maker_of(obj)
                made = f" It was made with {by}." if by else ""
                detail = f"It is not Bulkhead's, and adds to what is allowed here.{made}"
                self._add(obj, "foreign", detail=detail)

    def _stale(self, obj: Object) -> None:
        detail = "Bulkhead made it and needs it no more."
        if not (self.corrects and self.prune):
            self._add(obj, "stale", detail=detail)
            return
        try:
            self.api.delete(obj)
        except ClusterApiError as error:
            if error.status != 404:
                self._add(obj, "stale", detail=f"{detail} It could not be deleted: {error.message}")
                return
        self._add(obj, "pruned")

    def _list_workloads(self) -> None:
        for kind, versions in WORKLOADS:
            try:
                listing = self._list_first(kind, versions)
            except ClusterUnreachable:
                raise
            except ClusterApiError as error:
                self.found.warn([f"What runs could not be looked at ({kind}): {error.message}"])
                continue
            except ClusterError as error:  # an object of the team's may have caused it, on purpose
                self._unseen(kind, error.message)
                continue
            if not listing.complete:
                self._unseen(kind, "There are more of these than were looked at.")
            self.found.workloads += listing.items
        pods = [obj for obj in self.found.workloads if obj["kind"] == "Pod"]
        self.found.problems += drift.problems_of_pods(pods, self.label, self.team.slug)

    def _list_first(self, kind: str, versions: tuple[str, ...]) -> ObjectListing:
        """List by the first version of the API that the cluster serves."""
        for version in versions[:-1]:
            try:
                return self.api.list(version, kind, self.team.namespace, max_objects=MAX_WORKLOADS)
            except ClusterApiError as error:
                if error.status != 404:
                    raise
        return self.api.list(versions[-1], kind, self.team.namespace, max_objects=MAX_WORKLOADS)

    def _unseen(self, kind: str, problem: str) -> None:
        """Add that not all objects of a kind were read: any problem could be among the others."""
        self.found.problems.append({"kind": kind, "name": "", "problem": clean(problem)})

    def _add(
        self,
        obj: Object,
        state: str,
        *,
        detail: str = "",
        fields: Iterable[dict[str, str]] = (),
    ) -> None:
        entry: Entry = {
            "kind": obj["kind"],
            "name": clean(obj["metadata"]["name"]),
            "state": state,
        }
        if detail:
            entry["detail"] = clean(detail)
        if listed := list(fields):
            entry["fields"] = listed[:MAX_ENTRIES]
        self.found.entries.append(entry)


def _key(obj: Object) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def _is_another(error: ClusterApiError) -> bool:
    """Tell whether the namespace was deleted, or replaced by another one, since it was read."""
    return error.status in (404, 409) or any(c.field == "metadata.uid" for c in error.causes)


def _keep(tenant: Tenant, order: Order, look: _Reconciler) -> NamespaceState:
    """Return the state after a look, saved unless it was a plan."""
    found, now = look.found, timezone.now()
    values: dict[str, Any] = {
        "mode": order.mode.value,
        "state": found.state,
        "error": found.error,
        "version": found.version[:40],
        "digest": look.digest,
        "objects_found": _bounded(found.entries, found),
        "quota": dict(list(found.quota.items())[:MAX_ENTRIES]),
        "checked_at": now,
    }
    with tenant_scope(tenant):
        with _understood():
            problems = found.problems + audit_workloads(found.workloads)
        if found.state == State.IN_SYNC and problems:
            values["state"] = State.DRIFT  # the bundle is in sync, but workloads break its rules
        if values["state"] == State.IN_SYNC:
            values["in_sync_at"] = now
        values["workloads"] = _bounded(problems, found)
        values["warnings"] = found.warnings[:MAX_ENTRIES]
        if order.mode is Mode.PLAN:
            return NamespaceState(tenant=tenant, cluster=order.cluster.name, **values)
        return _save(tenant, order, values, found.entries[:MAX_ENTRIES])


def _bounded(entries: list[Any], found: Observation) -> list[Any]:
    if len(entries) > MAX_ENTRIES:
        found.warn([f"{len(entries) - MAX_ENTRIES:,} more were found than are listed."])
    return entries[:MAX_ENTRIES]


def _keep_failure(
    tenant: Tenant, order: Order, error: ClusterError, done: Iterable[Entry] = ()
) -> NamespaceState:
    """Return the state after a look that failed, which found nothing.

    Unless it was a plan, the error is saved, with its time. What an earlier look found is kept, and
    so is the time of that; what was ``done`` before it failed is in the log.
    """
    state = _failure(tenant, order, error)
    if order.mode is not Mode.PLAN:
        with tenant_scope(tenant):
            values = {"state": state.state, "error": state.error, "mode": state.mode}
            _save(tenant, order, values, done)
    return state


def _failure(tenant: Tenant, order: Order, error: ClusterError) -> NamespaceState:
    text = clean(f"{timezone.now():%Y-%m-%d %H:%M} UTC: {error.message}")
    return NamespaceState(
        tenant=tenant,
        cluster=order.cluster.name,
        mode=order.mode.value,
        state=State.ERROR,
        error=text,
    )


def _log(order: Order, error: ClusterError, tenant: Tenant | None = None) -> None:
    """Log the error with its detail, which teams do not read."""
    whose = f"{tenant.slug} in " if tenant else ""
    text = clean(f"{error.message} {error.detail}".strip())
    logger.warning("%sthe cluster %s: %s", whose, order.cluster.name, text)


def _save(
    tenant: Tenant, order: Order, values: dict[str, Any], done: Iterable[Entry]
) -> NamespaceState:
    """Save the acting tenant's state; its log says what became different or was corrected."""
    row: NamespaceState
    row, made = NamespaceState.objects.select_for_update().get_or_create(
        cluster=order.cluster.name, defaults=values
    )
    before = None if made else row.state
    for name, value in {"tenant": tenant, **values}.items():
        setattr(row, name, value)
    row.save()
    corrected = _corrections(done)
    if before != row.state or corrected:
        changes = {"cluster": order.cluster.name, "from": before, "to": str(row.state), **corrected}
        audit.record("namespace.synced", row, label=order.cluster.name, changes=changes)
    return row


def _corrections(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Return the objects that were created, corrected and pruned, by state."""
    done: dict[str, list[str]] = {}
    for entry in entries:
        if entry["state"] in ("created", "corrected", "pruned"):
            done.setdefault(entry["state"], []).append(f"{entry['kind']} {entry['name']}")
    return done
