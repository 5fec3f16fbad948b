"""The pages: each is whole for each person and each name, and costs what it may cost."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from models_registry import registry
from models_registry.models import RegisteredModel
from tenants.access import share
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Membership, Role, Tenant, User
from tests.support.issuers import refused_identity
from tests.support.pages import Page, crawl, page_of, url
from tests.support.people import CANARY, HOSTILE_NAMES, World, add_version

As = Callable[[User | None], Client]

HOSTILE_TEXT = "<script>alert(1)</script>\"'{{ 7*7 }}{% now %}&amp; \u202egnp.exe"
#: Followed by no crawl: the Django admin has tests of its own.
ELSEWHERE = ("/admin/", "/static/")


def rows_of(response: Any) -> list[str]:
    """Return the names of the models on a list."""
    return [model.name for model in response.context["page"].rows]


# --- every link, for everybody -------------------------------------------------------------


@pytest.fixture
def hostile(world: World) -> World:
    """Give team_alpha models whose names and texts break whatever does not quote them."""
    with tenant_scope(world.alpha, world.alice):
        for name in HOSTILE_NAMES:
            model = registry.register_model(
                name,
                description=HOSTILE_TEXT,
                card=f"---\nlicense: {HOSTILE_TEXT!r}\n---\n# {HOSTILE_TEXT}\n\n[x](javascript:1)",
                tags={"framework": HOSTILE_TEXT, "task": "a&b=c", "key: x/y": "= v?"},
            )
            for number in (1, 2):
                registry.add_version(
                    model,
                    source=HOSTILE_TEXT,
                    run_link="javascript:alert(1)",
                    description=HOSTILE_TEXT,
                    tags={"k": HOSTILE_TEXT},
                    params={"p": HOSTILE_TEXT},
                    metrics={"m: x/y": float(number), "n": 1e-300 * number},
                )
            registry.set_alias(model, "champion", 2)
            registry.star(model, True)
        archived = registry.register_model("archived")
        registry.archive_model(archived)
    directory.add_member(world.gamma, world.alice, Role.VIEWER)
    with tenant_scope(world.gamma, world.hugo):
        share(RegisteredModel.objects.get(name="fraud"), with_tenant=world.alpha)
    return world


def test_every_link_leads_to_a_page_without_faults(hostile: World, as_: As) -> None:
    pages = crawl(as_(hostile.alice), "/", leave=(*ELSEWHERE, "/t/team_gamma/"))
    assert not {address: page.faults for address, page in pages.items() if page.faults}
    for model in HOSTILE_NAMES:
        for view in ("model", "versions", "model_access", "model_history"):
            assert url(view, model) in pages
        assert url("version", model, 2) in pages
        assert url("edit_model", model) in pages
    shared = [address for address in pages if "/shared/" in address]
    assert len(shared) == 4  # the list, the model and its two versions


def test_what_is_typed_is_shown_as_it_was_typed(hostile: World, as_: As) -> None:
    browser = as_(hostile.alice)
    for name in HOSTILE_NAMES:
        page = page_of(browser.get(url("model", name)))
        assert name in page.text
        assert HOSTILE_TEXT in page.text
        assert "49" not in re.sub(r"\d{3,}|0\.\d+", "", page.title)
        assert f"models:/{name}@champion" in page.text


def test_a_link_that_is_no_web_address_is_no_link(hostile: World, as_: As) -> None:
    page = page_of(as_(hostile.alice).get(url("version", "模型", 1)))
    assert "javascript:alert(1)" in page.text
    assert not [link for link in page.links if not link.startswith(("/", "?", "#"))]


def test_every_page_says_nothing_of_other_teams(world: World, as_: As) -> None:
    for name in ("alice", "bob"):
        pages = crawl(as_(world.person(name)), "/", leave=ELSEWHERE)
        assert len(pages) > 15
        for address, page in pages.items():
            for word in (CANARY, "team_gamma", "gina", "hugo"):
                assert word not in page.html, address


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_each_verb_works_for_each_name(world: World, as_: As, name: str) -> None:
    """From registering to deleting, by the pages alone."""
    browser = as_(world.alice)
    typed = {"name": name, "description": "d", "tags": "a = b", "card": "# Card"}
    if "\n" in name:  # a text field cannot hold it
        with tenant_scope(world.alpha, world.alice):
            registry.register_model(name)
    else:
        assert browser.post(url("register_model"), typed)["Location"] == url("model", name)
    version = {"source": "s3://b/p", "metrics": "auc = 0.5\nf1 = 1e-3", "params": "C = 1.0"}
    for number in (1, 2):
        sent = browser.post(url("add_version", name), version)
        assert sent["Location"] == url("version", name, number)
    for number, expected in ((1, ""), (2, "1")):
        move = {"alias": "champion", "version": number, "expected": expected}
        assert browser.post(url("set_alias", name), move)["Location"] == url("model", name)
    page = page_of(browser.get(url("model", name)))
    assert f"models:/{name}@champion" in page.text
    assert browser.get(url("compare", name), {"v": [1, 2]}).status_code == 200
    assert browser.post(url("star_model", name), {"on": "1"})["Location"] == url("model", name)
    assert browser.post(url("delete_alias", name), {"alias": "champion", "expected": "2"})
    assert browser.post(url("delete_version", name, 1))["Location"] == url("model", name)
    assert browser.post(url("archive_model", name))["Location"] == url("model", name)
    assert browser.post(url("delete_model", name), {"name": name})["Location"] == url("models")
    assert browser.get(url("model", name)).status_code == 404


# --- what a page costs ---------------------------------------------------------------------


def fill_to(tenant: Tenant, person: User, count: int) -> None:
    """Give the tenant ``count`` models, and `fraud` as many versions, aliases and grants."""
    with tenant_scope(tenant, person):
        while (found := RegisteredModel.objects.count()) < count:
            model = registry.register_model(f"more {found}", tags={"framework": f"f{found}"})
            registry.add_version(model, metrics={"auc": 0.5})
            registry.set_alias(model, "champion", 1)
            registry.record_view(model)
            registry.star(model, True)
        model = RegisteredModel.objects.get(name="fraud")
        for number in range(model.versions.count(), count):
            add_version(model, auc=0.5, other=number / 7)
            registry.set_alias(model, f"alias{number}", number + 1)
            share(model, with_user=User.objects.create_user(f"friend{tenant.slug}{number}"))
    for number in range(person.tokens.count(), count):
        tokens.create_token(person, f"{number}", scope="read", tenant=tenant)
        robot = robots.create_robot(tenant, f"ci{number}", Role.VIEWER, person)
        robots.rotate_token(robot, scope="read", days=30, actor=person)
        refused_identity(tenant, f"ci{number}", person)


BUDGETS = {
    "team_home": (9, ()),
    "models": (8, ()),
    "model": (13, ("fraud",)),
    "versions": (9, ("fraud",)),
    "version": (9, ("fraud", 1)),
    "compare": (9, ("fraud",)),
    "model_access": (9, ("fraud",)),
    "model_history": (8, ("fraud",)),
    "set_alias": (8, ("fraud",)),
    "shared_models": (6, ()),
    "activity": (6, ()),
    "check_manifests": (6, ()),
    "isolation": (8, ()),
    "members": (6, ()),
    "tokens": (6, ()),
    "robots": (8, ()),
    "identities": (7, ()),
}


def queries_of(browser: Client, address: str) -> list[str]:
    """Return the statements for one page, without those that only a transaction in a test needs."""
    browser.get(address)  # what is read once a process, and the first view of a model
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(address).status_code == 200
    statements = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in statements if not re.match(r"(RELEASE )?SAVEPOINT|SELECT set_conf", sql)]


def test_a_page_costs_the_same_for_two_rows_and_for_twenty(world: World, as_: As) -> None:
    browser = as_(world.alice)
    addresses = {name: url(name, *args) for name, (_, args) in BUDGETS.items()}
    addresses["compare"] += "?v=1&v=2"
    fill_to(world.alpha, world.alice, 3)
    few = {name: queries_of(browser, address) for name, address in addresses.items()}
    fill_to(world.alpha, world.alice, 20)
    for number in range(20):
        directory.add_member(world.alpha, User.objects.create_user(f"new{number}"), Role.VIEWER)
    for name, address in addresses.items():
        many = queries_of(browser, address)
        assert len(many) == len(few[name]), "\n".join([name, *many])
        assert len(many) <= BUDGETS[name][0], "\n".join([name, *many])


# --- the list ------------------------------------------------------------------------------


@pytest.fixture
def library(world: World) -> World:
    """Give team_alpha models that differ in what the list can be narrowed to."""
    with tenant_scope(world.alpha, world.alice):
        RegisteredModel.objects.all().delete()
        churn = registry.register_model(
            "churn", description="Who leaves", tags={"framework": "PyTorch", "task": "ranking"}
        )
        registry.register_model(
            "wine", card="# Grapes\n\n100% of them", tags={"framework": "scikit-learn"}
        )
        digits = registry.register_model("digits", owner=world.carol, tags={"task": "ranking"})
        registry.add_version(churn)
        registry.set_alias(churn, "production", 1)
        registry.archive_model(registry.register_model("old"))
        registry.register_model("greet", tags={"mlflow.prompt.is_prompt": "true"})
        registry.star(digits, True)
    return world


FOUND = {
    "": {"churn", "wine", "digits"},
    "q=CHURN": {"churn"},
    "q=leaves": {"churn"},
    "q=grapes": {"wine"},
    "q=scikit": {"wine"},
    "q=production": {"churn"},
    "q=@prod": {"churn"},
    "q=who+leaves": {"churn"},
    "q=who+grapes": set(),
    "q=100%25": {"wine"},
    "q=%25": {"wine"},
    "q=_": set(),
    "q=%5C": set(),
    "q='": set(),
    "q=old": set(),
    "framework=PyTorch": {"churn"},
    "framework=pytorch": set(),
    "task=ranking": {"churn", "digits"},
    "task=ranking&framework=PyTorch": {"churn"},
    "tag=task%3Dranking": {"churn", "digits"},
    "owner=carol": {"digits"},
    "owner=gina": set(),
    "alias=production": {"churn"},
    "show=archived": {"old"},
    "show=prompts": {"greet"},
    "show=prompts&q=churn": set(),
    "show=all": {"churn", "wine", "digits", "old", "greet"},
    "show=starred": {"digits"},
    "show=nonsense&sort=nonsense": {"churn", "wine", "digits"},
    "unknown=1": {"churn", "wine", "digits"},
}


def test_the_list_of_models_finds_what_is_searched_for(library: World, as_: As) -> None:
    browser = as_(library.alice)
    for query, names in FOUND.items():
        response = browser.get(f"{url('models')}?{query}")
        page = page_of(response)
        assert set(rows_of(response)) == names, query
        assert response.context["count"] == len(names), query
        if names:
            assert f"{len(names)} model{'' if len(names) == 1 else 's'}" in page.text, query


def test_no_filter_breaks_the_list(library: World, as_: As) -> None:
    browser = as_(library.alice)
    for parameter in ("q", "framework", "task", "owner", "alias", "tag", "after", "show", "sort"):
        for value in ("%00", "x" * 10_000, "%ED%A0%80", "%FF", "{{7*7}}", "a%0Ab", "%25", "=", "&"):
            address = f"{url('models')}?{parameter}={value}"
            assert browser.get(address, follow=True).status_code == 200, address


def test_the_list_of_models_is_sorted_as_asked(library: World, as_: As) -> None:
    browser = as_(library.alice)
    orders = {
        "name": ["churn", "digits", "wine"],
        "-name": ["wine", "digits", "churn"],
        "created": ["digits", "wine", "churn"],
        "oldest": ["churn", "wine", "digits"],
        "updated": ["churn", "digits", "wine"],
    }
    for sort, names in orders.items():
        assert rows_of(browser.get(url("models"), {"sort": sort})) == names, sort


def test_an_empty_list_shows_how_to_begin(world: World, as_: As) -> None:
    with tenant_scope(world.alpha):
        RegisteredModel.objects.all().delete()
    page = page_of(as_(world.carol).get(url("models")))
    assert "import_models" in page.text
    assert url("register_model") in page.links
    assert url("register_model") not in page_of(as_(world.bob).get(url("models"))).links


def test_the_snippet_of_the_empty_list_works(world: World, as_: As) -> None:
    """What the page tells people to type is what import_models reads."""
    with tenant_scope(world.alpha):
        RegisteredModel.objects.all().delete()
    text = page_of(as_(world.alice).get(url("models"))).text
    start = text.index("{", text.index("models.json"))
    data = json.loads(text[start : text.index("END", start)])
    ((team, (model, *_)),) = data.items()
    assert team == "team_alpha"
    assert set(model) <= {"name", "description", "card", "tags", "owner", "versions", "aliases"}


def test_what_matches_nothing_can_be_cleared(library: World, as_: As) -> None:
    response = as_(library.alice).get(url("models"), {"q": "nothing like it", "sort": "name"})
    page = page_of(response)
    assert url("models") in page.links
    assert "import_models" not in page.text
    assert "nothing like it" in page.html


def test_htmx_gets_the_list_alone_and_history_the_whole_page(library: World, as_: As) -> None:
    browser, address = as_(library.alice), url("models")
    whole = browser.get(address)
    part = browser.get(address, headers={"HX-Request": "true"})
    restored = browser.get(
        address, headers={"HX-Request": "true", "HX-History-Restore-Request": "true"}
    )
    assert b"<!DOCTYPE html>" in whole.content
    assert b"<!DOCTYPE html>" in restored.content
    assert b"<!DOCTYPE" not in part.content
    assert rows_of(part) == rows_of(whole)
    for response in (whole, part, restored):
        assert "HX-Request" in response["Vary"]
        assert response["Cache-Control"] == "private, no-store"


def test_a_star_is_a_switch(library: World, as_: As) -> None:
    browser, headers = as_(library.bob), {"HX-Request": "true"}
    for on, other in (("1", "0"), ("0", "1")):
        part = browser.post(url("star_model", "wine"), {"on": on}, headers=headers)
        (form,) = Page(part.content.decode()).forms
        assert form.fields["on"] == other
        starred = rows_of(browser.get(url("models"), {"show": "starred"}))
        assert starred == (["wine"] if on == "1" else [])
    assert rows_of(as_(library.alice).get(url("models"), {"show": "starred"})) == ["digits"]


# --- one model -----------------------------------------------------------------------------


def test_the_models_page_shows_what_there_is_to_know(world: World, as_: As) -> None:
    with tenant_scope(world.alpha, world.alice):
        share(world.model(world.alpha, "fraud"), with_user=world.charlie)
        share(world.model(world.alpha, "fraud"), with_tenant=world.gamma)
    page = page_of(as_(world.bob).get(url("model", "fraud")))
    for text in ("ALPHA description", "ALPHA card", "champion", "auc", "alice", "1 other team"):
        assert text in page.text
    assert "models:/fraud@champion" in page.text
    assert '<svg class="chart"' in page.html
    assert "0.91 in version 1, 0.92 in version 2" in page.html
    access = page_of(as_(world.bob).get(url("model_access", "fraud")))
    for text in ("charlie", world.gamma.name, "viewer", "admin"):
        assert text in access.text


def test_a_model_without_anything_says_so(world: World, as_: As) -> None:
    with tenant_scope(world.alpha, world.alice):
        registry.register_model("bare")
    for name in ("model", "versions", "compare", "model_access", "model_history", "set_alias"):
        page_of(as_(world.alice).get(url(name, "bare")))
    page = page_of(as_(world.alice).get(url("model", "bare")))
    assert url("add_version", "bare") in page.links
    assert url("edit_model", "bare") in page.links


def test_a_metric_in_one_version_only_or_always_equal_draws_no_nonsense(
    world: World, as_: As
) -> None:
    with tenant_scope(world.alpha, world.alice):
        model = registry.register_model("flat")
        for number in range(3):
            registry.add_version(
                model,
                metrics={"same": 1.0, "zero": 0.0, "huge": 1e308 * (-1) ** number}
                | ({"once": 0.5} if number else {"first": 0.1}),
            )
    page = page_of(as_(world.alice).get(url("model", "flat")))
    assert "same" in page.text
    drawn = re.findall(r'points="([^"]*)"', page.html)
    assert drawn
    assert not [points for points in drawn if "nan" in points or "inf" in points]


def test_compare_shows_what_differs_or_all(world: World, as_: As) -> None:
    with tenant_scope(world.alpha, world.alice):
        model = world.model(world.alpha, "fraud")
        registry.add_version(model, params={"C": "2.0"}, metrics={"auc": 0.93, "new": 1.0})
    browser, address = as_(world.bob), url("compare", "fraud")
    page = page_of(browser.get(address, {"v": [1, 2]}))
    assert "auc" in page.text
    assert "word" not in page.text  # the same in both
    assert "word" in page_of(browser.get(f"{address}?v=1&v=2&all=1")).text
    page = page_of(browser.get(address, {"v": [1, 3]}))
    assert "new" in page.text
    for wrong in ("", "v=1", "v=1&v=1", "v=99&v=98", "v=x&v=-1", f"v={'9' * 30}"):
        response = browser.get(f"{address}?{wrong}")
        assert response.status_code == 200
        assert not response.context["enough"]
    many = browser.get(f"{address}?v=1&v=2&v=3&v=1&v=2")
    assert [version.number for version in many.context["versions"]] == [1, 2, 3]


def test_history_and_activity_tell_who_did_what(world: World, as_: As) -> None:
    with tenant_scope(world.alpha, world.carol):
        model = world.model(world.alpha, "fraud")
        registry.set_alias(model, "champion", 2)
        registry.update_model(model, description="new words")
    for address in (url("model_history", "fraud"), url("activity")):
        text = page_of(as_(world.bob).get(address)).text
        for word in ("carol", "alice", "champion", "1 → version 2", "description"):
            assert word in text, (address, word)
    only = as_(world.bob).get(url("activity"), {"action": "alias"})
    assert {event.action for event in only.context["page"].rows} == {"alias.set"}
    assert as_(world.bob).get(url("activity"), {"action": "x"}).status_code == 200


# --- forms ---------------------------------------------------------------------------------


WRONG_MODELS = [
    ({"name": ""}, "required"),
    ({"name": "  "}, "empty"),
    ({"name": "a/b"}, "cannot contain"),
    ({"name": ".."}, "cannot be paths"),
    ({"name": "x" * 257}, "256"),
    ({"name": "fraud"}, "already exists"),
    ({"name": "n", "tags": "no equals"}, "Line 1"),
    ({"name": "n", "tags": "a = 1\n\nb = 2\na = 3"}, "Line 4"),
    ({"name": "n", "tags": "../x = 1"}, "cannot be paths"),
]


def test_what_is_wrong_is_named_and_what_was_typed_stays(world: World, as_: As) -> None:
    browser, kept = as_(world.carol), {"description": "Kept <words>", "card": "# Kept card"}
    for typed, complaint in WRONG_MODELS:
        response = browser.post(url("register_model"), kept | typed)
        page = page_of(response)
        assert response.status_code == 422
        assert complaint in page.text
        assert 'value="Kept &lt;words&gt;"' in page.html
        assert "# Kept card" in page.text
    with tenant_scope(world.alpha):
        assert RegisteredModel.objects.count() == 2


WRONG_VERSIONS = [
    ({"metrics": "auc = high"}, ["“high” is not a number"]),
    ({"metrics": "a = 1\nb = nan\nc = inf"}, ["Line 2", "Line 3"]),
    ({"params": "= 1"}, ["Line 1"]),
    ({"run_link": "javascript:alert(1)"}, ["valid URL"]),
    ({"run_id": "x" * 33}, ["32"]),
]


def test_a_versions_wrong_lines_are_named(world: World, as_: As) -> None:
    for typed, complaints in WRONG_VERSIONS:
        response = as_(world.carol).post(url("add_version", "fraud"), {"source": "kept"} | typed)
        page = page_of(response)
        assert response.status_code == 422
        assert 'value="kept"' in page.html
        for complaint in complaints:
            assert complaint in page.text


def test_an_alias_that_moved_meanwhile_is_not_moved(world: World, as_: As) -> None:
    browser, address = as_(world.carol), url("set_alias", "fraud")
    page = page_of(browser.get(address, {"alias": "champion", "version": "2"}))
    form = next(
        form for form in page.forms if form.action in ("", address) and form.method == "post"
    )
    assert form.fields["expected"] == "1"
    with tenant_scope(world.alpha, world.alice):
        model = world.model(world.alpha, "fraud")
        add_version(model)
        registry.set_alias(model, "champion", 3)
    moved = browser.post(address, {"alias": "champion", "version": "2", "expected": "1"})
    assert moved.status_code == 409
    page = page_of(moved)
    assert "alice" in page.text
    assert "3" in page.text
    form = next(form for form in page.forms if "expected" in form.fields)
    assert form.fields["expected"] == "3"
    again = form.fields | {"alias": "champion", "version": "2"}
    assert browser.post(address, again).status_code == 302
    with tenant_scope(world.alpha):
        assert model.aliases.get().version.number == 2


WRONG_ALIASES = [
    {"alias": "", "version": "1"},
    {"alias": "a b", "version": "1"},
    {"alias": "latest", "version": "1"},
    {"alias": "v1", "version": "1"},
    {"alias": "new", "version": "99"},
    {"alias": "new", "version": ""},
    {"alias": "new", "version": "0"},
    {"alias": "new", "version": "9" * 30},
    {"alias": "new", "version": "1", "expected": "x"},
]


def test_a_wrong_alias_is_named(world: World, as_: As) -> None:
    browser = as_(world.carol)
    for typed in WRONG_ALIASES:
        response = browser.post(url("set_alias", "fraud"), typed)
        assert response.status_code == 422, typed
        assert 'role="alert"' in page_of(response).html, typed


def test_an_edit_of_something_that_changed_meanwhile_is_refused(world: World, as_: As) -> None:
    browser = as_(world.carol)
    for address, change in (
        (url("edit_model", "fraud"), {"description": "mine"}),
        (url("edit_version", "fraud", 1), {"description": "mine", "status": "READY"}),
    ):
        page = page_of(browser.get(address))
        form = next(form for form in page.forms if "expected" in form.fields)
        with tenant_scope(world.alpha, world.alice):
            model = world.model(world.alpha, "fraud")
            registry.update_model(model, description=f"theirs at {address}")
            registry.update_version(model.versions.get(number=1), description=address)
        stale = browser.post(address, {"expected": form.fields["expected"]} | change)
        assert stale.status_code == 422
        assert "changed meanwhile" in page_of(stale).text
        assert 'value="mine"' in stale.content.decode()


def test_deleting_needs_the_archive_and_the_typed_name(world: World, as_: As) -> None:
    browser, address = as_(world.mia), url("delete_model", "fraud")
    early = browser.post(address, {"name": "fraud"})
    assert early.status_code == 422
    assert "Archive" in page_of(early).text
    browser.post(url("archive_model", "fraud"))
    for wrong in ("", "Fraud", "fraud2"):
        response = browser.post(address, {"name": wrong})
        assert response.status_code == 422
        page_of(response)
    assert browser.post(address, {"name": "fraud"}).status_code == 302
    with tenant_scope(world.alpha):
        assert not RegisteredModel.objects.filter(name="fraud").exists()


def test_a_version_with_an_alias_is_not_deleted(world: World, as_: As) -> None:
    response = as_(world.mia).post(url("delete_version", "fraud", 1))
    assert response.status_code == 422
    assert "@champion" in page_of(response).text


# --- roles, suspended teams, teams ---------------------------------------------------------

WRITE_ADDRESSES = re.compile(
    r"/(register|edit|archive|restore|delete|add-version|aliases(/delete)?)/$"
)


def writes_on(pages: dict[str, Page]) -> set[str]:
    """Return the addresses of everything on the pages that would change the registry."""
    found = set()
    for page in pages.values():
        targets = [*page.links, *(form.action for form in page.forms if form.method == "post")]
        found |= {target for target in targets if WRITE_ADDRESSES.search(target.partition("?")[0])}
    return found


def test_nobody_is_offered_what_is_refused(world: World, as_: As) -> None:
    """What a role's pages offer is what it may do, no more and no less."""
    offered = {}
    for name in ("bob", "carol", "mia"):
        pages = crawl(as_(world.person(name)), "/", leave=ELSEWHERE)
        assert not [page.faults for page in pages.values() if page.faults]
        offered[name] = writes_on(pages)
    assert not offered["bob"]
    assert url("edit_model", "fraud") in offered["carol"]
    assert not [address for address in offered["carol"] if "/archive/" in address]
    assert url("archive_model", "fraud") in offered["mia"]


