"""The Django admin: platform admins run tenants, and see the models of their own teams only."""

import html
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from zeal import zeal_ignore

from models_registry import registry
from models_registry.models import ModelGroupGrant, ModelUserGrant, ModelVersion, RegisteredModel
from models_registry.validators import MAX_CARD_CHARS
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import AccountEvent, ApiToken, AuditEvent, Membership, Role, Tenant, User
from tests.support.people import CANARY, PASSWORD, World

SignIn = Callable[[User | None], Client]
MODELS = reverse("admin:models_registry_registeredmodel_changelist")
VERSIONS = reverse("admin:models_registry_modelversion_changelist")
TENANTS = reverse("admin:tenants_tenant_changelist")
MEMBERSHIPS = reverse("admin:tenants_membership_changelist")
USERS = reverse("admin:tenants_user_changelist")
TOKENS = reverse("admin:tenants_apitoken_changelist")
ACCOUNT_EVENTS = reverse("admin:tenants_accountevent_changelist")
REASON = {"reason": "Ticket 4711", "expires_at": "2999-01-01T00:00"}
RANDOM = uuid.UUID("0b6f4f4e-5d5c-4b7e-9a31-5a1e0c9d7f11")


@pytest.fixture
def dana(world: World, as_: SignIn) -> Client:
    """The platform admin's browser; she is a member of nothing."""
    return as_(world.dana)


def let_in(world: World, role: str, tenant: Tenant | None = None) -> Membership:
    """Make dana a member of team_alpha."""
    return directory.add_member(tenant or world.alpha, world.dana, role, reason="Ticket 4711")


def act(browser: Client, url: str, action: str, *pks: Any, **more: Any) -> Any:
    """Run an action of a list on the rows, as its form does."""
    data = {"action": action, "_selected_action": [str(pk) for pk in pks], "index": "0", **more}
    with zeal_ignore():  # each verb locks its own row
        return browser.post(url, data)


def shown(response: Any) -> str:
    """Return the page's text as people read it, or as it is where it leads somewhere."""
    return html.unescape(response.content.decode())


def said(browser: Client) -> list[str]:
    """Return the messages that the next page will show."""
    response = browser.get(reverse("admin:index"))
    return [str(message) for message in response.context["messages"]]


def form_of(response: Any) -> dict[str, Any]:
    """Return what the page's form would send if nothing were typed."""
    form = response.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    texts = {name: value for name, value in values.items() if value is not None}
    inlines = response.context["inline_admin_formsets"]
    for inline in inlines:
        prefix = inline.formset.prefix
        texts |= {f"{prefix}-TOTAL_FORMS": 0, f"{prefix}-INITIAL_FORMS": 0}
    return texts


def events(tenant: Tenant, action: str) -> list[tuple[str, str]]:
    """Return who did that in the tenant, and to what, newest first."""
    with tenant_scope(tenant):
        found = AuditEvent.objects.filter(action=action)
        return list(found.values_list("actor_label", "object_label"))


def ids(tenant: Tenant) -> list[uuid.UUID]:
    """Return the ids of the tenant's models."""
    with tenant_scope(tenant):
        return list(RegisteredModel.objects.values_list("pk", flat=True))


def row_pages(pk: Any) -> list[str]:
    """Return the addresses of one model's pages."""
    pages = ("change/", "delete/", "history/", "permissions/")
    grants = ("permissions/user-manage/1/", "permissions/group-manage/1/")
    return [f"{MODELS}{pk}/{page}" for page in (*pages, *grants)]


