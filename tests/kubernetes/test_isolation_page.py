"""The team's page about its namespace, and its bundle to download."""

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from tenants import audit
from tenants.clusters import Cluster
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes.bundle import objects as bundle
from tenants.kubernetes.pages.findings import STALE_AFTER, STATES
from tenants.models import NamespaceState, Role, Tenant, User
from tests.support.answers import body, text_of
from tests.support.pages import Page
from tests.support.people import CANARY, World
from tests.support.states import foreign, looked, objects_of, quota_of

As = Callable[[User | None], Client]

PAGE = "/t/team_alpha/isolation/"
FILES = ("bundle.yaml", "kustomize.zip", "argocd.zip?repository=https://git.example.org/r")
HOSTILE = "<script>alert(1)</script>\"'{{ 7*7 }}&amp;"


def read(browser: Client, address: str = PAGE) -> Page:
    """Open a page and return it; it has no faults."""
    response = browser.get(address)
    assert response.status_code == 200
    page = Page(response.content.decode())
    assert not page.faults
    return page


def words(page: Page) -> str:
    """Return what people read, with single spaces, also between the cells of a table."""
    apart = Page(re.sub(r"(?=</(td|th|span)>)", " ", page.html))
    return re.sub(r"\s+", " ", apart.text)


def unzipped(response: Any) -> dict[str, str]:
    """Return the files of a zip."""
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


# --- before any cluster was looked at ------------------------------------------------------


def test_without_a_look_it_says_so_and_shows_what_will_be(world: World, as_: As) -> None:
    page = read(as_(world.bob))
    text = words(page)
    assert "No cluster has been looked at yet" in text
    assert "manage.py sync_kubernetes --mode observe" in text
    assert "bh-team-alpha" in text
    assert "of size small" in text
    for amount in ("4 cores", "32 GiB", "None allowed: GPUs, load balancers, node ports"):
        assert amount in text
    assert "<progress" not in page.html
    assert "The 18 objects of the bundle" in text
    assert "Gateway (gateway) model-server pods TCP 8080" in text
    assert "closed to everybody else" in text


@pytest.mark.parametrize("role", ["bob", "carol", "mia", "alice"])
def test_every_member_finds_it_in_the_navigation(world: World, as_: As, role: str) -> None:
    page = read(as_(world.person(role)), "/t/team_alpha/")
    assert PAGE in page.links


def test_it_leads_to_the_manifest_check_and_admins_to_identities(world: World, as_: As) -> None:
    check, identities = "/t/team_alpha/check/", "/t/team_alpha/admin/identities/"
    assert check in read(as_(world.bob)).links
    assert identities not in read(as_(world.bob)).links
    assert {check, identities} <= set(read(as_(world.alice)).links)


def test_a_custom_size_is_shown_in_its_numbers(world: World, as_: As) -> None:
    world.alpha.size, world.alpha.custom_size = "custom", {"cores": 3, "gpus": 1}
    directory.update_tenant(world.alpha)
    text = words(read(as_(world.bob)))
    assert "of size custom" in text
    assert "3 cores" in text
    assert "GPUs 1" in text


# --- what a look found ---------------------------------------------------------------------


def test_use_stands_beside_each_limit(world: World, as_: As) -> None:
    use = {"requests.cpu": "1500m", "limits.memory": "3Gi", "pods": "18", "services": "10"}
    looked(world.alpha, quota=quota_of(world.alpha, **use))
    page = read(as_(world.bob))
    text = words(page)
    for amount in ("1.5 of 4 cores", "3 of 32 GiB", "18 of 20 90 %", "10 of 10 full"):
        assert amount in text
    assert (
        '<progress class="" max="1" value="0.375" aria-label="CPU requested: 1.5 of 4 cores">'
        in (page.html)
    )
    assert 'class="nearly" max="1" value="0.900"' in page.html
    assert 'class="full" max="1" value="1.000"' in page.html
    assert page.html.count("<progress") == 16


