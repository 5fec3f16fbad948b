"""The platform's page about all namespaces, and tenants' sizes in the Django admin."""

import html
import re
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.admin import TenantForm, number_field
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Role, Tenant, User
from tenants.sizes import LABELS, NUMBERS, SIZES, size_of
from tests.support.pages import Page
from tests.support.people import CANARY, World
from tests.support.states import foreign, looked, objects_of, quota_of

As = Callable[[User | None], Client]

PAGE = reverse("admin:isolation")
TENANTS = reverse("admin:tenants_tenant_changelist")
SECRET = "SECRET"
#: The head of a row of the list: a link to the tenant.
LINKED_TENANT = re.compile(rb'<th scope="row">\s*<a ')


@pytest.fixture
def dana(world: World, as_: As) -> Client:
    """The platform admin's browser; she is a member of nothing."""
    return as_(world.dana)


def shown(response: Any) -> str:
    """Return what people read, with single spaces."""
    text = re.sub(r"<[^>]*>", " ", html.unescape(response.content.decode()))
    return re.sub(r"\s+", " ", text)


def row(response: Any, slug: str) -> str:
    """Return what is read in a tenant's row."""
    rows = re.findall(r"<tr>.*?</tr>", response.content.decode(), re.S)
    found = [text for text in rows if f">{slug}</a>" in text]
    assert len(found) == 1
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.unescape(found[0]))).strip()


# --- all namespaces at a glance ------------------------------------------------------------


def test_only_platform_admins_see_it(world: World, as_: As) -> None:
    assert as_(None).get(PAGE).status_code == 302
    assert as_(world.alice).get(PAGE, follow=True).status_code == 403
    assert as_(world.dana).get(PAGE).status_code == 200
    assert as_(world.dana).post(PAGE).status_code == 405


def test_it_is_linked_from_the_index_and_beside_each_page(dana: Client) -> None:
    for address in (reverse("admin:index"), reverse("admin:app_list", args=["tenants"]), TENANTS):
        assert f'href="{PAGE}"' in dana.get(address).content.decode()


def test_each_tenant_stands_in_a_row_with_its_numbers(dana: Client, world: World) -> None:
    use = {"requests.cpu": "3", "pods": "19"}
    found = [
        *objects_of(world.gamma, bh_compute="drift"),
        foreign("NetworkPolicy", "x"),
        foreign("RoleBinding", "y"),
    ]
    looked(
        world.gamma,
        "drift",
        objects_found=found,
        quota=quota_of(world.gamma, **use),
        workloads=[{"kind": "Pod", "name": "p", "problem": "q"}],
    )
    looked(world.gamma, "in_sync", cluster="edge", minutes=90)
    page = dana.get(PAGE)
    assert row(page, "team_alpha") == "team_alpha bh-team-alpha Small Not looked at"
    assert row(page, "team_gamma") == (
        "team_gamma bh-team-gamma Small default: Drift edge: In sync "
        "3 objects, 2 foreign, 1 workload Pods: 95 % 1 hour ago (old)"
    )
    directory.suspend_tenant(world.gamma)
    assert row(dana.get(PAGE), "team_gamma").startswith("team_gamma (suspended) ")


def test_a_tenant_in_order_has_nothing_wrong(dana: Client, world: World) -> None:
    looked(world.alpha)
    assert "default: In sync nothing" in row(dana.get(PAGE), "team_alpha")


def test_totals_count_each_tenant_once_by_its_gravest_state(dana: Client, world: World) -> None:
    tenants = [directory.create_tenant(f"team-{number}") for number in range(6)]
    looked(tenants[0], "in_sync")
    looked(tenants[0], "error", cluster="b")
    looked(tenants[1], "drift")
    looked(tenants[1], "conflict", cluster="b")
    looked(tenants[2], "drift")
    looked(tenants[3], "in_sync")
    looked(tenants[4], "in_sync", minutes=60)
    text = shown(dana.get(PAGE))
    assert "Error 1 Not ours 1 Drift 1 In sync 2 Not looked at 3" in text
    assert "With a problem 4" in text
    assert "Tenants by state: Error 1, Not ours 1, Drift 1, In sync 2, Not looked at 3" in text


def test_the_bar_is_as_long_as_the_counts_say(dana: Client, world: World) -> None:
    looked(world.alpha)
    bar = re.search(r'<svg class="state-bar".*?</svg>', dana.get(PAGE).content.decode(), re.S)
    assert bar is not None
    assert re.findall(r'class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', bar[0]) == [
        ("in_sync", "0.00", "300.00"),
        ("unseen", "300.00", "300.00"),
    ]
    assert 'role="img"' in bar[0]


