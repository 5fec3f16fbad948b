"""The team's namespace: its page, and its bundle to download."""

from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tenants.access import member
from tenants.context import acting_team
from tenants.kubernetes.bundle import objects as bundle
from tenants.kubernetes.bundle import writers
from tenants.kubernetes.bundle.objects import Team
from tenants.kubernetes.pages import findings
from tenants.kubernetes.pages.network import picture_of
from tenants.models import NamespaceState


@member
@require_safe
def isolation(request: HttpRequest, tenant: str) -> HttpResponse:
    """Show what the namespace may use and who may do what there, and what the last look found."""
    return _page(request)


def _page(request: HttpRequest, **more: str) -> HttpResponse:
    here = settings.KUBERNETES
    acting = acting_team()
    team = bundle.team_of(acting)
    objects = bundle.render(team, here)
    looks = [findings.look_at(state, team, objects, here) for state in NamespaceState.objects.all()]
    limits, forbidden = findings.limits_of(objects)
    seen = {look.state.cluster for look in looks}
    context = {
        "team": acting,
        "looks": looks,
        "unseen": [cluster.name for cluster in here.clusters if cluster.name not in seen],
        "known": any(look.is_known for look in looks),
        "limits": limits,
        "forbidden": forbidden,
        "picture": picture_of(objects, team.namespace, here),
        "roles": findings.roles_of(team, objects),
        "accounts": findings.accounts_of(objects),
        "defaults": findings.defaults_of(objects),
        "objects": objects,
        "binds_users": here.binds_users,
        **more,
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if "error" in more else HTTPStatus.OK
    return render(request, "tenants/isolation.html", context, status=status)


@member
@require_safe
def bundle_yaml(request: HttpRequest, tenant: str) -> HttpResponse:
    """Give the bundle as one file, which says at its top how to apply it."""
    team = bundle.team_of(acting_team())
    text = writers.bundle_yaml(team, settings.KUBERNETES)
    return _file(text.encode(), "application/yaml", f"{team.namespace}.yaml")


@member
@require_safe
def bundle_kustomize(request: HttpRequest, tenant: str) -> HttpResponse:
    """Give the team's folder for each cluster, as kustomize and a GitOps repository take it."""
    team = bundle.team_of(acting_team())
    return _zip(_folders(team), f"{team.namespace}-kustomize.zip")


@member
@require_safe
def bundle_argocd(request: HttpRequest, tenant: str) -> HttpResponse:
    """Give the same folders with Argo CD's applications for the repository in the address."""
    address = request.GET.get("repository", "").strip()
    try:
        repository = writers.Repository(address)
    except ValueError:
        text = "Say which repository Argo CD reads: an address without spaces and braces."
        return _page(request, error=text, repository=address)
    team = bundle.team_of(acting_team())
    files = _folders(team)
    for cluster in settings.KUBERNETES.clusters:
        files |= writers.argocd_files(cluster.name, repository)
    return _zip(files, f"{team.namespace}-argocd.zip")


def _folders(team: Team) -> dict[str, str]:
    here = settings.KUBERNETES
    files: dict[str, str] = {}
    for cluster in here.clusters:
        files |= writers.kustomize_files(team, here, cluster.name)
    return files


def _zip(files: dict[str, str], name: str) -> HttpResponse:
    return _file(writers.zip_of(files), "application/zip", name)


def _file(content: bytes, kind: str, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type=kind)
    # A namespace's name is a DNS label, so the file name needs no quoting.
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