def without(response: Any, *words: str) -> tuple[int, str, str]:
    """Return the answer without what differs from one request to the next."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", response.content.decode())
    place = response.headers.get("Location", "")
    for word in words:
        text, place = text.replace(word, "…"), place.replace(word, "…")
    return response.status_code, place, text


# --- who gets in ---------------------------------------------------------------------------


def test_who_is_not_signed_in_is_sent_to_the_one_sign_in_page(as_: SignIn, world: World) -> None:
    response = as_(None).get(MODELS, follow=True)
    assert response.redirect_chain[-1][0] == f"{reverse('account_login')}?next={MODELS}"
    outside = as_(None).get("/admin/login/?next=https://example.org/")
    assert outside["Location"] == f"{reverse('account_login')}?next=/admin/"


@pytest.mark.parametrize("flags", [{}, {"is_staff": True}, {"is_superuser": True}])
def test_only_platform_admins_get_in(as_: SignIn, world: World, flags: dict[str, bool]) -> None:
    User.objects.filter(pk=world.alice.pk).update(**flags)
    alice = as_(world.alice)
    for url in (reverse("admin:index"), MODELS, TENANTS, f"{MODELS}{RANDOM}/permissions/"):
        assert alice.get(url, follow=True).status_code == 403
        assert alice.post(url, follow=True).status_code == 403
    assert (
        alice.post("/admin/login/", {"username": "dana", "password": PASSWORD}).status_code == 403
    )


def test_a_deactivated_platform_admin_is_out_at_once(dana: Client, world: World) -> None:
    assert dana.get(reverse("admin:index")).status_code == 200
    directory.deactivate_user(world.dana)
    assert dana.get(reverse("admin:index"), follow=True).redirect_chain


def test_only_pages_made_for_this_site_are_on_it(dana: Client) -> None:
    names = {model.__name__ for model in admin.site._registry}
    assert names == {
        *("Tenant", "Membership", "User", "AccountEvent", "RegisteredModel", "ModelVersion"),
        *("ApiToken", "WorkloadIdentity"),
    }
    assert dana.get("/admin/auth/group/").status_code == 404
    assert dana.get("/admin/account/emailaddress/").status_code == 404
    assert dana.get(f"/admin/r/1/{RANDOM}/").status_code == 404


# --- without a membership: no models -------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *(MODELS + query for query in ("", f"?q={CANARY}", "?archived=yes", "?o=1", "?p=3")),
        *(VERSIONS + query for query in ("", f"?q={CANARY}", "?status__exact=READY", "?all=")),
        *(page + "?created_at__year=2026" for page in (MODELS, VERSIONS)),
    ],
)
def test_without_a_team_the_lists_are_empty_and_say_why(dana: Client, url: str) -> None:
    response = dana.get(url, follow=True)
    assert response.status_code == 200
    assert "You are a member of no team" in shown(response)
    assert list(response.context["cl"].result_list) == []
    assert "fraud" not in shown(response)
    assert f"{CANARY} own" not in shown(response)


def test_without_a_team_no_other_page_exists(dana: Client, world: World) -> None:
    theirs = ids(world.gamma)[0]
    for method in (dana.get, dana.post):
        assert method(f"{MODELS}add/").status_code == 404
        for pk in (theirs, RANDOM, "nonsense"):
            for url in row_pages(pk):
                assert method(url).status_code == 404, url
    version = world.model(world.gamma, "fraud")
    with tenant_scope(world.gamma):
        pk = version.versions.values_list("pk", flat=True)[0]
    for page in ("change/", "delete/", "history/"):
        assert dana.get(f"{VERSIONS}{pk}/{page}").status_code == 404


def test_without_a_team_actions_do_nothing(dana: Client, world: World) -> None:
    for action in ("archive", "restore", "delete_selected"):
        act(dana, MODELS, action, *ids(world.gamma), post="yes")
    with tenant_scope(world.gamma):
        assert RegisteredModel.objects.filter(archived_at=None).count() == 2


AUTOCOMPLETES = [("modelversion", "model"), ("alias", "model"), ("bookmark", "model")]


@pytest.mark.parametrize("source", AUTOCOMPLETES)
@pytest.mark.parametrize("role", [None, Role.ADMIN])
def test_autocomplete_finds_no_other_teams_models(
    dana: Client, world: World, source: tuple[str, str], role: str | None
) -> None:
    if role is not None:
        let_in(world, role)
    query = {"app_label": "models_registry", "model_name": source[0], "field_name": source[1]}
    for term in ("", CANARY, "fraud"):
        found = dana.get(reverse("admin:autocomplete"), {**query, "term": term}).json()["results"]
        assert {row["id"] for row in found} <= set(map(str, ids(world.alpha) if role else []))
        assert len(found) == {"": 2, CANARY: 0, "fraud": 1}[term] * (role is not None)


# --- as a member: the role decides ---------------------------------------------------------


def test_a_viewer_reads_the_team_and_changes_nothing(dana: Client, world: World) -> None:
    let_in(world, Role.VIEWER)
    assert "ALPHA own" in shown(dana.get(MODELS))
    model = world.model(world.alpha, "ALPHA own")
    page = dana.get(f"{MODELS}{model.pk}/change/")
    assert "ALPHA description" in shown(page)
    assert "_save" not in shown(page)
    assert "Object permissions" not in shown(page)
    assert dana.get(f"{MODELS}add/").status_code == 403
    assert dana.post(f"{MODELS}add/", {"name": "new"}).status_code == 403
    assert dana.post(f"{MODELS}{model.pk}/change/", {"description": "x"}).status_code == 403
    assert dana.post(f"{MODELS}{model.pk}/delete/", {"post": "yes"}).status_code == 403
    assert dana.get(f"{MODELS}{model.pk}/permissions/").status_code == 403
    act(dana, MODELS, "archive", model.pk)
    assert world.model(world.alpha, "ALPHA own").updated_at == model.updated_at


def test_an_admin_of_the_team_registers_edits_and_is_in_its_log(dana: Client, world: World) -> None:
    let_in(world, Role.ADMIN)
    typed = {
        "name": " two words ",
        "description": "a\r\nb",
        "card": "# Card\n",
        "tags": '{"k": "v"}',
    }
    dana.post(f"{MODELS}add/", {**typed, "owner": world.bob.pk})
    model = world.model(world.alpha, " two words ")
    assert (model.description, model.card, model.tags) == ("a\nb", "# Card\n", {"k": "v"})
    assert model.owner_id == world.bob.pk
    url = f"{MODELS}{model.pk}/change/"
    unchanged = form_of(dana.get(url))
    assert dana.post(url, unchanged).status_code == 302
    assert events(world.alpha, "model.updated") == []
    dana.post(url, {**unchanged, "name": "other", "description": "new", "owner": ""})
    changed = world.model(world.alpha, " two words ")
    assert (changed.description, changed.owner_id) == ("new", None)
    for action in ("model.registered", "model.updated"):
        assert events(world.alpha, action)[0] == ("dana", " two words ")
    assert not LogEntry.objects.exists()


def test_models_are_archived_restored_and_deleted_by_the_verbs(dana: Client, world: World) -> None:
    let_in(world, Role.MAINTAINER)
    model = world.model(world.alpha, "fraud")
    url = f"{MODELS}{model.pk}/"
    assert "deletelink" not in shown(dana.get(f"{url}change/"))
    assert dana.post(f"{url}delete/", {"post": "yes"}).status_code == 403
    act(dana, MODELS, "archive", model.pk)
    act(dana, MODELS, "restore", model.pk)
    act(dana, MODELS, "archive", model.pk)
    asked = shown(dana.get(f"{url}delete/"))
    assert "fraud" in asked
    assert "Versions: 2" in asked
    dana.post(f"{url}delete/", {"post": "yes"})
    assert model.pk not in ids(world.alpha)
    for action in ("model.archived", "model.restored", "model.deleted"):
        assert events(world.alpha, action)[0] == ("dana", "fraud")
    assert len(ids(world.gamma)) == 2
    assert not LogEntry.objects.exists()


def test_bulk_deletion_takes_archived_models_or_says_which_are_not(
    dana: Client, world: World
) -> None:
    let_in(world, Role.ADMIN)
    fraud, own = (world.model(world.alpha, name) for name in ("fraud", "ALPHA own"))
    act(dana, MODELS, "archive", fraud.pk)
    act(dana, MODELS, "delete_selected", fraud.pk, own.pk, post="yes")
    assert "Only archived models can be deleted; archive “ALPHA own” first." in said(dana)
    assert len(ids(world.alpha)) == 2
    assert "Are you sure" in shown(act(dana, MODELS, "delete_selected", fraud.pk))
    act(dana, MODELS, "delete_selected", fraud.pk, post="yes")
    assert ids(world.alpha) == [own.pk]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({"name": "fraud"}, "A model with this name is registered already."),
        ({"name": "a/b"}, "Names cannot contain"),
        ({"name": ".."}, "Names cannot be paths"),
        ({"name": "nul\x00"}, "Null characters are not allowed."),
        ({"name": ""}, "This field is required."),
        ({"name": "n", "tags": "[1]"}, "Give the tags as names with values."),
        ({"name": "n", "tags": '{"k": 1}'}, "is not text"),
        ({"name": "n", "tags": "nonsense"}, "Enter a valid JSON."),
        ({"name": "n", "card": "x" * (MAX_CARD_CHARS + 1)}, "Ensure this value has at most"),
    ],
)
def test_what_the_registry_refuses_stands_beside_the_form(
    dana: Client, world: World, typed: dict[str, str], reason: str
) -> None:
    let_in(world, Role.ADMIN)
    response = dana.post(f"{MODELS}add/", {"tags": "{}", **typed})
    assert response.status_code == 200
    assert reason in shown(response)
    assert len(ids(world.alpha)) == 2


def test_a_name_of_another_team_is_free_here(dana: Client, world: World) -> None:
    let_in(world, Role.ADMIN)
    assert dana.post(f"{MODELS}add/", {"name": f"{CANARY} own", "tags": "{}"}).status_code == 302


def test_what_somebody_else_changed_meanwhile_is_not_lost(dana: Client, world: World) -> None:
    let_in(world, Role.ADMIN)
    model = world.model(world.alpha, "fraud")
    url = f"{MODELS}{model.pk}/change/"
    typed = {**form_of(dana.get(url)), "description": "mine"}
    with tenant_scope(world.alpha):
        registry.update_model(model, description="theirs")
    assert dana.post(url, typed).status_code == 302
    assert "This model was changed meanwhile; look at it again before you save." in said(dana)
    assert world.model(world.alpha, "fraud").description == "theirs"


def test_a_contributor_edits_but_neither_archives_nor_shares(dana: Client, world: World) -> None:
    let_in(world, Role.CONTRIBUTOR)
    model = world.model(world.alpha, "fraud")
    url = f"{MODELS}{model.pk}/change/"
    page = dana.get(url)
    assert page.context["object_actions"] == {}
    dana.post(url, {**form_of(page), "description": "new"})
    assert world.model(world.alpha, "fraud").description == "new"
    act(dana, MODELS, "archive", model.pk)
    assert not world.model(world.alpha, "fraud").is_archived
    for address in ("", "user-manage/1/", "group-manage/1/"):
        assert dana.post(f"{MODELS}{model.pk}/permissions/{address}").status_code == 403


def test_in_a_suspended_team_an_admin_only_reads(dana: Client, world: World) -> None:
    let_in(world, Role.ADMIN)
    directory.suspend_tenant(world.alpha)
    model = world.model(world.alpha, "fraud")
    assert "the team is suspended, so nothing can be changed" in shown(dana.get(MODELS))
    assert dana.get(f"{MODELS}{model.pk}/change/").status_code == 200
    assert dana.post(f"{MODELS}{model.pk}/change/", {"description": "x"}).status_code == 403
    assert dana.get(f"{MODELS}add/").status_code == 403
    act(dana, MODELS, "archive", model.pk)
    assert not world.model(world.alpha, "fraud").is_archived


def test_versions_are_shown_and_not_changed(dana: Client, world: World) -> None:
    let_in(world, Role.ADMIN)
    model = world.model(world.alpha, "fraud")
    assert shown(dana.get(f"{VERSIONS}?model__id__exact={model.pk}")).count("READY") <= 3
    with tenant_scope(world.alpha):
        version = model.versions.get(number=1)
    url = f"{VERSIONS}{version.pk}/"
    assert "s3://ALPHA/model" in shown(dana.get(f"{url}change/"))
    assert dana.post(f"{url}change/", {"source": "s3://evil"}).status_code == 403
    assert dana.post(f"{url}delete/", {"post": "yes"}).status_code == 403
    assert dana.get(f"{VERSIONS}add/").status_code == 403
    assert "fraud" in shown(dana.get(f"{url}history/"))


@pytest.mark.parametrize("url", [MODELS, VERSIONS])
def test_a_long_list_costs_as_many_queries_as_a_short_one(
    dana: Client, world: World, url: str
) -> None:
    let_in(world, Role.ADMIN)
    dana.get(url)

    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert dana.get(url).status_code == 200
        return len(queries)

    few = cost()
    with tenant_scope(world.alpha, world.bob):
        for number in range(20):
            model = registry.register_model(f"model {number}")
            registry.add_version(model)
    assert cost() == few


# --- as a member of A: nothing of B --------------------------------------------------------


@pytest.fixture
def alphas_dana(dana: Client, world: World) -> Client:
    """The platform admin's browser, as an admin of team_alpha."""
    let_in(world, Role.ADMIN)
    return dana


