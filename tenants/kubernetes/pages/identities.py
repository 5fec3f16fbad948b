"""Pages about workload identities: which service accounts' pods sign in, and as what."""

from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from tenants.access import member
from tenants.context import acting_team, me
from tenants.forms import VerbForm
from tenants.identity import workloads
from tenants.identity.robots import ROLES
from tenants.kubernetes import names
from tenants.kubernetes.bundle import examples
from tenants.models import Membership, Tenant
from tenants.requests import require_get_or_post

ROLE_CHOICES = [(role, role.label) for role in ROLES]
#: The HTML id of the list of names that the field for a service account suggests.
ACCOUNTS = "service-accounts"


class RoleForm(forms.Form):
    """What an identity's pods may do from now on."""

    role = forms.ChoiceField(choices=ROLE_CHOICES)


class IdentityForm(VerbForm):
    """A service account whose pods are to sign in."""

    cluster = forms.ChoiceField()
    service_account = forms.CharField(
        max_length=253,
        help_text="Its name in the team's namespace. The first account of this name that signs in "
        "is the one that is meant.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "list": ACCOUNTS}
        ),
    )
    role = forms.ChoiceField(
        choices=ROLE_CHOICES,
        help_text="It never manages members: a maintainer at most. Whoever may run pods in the "
        "namespace, a contributor for one, can run them as this account and do what it may do.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        clusters = [(name, name) for name in workloads.clusters_with_issuer()]
        cast(forms.ChoiceField, self.fields["cluster"]).choices = clusters


@member("tenants.manage_members")
@require_get_or_post
def identities_page(request: HttpRequest, tenant: str) -> HttpResponse:
    """List the service accounts whose pods sign in, and let in another one."""
    form, team = IdentityForm(request.POST or None), acting_team()
    if form.is_valid():
        try:
            made = workloads.create(team, **form.cleaned_data, actor=me(request))
        except ValidationError as error:
            form.add_verb_errors(error)
        else:
            messages.success(request, f"Pods of {made.service_account} sign in from now on.")
            return redirect("identities", tenant)
    return _page(request, team, form)


@member("tenants.manage_members")
@require_POST
def identity_role(request: HttpRequest, tenant: str, identity: UUID) -> HttpResponse:
    """Change what the identity's pods may do."""
    found, form = _identity(identity), RoleForm(request.POST)
    if not form.is_valid():
        return _page(request, found.tenant, IdentityForm(), "Choose a role.")
    workloads.change_role(found, form.cleaned_data["role"], me(request))
    account = found.user.identity.service_account
    messages.success(request, f"{account} is {form.cleaned_data['role']} now.")
    return redirect("identities", tenant)


@member("tenants.manage_members")
@require_get_or_post
def trust_identity(request: HttpRequest, tenant: str, identity: UUID) -> HttpResponse:
    """Ask, then let the account that was refused sign in, and its predecessor no more."""
    membership = _identity(identity)
    found = membership.user.identity
    refused = workloads.refusals([found]).get(found.pk)
    if request.method != "POST" and refused is not None:
        namespace = membership.tenant.namespace
        context = {"identity": found, "refused": refused, "namespace": namespace}
        return render(request, "tenants/trust_identity.html", context)
    try:
        workloads.trust(found, request.POST.get("uid", ""), me(request))
    except ValidationError as error:
        messages.warning(request, " ".join(error.messages))
    else:
        messages.success(request, f"The new {found.service_account} signs in from now on.")
    return redirect("identities", tenant)


@member("tenants.manage_members")
@require_get_or_post
def remove_identity(request: HttpRequest, tenant: str, identity: UUID) -> HttpResponse:
    """Ask, then let the identity's pods in no more."""
    found = _identity(identity)
    if request.method != "POST":
        context = {"identity": found.user.identity}
        return render(request, "tenants/remove_identity.html", context)
    account = found.user.identity.service_account
    workloads.remove(found, me(request))
    messages.success(request, f"Pods of {account} sign in no more.")
    return redirect("identities", tenant)


def _identity(pk: UUID) -> Membership:
    found = workloads.identities_of(acting_team()).filter(user__identity=pk).first()
    if found is None:
        raise Http404
    return found


def _page(request: HttpRequest, team: Tenant, form: IdentityForm, error: str = "") -> HttpResponse:
    """Show the list above the form; what was sent stays in it only if something is wrong."""
    here = settings.KUBERNETES
    rows = list(workloads.identities_of(team))
    refused = workloads.refusals([row.user.identity for row in rows])
    context = {
        "team": team,
        "rows": [(row, row.user.identity, refused.get(row.user.identity.pk)) for row in rows],
        "roles": ROLE_CHOICES,
        "clusters": workloads.clusters_with_issuer(),
        "accounts": [name for name in names.SERVICE_ACCOUNTS if name != names.DEFAULT],
        "accounts_id": ACCOUNTS,
        "form": form,
        "error": error,
        "audience": here.audience,
        "deployment": examples.deployment(team.slug, team.namespace, here),
        "shell": examples.shell(),
    }
    wrong = error or form.is_bound
    status = HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK
    return render(request, "tenants/identities.html", context, status=status)
