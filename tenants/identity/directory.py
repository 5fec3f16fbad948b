"""The verbs on tenants, memberships and accounts; each writes its audit event in its transaction.

Whether the ``actor`` may call a verb is the caller's question (``tenants.access``); the actor is
written into the event, None standing for the system.
"""

from collections.abc import Mapping
from datetime import datetime

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from tenants import audit
from tenants.clusters import namespace_of
from tenants.identity import tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import Membership, Role, Tenant, User, WorkloadIdentity
from tenants.sizes import SizeName, size_of


@transaction.atomic
def create_tenant(
    slug: str,
    name: str = "",
    *,
    contact: str = "",
    description: str = "",
    size: str = SizeName.SMALL,
    admin: User | None = None,
    actor: User | None = None,
) -> Tenant:
    """Make a tenant, and ``admin`` its first admin.

    Raises ValidationError, by field, for a slug that is malformed, reserved or taken, and for an
    unknown size or another value that the model refuses.
    """
    tenant = Tenant(
        slug=slug, name=name or slug, contact=contact, description=description, size=size
    )
    tenant.full_clean(exclude=["group", "namespace"])
    try:
        with transaction.atomic():
            return add_tenant(tenant, admin=admin, actor=actor)
    except IntegrityError:  # somebody took the slug since it was checked
        raise ValidationError({"slug": f"A tenant “{slug}” was made meanwhile."}) from None


@transaction.atomic
def add_tenant(tenant: Tenant, *, admin: User | None, actor: User | None = None) -> Tenant:
    """Save a new ``tenant``, whose fields were validated, with its group and first admin.

    Raises ValidationError for an unknown or malformed size, and IntegrityError for a slug that was
    taken since.
    """
    size_of(tenant.size, tenant.custom_size)
    tenant.group = Group.objects.create(name=f"tenant:{tenant.slug}")
    tenant.namespace = namespace_of(tenant.slug)
    tenant.save(force_insert=True)
    with tenant_scope(tenant, actor):
        audit.record("tenant.created", changes={"name": tenant.name, **_size(tenant)})
    if admin is not None:
        add_member(tenant, admin, Role.ADMIN, actor=actor)
    return tenant


def _size(tenant: Tenant) -> dict[str, object]:
    """Return the size for the log, with its numbers if it has numbers of its own."""
    custom = {"custom_size": tenant.custom_size} if tenant.custom_size else {}
    return {"size": str(tenant.size), **custom}


@transaction.atomic
def update_tenant(tenant: Tenant, *, actor: User | None = None) -> Tenant:
    """Save the edited name, contact, description and size of ``tenant``.

    Raises ValidationError for an unknown or malformed size.
    """
    fields = ("name", "contact", "description", "size", "custom_size")
    size_of(tenant.size, tenant.custom_size)
    before = Tenant.objects.select_for_update(no_key=True).values(*fields).get(pk=tenant.pk)
    tenant.save(update_fields=fields)
    changed = {
        name: getattr(tenant, name) for name in fields if before[name] != getattr(tenant, name)
    }
    if changed:
        old = {name: before[name] for name in changed}
        with tenant_scope(tenant, actor):
            audit.record("tenant.updated", changes={"from": old, "to": changed})
    return tenant


def suspend_tenant(tenant: Tenant, actor: User | None = None) -> None:
    """Make the tenant read-only for its members; one that is suspended stays so. Raises nothing."""
    _set_status(tenant, Tenant.Status.SUSPENDED, "tenant.suspended", actor)


def resume_tenant(tenant: Tenant, actor: User | None = None) -> None:
    """Let the tenant's members write again; an active one stays so. Raises nothing."""
    _set_status(tenant, Tenant.Status.ACTIVE, "tenant.resumed", actor)


@transaction.atomic
def _set_status(tenant: Tenant, status: str, action: str, actor: User | None) -> None:
    locked = Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    tenant.status = status
    if locked.status == status:
        return
    tenant.save(update_fields=["status"])
    with tenant_scope(tenant, actor):
        audit.record(action, changes={"from": locked.status, "to": status})


@transaction.atomic
def add_member(
    tenant: Tenant,
    user: User,
    role: str,
    *,
    reason: str = "",
    expires_at: datetime | None = None,
    actor: User | None = None,
) -> Membership:
    """Make ``user`` a member of ``tenant``; raises ValidationError for a robot and for a member."""
    if user.robot_of_id is not None:
        text = "A robot belongs to the team that made it, and to no other."
        raise ValidationError({"user": ValidationError(text, code="robot")})
    return let_in(tenant, user, role, reason=reason, expires_at=expires_at, actor=actor)