@pytest.mark.parametrize(
    ("show", "slugs"),
    [
        ("", {"team_alpha", "team_gamma", "old"}),
        ("problems", {"team_gamma", "old"}),
        ("drift", {"team_gamma"}),
        ("in_sync", {"old"}),
        ("unseen", {"team_alpha"}),
        ("error", set()),
        ("nonsense", {"team_alpha", "team_gamma", "old"}),
        ("'; --", {"team_alpha", "team_gamma", "old"}),
    ],
)
def test_it_is_filtered_by_state(dana: Client, world: World, show: str, slugs: set[str]) -> None:
    looked(world.gamma, "drift")
    looked(directory.create_tenant("old"), minutes=60)
    page = dana.get(PAGE, {"show": show})
    assert set(re.findall(r"/change/\">([\w-]+)</a>", page.content.decode())) == slugs
    # The totals are about all tenants, whatever is shown.
    assert "Drift 1 In sync 1 Not looked at 1" in shown(page)


def test_the_list_of_tenants_is_split_into_pages(dana: Client, world: World) -> None:
    for number in range(30):
        directory.create_tenant(f"team-{number:02}")
    first, second = dana.get(PAGE), dana.get(f"{PAGE}?page=2&show=unseen")
    assert len(LINKED_TENANT.findall(first.content)) == 25
    assert len(LINKED_TENANT.findall(second.content)) == 7
    assert "Page 1 of 2" in shown(first)
    assert 'href="?page=2"' in first.content.decode()
    assert 'href="?show=unseen&amp;page=1"' in second.content.decode()
    assert dana.get(PAGE, {"page": "nonsense"}).status_code == 200
    assert dana.get(PAGE, {"page": "999"}).status_code == 200


@pytest.mark.parametrize("member", [False, True])
def test_it_shows_no_name_that_a_team_gave(dana: Client, world: World, member: bool) -> None:
    """L35: names inside a namespace are the team's; the platform's page counts them."""
    if member:
        directory.add_member(world.alpha, world.dana, Role.ADMIN, reason="Ticket 4711")
    found = [
        {
            "kind": f"{SECRET}Kind",
            "name": SECRET,
            "state": "foreign",
            "detail": SECRET,
            "fields": [{"field": SECRET, "manager": SECRET}],
        }
    ]
    looked(
        world.gamma,
        "error",
        error=SECRET,
        version=SECRET,
        objects_found=found,
        workloads=[{"kind": SECRET, "name": SECRET, "problem": SECRET}],
        warnings=[SECRET],
        quota={f"count/{SECRET}": {"hard": "1", "used": "1"}},
    )
    for query in ("", "?show=problems"):
        page = dana.get(f"{PAGE}{query}")
        assert "1 object, 1 foreign, 1 workload" in row(page, "team_gamma")
        for word in (SECRET, f"{CANARY} own", "fraud"):
            assert word not in page.content.decode()


def test_a_page_of_tenants_costs_the_same_for_each_tenant(dana: Client, world: World) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert dana.get(PAGE).status_code == 200
        return len(queries)

    def add(numbers: range) -> None:
        for number in numbers:
            looked(directory.create_tenant(f"t{number}"), "drift")

    dana.get(PAGE)
    add(range(5))
    few = cost()
    add(range(5, 10))
    some = cost()
    add(range(10, 15))
    assert cost() - some == some - few <= 5 * 14


# --- sizes ---------------------------------------------------------------------------------


def sizes(tenant: Tenant) -> tuple[str, dict[str, int]]:
    """Return the tenant's size as it is kept."""
    tenant.refresh_from_db()
    return tenant.size, tenant.custom_size


def events(tenant: Tenant, action: str) -> list[dict[str, Any]]:
    """Return what changed by that action, newest first."""
    with tenant_scope(tenant):
        return list(AuditEvent.objects.filter(action=action).values_list("changes", flat=True))


def save(browser: Client, tenant: Tenant, **typed: Any) -> Any:
    """Send the tenant's form with what is typed."""
    inline = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    kept = {"name": tenant.name, "contact": "", "description": "", "size": tenant.size}
    return browser.post(f"{TENANTS}{tenant.pk}/change/", {**inline, **kept, **typed})


def test_each_number_of_a_size_has_a_field_and_a_label() -> None:
    assert {number_field(name) for name in NUMBERS} <= set(TenantForm.base_fields)
    assert set(LABELS) == set(NUMBERS)


def test_a_size_is_chosen_and_the_log_says_from_what_to_what(
    dana: Client, world: World, as_: As
) -> None:
    assert save(dana, world.alpha, size="large").status_code == 302
    assert sizes(world.alpha) == ("large", {})
    assert events(world.alpha, "tenant.updated") == [
        {"from": {"size": "small"}, "to": {"size": "large"}}
    ]
    assert events(world.gamma, "tenant.updated") == []
    activity = Page(as_(world.bob).get("/t/team_alpha/activity/").content.decode())
    assert "edited the team's size" in re.sub(r"\s+", " ", activity.text)


