"""Who may do what: a role gives abilities in its own tenant, a grant gives reading of one model.

One question is asked everywhere: ``user.has_perm("models_registry.change_alias", model)``.
Each view says with a decorator of this module who may call it; one that says nothing is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Any, overload

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from guardian.backends import ObjectPermissionBackend
from guardian.core import ObjectPermissionChecker
from guardian.shortcuts import assign_perm, remove_perm

from tenants import audit
from tenants.isolation.scope import Scope, current_scope, scope_or_none
from tenants.models import Membership, Role, Tenant, User

View = Callable[..., HttpResponseBase]

_READ = frozenset(
    f"models_registry.view_{name}" for name in ("registeredmodel", "modelversion", "alias")
)
_EDIT = frozenset(
    {
        *(f"models_registry.{verb}_registeredmodel" for verb in ("add", "change")),
        *(f"models_registry.{verb}_modelversion" for verb in ("add", "change")),
        *(f"models_registry.{verb}_alias" for verb in ("add", "change", "delete")),
    }
)
_CURATE = frozenset(
    {
        "models_registry.delete_registeredmodel",
        "models_registry.delete_modelversion",
        "models_registry.recall_modelversion",
        "models_registry.share_registeredmodel",
        "models_registry.view_modelusergrant",
        "models_registry.view_modelgroupgrant",
    }
)
_MANAGE = frozenset({"tenants.manage_members", "tenants.change_tenant"})

#: The permissions of each role. Members of a suspended tenant have those in _READ alone.
ABILITIES: dict[str, frozenset[str]] = {
    Role.VIEWER: _READ,
    Role.CONTRIBUTOR: _READ | _EDIT,
    Role.MAINTAINER: _READ | _EDIT | _CURATE,
    Role.ADMIN: _READ | _EDIT | _CURATE | _MANAGE,
}


class TenantSuspended(PermissionDenied):
    """The acting tenant is suspended, so nothing in it may change."""

    def __init__(self) -> None:
        super().__init__("This team is suspended: its models can be read, not changed.")


def allows(scope: Scope, perm: str) -> bool:
    """Tell whether the scope's role includes ``perm``; a system scope may do everything."""
    if (scope.suspended or scope.reads_only) and perm not in _READ:
        return False
    if scope.role is None:
        return True
    return perm in ABILITIES[scope.role]


def require(perm: str) -> Scope:
    """Return the open scope if it allows ``perm``.

    Raises PermissionDenied, TenantSuspended for a write in a suspended tenant, and NoTenant without
    a scope.
    """
    scope = current_scope()
    if allows(scope, perm):
        return scope
    if scope.suspended and perm not in _READ:
        raise TenantSuspended
    if scope.reads_only:
        raise PermissionDenied("This token can only read; use one that can write.")
    raise PermissionDenied(f"Your role here is {scope.role}; this needs {role_with(perm)}.")


def role_with(perm: str) -> str:
    """Return the lowest role that includes ``perm``."""
    return next((role for role, abilities in ABILITIES.items() if perm in abilities), Role.ADMIN)


class RoleBackend(BaseBackend):
    """Answers from the acting member's role, for rows of the acting tenant only."""

    def has_perm(self, user_obj: Any, perm: str, obj: models.Model | None = None) -> bool:
        """Tell whether the role of ``user_obj`` in the open scope includes ``perm``."""
        scope = scope_or_none()
        if scope is None or scope.role is None or scope.user_id != user_obj.pk:
            return False
        owner = obj.pk if isinstance(obj, Tenant) else getattr(obj, "tenant_id", scope.tenant_id)
        return owner == scope.tenant_id and allows(scope, perm)


class GrantBackend(ObjectPermissionBackend):
    """guardian's backend, without its rule that a superuser has every permission on every row."""

    def has_perm(self, user_obj: Any, perm: str, obj: models.Model | None = None) -> bool:
        """Tell whether a grant names ``user_obj``, or the acting tenant's group, for ``obj``."""
        if obj is None or not user_obj.is_active or not isinstance(user_obj, User):
            return False
        app_label, codename = perm.split(".", 1)
        if app_label != obj._meta.app_label:
            return False
        checker = ObjectPermissionChecker(user_obj)
        return codename in {*checker.get_user_perms(obj), *checker.get_group_perms(obj)}


def share(
    obj: models.Model, *, with_tenant: Tenant | None = None, with_user: User | None = None
) -> None:
    """Let another tenant, or one person, read ``obj``.

    The grant is a guardian permission; a signal of its row writes the audit event. Raises
    PermissionDenied if the acting role does not include sharing, and ValueError unless exactly one
    grantee is given.
    """
    assign_perm(*_grant(obj, with_tenant, with_user))