def let_in(
    tenant: Tenant,
    user: User,
    role: str,
    *,
    reason: str = "",
    expires_at: datetime | None = None,
    actor: User | None = None,
) -> Membership:
    """Make ``user``, a person or a robot that was just made for the tenant, its member.

    Raises ValidationError for a robot as admin and for somebody who is a member already.
    """
    _keep_robots_below_admins(user, role)
    # Lock the tenant row, so that two requests that add the same person are serialized.
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    membership = Membership(
        tenant=tenant, user=user, role=role, reason=reason, expires_at=expires_at
    )
    membership.full_clean()
    membership.save(force_insert=True)
    tenant.group.user_set.add(user)
    changes = {"from": None, "to": role, "reason": reason}
    if expires_at is not None:
        changes["expires_at"] = expires_at.isoformat()
    _record(membership, "added", changes, actor)
    return membership


@transaction.atomic
def change_role(membership: Membership, role: str, actor: User | None = None) -> None:
    """Give a member another role.

    A robot's tokens are revoked if the member made them and now has a lower role than the robot.
    Raises ValidationError for an unknown role, for a robot as admin, and for the last admin.
    """
    if role not in Role.values:
        raise ValidationError(f"“{role}” is no role; choose one of {', '.join(Role.values)}.")
    locked = _lock(membership)
    if locked.role == role:
        return
    if role != Role.ADMIN:
        _keep_an_admin(locked)
    _keep_robots_below_admins(locked.user, role)
    membership.role = role
    membership.save(update_fields=["role"])
    _record(membership, "role_changed", {"from": locked.role, "to": role}, actor)
    tokens.revoke_beyond_makers(locked.tenant, actor)


@transaction.atomic
def remove_member(membership: Membership, actor: User | None = None) -> None:
    """End a membership at once; a robot's account is deactivated as well.

    The member's tokens for this tenant and those that the member made for its robots are revoked.
    Raises ValidationError for the last admin.
    """
    locked = _lock(membership)
    _keep_an_admin(locked)
    _record(locked, "removed", {"from": locked.role, "to": None}, actor)
    tokens.revoke_bound(locked.user, locked.tenant, actor)
    locked.tenant.group.user_set.remove(locked.user)
    locked.delete()
    tokens.revoke_beyond_makers(locked.tenant, actor)
    if locked.user.robot_of_id is not None:
        _retire(locked.user, actor)


def _retire(robot: User, actor: User | None) -> None:
    """Deactivate a robot's account and rename it, so that a new robot may have the name.

    Its workload identity, if it has one, is deleted: the service account no longer signs in.
    """
    WorkloadIdentity.objects.filter(user=robot).delete()
    robot.username = f"{robot.username}.removed{robot.pk}"
    robot.save(update_fields=["username"])
    deactivate_user(robot, actor)


@transaction.atomic
def set_active(user: User, *, active: bool, actor: User | None = None) -> None:
    """Activate or deactivate an account; a deactivated one's sessions end at the next request.

    Accounts are never deleted, since audit events refer to them. Raises nothing.
    """
    if user.is_active == active:
        return
    user.is_active = active
    user.save(update_fields=["is_active"])
    action = "account_activated" if active else "account_deactivated"
    audit.record_account(action, user, changes={"by": actor.username if actor else "system"})


def deactivate_user(user: User, actor: User | None = None) -> None:
    """Deactivate an account: no session, token or membership of it works. Raises nothing."""
    set_active(user, active=False, actor=actor)


def _lock(membership: Membership) -> Membership:
    # Lock the tenant row, so that two admins who remove each other are serialized. FOR NO KEY
    # UPDATE: a request with the removed member's token takes a key-share lock on the tenant last;
    # a full lock would deadlock with it.
    Tenant.objects.select_for_update(no_key=True).get(pk=membership.tenant_id)
    return Membership.objects.select_related("tenant__group", "user").get(pk=membership.pk)


def _keep_robots_below_admins(user: User, role: str) -> None:
    if user.robot_of_id is not None and role == Role.ADMIN:
        raise ValidationError({"role": "A robot is maintainer at most."})


def _keep_an_admin(membership: Membership) -> None:
    if membership.role != Role.ADMIN:
        return
    others = Membership.objects.active().filter(
        tenant=membership.tenant, role=Role.ADMIN, user__robot_of=None
    )
    if not others.exclude(pk=membership.pk).exists():
        raise ValidationError(
            f"{membership.user.display_name} is the last admin of this team. "
            "Make somebody else an admin first.",
            code="last_admin",
        )


def _record(
    membership: Membership, what: str, changes: Mapping[str, object], actor: User | None
) -> None:
    user = membership.user
    identity = WorkloadIdentity.objects.filter(user=user).first() if user.robot_of_id else None
    kind = "identity" if identity else "robot" if user.robot_of_id else "member"
    with tenant_scope(membership.tenant, actor):
        label = user.robot_name or user.username
        audit.record(f"{kind}.{what}", identity or membership, label=label, changes=dict(changes))