def test_another_teams_row_answers_as_one_that_never_was(alphas_dana: Client, world: World) -> None:
    """L3, L9, L14: change, delete, history and permission pages by B's id."""
    theirs = str(ids(world.gamma)[0])
    for there, nowhere, broken in zip(
        row_pages(theirs), row_pages(RANDOM), row_pages("nonsense"), strict=True
    ):
        for method in (alphas_dana.get, alphas_dana.post):
            answer = without(method(there, {"post": "yes"}), theirs)
            assert answer[0] == 404
            assert answer == without(method(nowhere, {"post": "yes"}), str(RANDOM))
            assert answer == without(method(broken, {"post": "yes"}), "nonsense")
    with tenant_scope(world.gamma):
        version = ModelVersion.objects.all()[0].pk
    for page in ("change/", "history/"):
        answer = without(alphas_dana.get(f"{VERSIONS}{version}/{page}"))
        assert answer == without(alphas_dana.get(f"{VERSIONS}{RANDOM}/{page}"))
        assert answer[0] == 404


@pytest.mark.parametrize("action", ["archive", "restore", "delete_selected"])
def test_actions_do_not_touch_rows_of_other_teams(
    alphas_dana: Client, world: World, action: str
) -> None:
    """L14: B's ids in the selection."""
    with tenant_scope(world.gamma):
        registry.archive_model(RegisteredModel.objects.get(name="fraud"))
        before = list(RegisteredModel.objects.values_list("pk", "archived_at", "updated_at"))
    own = world.model(world.alpha, "ALPHA own")
    with tenant_scope(world.alpha):
        registry.archive_model(own)
    response = act(alphas_dana, MODELS, action, own.pk, *ids(world.gamma))
    assert CANARY not in shown(response)
    act(alphas_dana, MODELS, action, *ids(world.gamma), post="yes")
    act(alphas_dana, MODELS, action, *ids(world.gamma), post="yes", select_across="1")
    with tenant_scope(world.gamma):
        assert (
            list(RegisteredModel.objects.values_list("pk", "archived_at", "updated_at")) == before
        )