def test_a_custom_size_takes_numbers_and_the_rest_from_a_small_one(
    dana: Client, world: World, as_: As
) -> None:
    response = save(dana, world.alpha, size="custom", custom_cores="7", custom_gpus="0")
    assert response.status_code == 302
    assert sizes(world.alpha) == ("custom", {"cores": 7, "gpus": 0})
    size = size_of(*sizes(world.alpha))
    assert asdict(size) == {**asdict(SIZES["small"]), "cores": 7, "gpus": 0}
    page = dana.get(f"{TENANTS}{world.alpha.pk}/change/").content.decode()
    assert re.search(r'name="custom_cores" value="7"', page)
    assert re.search(r'name="custom_pods"[^>]*placeholder="20"', page)
    activity = Page(as_(world.bob).get("/t/team_alpha/activity/").content.decode())
    assert "edited the team's size" in re.sub(r"\s+", " ", activity.text)
    # Untouched, it stays; another size drops the numbers.
    save(dana, world.alpha, size="custom", custom_cores="7", custom_gpus="0")
    assert len(events(world.alpha, "tenant.updated")) == 1
    save(dana, world.alpha, size="medium", custom_cores="7")
    assert sizes(world.alpha) == ("medium", {})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("custom_cores", "0", "Use a whole number from 1 to 1,000,000."),
        ("custom_cores", "1000001", "Use a whole number from 1 to 1,000,000."),
        ("custom_gpus", "-1", "Use a whole number from 0 to 1,000,000."),
        ("custom_pods", "many", "Enter a whole number."),
        ("custom_memory", "1.5", "Enter a whole number."),
        ("custom_memory", "9" * 5000, "Enter a whole number."),
        ("size", "huge", "Select a valid choice."),
    ],
)
def test_a_number_that_no_size_has_is_refused_beside_its_field(
    dana: Client, world: World, field: str, value: str, reason: str
) -> None:
    response = save(dana, world.alpha, **{"size": "custom", field: value})
    assert response.status_code == 200
    errors = response.context["adminform"].form.errors
    assert set(errors) == {field}
    assert reason in errors[field][0]
    assert sizes(world.alpha) == ("small", {})


def test_numbers_count_for_nothing_beside_another_size(dana: Client, world: World) -> None:
    response = save(dana, world.alpha, size="medium", custom_pods="many", custom_cores="0")
    assert response.status_code == 302
    assert sizes(world.alpha) == ("medium", {})


def test_a_new_tenant_has_the_size_that_was_chosen(dana: Client, world: World) -> None:
    typed = {"slug": "team_delta", "name": "Delta", "first_admin": world.charlie.pk}
    dana.post(f"{TENANTS}add/", {**typed, "size": "custom", "custom_cores": "9"})
    delta = Tenant.objects.get(slug="team_delta")
    assert sizes(delta) == ("custom", {"cores": 9})
    assert events(delta, "tenant.created") == [
        {"name": "Delta", "size": "custom", "custom_size": {"cores": 9}}
    ]
    dana.post(f"{TENANTS}add/", {**typed, "slug": "team_e", "size": "custom", "custom_cores": "x"})
    assert not Tenant.objects.filter(slug="team_e").exists()


def test_the_namespace_is_shown_and_cannot_be_changed(dana: Client, world: World) -> None:
    assert "bh-team-gamma" in shown(dana.get(TENANTS))
    url = f"{TENANTS}{world.gamma.pk}/change/"
    page = dana.get(url)
    assert "bh-team-gamma" in shown(page)
    assert 'name="namespace"' not in page.content.decode()
    save(dana, world.gamma, namespace="kube-system", custom_size='{"cores": 1}')
    world.gamma.refresh_from_db()
    assert (world.gamma.namespace, world.gamma.custom_size) == ("bh-team-gamma", {})


def test_a_size_is_no_way_for_team_admins(world: World, as_: As) -> None:
    assert save(as_(world.alice), world.alpha, size="large").status_code in (302, 403)
    assert sizes(world.alpha) == ("small", {})


def test_the_command_takes_a_size(world: World) -> None:
    call_command("create_tenant", "team_delta", "--size", "medium", stdout=StringIO())
    assert sizes(Tenant.objects.get(slug="team_delta")) == ("medium", {})
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("create_tenant", "team_e", "--size", "custom", stdout=StringIO())


def test_the_verb_refuses_a_size_that_there_is_not(world: World) -> None:
    with pytest.raises(ValidationError):
        directory.create_tenant("team_delta", size="huge")
    tenant = Tenant(slug="team_delta", name="d", size="custom", custom_size={"cores": 0})
    with pytest.raises(ValidationError):
        directory.add_tenant(tenant, admin=None)
    assert not Tenant.objects.filter(slug="team_delta").exists()
