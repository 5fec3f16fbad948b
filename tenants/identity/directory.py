"""The verbs on tenants, memberships and accounts; each writes its event in the same transaction."""

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
    """Make a tenant, and ``admin`` its first admin; raises ValidationError for a bad slug."""
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
    """Save a checked, new ``tenant`` with its group and first admin.

    Raises ValidationError for a size that there is not.
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
    """Save what was edited of ``tenant``: its name, contact, description and size.

    Raises ValidationError for a size that there is not.
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
    """Make the tenant read-only for its members."""
    _set_status(tenant, Tenant.Status.SUSPENDED, "tenant.suspended", actor)


def resume_tenant(tenant: Tenant, actor: User | None = None) -> None:
    """Let the tenant's members write again."""
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
    """Let ``user`` into ``tenant``; raises ValidationError for a robot and for a member."""
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
    """Make ``user`` a member; whoever makes a new robot of the team calls it for that."""
    _keep_robots_below_admins(user, role)
    # The tenant's row orders two who add the same person at the same time.
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
    """Give a member another role; raises ValidationError for the last admin.

    Tokens of robots that may now do more than whoever made the token are revoked.
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
    """Put a member out, at once; raises ValidationError for the last admin.

    The person's tokens for this team and those that the person made for its robots are revoked.
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
    """Close a robot's account and free its name: another robot of that name is another account.

    A service account that signs in as the robot does so no more.
    """
    WorkloadIdentity.objects.filter(user=robot).delete()
    robot.username = f"{robot.username}.removed{robot.pk}"
    robot.save(update_fields=["username"])
    deactivate_user(robot, actor)


@transaction.atomic
def set_active(user: User, *, active: bool, actor: User | None = None) -> None:
    """Activate or deactivate an account; a deactivated one's sessions end at the next request.

    Accounts are never deleted: history names them.
    """
    if user.is_active == active:
        return
    user.is_active = active
    user.save(update_fields=["is_active"])
    action = "account_activated" if active else "account_deactivated"
    audit.record_account(action, user, changes={"by": actor.username if actor else "system"})


def deactivate_user(user: User, actor: User | None = None) -> None:
    """Let the account in nowhere any more."""
    set_active(user, active=False, actor=actor)


def _lock(membership: Membership) -> Membership:
    # The tenant's row orders two admins who remove each other at the same time. Its key stays
    # free: a write with a token of the one who goes out asks for it last, and holds the token.
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