def test_a_suspended_team_says_so_on_each_page_and_offers_no_change(world: World, as_: As) -> None:
    directory.suspend_tenant(world.alpha)
    pages = crawl(as_(world.alice), "/", leave=ELSEWHERE)
    assert len(pages) > 10
    for address, page in pages.items():
        assert "suspended" in page.text, address
    assert not writes_on(pages)
    refused = as_(world.alice).post(url("archive_model", "fraud"))
    assert refused.status_code == 403
    assert "suspended" in page_of(refused).text


def test_a_refusal_names_the_role_and_who_can_give_it(world: World, as_: As) -> None:
    for view, args, role in (
        ("register_model", (), "contributor"),
        ("edit_model", ("fraud",), "contributor"),
        ("delete_model", ("fraud",), "maintainer"),
    ):
        response = as_(world.bob).get(url(view, *args))
        assert response.status_code == 403
        text = page_of(response).text
        assert role in text
        assert "alice" in text
    with tenant_scope(world.alpha):
        assert AuditEvent.objects.filter(action="access.denied", actor=world.bob).count() == 3


def test_home_leads_to_the_only_team_or_lets_choose(world: World, as_: As) -> None:
    assert as_(world.bob).get("/")["Location"] == url("team_home")
    directory.add_member(world.gamma, world.bob, Role.VIEWER)
    page = page_of(as_(world.bob).get("/"))
    assert {url("team_home"), url("team_home", team="team_gamma")} <= set(page.links)
    nobody = page_of(as_(world.charlie).get("/"))
    assert "charlie@example.com" in nobody.text
    assert not [link for link in nobody.links if "/t/" in link]


