"""Robots: a team's service accounts. They hold tokens, sign in nowhere and belong to one team."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Prefetch

from tenants.identity import directory, tokens
from tenants.models import (
    ROBOT,
    ROBOT_NAME,
    ApiToken,
    Membership,
    MembershipQuerySet,
    Role,
    Tenant,
    User,
)

#: Not admin: a robot that manages members could let in other accounts.
ROLES = (Role.VIEWER, Role.CONTRIBUTOR, Role.MAINTAINER)
MAX_ROBOTS = 50


def robots_of(tenant: Tenant) -> MembershipQuerySet:
    """Return the memberships of the team's robots, by name, each with its valid tokens.

    The robots of workload identities are left out: pods sign in as them, without a token of ours
    (``tenants.identity.workloads``).
    """
    living = ApiToken.objects.living().select_related("created_by")
    robots = Membership.objects.filter(tenant=tenant, user__robot_of=tenant, user__identity=None)
    return (
        robots.select_related("user", "tenant")
        .prefetch_related(Prefetch("user__tokens", living, to_attr="living_tokens"))
        .order_by("user__username")
    )


def robot_named(tenant: Tenant, name: str) -> Membership | None:
    """Return the membership of the team's robot of that name, or None."""
    if not ROBOT_NAME.fullmatch(name):
        name = ""
    return robots_of(tenant).filter(user__username=user_name(tenant, name)).first()


def user_name(tenant: Tenant, name: str) -> str:
    """Return the user name of the team's robot ``name``: no other team can have it."""
    return f"{ROBOT}{tenant.slug}.{name}"


@transaction.atomic
def create_robot(tenant: Tenant, name: str, role: str, actor: User | None = None) -> User:
    """Make a robot of ``tenant``, with no token yet.

    Raises ValidationError, which names the argument, and PermissionDenied for an ``actor`` who is
    no admin of the team.
    """
    errors = {}
    if not ROBOT_NAME.fullmatch(name):
        errors["name"] = (
            "Use 1 to 40 lower-case letters, digits, “-” and “_”; "
            "begin and end with a letter or a digit."
        )
    if role not in ROLES:
        errors["role"] = f"A robot is {', '.join(ROLES[:-1])} or {ROLES[-1]}."
    if errors:
        raise ValidationError(errors)
    # Lock the tenant row, so that two requests for the same name are serialized.
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    tokens.check_maker(tenant, role, actor)
    robot = User(username=user_name(tenant, name), robot_of=tenant)
    if User.objects.filter(username=robot.username).exists():
        raise ValidationError({"name": f"This team has a robot “{name}” already."})
    if robots_of(tenant).count() >= MAX_ROBOTS:
        raise ValidationError(f"There are {MAX_ROBOTS} robots already; remove one first.")
    robot.set_unusable_password()
    robot.save(force_insert=True)
    directory.let_in(tenant, robot, role, actor=actor)
    return robot


@transaction.atomic
def rotate_token(
    robot: User, *, scope: str, days: int, actor: User | None = None, once: str = ""
) -> tuple[ApiToken, str]:
    """Give the robot a new token and revoke the others; raises what ``create_token`` does."""
    token, secret = tokens.create_token(
        robot, robot.robot_name, scope=scope, days=days, actor=actor, once=once
    )
    tokens.revoke_others(token, actor)
    return token, secret


def remove_robot(robot: Membership, actor: User | None = None) -> None:
    """Deactivate the robot's account and revoke its tokens; another robot may take its name.

    Raises nothing: a robot is never a team's last admin.
    """
    directory.remove_member(robot, actor)
