"""Workload identities: service accounts of a team's namespace whose pods sign in without a secret.

A pod shows the token that its cluster gave it (``tenants.identity.pod_tokens``). A team's admins
say which service accounts may sign in, and with which role. Each one has a robot of its own, which
holds no token of ours; the robot's role is what the pods may do.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.bounded import BoundedDict
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

#: At most this many workload identities per team.
MAX_IDENTITIES = 50
#: A robot's name has at most this many characters; a longer one is cut and ends in a digest.
MAX_ROBOT_NAME_CHARS = 80
#: At most this many tokens are remembered as signed in; a forgotten one costs one more query.
MAX_REMEMBERED_TOKENS = 10_000


def clusters_with_issuer() -> list[str]:
    """Return the names of the clusters whose pods can sign in: those with a configured issuer."""
    return [cluster.name for cluster in settings.KUBERNETES.clusters if cluster.issuer]


def identities_of(tenant: Tenant) -> MembershipQuerySet:
    """Return the memberships of the team's workload identities: those of their robots."""
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

    The service account need not exist yet: the first one of this name that signs in is pinned by
    its uid. Raises ValidationError, which names the argument, and PermissionDenied for an ``actor``
    who is no admin of the team.
    """
    _check(cluster, service_account, role)
    # Lock the tenant row, so that two requests for the same service account are serialized.
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    check_maker(tenant, role, actor)
    made = WorkloadIdentity(
        tenant=tenant, cluster=cluster, service_account=service_account, created_by=actor
    )
    own = WorkloadIdentity.objects.filter(tenant=tenant)
    if own.filter(cluster=cluster, service_account=service_account).exists():
        text = f"The service account “{service_account}” of {cluster} signs in here already."
        raise ValidationError({"service_account": text})
    if own.count() >= MAX_IDENTITIES:
        raise ValidationError(f"There are {MAX_IDENTITIES} identities already; remove one first.")
    robot = User(username=user_name(tenant, _name(cluster, service_account)), robot_of=tenant)
    robot.set_unusable_password()
    robot.save(force_insert=True)
    made.user = robot
    made.save(force_insert=True)
    directory.let_in(tenant, robot, role, actor=actor)
    return made


@transaction.atomic
def change_role(membership: Membership, role: str, actor: User | None = None) -> None:
    """Give a workload identity another role, from its pods' next request on.

    Raises ValidationError for an unknown role and PermissionDenied as ``create`` does.
    """
    if role not in ROLES:
        raise ValidationError({"role": _roles()})
    check_maker(membership.tenant, role, actor)
    directory.change_role(membership, role, actor)


@transaction.atomic
def trust(found: WorkloadIdentity, uid: str, actor: User | None = None) -> None:
    """Pin the service account with ``uid`` in place of the one that had the name before.

    ``uid`` must be the one whose refusal the log shows last, so that the admin trusts what the page
    showed and nothing newer. Raises ValidationError for any other and PermissionDenied as
    ``create`` does.
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
    """Refuse the service account's pods from now on and deactivate its robot's account.

    Raises PermissionDenied as ``create`` does.
    """
    check_maker(membership.tenant, Role.VIEWER, actor)
    directory.remove_member(membership, actor)


def refusals(found: Iterable[WorkloadIdentity]) -> dict[UUID, AuditEvent]:
    """Return the newest refusal for each of the acting team's workload identities, by id.

    A refusal of the service account that is pinned by now is left out.
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
    """Return the robot's name in its team; the @ keeps it apart from names that people choose."""
    name = f"{service_account}@{cluster}"
    if len(name) <= MAX_ROBOT_NAME_CHARS:
        return name
    return f"{service_account[:32]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}@{cluster[:32]}"


def _label(found: WorkloadIdentity) -> str:
    return f"{found.service_account}@{found.cluster}"


# --- what pods do --------------------------------------------------------------------------


#: The digests of tokens whose first use is in the log already.
_signed_in: BoundedDict[bytes, None] = BoundedDict(MAX_REMEMBERED_TOKENS)


def sign_in(token: str, team: str = "") -> WorkloadCredential:
    """Return what a pod's token is looked up by, as ``tokens.credential`` does for ours.

    The scope asks at each request whether the token opens anything. A token's first use is written
    into the team's log before anything is read with it. Raises BadToken and KeysUnavailable.
    """
    pod = pod_tokens.verify(token, team)
    if pod.digest not in _signed_in and _is_let_in(pod):
        _signed_in.put(pod.digest, None)
    return pod


def forget(credential: AnyCredential) -> None:
    """Forget that the token signed in; for one that opened nothing, so it is checked again."""
    if isinstance(credential, WorkloadCredential):
        _signed_in.discard(credential.digest)


@transaction.atomic
def _is_let_in(pod: WorkloadCredential) -> bool:
    """Tell whether the pod's service account may sign in, and write the audit event.

    The first service account of its name is pinned by its uid.
    """
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
        pod_tokens.log_refusal("no team lets its service account sign in", pod.cluster)
        return False
    if not found.uid:
        own = WorkloadIdentity.objects.filter(pk=found.pk)
        own.filter(uid="").update(uid=pod.uid)
        found.uid = own.values_list("uid", flat=True).first() or ""  # another request may be first
    if found.uid != pod.uid:
        pod_tokens.log_refusal(
            "its service account is not the one that signed in first", pod.cluster
        )
        _record_refusal(found, pod)
        return False
    try:
        with token_scope(replace(pod, team="")):
            audit.record_once(
                _event_id(found, "signed in", pod.digest.hex()),
                "identity.signed_in",
                found,
                label=_label(found),
                changes=_pod_fields(pod),
            )
    except BadToken:  # its robot is deactivated
        return False
    return True


def _record_refusal(found: WorkloadIdentity, pod: WorkloadCredential) -> None:
    """Write, at most once an hour, that another service account of the name was refused."""
    hour = timezone.now().strftime("%Y-%m-%dT%H")
    with tenant_scope(found.tenant):
        audit.record_once(
            _event_id(found, "refused", f"{pod.uid} {hour}"),
            "identity.refused",
            found,
            label=_label(found),
            changes=_pod_fields(pod),
        )


def _event_id(found: WorkloadIdentity, what: str, which: str) -> UUID:
    """Return an event id that is the same in every process, so that the event is written once."""
    digest = hashlib.sha256(f"{found.pk} {what} {which}".encode()).digest()
    return UUID(bytes=digest[:16], version=4)


def _pod_fields(pod: WorkloadCredential) -> dict[str, str]:
    """Return what an audit event says of a pod; ``token`` is the ``via`` of what the pod does."""
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