def test_the_teams_home_shows_my_stars_views_and_this_weeks_moves(world: World, as_: As) -> None:
    browser = as_(world.carol)
    browser.get(url("model", "fraud"))
    browser.post(url("star_model", "ALPHA own"), {"on": "1"})
    response = browser.get(url("team_home"))
    page_of(response)
    assert [mark.model.name for mark in response.context["recent"]] == ["fraud"]
    assert [mark.model.name for mark in response.context["starred"]] == ["ALPHA own"]
    assert {event.action for event in response.context["moves"]} == {"alias.set"}
    assert not as_(world.bob).get(url("team_home")).context["starred"]


def test_members_are_listed_for_all_and_changed_by_admins(world: World, as_: As) -> None:
    Membership.objects.filter(user=world.bob).update(
        reason="Outage 12", expires_at=timezone.now() + timedelta(hours=1)
    )
    address = url("members")
    page = page_of(as_(world.bob).get(address))
    for text in ("alice", "bob", "carol", "mia", "Outage 12"):
        assert text in page.text
    assert not [form for form in page.forms if "role" in form.fields]
    assert as_(world.bob).post(address, {"user": world.mia.pk, "role": "admin"}).status_code == 403
    browser = as_(world.alice)
    assert browser.post(address, {"user": world.mia.pk, "role": "viewer"}).status_code == 302
    last = browser.post(address, {"user": world.alice.pk, "role": "viewer"})
    assert last.status_code == 422
    assert "last admin" in page_of(last).text
    assert browser.post(address, {"user": world.gina.pk, "role": "viewer"}).status_code == 404
    assert browser.post(address, {"user": world.mia.pk, "role": "king"}).status_code == 422
    assert browser.post(address, {"user": world.mia.pk, "role": "remove"}).status_code == 302
    assert as_(world.mia).get(address).status_code == 404


