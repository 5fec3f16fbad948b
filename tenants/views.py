"""Pages about people and teams: choosing a team, its members, its activity."""

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tenants import people
from tenants.access import forbidden, member, public, signed_in
from tenants.context import my_teams
from tenants.forms import MemberForm, ThemeForm
from tenants.middleware import is_here
from tenants.models import AuditEvent, Membership, Role
from tenants.paging import InvalidCursor, paginate
from tenants.scope import current_scope

THEME_AGE = 60 * 60 * 24 * 365


@signed_in
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Go to my only team, or let me choose; without a team say how to get into one."""
    teams = my_teams(request)
    if len(teams) == 1:
        return redirect("team_home", teams[0].tenant.slug)
    return render(request, "tenants/home.html", {"teams": teams})


@public
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keep the chosen colours in a cookie, so that the page comes in them at once."""
    form = ThemeForm(request.POST)
    if not form.is_valid():
        raise Http404
    back = request.headers.get("Referer", "")
    if not is_here(request, back):
        back = reverse("home")
    response = redirect(back)
    response.set_cookie(
        "theme",
        form.cleaned_data["theme"],
        max_age=THEME_AGE,
        samesite="Lax",
        secure=request.is_secure(),
    )
    return response


@member
@require_safe
def activity(request: HttpRequest, tenant: str) -> HttpResponse:
    """Show what happened in the team, newest first."""
    events = AuditEvent.objects.select_related("actor")
    asked = request.GET.get("action", "")
    action = asked if asked in ACTIONS else ""
    if action:
        events = events.filter(action__startswith=f"{action}.")
    try:
        page = paginate(events, ("-created_at", "-id"), request.GET.get("after", ""), query=action)
    except InvalidCursor:
        return redirect(request.path)
    query = f"action={action}" if action else ""
    context = {"page": page, "action": action, "actions": ACTIONS, "query": query}
    return render(request, "tenants/activity.html", context)


#: What the activity page can be narrowed to: the first word of an event's action.
ACTIONS = {
    "model": "Models",
    "version": "Versions",
    "alias": "Aliases",
    "grant": "Sharing",
    "member": "Members",
    "tenant": "Team",
    "access": "Refusals",
}


@member
@require_http_methods(["GET", "HEAD", "POST"])
def members(request: HttpRequest, tenant: str) -> HttpResponse:
    """List the team's people; its admins change roles and remove members here."""
    if request.method == "POST":
        if not request.user.has_perm("tenants.manage_members"):
            return forbidden(request, "tenants.manage_members")
        return _change_member(request, tenant)
    return _members_page(request)


def _members_page(
    request: HttpRequest, error: str = "", status: int = HTTPStatus.OK
) -> HttpResponse:
    team = Membership.objects.filter(tenant_id=current_scope().tenant_id)
    context: dict[str, Any] = {
        "members": team.select_related("user").order_by("user__username"),
        "roles": Role.choices,
        "error": error,
    }
    return render(request, "tenants/members.html", context, status=status)


def _change_member(request: HttpRequest, tenant: str) -> HttpResponse:
    form = MemberForm(request.POST)
    if not form.is_valid():
        return _members_page(request, "Choose a role.", HTTPStatus.UNPROCESSABLE_ENTITY)
    team = Membership.objects.filter(tenant_id=current_scope().tenant_id)
    found = team.filter(user=form.cleaned_data["user"]).select_related("user", "tenant")
    membership = found.first()
    if membership is None:
        raise Http404
    person, role = membership.user.display_name, form.cleaned_data["role"]
    actor: Any = request.user
    try:
        if role == "remove":
            people.remove_member(membership, actor)
            messages.success(request, f"{person} is no longer in this team.")
        else:
            people.change_role(membership, role, actor)
            messages.success(request, f"{person} is {role} now.")
    except ValidationError as error:
        return _members_page(request, " ".join(error.messages), HTTPStatus.UNPROCESSABLE_ENTITY)
    # Who has just removed themselves sees nothing of this team any more.
    if role == "remove" and membership.user == actor:
        return redirect("home")
    return redirect("members", tenant)