def test_a_limit_that_is_not_what_it_should_be_says_so(world: World, as_: As) -> None:
    quota = quota_of(world.alpha)
    quota["pods"] = {"hard": "500", "used": "21"}
    quota["count/configmaps"] = {"hard": "51", "used": "garbage"}
    quota["count/widgets.example.org"] = {"hard": "3", "used": "1"}
    quota["count/gadgets.example.org"] = {"hard": "1e400", "used": "1e399"}
    quota["count/gizmos.example.org"] = {"hard": "-1e400", "used": "-1e400"}
    quota["secrets"] = {"hard": "10", "used": "-1e400"}
    looked(world.alpha, "drift", quota=quota)
    assert as_(world.dana).get("/admin/isolation/").status_code == 200
    text = words(read(as_(world.bob)))
    assert "-1.00e+400 of 10" in text
    assert "21 of 500 Should be 20" in text
    assert "garbage of 51" in text
    assert "count/widgets.example.org 1 of 3" in text
    assert "count/gadgets.example.org 1.00e+399 of 1.00e+400" in text


def test_what_is_wrong_comes_first_and_names_the_culprit(world: World, as_: As) -> None:
    found = objects_of(world.alpha, bh_compute="drift", bh_allow_dns="missing")
    [quota] = [one for one in found if one["name"] == "bh-compute"]
    quota["fields"] = [{"field": ".spec.hard.pods", "manager": "kubectl-edit"}]
    found += [foreign("NetworkPolicy", "open-door"), foreign("RoleBinding", "friends")]
    looked(world.alpha, "drift", objects_found=found, warnings=["The cluster says hm."])
    text = words(read(as_(world.bob)))
    order = [text.index(word) for word in ("open-door", "friends", "bh-compute", "bh-allow-dns")]
    assert order == sorted(order)
    assert "Not as it should be: 4 objects" in text
    assert "2 objects in the namespace are nobody's here" in text
    assert ".spec.hard.pods by kubectl-edit" in text
    assert "16 objects as they should be" in text
    assert "The cluster says hm." in text
    assert "in doubt" in text
    assert "Foreign policy open-door" in text
    assert "DNS (kube-system)" not in text


def test_every_state_of_an_object_has_its_word(world: World, as_: As) -> None:
    found = [{"kind": "Role", "name": f"n-{state}", "state": state} for state in STATES]
    looked(world.alpha, "drift", objects_found=found)
    text = words(read(as_(world.bob)))
    for state, (label, _) in STATES.items():
        assert f"Role n-{state} {label}" in text


def test_workloads_that_should_not_run_are_listed(world: World, as_: As) -> None:
    problem = {"kind": "Pod", "name": "serve-1", "problem": "The version is recalled."}
    looked(world.alpha, workloads=[problem])
    assert "Runs and should not Pod serve-1 The version is recalled." in words(read(as_(world.bob)))


def test_a_state_that_nobody_refreshed_is_marked_as_old(world: World, as_: As) -> None:
    looked(world.alpha, minutes=STALE_AFTER / timedelta(minutes=1) - 1)
    assert "Nobody has looked" not in words(read(as_(world.bob)))
    with tenant_scope(world.alpha):
        NamespaceState.objects.update(checked_at=timezone.now() - STALE_AFTER)
    assert "Nobody has looked for more than ten minutes" in words(read(as_(world.bob)))


def test_a_look_that_failed_says_why_and_one_that_found_somebody_elses_takes_nothing(
    world: World, as_: As
) -> None:
    looked(
        world.alpha,
        "error",
        cluster="east",
        error="It does not answer.",
        objects_found=[],
        quota={},
    )
    taken = [{"kind": "Namespace", "name": "bh-team-alpha", "state": "conflict"}]
    looked(world.alpha, "conflict", cluster="west", objects_found=taken, quota={})
    text = words(read(as_(world.bob)))
    assert "Cluster east Error" in text
    assert "It does not answer." in text
    assert "Cluster west Not ours" in text
    assert "is there and is not this team's" in text
    # No cluster is known, so the page shows what should be.
    assert "As the namespace will be" in text


def test_each_cluster_has_its_part(world: World, as_: As, settings: Settings) -> None:
    clusters = tuple(map(Cluster, ("east", "west", "north")))
    settings.KUBERNETES = replace(django_settings.KUBERNETES, clusters=clusters)
    when = timezone.now() - timedelta(days=2)
    looked(world.alpha, cluster="east", mode="enforce")
    found = objects_of(world.alpha, bh_allow_gateway="missing")
    looked(world.alpha, "drift", cluster="west", objects_found=found, in_sync_at=when)
    page = read(as_(world.bob))
    text = words(page)
    assert "Cluster east In sync" in text
    assert "Kept as it should be" in text
    assert "Watched; nothing is corrected" in text
    assert "Last in sync 2 days ago" in text
    assert "Not looked at yet: north" in text
    east, west = text.index("Cluster east"), text.index("Cluster west")
    assert "Gateway (gateway) model-server" in text[east:west]
    assert "Gateway (gateway) model-server" not in text[west:]
    assert page.html.count('<svg class="network') == 4