def pages_of_registry(world: World) -> Iterator[str]:
    """Yield the registry's pages as an admin of team_alpha opens them."""
    hugo, theirs = world.hugo.pk, ids(world.gamma)[0]
    for url in (MODELS, VERSIONS):
        for query in ("", "?_facets=True", "?created_at__year=2026", "?o=-1", "?p=2", "?all="):
            yield url + query
    yield f"{MODELS}?owner__id__exact={hugo}"
    yield f"{VERSIONS}?model__id__exact={theirs}"
    yield f"{MODELS}add/"
    for pk in ids(world.alpha):
        yield from (f"{MODELS}{pk}/{page}" for page in ("change/", "history/", "permissions/"))
        yield f"{MODELS}{pk}/permissions/user-manage/{hugo}/"
        yield f"{MODELS}{pk}/permissions/group-manage/{world.gamma.group_id}/"


def test_no_page_of_the_registry_shows_anything_of_another_team(
    alphas_dana: Client, world: World
) -> None:
    """L6, L7, L13, L14: lists, searches, filters, forms, histories, permissions."""
    for url in pages_of_registry(world):
        response = alphas_dana.get(url, follow=True)
        assert response.status_code == 200, url
        # The platform's own pages name every tenant and every person; this one's name is not it.
        assert CANARY not in shown(response).replace(world.gamma.name, ""), url
    for url in (MODELS, VERSIONS):
        for word in (CANARY, f"{CANARY} own", CANARY[:3], "hugo"):
            assert alphas_dana.get(url, {"q": word}).context["cl"].result_count == 0
        assert alphas_dana.get(url).context["cl"].result_count == (2 if url == MODELS else 4)
    owners = shown(alphas_dana.get(MODELS)).split("By owner")[1]
    assert "alice" in owners
    assert "hugo" not in owners


def test_no_page_of_the_platform_names_a_model(alphas_dana: Client, world: World) -> None:
    """L35: platform pages hold numbers, and no model's name, tag or description."""
    for tenant in (world.alpha, world.gamma):
        with tenant_scope(tenant):
            for name in ("SECRET name", "SECRET other"):
                registry.register_model(name, description="SECRET", tags={"SECRET": "SECRET"})
    with tenant_scope(world.gamma, world.hugo):
        registry.archive_model(RegisteredModel.objects.get(name="SECRET name"))
    membership = Membership.objects.get(user=world.hugo)
    urls = [reverse("admin:index"), reverse("admin:app_list", args=["models_registry"])]
    urls += [TENANTS, MEMBERSHIPS, USERS, ACCOUNT_EVENTS, f"{TENANTS}add/", f"{USERS}add/"]
    urls += [f"{TENANTS}{world.gamma.pk}/{page}" for page in ("change/", "history/")]
    urls += [f"{USERS}{world.hugo.pk}/{page}" for page in ("change/", "history/", "password/")]
    urls += [f"{MEMBERSHIPS}{membership.pk}/{page}" for page in ("change/", "delete/", "history/")]
    for url in urls:
        response = alphas_dana.get(url)
        assert response.status_code == 200, url
        assert "SECRET" not in shown(response)
        assert f"{CANARY} own" not in shown(response)


def test_owners_are_people_of_the_team(alphas_dana: Client, world: World) -> None:
    """L13: the choices of a foreign key, and another one posted anyway."""
    form = alphas_dana.get(f"{MODELS}add/").context["adminform"].form
    assert {user.username for user in form.fields["owner"].queryset} == {
        *("alice", "bob", "carol", "mia", "dana")
    }
    typed = {"name": "new", "tags": "{}", "owner": world.gina.pk}
    response = alphas_dana.post(f"{MODELS}add/", typed)
    assert "Select a valid choice." in shown(response)
    gone = world.model(world.alpha, "fraud")
    with tenant_scope(world.alpha):
        registry.update_model(gone, owner=world.charlie)
    form = alphas_dana.get(f"{MODELS}{gone.pk}/change/").context["adminform"].form
    assert world.charlie in form.fields["owner"].queryset


LOOKUPS = [
    (MODELS, "owner__password__startswith"),
    (MODELS, "tenant__name"),
    (MODELS, "tenant"),
    (MODELS, "name__startswith"),
    (MODELS, "versions__description__startswith"),
    (MODELS, "modelusergrant__user__username"),
    (VERSIONS, "model__tenant__name"),
    (VERSIONS, "model__name__startswith"),
    (VERSIONS, "creator__password__startswith"),
    (TENANTS, "group__user__password__startswith"),
    (TENANTS, "memberships__user__password__startswith"),
    (MEMBERSHIPS, "user__password__startswith"),
    (MEMBERSHIPS, "tenant__group__name"),
    (USERS, "password__startswith"),
    (USERS, "memberships__tenant__name"),
    (USERS, "modelusergrant__content_object__name__startswith"),
    (ACCOUNT_EVENTS, "user__password__startswith"),
]


