"""The pages for workload identities: whose they are, and what an admin does on them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from kubernetes_validate import validate  # type: ignore[import-untyped]  # it has none
from pytest_django.fixtures import Settings

from tenants.clusters import Cluster
from tenants.identity import directory, robots, workloads
from tenants.isolation.scope import tenant_scope
from tenants.kubernetes import names
from tenants.kubernetes.bundle.examples import deployment
from tenants.kubernetes.bundle.objects import render, team_of
from tenants.kubernetes.manifests import reports
from tenants.kubernetes.manifests.reader import SENT_LIMITS
from tenants.models import Membership, Role, User, WorkloadIdentity
from tests.support.answers import whole
from tests.support.api import Api, refused, said
from tests.support.audit import events
from tests.support.issuers import ALPHA, ONE, Pod, use_clusters
from tests.support.pages import page_with_status
from tests.support.people import CANARY, World

As = Callable[[User | None], Client]

PAGE = "/t/team_alpha/admin/identities/"
MODEL_SERVER = {"cluster": "one", "service_account": "model-server", "role": "viewer"}


@pytest.fixture(autouse=True)
def clusters(settings: Settings, tmp_path: Any) -> None:
    """Two clusters, whose keys lie in files."""
    use_clusters(settings, tmp_path)


@pytest.fixture
def alice(world: World, as_: As) -> Client:
    """The browser of team_alpha's admin."""
    return as_(world.alice)


def only() -> WorkloadIdentity:
    """Return the one identity that there is."""
    return WorkloadIdentity.objects.get()


def test_an_admin_lets_an_account_in_changes_its_role_and_removes_it(
    world: World, alice: Client
) -> None:
    assert "No workload signs in yet" in page_with_status(alice.get(PAGE)).text
    api = Api(ONE.token(ALPHA))
    refused(api.get("registered-models/search"), 401, "UNAUTHENTICATED")
    assert alice.post(PAGE, MODEL_SERVER)["Location"] == PAGE
    page = page_with_status(alice.get(PAGE))
    for text in ("Pods of model-server sign in from now on.", "in the cluster one"):
        assert text in page.text
    assert "nobody signed in yet" in page.text
    said(api.get("registered-models/search"))
    page = page_with_status(alice.get(PAGE))
    assert ALPHA.uid in page.text
    assert "just now" in page.text
    refused(api.post("registered-models/create", name="x"), 403, "PERMISSION_DENIED")
    [role] = [form for form in page.forms if form.action.endswith("/role/")]
    assert alice.post(role.action, {"role": "contributor"})["Location"] == PAGE
    assert "model-server is contributor now." in page_with_status(alice.get(PAGE)).text
    said(api.post("registered-models/create", name="x"))
    remove = f"{PAGE}{only().pk}/remove/"
    assert remove in page.links
    assert "refused from the next request on" in page_with_status(alice.get(remove)).text
    assert WorkloadIdentity.objects.exists()  # the page only asks
    assert alice.post(remove)["Location"] == PAGE
    assert "Pods of model-server sign in no more." in page_with_status(alice.get(PAGE)).text
    refused(api.get("registered-models/search"), 401, "UNAUTHENTICATED")
    assert alice.post(remove).status_code == alice.get(remove).status_code == 404


def test_an_account_made_anew_is_shown_and_trusted(world: World, alice: Client) -> None:
    alice.post(PAGE, MODEL_SERVER)
    said(Api(ONE.token(ALPHA)).get("registered-models/search"))
    trust = f"{PAGE}{only().pk}/trust/"
    assert alice.get(trust)["Location"] == alice.post(trust)["Location"] == PAGE
    assert "No account with this uid is waiting" in page_with_status(alice.get(PAGE)).text
    assert trust not in page_with_status(alice.get(PAGE)).links
    again = Pod(namespace=ALPHA.namespace)
    api = Api(ONE.token(again))
    refused(api.get("registered-models/search"), 401, "UNAUTHENTICATED")
    page = page_with_status(alice.get(PAGE))
    assert "another one was refused just now" in page.text
    assert trust in page.links
    page = page_with_status(alice.get(trust))
    look = f"kubectl --namespace {ALPHA.namespace} get serviceaccount {ALPHA.account} -o"
    for text in (ALPHA.uid, again.uid, again.name, look):
        assert text in page.text
    [form] = [form for form in page.forms if "uid" in form.fields]
    # One that came meanwhile is not the one that the page has shown.
    later = Pod(namespace=ALPHA.namespace)
    refused(Api(ONE.token(later)).get("registered-models/search"), 401, "UNAUTHENTICATED")
    assert alice.post(trust, form.fields)["Location"] == PAGE
    assert only().uid == ALPHA.uid
    [form] = [form for form in page_with_status(alice.get(trust)).forms if "uid" in form.fields]
    assert alice.post(trust, form.fields)["Location"] == PAGE
    assert only().uid == later.uid
    page = page_with_status(alice.get(PAGE))
    assert "The new model-server signs in from now on." in page.text
    assert trust not in page.links
    said(Api(ONE.token(later)).get("registered-models/search"))


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ({"service_account": "Model Server"}, "Use the account's name alone"),
        ({"service_account": ""}, "This field is required."),
        ({"cluster": "three"}, "Select a valid choice."),
        ({"cluster": ""}, "This field is required."),
        ({"role": "admin"}, "Select a valid choice."),
        ({"service_account": "taken"}, "signs in here already"),
    ],
)
def test_what_is_typed_wrong_is_told_beside_it(
    world: World, alice: Client, typed: dict[str, str], text: str
) -> None:
    workloads.create(world.alpha, "one", "taken", Role.VIEWER)
    answer = alice.post(PAGE, {**MODEL_SERVER, **typed})
    assert text in page_with_status(answer, 422).text
    assert WorkloadIdentity.objects.count() == 1


