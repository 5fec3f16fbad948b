"""Pages about people and teams: choosing a team, its members, robots and tokens, its activity."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from tenants.access import forbidden, member, public, signed_in
from tenants.context import acting_team, me, my_teams
from tenants.forms import MemberForm, RobotForm, SecretForm, ThemeForm, TokenForm, VerbForm
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import current_scope
from tenants.models import (
    ApiToken,
    AuditEvent,
    Membership,
    Role,
    Tenant,
)
from tenants.paging import render_page
from tenants.requests import is_here, require_get_or_post
from tenants.team_paths import team_address

THEME_COOKIE_SECONDS = 60 * 60 * 24 * 365


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
        max_age=THEME_COOKIE_SECONDS,
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
    return render_page(
        request,
        "tenants/activity.html",
        events,
        ("-created_at", "-id"),
        query=f"action={action}" if action else "",
        action=action,
        actions=ACTIONS,
    )


#: The filters of the activity page: the first word of an event's action, and its label.
ACTIONS = {
    "model": "Models",
    "version": "Versions",
    "alias": "Aliases",
    "file": "Files",
    "grant": "Sharing",
    "member": "Members",
    "robot": "Robots",
    "identity": "Workloads",
    "token": "Tokens",
    "namespace": "Namespace",
    "tenant": "Team",
    "access": "Refusals",
}


@member
@require_get_or_post
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
        "members": team.select_related("user__identity").order_by("user__username"),
        "roles": Role.choices,
        "error": error,
    }
    return render(request, "tenants/members.html", context, status=status)


def _change_member(request: HttpRequest, tenant: str) -> HttpResponse:
    form = MemberForm(request.POST)
    if not form.is_valid():
        return _members_page(request, "Choose a role.", HTTPStatus.UNPROCESSABLE_ENTITY)
    team = Membership.objects.filter(tenant_id=current_scope().tenant_id)
    found = team.filter(user=form.cleaned_data["user"], user__robot_of=None).select_related(
        "user", "tenant"
    )
    membership = found.first()
    if membership is None:
        raise Http404
    person, role = membership.user.display_name, form.cleaned_data["role"]
    actor: Any = request.user
    try:
        if role == "remove":
            directory.remove_member(membership, actor)
            messages.success(request, f"{person} is no longer in this team.")
        else:
            directory.change_role(membership, role, actor)
            messages.success(request, f"{person} is {role} now.")
    except ValidationError as error:
        return _members_page(request, " ".join(error.messages), HTTPStatus.UNPROCESSABLE_ENTITY)
    # People who removed themselves may not see this team's pages any more.
    if role == "remove" and membership.user == actor:
        return redirect("home")
    return redirect("members", tenant)


# --- tokens and robots ---------------------------------------------------------------------


@member
@require_get_or_post
def my_tokens(request: HttpRequest, tenant: str) -> HttpResponse:
    """List my tokens and make one; its secret is on the answer to that form, and nowhere else."""
    form = TokenForm(request.POST or None)
    if not form.is_valid():
        return _tokens_page(request, form)
    fields = form.cleaned_data

    def make() -> NewToken:
        bound = acting_team() if fields["team"] == "this" else None
        return tokens.create_token(
            me(request),
            fields["name"],
            scope=fields["scope"],
            tenant=bound,
            days=fields["days"],
            actor=me(request),
            once=fields["once"],
        )

    return _made(request, form, make, lambda **made: _tokens_page(request, form, **made), "tokens")


@member
@require_get_or_post
def revoke_token(request: HttpRequest, tenant: str, token: UUID) -> HttpResponse:
    """Ask, then end one of my tokens."""
    found = ApiToken.objects.filter(pk=token, user=me(request)).select_related("tenant").first()
    if found is None:
        raise Http404
    if request.method != "POST" and found.revoked_at is None:
        return render(request, "tenants/revoke_token.html", {"token": found})
    tokens.revoke_token(found, me(request))
    messages.success(request, f"The token {found.name} is revoked.")
    return redirect("tokens", tenant)


@member("tenants.manage_members")
@require_get_or_post
def robots_page(request: HttpRequest, tenant: str) -> HttpResponse:
    """List the team's robots and make one with its first token, shown on that answer only."""
    team = acting_team()
    form = RobotForm(request.POST or None)
    if not form.is_valid():
        return _robots_page(request, team, form)
    fields = form.cleaned_data

    def make() -> NewToken:
        robot = robots.create_robot(team, fields["name"], fields["role"], me(request))
        return robots.rotate_token(
            robot,
            scope=fields["scope"],
            days=fields["days"],
            actor=me(request),
            once=fields["once"],
        )

    return _made(
        request, form, make, lambda **made: _robots_page(request, team, form, **made), "robots"
    )