@pytest.mark.parametrize(("url", "lookup"), LOOKUPS)
def test_addresses_filter_by_nothing_but_the_filters(
    alphas_dana: Client, url: str, lookup: str
) -> None:
    """L8: a filter in the address asks no question that the page does not ask."""
    answers = {without(alphas_dana.get(url, {lookup: value})) for value in ("md5", "x", CANARY)}
    assert {status for status, _, _ in answers} == {400}
    assert len(answers) == 1


# --- guardian's pages ----------------------------------------------------------------------


def test_a_model_is_shared_with_a_person_and_the_grant_taken_back(
    alphas_dana: Client, world: World
) -> None:
    model = world.model(world.alpha, "fraud")
    url = f"{MODELS}{model.pk}/permissions/"
    chosen = alphas_dana.post(url, {"user": "charlie", "submit_manage_user": "1"})
    assert chosen["Location"] == f"{url}user-manage/{world.charlie.pk}/"
    alphas_dana.post(chosen["Location"], {"permissions": "view_registeredmodel"})
    assert "charlie" in shown(alphas_dana.get(url))
    with tenant_scope(world.alpha):
        assert ModelUserGrant.objects.get().user == world.charlie
    alphas_dana.post(chosen["Location"], {"csrfmiddlewaretoken": "any"})
    with tenant_scope(world.alpha):
        assert not ModelUserGrant.objects.exists()
    for action in ("grant.given", "grant.revoked"):
        assert events(world.alpha, action) == [("dana", "fraud")]


@pytest.mark.parametrize("named", ["team_gamma", "tenant:team_gamma"])
def test_a_model_is_shared_with_a_team(alphas_dana: Client, world: World, named: str) -> None:
    url = f"{MODELS}{world.model(world.alpha, 'fraud').pk}/permissions/"
    chosen = alphas_dana.post(url, {"group": named, "submit_manage_group": "1"})
    alphas_dana.post(chosen["Location"], {"permissions": "view_registeredmodel"})
    assert "tenant:team_gamma" in shown(alphas_dana.get(url))
    with tenant_scope(world.alpha):
        assert ModelGroupGrant.objects.get().group == world.gamma.group
    with tenant_scope(world.gamma):
        assert [model.name for model in RegisteredModel.shared.all()] == ["fraud"]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({"user": "nobody", "submit_manage_user": "1"}, "There is nobody of this user name."),
        ({"user": "a\x00", "submit_manage_user": "1"}, "Null characters are not allowed."),
        ({"group": "nobody", "submit_manage_group": "1"}, "There is no other team of this slug."),
        ({"group": "team_alpha", "submit_manage_group": "1"}, "There is no other team"),
    ],
)
def test_a_stranger_cannot_be_granted_anything(
    alphas_dana: Client, world: World, typed: dict[str, str], reason: str
) -> None:
    url = f"{MODELS}{world.model(world.alpha, 'fraud').pk}/permissions/"
    response = alphas_dana.post(url, typed)
    assert response.status_code == 200
    assert reason in shown(response)


def test_only_reading_can_be_granted(alphas_dana: Client, world: World) -> None:
    url = f"{MODELS}{world.model(world.alpha, 'fraud').pk}/permissions/"
    for page in (f"user-manage/{world.charlie.pk}/", f"group-manage/{world.gamma.group_id}/"):
        for codename in ("delete_registeredmodel", "change_registeredmodel", "nonsense"):
            response = alphas_dana.post(url + page, {"permissions": codename})
            assert "Select a valid choice." in shown(response)
    with tenant_scope(world.alpha):
        assert not ModelUserGrant.objects.exists()
        assert not ModelGroupGrant.objects.exists()


@pytest.mark.parametrize("page", ["user-manage", "group-manage"])
@pytest.mark.parametrize("grantee", ["999999", "nonsense", "-1", "9" * 30, "²"])
def test_grantees_that_are_not_there_are_not_found(
    alphas_dana: Client, world: World, page: str, grantee: str
) -> None:
    model = world.model(world.alpha, "fraud")
    assert alphas_dana.get(f"{MODELS}{model.pk}/permissions/{page}/{grantee}/").status_code == 404


# --- for which team ------------------------------------------------------------------------


def test_a_platform_admin_in_two_teams_chooses_one(dana: Client, world: World) -> None:
    let_in(world, Role.VIEWER)
    gammas = let_in(world, Role.VIEWER, world.gamma)
    assert "ALPHA own" in shown(dana.get(MODELS))
    switched = dana.post(reverse("admin:team"), {"team": "team_gamma", "next": VERSIONS})
    assert switched["Location"] == VERSIONS
    assert f"{CANARY} own" in shown(dana.get(MODELS))
    assert "ALPHA own" not in shown(dana.get(MODELS))
    directory.remove_member(gammas)
    page = shown(dana.get(MODELS))
    assert "ALPHA own" in page
    assert CANARY not in page


@pytest.mark.parametrize("team", ["team_gamma", "nowhere", "", "\x00"])
def test_only_ones_own_teams_can_be_chosen(alphas_dana: Client, team: str) -> None:
    assert alphas_dana.post(reverse("admin:team"), {"team": team}).status_code == 404
    assert alphas_dana.get(reverse("admin:team")).status_code == 405
    assert "ALPHA own" in shown(alphas_dana.get(MODELS))


def test_choosing_a_team_leads_nowhere_else(alphas_dana: Client) -> None:
    for place in ("https://example.org/", "//example.org", "javascript:alert(1)", ""):
        answer = alphas_dana.post(reverse("admin:team"), {"team": "team_alpha", "next": place})
        assert answer["Location"] == reverse("admin:index")


def test_an_expired_membership_opens_nothing(dana: Client, world: World) -> None:
    membership = let_in(world, Role.ADMIN)
    Membership.objects.filter(pk=membership.pk).update(expires_at=timezone.now())
    assert "You are a member of no team" in shown(dana.get(MODELS))


# --- tenants -------------------------------------------------------------------------------