def unshare(
    obj: models.Model, *, with_tenant: Tenant | None = None, with_user: User | None = None
) -> None:
    """Take a grant back, when the transaction commits; raises what ``share`` does."""
    perm, grantee, obj = _grant(obj, with_tenant, with_user)
    remove_perm(perm, grantee, obj)


def _grant(
    obj: models.Model, tenant: Tenant | None, user: User | None
) -> tuple[str, Any, models.Model]:
    require(f"{obj._meta.app_label}.share_{obj._meta.model_name}")
    if (tenant is None) == (user is None):
        raise ValueError("Share with a tenant or with a user: one of them.")
    return f"view_{obj._meta.model_name}", user or tenant.group, obj  # type: ignore[union-attr]


# --- who may call a view -------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """Who may call a view: anybody, anybody signed in, or a member (with ``perm``).

    A view that ``receives`` bytes runs without a scope; see ``receives_bytes``.
    """

    kind: str
    perm: str | None = None
    receives: bool = False


def _declare(view: View, policy: Policy) -> View:
    view.access_policy = policy  # type: ignore[attr-defined]  # read by the middleware and by the check
    return view


def policy_of(view: Any) -> Policy | None:
    """Return the policy that ``view`` declares, or None."""
    return getattr(view, "access_policy", None)


def public(view: View) -> View:
    """Let anybody call the view."""
    return _declare(view, Policy("public"))


def api(view: View) -> View:
    """Let whoever holds a token call the view, which asks for it by itself."""
    return _declare(view, Policy("token"))


def signed_in(view: View) -> View:
    """Let anybody who is signed in call the view."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        return view(request, *args, **kwargs)

    return _declare(checked, Policy("signed_in"))


@overload
def member(perm: View) -> View: ...
@overload
def member(perm: str) -> Callable[[View], View]: ...
def member(perm: View | str) -> View | Callable[[View], View]:
    """Let members of the tenant in the URL call the view; with a permission, those who have it.

    Used plain (``@member``) or with a permission (``@member("models_registry.add_modelversion")``).
    Who lacks the permission gets the 403 page, which names the role that has it.
    """
    if isinstance(perm, str):
        return lambda view: _members_only(view, perm)
    return _members_only(perm, None)


def _members_only(view: View, perm: str | None) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # TenantMiddleware opened the scope; without one the request is refused.
        if scope_or_none() is None:
            raise Http404
        if perm is not None and not request.user.has_perm(perm):
            return forbidden(request, perm)
        return view(request, *args, **kwargs)

    return _declare(checked, Policy("member", perm))


def receives_bytes(perm: str) -> Callable[[View], View]:
    """Let members who have ``perm`` send bytes to the view, which runs without a scope.

    A request is otherwise one transaction, and bytes may take hours to arrive. TenantMiddleware has
    asked for membership and permission, in a scope of its own, when the view begins; what the view
    reads and writes, it does in short scopes, which ask again. Nobody else reaches the view.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # TenantMiddleware opens a scope here only for a member without the permission, since
            # the 403 page needs one.
            if scope_or_none() is not None:
                return forbidden(request, perm)
            if not may_send(request, perm):
                raise Http404
            return view(request, *args, **kwargs)

        return _declare(checked, Policy("member", perm, receives=True))

    return decorate


def let_send(request: HttpRequest, perm: str) -> None:
    """Mark the request as sent by a member who has ``perm``; only TenantMiddleware may call it."""
    request._may_send = perm  # type: ignore[attr-defined]


def may_send(request: HttpRequest, perm: str) -> bool:
    """Tell whether ``let_send`` has marked the request for ``perm``."""
    return getattr(request, "_may_send", None) == perm


def is_platform_admin(user: Any) -> bool:
    """Tell whether ``user`` runs the platform."""
    return bool(user.is_active and user.is_staff and user.is_superuser)


def forbidden(request: HttpRequest, perm: str) -> HttpResponse:
    """Answer 403 with the needed role and the admins who can give it; write an audit event."""
    scope = current_scope()
    audit.record("access.denied", changes={"needed": perm, "role": scope.role})
    admins = Membership.objects.active().filter(tenant_id=scope.tenant_id, role=Role.ADMIN)
    context = {
        "needed_role": role_with(perm),
        "suspended": scope.suspended,
        "admins": [membership.user for membership in admins.select_related("user")],
    }
    return render(request, "403.html", context, status=HTTPStatus.FORBIDDEN)