def test_the_switcher_shows_my_teams_and_no_other(world: World, as_: As) -> None:
    directory.create_tenant("team_omega", "Omega")
    directory.add_member(world.gamma, world.bob, Role.VIEWER)
    page = page_of(as_(world.bob).get(url("models")))
    assert url("team_home", team="team_gamma") in page.links
    assert "Omega" not in page.html


# --- shared with us ------------------------------------------------------------------------


def test_a_shared_model_is_shown_without_people_and_history(world: World, as_: As) -> None:
    with tenant_scope(world.gamma, world.hugo):
        model = world.model(world.gamma, "fraud")
        share(model, with_tenant=world.alpha)
    pages = crawl(as_(world.bob), url("shared_models"), leave=(*ELSEWHERE, url("models")))
    shared = {address: page for address, page in pages.items() if "/shared/" in address}
    assert len(shared) == 4
    for address, page in shared.items():
        assert not page.faults, address
        assert world.gamma.name in page.text, address
        for word in ("hugo", "gina", "team_gamma", f"{CANARY} own"):
            assert word not in page.html, address
    text = shared[url("shared_model", model.pk)].text
    assert f"{CANARY} card" in text
    assert "@champion" in text
    assert not writes_on(shared)


# --- errors --------------------------------------------------------------------------------