def test_a_tenant_is_made_with_its_first_admin(dana: Client, world: World) -> None:
    typed = {"slug": "team_delta", "name": "Delta", "first_admin": world.charlie.pk}
    dana.post(f"{TENANTS}add/", {**typed, "contact": "c@example.com", "description": "new"})
    delta = Tenant.objects.get(slug="team_delta")
    assert (delta.name, delta.contact, delta.description) == ("Delta", "c@example.com", "new")
    assert delta.group.name == "tenant:team_delta"
    assert Membership.objects.get(tenant=delta).role == Role.ADMIN
    assert events(delta, "tenant.created") == [("dana", "team_delta")]
    assert events(delta, "member.added") == [("dana", "charlie")]


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({"slug": "Team"}, "Use 1 to 40 lower-case letters"),
        ({"slug": "admin"}, "is reserved"),
        ({"slug": "team-alpha"}, "A tenant with this slug"),
        ({"slug": "team_alpha"}, "already exists"),
        ({"first_admin": ""}, "This field is required."),
        ({"first_admin": "999999"}, "Select a valid choice."),
        ({"name": "\x00"}, "Null characters are not allowed."),
    ],
)
def test_a_tenant_that_cannot_be_is_not_made(
    dana: Client, world: World, typed: dict[str, str], reason: str
) -> None:
    good = {"slug": "team_delta", "name": "Delta", "first_admin": world.charlie.pk}
    response = dana.post(f"{TENANTS}add/", {**good, **typed})
    assert reason in shown(response)
    assert Tenant.objects.count() == 2


def test_a_tenant_is_edited_but_its_slug_stays(dana: Client, world: World) -> None:
    url = f"{TENANTS}{world.gamma.pk}/change/"
    dana.post(
        url, {**form_of(dana.get(url)), "name": "New", "slug": "other", "status": "suspended"}
    )
    gamma = Tenant.objects.get(pk=world.gamma.pk)
    assert (gamma.name, gamma.slug, gamma.status) == ("New", "team_gamma", Tenant.Status.ACTIVE)
    assert events(world.gamma, "tenant.updated") == [("dana", "team_gamma")]


def test_tenants_are_suspended_and_resumed(dana: Client, world: World, as_: SignIn) -> None:
    url = f"{TENANTS}{world.gamma.pk}/change/"
    assert "suspend" in dana.get(url).context["object_actions"]
    act(dana, TENANTS, "suspend", world.gamma.pk, world.alpha.pk)
    assert not Tenant.objects.filter(status=Tenant.Status.ACTIVE).exists()
    assert "suspended" in shown(as_(world.gina).get(reverse("models", args=["team_gamma"])))
    assert "resume" in dana.get(url).context["object_actions"]
    act(dana, TENANTS, "resume", world.gamma.pk)
    assert Tenant.objects.get(status=Tenant.Status.ACTIVE) == world.gamma
    for action in ("tenant.suspended", "tenant.resumed"):
        assert events(world.gamma, action) == [("dana", "team_gamma")]


def test_neither_tenants_nor_accounts_are_deleted(dana: Client, world: World) -> None:
    for url, pk in ((TENANTS, world.gamma.pk), (USERS, world.charlie.pk)):
        for method in (dana.get, dana.post):
            assert method(f"{url}{pk}/delete/", {"post": "yes"}).status_code == 403
        act(dana, url, "delete_selected", pk, post="yes")
    assert Tenant.objects.count() == 2
    assert User.objects.filter(pk=world.charlie.pk).exists()


def test_the_list_of_tenants_counts_what_they_have(dana: Client, world: World) -> None:
    with tenant_scope(world.gamma, world.hugo):
        registry.register_model("one more")
    page = shown(dana.get(TENANTS))
    assert "2 models, 4 versions" in page
    assert "3 models, 4 versions" in page
    assert "one more" not in page
    assert "3 models, 4 versions" in shown(dana.get(f"{TENANTS}{world.gamma.pk}/change/"))


# --- memberships ---------------------------------------------------------------------------


def test_a_member_is_added_with_a_reason_and_an_end(dana: Client, world: World) -> None:
    typed = {"tenant": world.gamma.pk, "user": world.dana.pk, "role": Role.VIEWER, **REASON}
    assert dana.post(f"{MEMBERSHIPS}add/", typed).status_code == 302
    membership = Membership.objects.get(user=world.dana)
    assert (membership.role, membership.reason) == (Role.VIEWER, "Ticket 4711")
    assert membership.expires_at is not None
    assert membership.expires_at.isoformat() == "2999-01-01T00:00:00+00:00"
    with tenant_scope(world.gamma):
        event = AuditEvent.objects.get(action="member.added", object_label="dana")
        assert event.actor == world.dana
        assert event.changes["reason"] == "Ticket 4711"
        assert event.changes["expires_at"] == "2999-01-01T00:00:00+00:00"
    assert f"{CANARY} own" in shown(dana.get(MODELS))


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"reason": ""}, "Needed to let yourself in"),
        ({"expires_at": ""}, "Needed to let yourself in"),
        ({"expires_at": "2001-01-01T00:00"}, "This time has passed already."),
        ({"expires_at": "nonsense"}, "Enter a valid date/time."),
        ({"role": "owner"}, "Select a valid choice."),
    ],
)
def test_nobody_lets_themselves_in_without_a_reason_and_an_end(
    dana: Client, world: World, missing: dict[str, str], reason: str
) -> None:
    typed = {"tenant": world.gamma.pk, "user": world.dana.pk, "role": Role.VIEWER, **REASON}
    assert reason in shown(dana.post(f"{MEMBERSHIPS}add/", {**typed, **missing}))
    assert not Membership.objects.filter(user=world.dana).exists()


def test_others_are_added_without_a_reason_but_once(dana: Client, world: World) -> None:
    typed = {"tenant": world.gamma.pk, "user": world.charlie.pk, "role": Role.VIEWER}
    assert dana.post(f"{MEMBERSHIPS}add/", typed).status_code == 302
    again = shown(dana.post(f"{MEMBERSHIPS}add/", typed))
    assert "This person is a member already; change the role instead." in again


