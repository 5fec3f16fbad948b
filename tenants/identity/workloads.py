"""Workload identities: service accounts of a team's namespace as which its pods sign in.

There is no secret to make, to store or to steal: a pod shows the token that its cluster gave it
(``tenants.identity.pod_tokens``). A team's admins say which accounts may sign in and as what. Each
is a robot of its own, which holds no token of ours; its role is what its pods may do.
"""

import hashlib
import threading
from collections.abc import Hashable, Iterable
from dataclasses import replace
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.dns import is_subdomain
from tenants.identity import directory, pod_tokens
from tenants.identity.robots import ROLES, user_name
from tenants.identity.tokens import check_maker
from tenants.isolation.credentials import AnyCredential, BadToken, WorkloadCredential
from tenants.isolation.scope import tenant_scope, token_scope
from tenants.models import (
    AuditEvent,
    Membership,
    MembershipQuerySet,
    Role,
    Tenant,
    User,
    WorkloadIdentity,
)

MOST_IDENTITIES = 50
#: How much of a long name goes into the robot's; the rest is told apart by a digest.
LONGEST_NAME = 80
#: How many tokens a process remembers as signed in; one that it forgot costs a look at the log.
MOST_REMEMBERED = 10_000


def clusters_with_issuer() -> list[str]:
    """Return the names of the clusters whose pods can sign in here."""
    return [cluster.name for cluster in settings.KUBERNETES.clusters if cluster.issuer]


def identities_of(tenant: Tenant) -> MembershipQuerySet:
    """Return the memberships of the robots as which the team's pods sign in."""
    own = Membership.objects.filter(tenant=tenant, user__identity__tenant=tenant)
    return own.select_related("user__identity", "tenant").order_by(
        "user__identity__cluster", "user__identity__service_account"
    )


# --- what a team's admins do ---------------------------------------------------------------


@transaction.atomic
def create(
    tenant: Tenant, cluster: str, service_account: str, role: str, actor: User | None = None
) -> WorkloadIdentity:
    """Let pods of that service account in the team's namespace sign in, with that role.

    The account need not be there yet; the first one of this name that signs in is the one that is
    meant. Raises ValidationError, which names the argument, and PermissionDenied for an ``actor``
    who is no admin of the team.
    """
    _check(cluster, service_account, role)
    # The tenant's row orders two who do the same at the same time.
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    check_maker(tenant, role, actor)
    made = WorkloadIdentity(
        tenant=tenant, cluster=cluster, service_account=service_account, created_by=actor
    )
    own = WorkloadIdentity.objects.filter(tenant=tenant)
    if own.filter(cluster=cluster, service_account=service_account).exists():
        text = f"The service account “{service_account}” of {cluster} signs in here already."
        raise ValidationError({"service_account": text})
    if own.count() >= MOST_IDENTITIES:
        raise ValidationError(f"There are {MOST_IDENTITIES} identities already; remove one first.")
    robot = User(username=user_name(tenant, _name(cluster, service_account)), robot_of=tenant)
    robot.set_unusable_password()
    robot.save(force_insert=True)
    made.user = robot
    made.save(force_insert=True)
    directory.let_in(tenant, robot, role, actor=actor)
    return made


@transaction.atomic
def change_role(membership: Membership, role: str, actor: User | None = None) -> None:
    """Give an identity another role, from its next request on; raises what ``create`` does."""
    if role not in ROLES:
        raise ValidationError({"role": _roles()})
    check_maker(membership.tenant, role, actor)
    directory.change_role(membership, role, actor)


@transaction.atomic
def trust(found: WorkloadIdentity, uid: str, actor: User | None = None) -> None:
    """Let the service account that has ``uid`` sign in, and no longer the one that had the name.

    It is one that was refused and is named as the log shows it, so that nobody else slips in.
    Raises ValidationError for any other and PermissionDenied as ``create`` does.
    """
    check_maker(found.tenant, Role.VIEWER, actor)
    locked = WorkloadIdentity.objects.select_for_update().filter(pk=found.pk).first()
    with tenant_scope(found.tenant, actor):
        refused = refusals([locked]).get(found.pk) if locked is not None else None
        if locked is None or refused is None or refused.changes["uid"] != uid:
            raise ValidationError("No account with this uid is waiting to be trusted.")
        changes = {"from": locked.uid, "to": uid}
        audit.record("identity.trusted", found, label=_label(found), changes=changes)
    WorkloadIdentity.objects.filter(pk=found.pk).update(uid=uid)


@transaction.atomic
def remove(membership: Membership, actor: User | None = None) -> None:
    """Let the service account's pods in no more, at once; its robot's account is closed."""
    check_maker(membership.tenant, Role.VIEWER, actor)
    directory.remove_member(membership, actor)