def test_what_is_missing_and_what_is_anothers_answer_alike(world: World, as_: As) -> None:
    browser = as_(world.alice)
    with tenant_scope(world.gamma, world.hugo):
        hidden = world.model(world.gamma, f"{CANARY} own")
    addresses = [
        "/nothing/",
        url("models", team="team_gamma"),
        url("models", team="no_such_team"),
        url("model", f"{CANARY} own"),
        url("model", "no such model"),
        url("model", "fraud", team="team_gamma"),
        url("version", "fraud", 99),
        url("shared_model", hidden.pk),
        url("shared_model", world.alpha.pk),
    ]
    answers = {address: browser.get(address) for address in addresses}
    assert {response.status_code for response in answers.values()} == {404}
    assert len({response.content for response in answers.values()}) == 1
    assert len({repr(sorted(response.headers.items())) for response in answers.values()}) == 1
    page = page_of(answers["/nothing/"])
    assert "Not found or not visible to you" in page.text
    assert not page.forms
    assert "/" in page.links


def test_an_error_page_asks_the_database_nothing(db: None) -> None:
    for template in ("400", "403", "403_csrf", "404", "429", "500"):
        with CaptureQueriesContext(connection) as captured:
            request = RequestFactory().get("/secret/")
            page = Page(render_to_string(f"{template}.html", request=request))
        assert not captured.captured_queries, template
        assert not page.faults, template
        assert "secret" not in page.html, template