def test_changing_a_role_takes_a_role_that_exists(world: World, alice: Client) -> None:
    alice.post(PAGE, MODEL_SERVER)
    for role in ("admin", "", "remove"):
        answer = alice.post(f"{PAGE}{only().pk}/role/", {"role": role})
        assert "Choose a role." in page_with_status(answer, 422).text
    assert Membership.objects.get(user=only().user).role == "viewer"


def test_another_teams_identity_is_not_there(world: World, alice: Client) -> None:
    """L3, L9, L13: not listed, not changed, and answered as one that does not exist."""
    theirs = workloads.create(world.gamma, "one", f"{CANARY}-server".lower(), Role.VIEWER)
    workloads.create(world.gamma, "one", "model-server", Role.VIEWER)
    said(Api(ONE.token(Pod())).get("registered-models/search"))
    refused(Api(ONE.token(Pod())).get("registered-models/search"), 401, "UNAUTHENTICATED")
    alice.post(PAGE, MODEL_SERVER)  # the same name is free here
    page = page_with_status(alice.get(PAGE))
    assert CANARY.lower() not in page.html.lower()
    assert "another one was refused" not in page.text
    before = list(WorkloadIdentity.objects.filter(tenant=world.gamma).values())
    random = "00000000-0000-4000-8000-000000000000"
    for what, data in (("role", {"role": "viewer"}), ("trust", {"uid": "x"}), ("remove", {})):
        for method in (alice.get, alice.post):
            found = whole(method(f"{PAGE}{theirs.pk}/{what}/", data), str(theirs.pk))
            nothing = whole(method(f"{PAGE}{random}/{what}/", data), random)
            assert found == nothing
            assert found[0] == 404 or (what == "role" and method == alice.get)
    assert list(WorkloadIdentity.objects.filter(tenant=world.gamma).values()) == before


def test_without_an_issuer_the_page_says_what_to_set(
    world: World, alice: Client, settings: Settings
) -> None:
    alice.post(PAGE, MODEL_SERVER)
    settings.KUBERNETES = replace(settings.KUBERNETES, clusters=(Cluster("default"),))
    page = page_with_status(alice.get(PAGE))
    assert "BULKHEAD_CLUSTERS" in page.text
    assert "cluster not accepted" in page.text
    assert all("service_account" not in form.fields for form in page.forms)
    assert page_with_status(alice.post(PAGE, MODEL_SERVER | {"service_account": "b"}), 422)
    assert WorkloadIdentity.objects.count() == 1


def test_the_accounts_of_the_bundle_are_offered(world: World, alice: Client) -> None:
    html = page_with_status(alice.get(PAGE)).html
    for name in ("model-server", "model-trainer", "registry-sync"):
        assert f'<option value="{name}"></option>' in html


def test_an_admin_is_told_that_who_runs_pods_may_do_what_they_may(alice: Client) -> None:
    """L22: in a namespace, each account is that of whoever may make a Deployment there."""
    assert Role.CONTRIBUTOR in names.CLUSTER_ROLES["editor"]
    assert (
        "a contributor for one, can run them as this account"
        in page_with_status(alice.get(PAGE)).text
    )


def test_members_and_robots_tell_workloads_from_robots(world: World, alice: Client) -> None:
    robots.create_robot(world.alpha, "robo", Role.VIEWER, world.alice)
    alice.post(PAGE, MODEL_SERVER)
    page = page_with_status(alice.get("/t/team_alpha/admin/members/"))
    assert (page.text.count("workload"), PAGE in page.links) == (1, True)
    assert "/t/team_alpha/admin/robots/" in page.links
    page = page_with_status(alice.get("/t/team_alpha/admin/robots/"))
    assert "1 robot" in page.text
    assert "model-server" not in page.text
    assert PAGE in page.links
    for name in ("model-server", "model-server@one"):
        for verb in ("rotate", "remove"):
            assert alice.get(f"/t/team_alpha/admin/robots/{name}/{verb}/").status_code == 404


def test_others_of_the_team_see_that_it_is_a_workload_and_no_more(world: World, as_: As) -> None:
    workloads.create(world.alpha, "one", "model-server", Role.VIEWER)
    browser = as_(world.mia)
    page = page_with_status(browser.get("/t/team_alpha/admin/members/"))
    assert "workload" in page.text
    assert PAGE not in page.links
    assert browser.get(PAGE).status_code == 403