def test_roles_change_and_members_leave_with_an_event(dana: Client, world: World) -> None:
    membership = Membership.objects.get(user=world.gina)
    url = f"{MEMBERSHIPS}{membership.pk}/"
    dana.post(f"{url}change/", {"role": Role.MAINTAINER, "user": world.dana.pk, "reason": "x"})
    membership.refresh_from_db()
    assert (membership.role, membership.user, membership.reason) == ("maintainer", world.gina, "")
    dana.post(f"{url}delete/", {"post": "yes"})
    assert not Membership.objects.filter(user=world.gina).exists()
    for action in ("member.role_changed", "member.removed"):
        assert events(world.gamma, action) == [("dana", "gina")]


def test_the_last_admin_stays_and_a_message_says_so(dana: Client, world: World) -> None:
    hugo = Membership.objects.get(user=world.hugo)
    gina = Membership.objects.get(user=world.gina)
    reason = "hugo is the last admin of this team. Make somebody else an admin first."
    url = f"{MEMBERSHIPS}{hugo.pk}/"
    assert dana.post(f"{url}change/", {"role": Role.VIEWER}).status_code == 302
    assert reason in said(dana)
    assert dana.post(f"{url}delete/", {"post": "yes"}).status_code == 302
    assert reason in said(dana)
    act(dana, MEMBERSHIPS, "delete_selected", gina.pk, hugo.pk, post="yes")
    assert reason in said(dana)
    assert Membership.objects.filter(pk__in=[gina.pk, hugo.pk]).count() == 2
    hugo.refresh_from_db()
    assert hugo.role == Role.ADMIN
    assert events(world.gamma, "member.removed") == []


def test_whoever_removes_their_own_membership_is_out(alphas_dana: Client, world: World) -> None:
    own = Membership.objects.get(user=world.dana)
    assert alphas_dana.post(f"{MEMBERSHIPS}{own.pk}/delete/", {"post": "yes"}).status_code == 302
    assert "You are a member of no team" in shown(alphas_dana.get(MODELS))
    assert events(world.alpha, "member.removed") == [("dana", "dana")]


# --- accounts ------------------------------------------------------------------------------


def test_an_account_is_deactivated_and_its_session_ends(
    dana: Client, world: World, as_: SignIn
) -> None:
    gina, url = as_(world.gina), reverse("models", args=["team_gamma"])
    assert gina.get(url).status_code == 200
    act(dana, USERS, "deactivate", world.gina.pk)
    assert gina.get(url).status_code == 302
    act(dana, USERS, "activate", world.gina.pk)
    assert User.objects.get(pk=world.gina.pk).is_active
    done = AccountEvent.objects.filter(user=world.gina, action__startswith="account_")
    assert {(event.action, event.changes["by"]) for event in done} == {
        ("account_deactivated", "dana"),
        ("account_activated", "dana"),
    }


def test_nobody_deactivates_or_demotes_themselves(dana: Client, world: World) -> None:
    act(dana, USERS, "deactivate", world.dana.pk, world.charlie.pk)
    assert "You cannot deactivate your own account." in said(dana)
    assert not User.objects.get(pk=world.charlie.pk).is_active
    url = f"{USERS}{world.dana.pk}/change/"
    page = dana.get(url)
    assert page.context["object_actions"] == {}
    dana.post(url, {**form_of(page), "is_superuser": "", "is_staff": "", "is_active": ""})
    world.dana.refresh_from_db()
    assert world.dana.is_superuser
    assert world.dana.is_staff
    assert world.dana.is_active


def test_the_rights_of_the_platform_are_given_with_an_event(dana: Client, world: World) -> None:
    url = f"{USERS}{world.charlie.pk}/change/"
    typed = {name: value for name, value in form_of(dana.get(url)).items() if value is not False}
    dana.post(url, typed)
    assert not AccountEvent.objects.filter(action="account_changed").exists()
    dana.post(url, {**typed, "is_staff": "on", "is_superuser": "on", "groups": "1"})
    event = AccountEvent.objects.get(action="account_changed")
    assert event.user == world.charlie
    assert event.ip == "127.0.0.1"
    assert event.changes == {
        "by": "dana",
        "from": {"is_staff": False, "is_superuser": False},
        "to": {"is_staff": True, "is_superuser": True},
    }
    assert not world.charlie.groups.exists()


def test_accounts_are_made_and_passwords_set_with_an_event(
    dana: Client, world: World, as_: SignIn
) -> None:
    typed = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    dana.post(f"{USERS}add/", {"username": "nora", "email": "nora@example.com", **typed})
    nora = User.objects.get(username="nora")
    browser = as_(nora)
    assert browser.get("/").status_code == 200
    typed = {"password1": PASSWORD[::-1], "password2": PASSWORD[::-1], "usable_password": "true"}
    assert dana.post(f"{USERS}{nora.pk}/password/", typed).status_code == 302
    with zeal_ignore():  # Django reads a session once more after it ended it
        assert browser.get("/").status_code == 302
    done = AccountEvent.objects.filter(user=nora).values_list("action", flat=True)
    assert {"account_created", "password_set"} <= set(done)
    assert PASSWORD not in str(list(AccountEvent.objects.values_list("changes", flat=True)))


@pytest.mark.parametrize("pk", ["999999", "nonsense"])
def test_the_password_of_nobody_cannot_be_set(dana: Client, pk: str) -> None:
    assert dana.get(f"{USERS}{pk}/password/").status_code == 404


def test_account_events_are_read_and_never_changed(dana: Client, world: World) -> None:
    directory.deactivate_user(world.charlie, world.dana)
    event = AccountEvent.objects.get(action="account_deactivated")
    assert "account_deactivated" in shown(dana.get(f"{ACCOUNT_EVENTS}?q=charlie"))
    assert dana.get(f"{ACCOUNT_EVENTS}add/").status_code == 403
    for page in ("change/", "delete/"):
        assert dana.post(f"{ACCOUNT_EVENTS}{event.pk}/{page}", {"post": "yes"}).status_code == 403
    act(dana, ACCOUNT_EVENTS, "delete_selected", event.pk, post="yes")
    assert AccountEvent.objects.filter(pk=event.pk).exists()