@member("tenants.manage_members")
@require_get_or_post
def rotate_robot(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Give a robot a new token, shown on that answer only, and end the ones it had."""
    robot = _robot(name)
    team = robot.tenant
    form = SecretForm(request.POST or None, initial=_as_now(robot))

    def page(**made: Any) -> HttpResponse:
        if made:
            return _robots_page(request, team, form, **made)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
        context = {"robot": robot, "form": form}
        return render(request, "tenants/rotate_robot.html", context, status=status)

    if not form.is_valid():
        return page()
    fields = form.cleaned_data
    return _made(
        request,
        form,
        lambda: robots.rotate_token(robot.user, actor=me(request), **fields),
        page,
        "robots",
    )


@member("tenants.manage_members")
@require_get_or_post
def remove_robot(request: HttpRequest, tenant: str, name: str) -> HttpResponse:
    """Ask, then close a robot's account."""
    robot = _robot(name)
    if request.method != "POST":
        return render(request, "tenants/remove_robot.html", {"robot": robot})
    robots.remove_robot(robot, me(request))
    messages.success(request, f"The robot {name} is removed.")
    return redirect("robots", tenant)


NewToken = tuple[ApiToken, str]


def _robot(name: str) -> Membership:
    robot = robots.robot_named(acting_team(), name)
    if robot is None:
        raise Http404
    return robot


def _as_now(robot: Membership) -> dict[str, Any]:
    """Return the scope of the robot's newest token, as the form's initial value."""
    living = robot.user.living_tokens  # type: ignore[attr-defined]  # prefetched
    return {"scope": living[0].scope} if living else {}


def _made(
    request: HttpRequest,
    form: VerbForm,
    make: Callable[[], NewToken],
    page: Callable[..., HttpResponse],
    back: str,
) -> HttpResponse:
    """Make a token and show the page with its secret, or the form with its errors."""
    try:
        with transaction.atomic():
            token, secret = make()
    except ValidationError as error:
        form.add_verb_errors(error)
        return page()
    except tokens.AlreadyMade:
        # The page with the secret was reloaded, or its form was sent twice.
        text = "This token was made already. Its secret is shown once; make another if it is lost."
        messages.warning(request, text)
        return redirect(back, current_scope().slug)
    return page(made=token, secret=secret)


def _tokens_page(request: HttpRequest, form: TokenForm, **made: Any) -> HttpResponse:
    own = ApiToken.objects.living().filter(user=me(request)).select_related("tenant")
    return _page_with_form(request, "tenants/tokens.html", form, TokenForm, tokens=own, **made)


def _robots_page(request: HttpRequest, team: Tenant, form: SecretForm, **made: Any) -> HttpResponse:
    inside = Membership.objects.active().filter(tenant=team)
    context = {
        "robots": robots.robots_of(team),
        "inside": set(inside.values_list("user_id", flat=True)),
        **made,
    }
    return _page_with_form(request, "tenants/robots.html", form, RobotForm, **context)


def _page_with_form(
    request: HttpRequest, template: str, form: SecretForm, new: type[SecretForm], **context: Any
) -> HttpResponse:
    """Show a list above its form; what was sent stays in it only if something is wrong."""
    wrong = form.is_bound and "made" not in context
    context["form"] = form if wrong else new()
    context["address"] = team_address(current_scope().slug)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK
    return render(request, template, context, status=status)