def test_the_log_says_what_happened_in_words(world: World, alice: Client) -> None:
    alice.post(PAGE, MODEL_SERVER)
    said(Api(ONE.token(ALPHA)).get("registered-models/search"))
    alice.post(f"{PAGE}{only().pk}/role/", {"role": "contributor"})
    again = Pod(namespace=ALPHA.namespace, name="newer-pod")
    refused(Api(ONE.token(again)).get("registered-models/search"), 401, "UNAUTHENTICATED")
    alice.post(f"{PAGE}{only().pk}/trust/", {"uid": again.uid})
    alice.post(f"{PAGE}{only().pk}/remove/")
    page = page_with_status(alice.get("/t/team_alpha/activity/?action=identity"))
    for text in (
        "alice let pods of the service account model-server@one sign in as viewer",
        f"signed in from the pod {ALPHA.name}",
        "alice changed the role of the service account model-server@one: viewer → contributor",
        "system refused the pod newer-pod: its service account model-server@one is not the one",
        "alice trusted the service account model-server@one, made anew",
        "alice removed the service account model-server@one, which was contributor",
        "token k8s_",
    ):
        assert text in " ".join(page.text.split()), text


def test_the_deployment_is_one_that_the_teams_namespace_takes(
    world: World, alice: Client, settings: Settings
) -> None:
    """Valid for both ends of what is supported, under the tenant's label, and as the page says."""
    settings.KUBERNETES = replace(settings.KUBERNETES, audience="https://bulkhead.example.com")
    context = alice.get(PAGE).context
    for version in ("1.30", "1.36"):
        validate(yaml.safe_load(context["deployment"]), version, strict=True)
    made = yaml.safe_load(context["deployment"])
    assert made["metadata"]["namespace"] == "bh-team-alpha"
    template = made["spec"]["template"]
    for labels in (made["metadata"]["labels"], template["metadata"]["labels"]):
        assert labels["bulkhead.dev/tenant"] == "team_alpha"
    pod = template["spec"]
    objects = render(team_of(world.alpha), settings.KUBERNETES)
    accounts = {o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"}
    assert pod["serviceAccountName"] in accounts
    assert pod["automountServiceAccountToken"] is False
    [token, namespace] = pod["volumes"][0]["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == "https://bulkhead.example.com"
    assert token["serviceAccountToken"]["expirationSeconds"] <= 3600
    assert namespace["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] == "metadata.namespace"
    assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]
    # The network policy lets pods reach this port, in this namespace.
    [allowed] = [o for o in objects if o["metadata"]["name"] == "bh-allow-registry"]
    port = allowed["spec"]["egress"][0]["ports"][0]["port"]
    variables = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    assert variables["MLFLOW_TRACKING_URI"] == f"http://bulkhead.bulkhead.svc:{port}"


def test_the_mounted_files_are_where_mlflows_client_looks() -> None:
    from mlflow.tracking.request_auth import kubernetes_request_auth_provider as client

    from tenants.kubernetes.bundle import examples

    assert str(client._SERVICE_ACCOUNT_TOKEN_PATH) == f"{examples.CREDENTIALS_PATH}/token"
    assert str(client._SERVICE_ACCOUNT_NAMESPACE_PATH) == f"{examples.CREDENTIALS_PATH}/namespace"


def test_platform_admins_read_them_and_change_nothing(world: World, as_: As) -> None:
    """L35: whose accounts they are and as what they sign in; no uid is asked for in the list."""
    found = workloads.create(world.gamma, "one", "model-server", Role.CONTRIBUTOR)
    dana = as_(world.dana)
    listed = reverse("admin:tenants_workloadidentity_changelist")
    html = dana.get(listed).content.decode()
    for text in ("model-server", "one", "team_gamma", "contributor"):
        assert text in html
    one = reverse("admin:tenants_workloadidentity_change", args=[found.pk])
    assert dana.get(one).status_code == 200
    assert dana.post(one, {"cluster": "two"}).status_code == 403
    assert dana.post(one.replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert dana.get(f"{listed}add/").status_code == 403
    found.refresh_from_db()
    assert found.cluster == "one"
    assert dana.get(f"{listed}?uid=x").status_code in (302, 400)


def test_a_suspended_teams_identities_stay_as_they_are(world: World, alice: Client) -> None:
    alice.post(PAGE, MODEL_SERVER)
    directory.suspend_tenant(world.alpha)
    assert alice.get(PAGE).status_code == 403
    for what in ("role", "trust", "remove"):
        assert alice.post(f"{PAGE}{only().pk}/{what}/", {"role": "viewer"}).status_code == 403
    assert len(events(world.alpha)) == 1
    cache.clear()
    with tenant_scope(world.alpha):
        assert only().tenant == world.alpha


def test_the_example_stays_inside_its_tenant(world: World, settings: Settings) -> None:
    """What is there to be copied passes the product's own check."""
    text = deployment(world.alpha.slug, world.alpha.namespace, settings.KUBERNETES)
    with tenant_scope(world.alpha):
        done = reports.run([("example.yaml", text.encode())], SENT_LIMITS, world.alpha)
    assert [str(found) for found in (*done.findings, *done.unreadable)] == []