def test_a_form_without_its_token_is_refused_in_our_words(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.alice, backend="allauth.account.auth_backends.AuthenticationBackend")
    response = browser.post(url("archive_model", "fraud"))
    assert response.status_code == 403
    page_of(response)


def test_signing_in_is_a_page_without_faults_that_keeps_where_one_was_going(
    world: World, as_: As
) -> None:
    browser = as_(None)
    response = browser.get(url("model", "fraud"), follow=True)
    page = page_of(response)
    (form,) = [form for form in page.forms if "login" in form.fields]
    assert form.fields["next"] == url("model", "fraud")
    wrong = browser.post(reverse("account_login"), {"login": "alice", "password": "wrong"})
    assert 'value="alice"' in page_of(wrong).html
    page_of(as_(world.alice).get(reverse("account_logout")))
    page_of(browser.get(reverse("account_inactive")))


def test_the_theme_is_in_the_page_that_is_sent(world: World, as_: As) -> None:
    browser = as_(world.bob)
    here = {"Referer": f"http://testserver{url('models')}"}
    for chosen in ("light", "dark", "system"):
        back = browser.post(reverse("theme"), {"theme": chosen}, headers=here)
        assert back["Location"] == here["Referer"]
        assert f'data-theme="{chosen}"' in browser.get(url("models")).content.decode()
    away = {"Referer": "https://evil.example/"}
    assert browser.post(reverse("theme"), {"theme": "dark"}, headers=away)["Location"] == "/"
    assert browser.post(reverse("theme"), {"theme": "pink"}).status_code == 404
    browser.cookies["theme"] = '"><script>'
    page_of(browser.get(url("models")))
