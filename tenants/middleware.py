"""Opens the scope for each request, so that a view finds it open or is never reached."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
)
from django.urls import Resolver404, resolve

from tenants.access import is_platform_admin, let_send, policy_of
from tenants.audit import acting_from
from tenants.context import my_teams
from tenants.isolation.credentials import NotAMember
from tenants.isolation.scope import member_scope, scope_or_none
from tenants.models import User
from tenants.requests import client_ip, read_form
from tenants.team_paths import read_team_path

#: Only what can be a slug is looked up: PostgreSQL refuses some texts, such as one with a NUL.
SLUG = re.compile(r"[a-z0-9_-]{1,40}")
ADMIN_PATH = "/admin/"

#: The session's key for the team that a platform admin has chosen inside the Django admin.
ADMIN_TEAM = "admin_team"


class TenantMiddleware:
    """Act for the tenant in the URL, as the signed-in person, for exactly one request.

    The request is one transaction, committed when the page has been rendered and rolled back when
    the view raised; but for a view that receives bytes (``tenants.access.receives_bytes``), which
    is called without a scope once the right to send them is proven. A tenant that does not exist
    and one of others answer alike: 404.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with acting_from(client_ip(request)):
            return self._answer(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        team = read_team_path(request.path_info)
        if team is not None and SLUG.fullmatch(team.slug):
            return self._in_team(request, team.slug)
        if request.path_info.startswith(ADMIN_PATH) and is_platform_admin(request.user):
            return self._in_admin(request)
        return self.get_response(request)

    def _in_team(self, request: HttpRequest, slug: str) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        perm = perm_to_send(request)
        try:
            if perm is not None and _may(request.user, slug, perm):
                let_send(request, perm)
                return self.get_response(request)
            # Read the form before the scope opens: its body may take hours to arrive, and the
            # transaction would stay open meanwhile.
            if not read_form(request):
                return HttpResponse(
                    "This is more than a form may hold.\n",
                    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    content_type="text/plain",
                )
            with member_scope(request.user, slug):
                return self.get_response(request)
        except NotAMember:
            raise Http404 from None

    def _in_admin(self, request: HttpRequest) -> HttpResponseBase:
        """Let a platform admin act for one of their own teams; without one no scope is open."""
        slugs = [membership.tenant.slug for membership in my_teams(request)]
        chosen = request.session.get(ADMIN_TEAM)
        slug = chosen if chosen in slugs else "".join(slugs[:1])
        try:
            with member_scope(request.user, slug):  # type: ignore[arg-type]  # not anonymous
                return self.get_response(request)
        except NotAMember:
            return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Refuse a view that declares no policy; the system check finds it before a user does."""
        if policy_of(view) is None and not is_admin_view(request):
            raise Http404
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Roll back what the view did: Django turns its exception into a page before we see it."""
        if scope_or_none() is not None:
            transaction.set_rollback(True)


def _may(user: User, slug: str, perm: str) -> bool:
    with member_scope(user, slug):
        return user.has_perm(perm)


def perm_to_send(request: HttpRequest) -> str | None:
    """Return the permission of a view that receives bytes; None if any other view answers."""
    try:
        policy = policy_of(resolve(request.path_info).func)
    except Resolver404:
        return None
    return policy.perm if policy is not None and policy.receives else None


def is_admin_view(request: HttpRequest) -> bool:
    """Tell whether the request goes to the Django admin, which asks for staff by itself."""
    match = request.resolver_match or resolve(request.path_info)
    return match.namespace == "admin"
