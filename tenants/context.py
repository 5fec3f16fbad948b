"""What every page and its template needs: the acting team, the person, and their abilities."""

from typing import Any, cast

from django.http import HttpRequest

from tenants.access import allows
from tenants.isolation.scope import Scope, current_scope, scope_or_none
from tenants.models import Membership, Tenant, User

#: The names that templates use (``can.edit``), and the permission that each stands for.
WORDS = {
    "register": "models_registry.add_registeredmodel",
    "edit": "models_registry.change_registeredmodel",
    "add_version": "models_registry.add_modelversion",
    "set_alias": "models_registry.change_alias",
    "archive": "models_registry.delete_registeredmodel",
    "delete": "models_registry.delete_registeredmodel",
    "recall": "models_registry.recall_modelversion",
    "share": "models_registry.share_registeredmodel",
    "manage_members": "tenants.manage_members",
}


def abilities(scope: Scope | None) -> dict[str, bool]:
    """Return for each word whether the acting person may do it here."""
    return {
        word: scope is not None and scope.role is not None and allows(scope, perm)
        for word, perm in WORDS.items()
    }


def team(request: HttpRequest) -> dict[str, Any]:
    """Add ``scope``, ``my_teams`` (read when a template asks for them) and ``can``."""
    scope = scope_or_none()
    return {
        "scope": scope,
        "my_teams": lambda: my_teams(request),
        "can": abilities(scope),
    }


def my_teams(request: HttpRequest) -> list[Membership]:
    """Return the memberships of the person who is signed in; read once a request."""
    if not hasattr(request, "user") or not request.user.is_authenticated:
        return []
    if not hasattr(request, "_my_teams"):
        own = Membership.objects.active().filter(user=request.user).select_related("tenant")
        request._my_teams = list(own.order_by("tenant__name"))  # type: ignore[attr-defined]  # a cache
    return request._my_teams  # type: ignore[attr-defined,no-any-return]


def me(request: HttpRequest) -> User:
    """Return who is signed in, where a view lets nobody else in."""
    return cast(User, request.user)


def acting_team() -> Tenant:
    """Return the acting tenant's own row; raises NoTenant without a scope."""
    return Tenant.objects.get(pk=current_scope().tenant_id)