def test_a_namespace_that_is_not_there_yet_has_no_picture_of_its_own(world: World, as_: As) -> None:
    missing = [{**entry, "state": "missing"} for entry in objects_of(world.alpha)]
    looked(world.alpha, "drift", objects_found=missing, quota={})
    text = words(read(as_(world.bob)))
    assert "Not as it should be: 18 objects" in text
    assert "Anybody" not in text
    assert "As the namespace will be" in text


def test_whatever_a_cluster_says_is_shown_as_it_was_said(world: World, as_: As) -> None:
    found = [
        {
            "kind": "NetworkPolicy",
            "name": HOSTILE,
            "state": "foreign",
            "detail": HOSTILE,
            "fields": [{"field": HOSTILE, "manager": HOSTILE}],
        },
        *objects_of(world.alpha),
    ]
    looked(
        world.alpha,
        "drift",
        objects_found=found,
        workloads=[{"kind": HOSTILE, "name": HOSTILE, "problem": HOSTILE}],
        warnings=[HOSTILE],
        error=HOSTILE,
        version="v1 <b>",
        quota={HOSTILE: {"hard": HOSTILE, "used": HOSTILE}},
    )
    page = read(as_(world.bob))
    assert page.text.count(HOSTILE) >= 11
    assert "<script>" not in page.html


def test_what_became_different_in_a_cluster_is_in_the_teams_activity(world: World, as_: As) -> None:
    with tenant_scope(world.alpha):
        changes = {"cluster": "east", "from": "drift", "to": "in_sync"}
        audit.record("namespace.synced", label="east", changes=changes)
    page = read(as_(world.bob), "/t/team_alpha/activity/?action=namespace")
    assert "looked at the namespace in the cluster east: drift → in sync" in words(page)


# --- who is what ---------------------------------------------------------------------------


def test_groups_are_named_with_the_members_that_belong_in_them(world: World, as_: As) -> None:
    page = read(as_(world.bob))
    text = words(page)
    assert "Group bh:team_alpha:viewer Members: bob" in text
    assert "Group bh:team_alpha:editor Members: carol, mia" in text
    assert "Group bh:team_alpha:admin Members: alice" in text
    assert 'data-copy-text="bh:team_alpha:editor"' in page.html


def test_where_people_are_bound_they_are_named_as_the_cluster_calls_them(
    world: World, as_: As, settings: Settings
) -> None:
    settings.KUBERNETES = replace(django_settings.KUBERNETES, binds_users=True, user_prefix="oidc:")
    text = words(read(as_(world.bob)))
    assert "oidc:carol, oidc:mia" in text
    assert "Group" not in text
    assert "A removed member is out of the cluster at the next sync." in text
    directory.remove_member(world.mia.memberships.get())
    assert "mia" not in words(read(as_(world.bob)))


def test_while_a_team_is_suspended_nobody_is_bound_and_nobody_talks(world: World, as_: As) -> None:
    directory.suspend_tenant(world.alpha)
    text = words(read(as_(world.bob)))
    assert "Group" not in text
    assert text.count("Nobody ") == 3
    assert "TCP" not in text
    assert "closed to everybody else" in text


# --- downloads -----------------------------------------------------------------------------


def test_the_bundle_is_a_file_that_kubectl_takes(world: World, as_: As) -> None:
    response = as_(world.bob).get(f"{PAGE}bundle.yaml")
    assert response["Content-Type"] == "application/yaml"
    assert response["Content-Disposition"] == 'attachment; filename="bh-team-alpha.yaml"'
    assert response["Cache-Control"] == "private, no-store"
    assert response["X-Content-Type-Options"] == "nosniff"
    text = response.content.decode()
    assert "kubectl apply --server-side --field-manager=bulkhead" in text
    wanted = bundle.render(bundle.team_of(world.alpha), django_settings.KUBERNETES)
    assert list(yaml.safe_load_all(text)) == wanted