def refusals(found: Iterable[WorkloadIdentity]) -> dict[UUID, AuditEvent]:
    """Return for each identity of the acting team the newest refusal of an account of its name.

    What was refused and is the trusted account by now is left out.
    """
    uids = {one.pk: one.uid for one in found}
    events = AuditEvent.objects.filter(action="identity.refused", object_id__in=uids)
    newest = events.order_by("object_id", "-created_at", "-id").distinct("object_id")
    return {
        event.object_id: event
        for event in newest
        if event.object_id is not None and event.changes["uid"] != uids[event.object_id]
    }


def _check(cluster: str, service_account: str, role: str) -> None:
    errors = {}
    if cluster not in clusters_with_issuer():
        errors["cluster"] = "Choose a cluster whose issuer is known here."
    if not is_subdomain(service_account):
        errors["service_account"] = (
            "Use the account's name alone: 1 to 253 lower-case letters, digits, “-” and “.”; "
            "begin and end with a letter or a digit."
        )
    if role not in ROLES:
        errors["role"] = _roles()
    if errors:
        raise ValidationError(errors)


def _roles() -> str:
    return f"A workload is {', '.join(ROLES[:-1])} or {ROLES[-1]}."


def _name(cluster: str, service_account: str) -> str:
    """Return the robot's name in its team; no robot that people make has an @ in it."""
    name = f"{service_account}@{cluster}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{service_account[:32]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}@{cluster[:32]}"


def _label(found: WorkloadIdentity) -> str:
    return f"{found.service_account}@{found.cluster}"


# --- what pods do --------------------------------------------------------------------------


class _Remembered:
    """The last things that were put in; for all threads of a process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Hashable, None] = {}
        self._lock = threading.Lock()

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._kept

    def add(self, thing: Hashable) -> None:
        """Put a thing in, and the oldest one out if there are too many."""
        with self._lock:
            self._kept[thing] = None
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def discard(self, thing: Hashable) -> None:
        """Take a thing out, if it is there."""
        with self._lock:
            self._kept.pop(thing, None)


_signed_in = _Remembered(MOST_REMEMBERED)


def sign_in(token: str, team: str = "") -> WorkloadCredential:
    """Return what a pod's token is looked up by, as ``tokens.credential`` does for ours.

    Whether it opens anything is asked later, each time. The first use of a token is written into
    the team's log, before anything is read with it. Raises BadToken and KeysUnavailable.
    """
    pod = pod_tokens.verify(token, team)
    if pod.digest not in _signed_in and _is_let_in(pod):
        _signed_in.add(pod.digest)
    return pod


def forget(credential: AnyCredential) -> None:
    """Let the token sign in anew: it opened nothing, so what is known of it is out of date."""
    if isinstance(credential, WorkloadCredential):
        _signed_in.discard(credential.digest)


@transaction.atomic
def _is_let_in(pod: WorkloadCredential) -> bool:
    """Tell whether the pod's account may sign in, and write it down; the first one is pinned."""
    found = (
        WorkloadIdentity.objects.filter(
            tenant__namespace=pod.namespace,
            cluster=pod.cluster,
            service_account=pod.service_account,
        )
        .select_related("tenant")
        .first()
    )
    if found is None:
        pod_tokens.say("no team lets its service account sign in", pod.cluster)
        return False
    if not found.uid:
        own = WorkloadIdentity.objects.filter(pk=found.pk)
        own.filter(uid="").update(uid=pod.uid)
        found.uid = own.values_list("uid", flat=True).first() or ""  # another one may be first
    if found.uid != pod.uid:
        pod_tokens.say("its service account is not the one that signed in first", pod.cluster)
        _record_refusal(found, pod)
        return False
    try:
        with token_scope(replace(pod, team="")):
            audit.record_once(
                _event_id(found, "signed in", pod.digest.hex()),
                "identity.signed_in",
                found,
                label=_label(found),
                changes=_said(pod),
            )
    except BadToken:  # its robot is deactivated
        return False
    return True


def _record_refusal(found: WorkloadIdentity, pod: WorkloadCredential) -> None:
    """Tell the team, once an hour, that another account of the name was refused."""
    hour = timezone.now().strftime("%Y-%m-%dT%H")
    with tenant_scope(found.tenant):
        audit.record_once(
            _event_id(found, "refused", f"{pod.uid} {hour}"),
            "identity.refused",
            found,
            label=_label(found),
            changes=_said(pod),
        )


def _event_id(found: WorkloadIdentity, what: str, which: str) -> UUID:
    """Return the id of the one event that says this, whichever process writes it."""
    digest = hashlib.sha256(f"{found.pk} {what} {which}".encode()).digest()
    return UUID(bytes=digest[:16], version=4)


def _said(pod: WorkloadCredential) -> dict[str, str]:
    """Return what the log keeps of a pod; ``via`` of the events that it causes is ``token``."""
    return {
        "cluster": pod.cluster,
        "service_account": pod.service_account,
        "uid": pod.uid,
        "pod": pod.pod,
        "pod_uid": pod.pod_uid,
        "token": pod.token_id,
        "token_name": pod.token_name,
        "expires_at": pod.expires_at.isoformat(),
    }