# --- tokens and robots ---------------------------------------------------------------------


def test_tokens_are_listed_without_what_they_are(dana: Client, world: World) -> None:
    """Whose, which team's, since when: no name, no secret, nothing of what is kept of it."""
    token, secret = tokens.create_token(
        world.gina, "what it is for", scope="write", tenant=world.gamma
    )
    for page in (TOKENS, f"{TOKENS}{token.pk}/change/", f"{TOKENS}?q={token.prefix}"):
        text = shown(dana.get(page))
        for word in (token.prefix, "gina", "team_gamma"):
            assert word in text, page
        digest = tokens.digest(secret)
        for word in (secret, digest.hex(), str(digest), "what it is for", "digest"):
            assert word not in text, page
    assert token.prefix not in shown(dana.get(f"{TOKENS}?q=alice"))
    # What a filter may ask is an allow-list: the digest is none of it.
    for oracle in ("digest__startswith=a", "name__startswith=w", "user__password__startswith=a"):
        assert dana.get(f"{TOKENS}?{oracle}").status_code == 400


def test_a_token_is_revoked_and_otherwise_left_alone(dana: Client, world: World) -> None:
    kept, _ = tokens.create_token(world.hugo, "x", scope="read")
    token, _ = tokens.create_token(world.gina, "x", scope="read", tenant=world.gamma)
    page = dana.get(f"{TOKENS}{token.pk}/change/")
    assert page.context["object_actions"] == {"revoke": "Revoke"}
    act(dana, TOKENS, "revoke", token.pk)
    assert said(dana) == [f"{token.prefix}… of gina is revoked."]
    assert list(ApiToken.objects.living()) == [kept]
    assert events(world.gamma, "token.revoked") == [("dana", "x")]
    assert not dana.get(f"{TOKENS}{token.pk}/change/").context["object_actions"]
    for url in (f"{TOKENS}add/", f"{TOKENS}{kept.pk}/delete/"):
        for send in (dana.get, dana.post):
            assert send(url).status_code == 403
    data = {"scope": "write", "user": world.dana.pk, "expires_at_0": "2999-01-01"}
    assert dana.post(f"{TOKENS}{kept.pk}/change/", data).status_code == 403
    act(dana, TOKENS, "delete_selected", kept.pk, post="yes")
    kept.refresh_from_db()
    assert (kept.scope, kept.user, kept.revoked_at) == ("read", world.hugo, None)


def test_robots_are_told_from_people_and_stay_what_they_are(dana: Client, world: World) -> None:
    """L22: no password, no other name, no platform, no other team."""
    robot = robots.create_robot(world.gamma, "ci", Role.VIEWER, world.hugo)
    listed = dana.get(f"{USERS}?robot_of__isempty=0")
    assert list(listed.context["cl"].result_list) == [robot]
    assert "robot.team_gamma.ci" not in shown(dana.get(f"{USERS}?robot_of__isempty=1"))
    url = f"{USERS}{robot.pk}/change/"
    assert "signs in nowhere" in shown(dana.get(url))
    dana.post(
        url,
        {
            "username": "ci",
            "is_staff": "on",
            "is_superuser": "on",
            "password": "x",
            "memberships-TOTAL_FORMS": 0,
            "memberships-INITIAL_FORMS": 0,
        },
    )
    for send in (dana.get, dana.post):
        password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
        assert send(f"{USERS}{robot.pk}/password/", password).status_code == 403
    typed = {"tenant": world.alpha.pk, "user": robot.pk, "role": Role.VIEWER}
    dana.post(f"{MEMBERSHIPS}add/", typed)
    assert "A robot belongs to the team that made it, and to no other." in said(dana)
    dana.post(f"{MEMBERSHIPS}{robot.memberships.get().pk}/change/", {"role": "admin"})
    assert said(dana) == ["A robot is maintainer at most."]
    robot.refresh_from_db()
    assert (robot.username, robot.is_staff, robot.is_superuser) == (
        *("robot.team_gamma.ci", False),
        False,
    )
    assert not robot.has_usable_password()
    assert [m.role for m in robot.memberships.all()] == [Role.VIEWER]


def test_a_person_cannot_be_given_a_robots_name(dana: Client, world: World) -> None:
    typed = {"username": "robot.team_alpha.ci", "usable_password": "false"}
    assert "Only robots' names begin with" in shown(dana.post(f"{USERS}add/", typed))
    form = form_of(dana.get(f"{USERS}{world.charlie.pk}/change/"))
    renamed = dana.post(f"{USERS}{world.charlie.pk}/change/", {**form, "username": "robot.a.b"})
    assert "Only robots' names begin with" in shown(renamed)
    assert not User.objects.filter(username__startswith="robot").exists()


# --- the look ------------------------------------------------------------------------------


def test_no_page_needs_an_inline_style_or_script(alphas_dana: Client, world: World) -> None:
    """The content security policy forbids them, and the browser would drop them in silence."""
    membership = Membership.objects.get(user=world.hugo)
    urls = [reverse("admin:index"), *pages_of_registry(world)]
    urls += [TENANTS, f"{TENANTS}add/", f"{TENANTS}{world.alpha.pk}/change/"]
    urls += [MEMBERSHIPS, f"{MEMBERSHIPS}add/", f"{MEMBERSHIPS}{membership.pk}/delete/"]
    urls += [USERS, f"{USERS}add/", f"{USERS}{world.bob.pk}/change/", ACCOUNT_EVENTS]
    inline = re.compile(r"""<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=["']|javascript:""")
    for url in urls:
        response = alphas_dana.get(url, follow=True)
        assert not inline.search(response.content.decode()), url
        assert "admin.css" in response.content.decode()
        assert "'unsafe-inline'" not in response["Content-Security-Policy"]
        assert response["Cache-Control"] == "private, no-store"