def test_the_folders_are_zips_with_the_teams_bundle_for_each_cluster(
    world: World, as_: As, settings: Settings
) -> None:
    clusters = tuple(map(Cluster, ("east", "west")))
    settings.KUBERNETES = replace(django_settings.KUBERNETES, clusters=clusters)
    browser = as_(world.bob)
    kustomize = browser.get(f"{PAGE}kustomize.zip")
    assert kustomize["Content-Type"] == "application/zip"
    assert "bh-team-alpha-kustomize.zip" in kustomize["Content-Disposition"]
    folders = unzipped(kustomize)
    assert {name.rsplit("/", 1)[0] for name in folders} == {
        "clusters/east/tenants/team_alpha",
        "clusters/west/tenants/team_alpha",
    }
    argocd = browser.get(f"{PAGE}argocd.zip", {"repository": "https://git.example.org/r.git"})
    assert "bh-team-alpha-argocd.zip" in argocd["Content-Disposition"]
    files = unzipped(argocd)
    assert folders.items() <= files.items()
    assert set(files) - set(folders) == {
        f"clusters/{name}/argocd.yaml" for name in ("east", "west")
    }
    assert "repoURL: https://git.example.org/r.git" in files["clusters/east/argocd.yaml"]


@pytest.mark.parametrize("query", ["", "?repository=", "?repository=a%20b", "?repository={{x}}"])
def test_a_repository_that_cannot_be_one_is_refused_beside_its_field(
    world: World, as_: As, query: str
) -> None:
    response = as_(world.bob).get(f"{PAGE}argocd.zip{query}")
    assert response.status_code == 422
    page = Page(response.content.decode())
    assert not page.faults
    assert "Say which repository Argo CD reads" in page.text
    assert 'aria-describedby="repository-error"' in page.html


@pytest.mark.parametrize("file", FILES)
def test_a_suspended_teams_bundle_is_emptied(world: World, as_: As, file: str) -> None:
    directory.suspend_tenant(world.alpha)
    response = as_(world.bob).get(PAGE + file)
    assert "bh:team_alpha" not in text_of(response)
    assert response.status_code == 200


# --- nothing of others ---------------------------------------------------------------------


@pytest.fixture
def both(world: World) -> World:
    """Both teams' namespaces were looked at; team_gamma's names carry the canary."""
    looked(world.alpha)
    gammas = [*objects_of(world.gamma), foreign("NetworkPolicy", f"{CANARY}-policy")]
    looked(
        world.gamma,
        "drift",
        cluster=f"{CANARY.lower()}-cluster",
        objects_found=gammas,
        workloads=[{"kind": "Pod", "name": CANARY, "problem": CANARY}],
        warnings=[CANARY],
        error=CANARY,
    )
    return world


@pytest.mark.parametrize("address", [PAGE, *(PAGE + file for file in FILES)])
def test_nothing_of_another_team_is_on_the_page_or_in_the_files(
    both: World, as_: As, address: str
) -> None:
    """L6, L7, L15, L32: names, counts, states; and what the other does changes nothing."""
    browser = as_(both.bob)

    def answer() -> str:
        return body(browser.get(address))

    before = answer()
    for word in (CANARY, CANARY.lower(), "gamma", "gina", "hugo"):
        assert word not in before
    directory.suspend_tenant(both.gamma)
    looked(both.gamma, "error", cluster="another")
    directory.add_member(both.gamma, both.charlie, Role.ADMIN)
    assert answer() == before


@pytest.mark.parametrize("page", ["", *FILES])
def test_who_is_no_member_gets_what_anybody_gets_for_a_team_that_is_not(
    both: World, as_: As, page: str
) -> None:
    """L9: another team's page and none answer alike, whatever was found there."""
    for person in (both.gina, both.charlie, both.dana):
        browser = as_(person)
        theirs = browser.get(f"/t/team_alpha/isolation/{page}")
        nowhere = browser.get(f"/t/team_nowhere/isolation/{page}")
        assert theirs.status_code == nowhere.status_code == 404
        assert body(theirs, "alpha") == body(nowhere, "nowhere")
        assert theirs.headers.keys() == nowhere.headers.keys()


def test_a_state_of_another_team_cannot_be_written_or_read_here(both: World) -> None:
    with tenant_scope(both.alpha):
        assert [state.cluster for state in NamespaceState.objects.all()] == ["default"]
    with tenant_scope(both.gamma):
        assert NamespaceState.objects.count() == 1


def test_many_clusters_and_findings_cost_no_more_queries(world: World, as_: As) -> None:
    browser = as_(world.bob)

    def cost(tenant: Tenant, clusters: range) -> int:
        for number in clusters:
            looked(tenant, cluster=f"c{number}")
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(PAGE).status_code == 200
        return len(queries)

    browser.get(PAGE)
    assert cost(world.alpha, range(1)) == cost(world.alpha, range(1, 12))
