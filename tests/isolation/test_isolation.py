"""What alpha's people can find out about team_gamma: nothing. One test or more per leak class.

Whatever team_gamma owns carries the word CANARY. The classes are numbered as in the list of leaks
that happened elsewhere; the last test here fails when a class is tried in no test.
"""

import ast
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from bulkhead import urls as bulkhead_urls
from django.core.management import CommandError, call_command
from django.db import connection, reset_queries, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from models_registry import registry
from models_registry.models import ModelGroupGrant, ModelVersion, RegisteredModel
from tenants.access import member, public, share, unshare
from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import member_scope, tenant_scope
from tenants.models import Membership, Role, User
from tests.support import ROOT
from tests.support.addresses import METHODS, PLATFORM, Sent, Target, call, team_addresses
from tests.support.answers import body, probability_of_less, text_of, whole
from tests.support.issuers import refused_identity
from tests.support.people import CANARY, FILES, HOSTILE_NAMES, World, give_files, make_user
from tests.support.sql import column, rows

As = Callable[[User | None], Client]

THEIRS = f"{CANARY} own"
#: As long as THEIRS, so that lengths can be compared.
NOBODYS, DELETED = "NOBODY own", "REMOVD own"
PEOPLE_OF_GAMMA = ("gina", "hugo")
#: Words that are in nothing of alpha's.
SECRETS = (CANARY, "team_gamma", *PEOPLE_OF_GAMMA)
MODEL_PAGES = "/t/team_alpha/models/"


@pytest.fixture
def full(world: World) -> World:
    """Gamma has more to hide: facets, an alias and history; alpha has deleted a model."""
    with tenant_scope(world.gamma, world.hugo):
        model = RegisteredModel.objects.get(name=THEIRS)
        registry.set_tag(model, "framework", f"{CANARY}-framework")
        registry.set_tag(model, "task", f"{CANARY}-task")
        registry.set_alias(model, f"{CANARY}-alias", 2)
        registry.star(model, True)
    with tenant_scope(world.alpha, world.alice):
        gone = registry.register_model(DELETED)
        registry.add_version(gone)
        registry.delete_model(registry.archive_model(gone))
    robots.create_robot(world.gamma, "canary-bot", Role.VIEWER, world.hugo)
    removed = robots.create_robot(world.alpha, "remove-bot", Role.VIEWER, world.alice)
    robots.remove_robot(removed.memberships.get(), world.alice)
    for name in ("fraud", THEIRS):
        give_files(world.gamma, name, FILES | {f"{CANARY}.txt": CANARY.encode()})
    for name in ("fraud", "ALPHA own"):
        give_files(world.alpha, name)
    return world


@pytest.fixture
def alice(full: World, as_: As) -> Client:
    """The browser of alpha's admin, who may do everything there."""
    return as_(full.alice)


def asked(browser: Client, method: str, address: str, data: Sent | None = None) -> Any:
    """Send a request, undo what it did, and return all that can be seen of it, with its queries."""
    reset_queries()  # only the last 9000 are kept, and there are more addresses than that
    with transaction.atomic():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = call(browser, method, address, data)
        transaction.set_rollback(True)
    return whole(answer), len(queries)


def key_of(person: User) -> UUID:
    """Give the person a token and return its id."""
    token, _ = tokens.create_token(person, f"{CANARY} token", scope="write")
    return token.pk


def everything(world: World) -> list[Any]:
    """Return gamma's rows, as text."""
    tables = (
        *("models_registry_registeredmodel", "models_registry_modelversion"),
        *("models_registry_alias", "models_registry_modelusergrant"),
        *("models_registry_modelgroupgrant", "tenants_auditevent"),
        *("models_registry_artifactfile", "models_registry_upload"),
        "models_registry_downloadcount",
    )
    own = "WHERE tenant_id = %s ORDER BY id"
    with tenant_scope(world.gamma):
        return [
            row
            for table in tables
            for row in rows(f"SELECT t::text FROM {table} t {own}", world.gamma.pk)
        ]


def get_addresses(target: Target) -> dict[str, str]:
    """Return the addresses of pages."""
    posts = (
        *("archive_model", "restore_model", "star_model", "unshare_model", "delete_alias"),
        *("upload", "upload_file", "remove_files", "finish_version", "identity_role"),
        "download",  # no page
    )
    return {
        name: address for name, (address, _) in team_addresses(target).items() if name not in posts
    }


# --- what is not there and what is not yours -----------------------------------------------


def test_another_teams_model_answers_as_one_that_never_was(full: World, alice: Client) -> None:
    """L2, L3, L9: B's model, version, alias, grant and person under A's address, by every verb.

    Status, headers, body and the number of queries are those of a random and of a deleted name.
    """
    before = everything(full)
    fraud = full.model(full.gamma, "fraud").pk
    theirs = Target("team_alpha", THEIRS, THEIRS, fraud, person=full.gina.pk)
    nobodys = Target("team_alpha", NOBODYS, NOBODYS, uuid4(), person=10**6)
    deleted = Target("team_alpha", DELETED, DELETED, uuid4(), person=10**6)
    theirs = replace(theirs, token=key_of(full.gina), robot="canary-bot")
    nobodys = replace(nobodys, token=uuid4(), robot="nobody-bot")
    # A token of another member of one's own team is as far away.
    deleted = replace(deleted, token=key_of(full.bob), robot="remove-bot")
    kinds = [team_addresses(target) for target in (theirs, nobodys, deleted)]
    tried = 0
    for name, (address, _) in kinds[0].items():
        if address == kinds[1][name][0] and name != "members":
            continue  # it names nothing that could be theirs
        for method in METHODS:
            answers = [asked(alice, method, *kind[name]) for kind in kinds]
            assert answers[0] == answers[1] == answers[2], f"{method} {name}"
            status = answers[0][0][0]
            assert status in (404, 405) or address == kinds[1][name][0], f"{method} {name}"
            tried += status == 404
    assert tried > 40
    assert everything(full) == before


def test_another_team_answers_as_one_that_never_was(full: World, as_: As) -> None:
    """L9: for a member elsewhere, for a member of nothing and for the platform's admin."""
    theirs = team_addresses(Target("team_gamma", "fraud", THEIRS, other_team=full.alpha.pk))
    nobodys = team_addresses(Target("team_nobod", "fraud", THEIRS, other_team=full.alpha.pk))
    for person in (full.alice, full.charlie, full.dana):
        browser = as_(person)
        for name in theirs:
            for method in ("GET", "POST", "DELETE"):
                answer = asked(browser, method, *theirs[name])
                assert answer == asked(browser, method, *nobodys[name]), (method, name)
                assert answer[0][0] == 404
    # Nobody learns it by being sent to the sign-in page either.
    stranger = as_(None)
    for name in theirs:
        to_theirs, to_nobodys = (stranger.get(where[name][0]) for where in (theirs, nobodys))
        assert to_theirs.status_code == to_nobodys.status_code == 302
        assert to_theirs["Location"].replace("gamma", "nobod") == to_nobodys["Location"]


MALFORMED = (
    f"{MODEL_PAGES}{'x' * 257}/",
    f"{MODEL_PAGES}a%3Ab/",
    f"{MODEL_PAGES}a%2Fb/",
    f"{MODEL_PAGES}%00/",
    f"{MODEL_PAGES}%FF%FE/",
    f"{MODEL_PAGES}..%2F..%2Fteam_gamma%2F/",
    f"{MODEL_PAGES}%252e%252e/",
    f"{MODEL_PAGES}fraud;v=1/",
    f"{MODEL_PAGES}fraud/versions/0/",
    f"{MODEL_PAGES}fraud/versions/99999999999999999999/",
    f"{MODEL_PAGES}fraud/versions/-1/",
    f"{MODEL_PAGES}fraud/versions/1%00/",
    f"{MODEL_PAGES}fraud/no-such-page/",
    "/t/team_alpha/shared/not-a-uuid/",
    "/t/team_alpha/shared/00000000-0000-0000-0000-000000000000/",
    "/t/%00/",
    "/t/team_gamma%00/",
    "/t/TEAM_GAMMA/",
    "/t/team-gamma/",
    "/t/team_gamma%20/",
    "/t/team_gamma;/",
    "/t/%2e%2e/team_gamma/",
    "/t/team_alpha%2F..%2Fteam_gamma/",
    f"/t/{'x' * 3000}/",
    "/t//models/",
    "/t/team_alpha/%2e%2e/team_gamma/",
    "/T/team_gamma/",
    "//t/team_gamma/",
)


def test_what_is_malformed_answers_as_what_is_not_there(alice: Client) -> None:
    """L9: neither 400 nor 500 tells that an address was nearly right."""
    expected = whole(alice.get(f"{MODEL_PAGES}{quote(NOBODYS)}/"))
    for address in MALFORMED:
        assert whole(alice.get(address)) == expected, address


def test_existing_elsewhere_takes_as_long_as_existing_nowhere(full: World, alice: Client) -> None:
    """L10: requests for both by turns; a rank test with an effect size far above its noise."""
    pairs = (
        (f"{MODEL_PAGES}{quote(THEIRS)}/", f"{MODEL_PAGES}{quote(NOBODYS)}/"),
        ("/t/team_gamma/models/", "/t/team_nobod/models/"),
    )
    for theirs, nobodys in pairs:
        times: dict[str, list[float]] = {theirs: [], nobodys: []}
        for turn in range(200):
            for address in (theirs, nobodys) if turn % 2 else (nobodys, theirs):
                start = time.perf_counter()
                alice.get(address)
                times[address].append(time.perf_counter() - start)
        faster = probability_of_less(times[theirs], times[nobodys])
        # By chance alone it is 0.5 ± 0.03.
        assert 0.35 < faster < 0.65, (theirs, faster)
        assert median(times[theirs]) < 1.5 * median(times[nobodys]), theirs
        assert median(times[nobodys]) < 1.5 * median(times[theirs]), theirs


# --- no page says a word of it -------------------------------------------------------------

QUESTIONS = (
    *("q=CANAR", "q=canar", "q=own&show=all", "q=%25", "q=_", "q=@", "q=champion", "q=gamm"),
    *("framework=CANARY-framework", "task=CANARY-task", "owner=hugo", "owner=gina"),
    *("alias=CANARY-alias", "tag=CANARY", "tag=CANARY=CANARY", "tag=framework=CANARY-framework"),
    *("show=all", "show=starred", "show=archived", "sort=created", "sort=oldest", "sort=-name"),
)
SORTS = ("updated", "created", "name", "-name", "oldest")


def test_no_page_shows_anything_of_another_team(full: World, as_: As) -> None:
    """L6, L15: every page for everybody outside, body and headers; no request says the word."""
    tried = 0
    for person in (full.alice, full.bob, full.charlie, full.dana, None):
        browser = as_(person)
        addresses = [
            *get_addresses(Target("team_alpha")).values(),
            *get_addresses(Target("team_alpha", "ALPHA own")).values(),
            *(address for address, _ in PLATFORM.values()),
            *(f"{MODEL_PAGES}?sort={sort}&show=all" for sort in SORTS),
            "/t/team_alpha/activity/?action=model",
            "/t/team_alpha/activity/?action=member",
        ]
        for address in addresses:
            for headers in ({}, {"hx-request": "true"}):
                answer = browser.get(address, headers=headers, follow=True)
                for secret in SECRETS:
                    assert secret not in body(answer), (address, secret)
                    assert secret not in str(answer.headers), (address, secret)
                tried += 1
    assert tried > 300


def test_searching_and_filtering_find_nothing_of_another_team(full: World, alice: Client) -> None:
    """L6: full words, prefixes, facets, aliases, tags and owners; as for words that nobody has."""
    for question in QUESTIONS:
        answer = alice.get(f"{MODEL_PAGES}?{question}")
        assert answer.status_code == 200
        said = re.sub(r"(CANARY|canary|gina|hugo)[-\w]*", "", question)
        seen = body(answer)
        if said == question:  # otherwise the page repeats the question in its fields and links
            assert not any(secret in seen for secret in SECRETS), question
        for theirs in (THEIRS, quote(THEIRS), f"{CANARY} description", f"{CANARY} card"):
            assert theirs not in seen, question
    for theirs, nobodys in (
        ("q=CANARY", "q=NOBODY"),
        ("framework=CANARY-framework", "framework=NOBODY-framework"),
        ("owner=hugo", "owner=nobo"),
        ("alias=CANARY-alias", "alias=NOBODY-alias"),
        ("tag=CANARY=CANARY", "tag=NOBODY=NOBODY"),
    ):
        found = whole(alice.get(f"{MODEL_PAGES}?{theirs}"), *_words(theirs))
        assert found == whole(alice.get(f"{MODEL_PAGES}?{nobodys}"), *_words(nobodys)), theirs


def _words(question: str) -> list[str]:
    value = question.partition("=")[2]
    return [quote(value), value, value.partition("=")[2] or value]


def test_rows_of_another_team_change_no_count_and_no_page(full: World, as_: As) -> None:
    """L7: fifty models more in B, and every page of A is the same byte by byte."""
    addresses = [
        *get_addresses(Target("team_alpha")).values(),
        *(f"{MODEL_PAGES}?{question}" for question in QUESTIONS),
        "/",
    ]
    browser = as_(full.alice)
    for address in addresses:  # looking at a model is itself remembered
        browser.get(address)
    before = [whole(browser.get(address)) for address in addresses]
    with tenant_scope(full.gamma, full.hugo):
        for number in range(50):
            model = registry.register_model(f"{CANARY} {number}", tags={"task": "new"})
            registry.add_version(model, metrics={"auc": 1.0})
            registry.set_alias(model, "champion", 1)
            registry.star(model, True)
    for address, answer in zip(addresses, before, strict=True):
        assert whole(browser.get(address)) == answer, address


def test_a_cursor_of_another_team_leads_nowhere(full: World, as_: As) -> None:
    """L7: nor does one that was edited; the list begins from its start."""
    for tenant, person in ((full.gamma, full.hugo), (full.alpha, full.alice)):
        with tenant_scope(tenant, person):
            RegisteredModel.objects.bulk_create(
                RegisteredModel(name=f"{tenant.slug} {number:03}") for number in range(60)
            )
    next_page = re.compile(r"after=([^&\"]+)")
    found = {}
    for slug, person in (("team_gamma", full.gina), ("team_alpha", full.alice)):
        page = as_(person).get(f"/t/{slug}/models/").content.decode()
        match = next_page.search(page)
        assert match is not None
        found[slug] = match[1]
    alice = as_(full.alice)
    assert alice.get(f"{MODEL_PAGES}?after={found['team_alpha']}").status_code == 200
    for cursor in (found["team_gamma"], found["team_alpha"][:-1], "x", "", "a:b:c", "%00"):
        answer = alice.get(f"{MODEL_PAGES}?after={cursor}", follow=True)
        assert answer.status_code == 200
        assert answer.request["QUERY_STRING"] in ("", "after="), cursor
        assert CANARY not in body(answer)
        assert "team_gamma" not in body(answer)


ORACLES = (
    *("owner__password__startswith=pbkdf2", "owner__password=x", "shares__tenant__name=Gamma"),
    *("tenant=team_gamma", "tenant_id=1", "tenant__slug=team_gamma", "team=team_gamma"),
    *("sort=owner__password", "sort=tenant__name", "sort=-tenant", "sort=?", "sort=id"),
    *("ordering=tenant__secret", "order_by=tenant", "o=1", "show=everything", "page=2"),
    *("name__contains=CANARY", "id__in=1", "workspace=team_gamma", "fields=*", "format=json"),
    *("versions__model__tenant=1", "aliases__name=champion", "sort=name;DROP", "limit=0"),
)


def test_a_parameter_asks_nothing_that_the_page_does_not_ask(full: World, alice: Client) -> None:
    """L8: filters and orders are an allow-list; anything else is as if it were not given."""
    plain = whole(alice.get(MODEL_PAGES))
    for oracle in ORACLES:
        assert whole(alice.get(f"{MODEL_PAGES}?{oracle}")) == plain, oracle
    activity = whole(alice.get("/t/team_alpha/activity/"))
    for oracle in (*ORACLES, "actor__password=x", "object_id=1"):
        assert whole(alice.get(f"/t/team_alpha/activity/?{oracle}")) == activity, oracle


# --- saying it in two places ---------------------------------------------------------------

HEADERS = (
    *("X-MLFLOW-WORKSPACE", "X-Tenant", "X-Tenant-Id", "X-Workspace", "X-Team", "X-Scope-OrgID"),
    *("Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Auth-Request-User"),
    *("kubeflow-userid", "X-Forwarded-Email", "X-Original-URL", "X-Rewrite-URL"),
    *("X-Forwarded-Prefix", "X-HTTP-Method-Override", "X-Forwarded-Host"),
)


def test_the_team_is_the_one_in_the_path(full: World, alice: Client) -> None:
    """L4, L24: the same thing said in query, body, header and cookie changes nothing."""
    page = f"{MODEL_PAGES}fraud/"
    plain = whole(alice.get(page))
    queries = (
        "?tenant=team_gamma",
        "?tenant=team_gamma&tenant=team_alpha",
        f"?tenant_id={full.gamma.pk}",
        f"?tenantId={full.gamma.pk}",
        f"?name={quote(THEIRS)}",
        "?model=CANARY&version=1",
    )
    for query in queries:
        assert whole(alice.get(page + query)) == plain, query
    for header in HEADERS:
        for value in ("team_gamma", "hugo", str(full.gamma.pk), "/t/team_gamma/"):
            assert whole(alice.get(page, headers={header: value})) == plain, header
    for name in ("tenant", "workspace", "team", "admin_team", "user", "bulkhead_tenant"):
        alice.cookies[name] = "team_gamma"
    assert alice.get(page).content.decode().count(CANARY) == 0
    # Nor do they let anybody in who is nobody.
    for header in HEADERS:
        stranger = Client(headers={header: "hugo"})
        assert stranger.get("/t/team_gamma/models/").status_code == 302, header


def test_a_form_takes_only_its_own_fields(full: World, alice: Client) -> None:
    """L4, L5: ids of another team, and what nobody may set, posted beside what may be."""
    before = everything(full)
    theirs = full.model(full.gamma, THEIRS)
    smuggled = {
        "tenant": str(full.gamma.pk),
        "tenant_id": str(full.gamma.pk),
        "tenantId": "team_gamma",
        "id": str(theirs.pk),
        "pk": str(theirs.pk),
        "model": str(theirs.pk),
        "model_id": str(theirs.pk),
        "content_object": str(theirs.pk),
        "owner": str(full.hugo.pk),
        "owner_id": str(full.hugo.pk),
        "creator": str(full.hugo.pk),
        "creator_id": str(full.hugo.pk),
        "last_version": "99",
        "archived_at": "2020-01-01",
        "is_superuser": "on",
        "created_at": "2020-01-01",
    }
    alice.post("/t/team_alpha/register/", {"name": "new", **smuggled})
    alice.post("/t/team_alpha/models/new/edit/", {"description": "d", **smuggled, "name": "x"})
    alice.post("/t/team_alpha/models/new/add-version/", {"source": "s3://x", **smuggled})
    alice.post(
        "/t/team_alpha/models/new/versions/1/edit/",
        {"status": "READY", "description": "d", **smuggled, "number": "7"},
    )
    alice.post("/t/team_alpha/models/new/aliases/", {"alias": "a", "version": "1", **smuggled})
    with tenant_scope(full.alpha):
        model = RegisteredModel.objects.get(name="new")
        version = ModelVersion.objects.get(model=model)
        assert (model.owner, model.last_version, model.archived_at) == (full.alice, 1, None)
        assert (version.creator, version.number, model.created_at.year) != (full.hugo, 7, 2020)
        assert version.creator == full.alice
        assert model.pk != theirs.pk
        assert [alias.version for alias in model.aliases.all()] == [version]
    assert not User.objects.get(pk=full.alice.pk).is_superuser
    assert everything(full) == before


def test_nothing_refers_to_what_another_team_has(full: World, alice: Client) -> None:
    """L5: a version number, a person, a grant or a team of B's, named in A's own form."""
    before = everything(full)
    with tenant_scope(full.gamma, full.hugo):
        for _ in range(3):
            registry.add_version(RegisteredModel.objects.get(name="fraud"))
    after = everything(full)
    fraud = f"{MODEL_PAGES}fraud/"
    # Version 5 is there in B's model of the same name only; version 7 is nowhere.
    answers = []
    for number in (5, 7):
        posted = alice.post(f"{fraud}aliases/", {"alias": "x", "version": number})
        answers.append(whole(posted, f"version={number}", f'value="{number}"'))
    assert answers[0] == answers[1]
    assert answers[0][0] == 422
    # A share can only be of A's own model, whoever gets it.
    alice.post(f"{fraud}share/", {"address": full.gamma.pk})
    with tenant_scope(full.alpha):
        grants = ModelGroupGrant.objects.all()
        assert [grant.content_object.tenant for grant in grants] == [full.alpha]
    # A person of B's is as unknown as nobody, to add or to change.
    for person in (full.gina.pk, full.charlie.pk, 10**6):
        refused = alice.post("/t/team_alpha/admin/members/", {"user": person, "role": "viewer"})
        assert refused.status_code == 404
    assert everything(full) == after != before
    assert full.gina.memberships.get().role == Role.CONTRIBUTOR


def test_forms_offer_nothing_of_another_team(full: World, alice: Client) -> None:
    """L13: every choice, option and hidden field of every form."""
    forms = 0
    for address in get_addresses(Target("team_alpha")).values():
        page = text_of(alice.get(address))
        for form in re.findall(r"<form.*?</form>", page, re.DOTALL):
            forms += 1
            assert not any(secret in form for secret in SECRETS), address
            for pk in (full.gina.pk, full.hugo.pk):
                assert f'name="user" value="{pk}"' not in form, address
            assert str(full.gamma.pk) not in form, address
    assert forms > 20


def test_a_name_that_another_team_has_is_free(full: World, alice: Client) -> None:
    """L11: the answers to registering B's name and nobody's name are the same."""
    answers = []
    for name in (THEIRS, NOBODYS):
        with transaction.atomic():
            answer = alice.post("/t/team_alpha/register/", {"name": name})
            page = alice.get(answer["Location"])
            transaction.set_rollback(True)
        answer["Location"] = answer["Location"].replace(quote(name), "X")
        seen = body(page, name, quote(name))
        # Times, and the random id of the model.
        seen = re.sub(r"<time [^>]*>|[0-9a-f]{8}-[0-9a-f-]{27}", "", seen)
        answers.append((whole(answer), page.status_code, seen))
    assert answers[0] == answers[1]
    # One's own name, taken, is told so: by its own words, without a database's.
    taken = alice.post("/t/team_alpha/register/", {"name": "fraud"})
    assert taken.status_code == 422
    for words in ("already exists", "fraud"):
        assert words in taken.content.decode()
    for words in ("duplicate key", "IntegrityError", "model_name_unique"):
        assert words not in taken.content.decode()


def test_ids_are_random_and_numbers_are_counted_per_model(full: World, alice: Client) -> None:
    """L12: neither tells how many models or versions there are elsewhere, or when they came."""
    for table in ("registeredmodel", "modelversion", "alias"):
        with tenant_scope(full.alpha):
            for pk in column(f"SELECT id FROM models_registry_{table}"):
                assert isinstance(pk, UUID)
                assert pk.version == 4
    alice.post("/t/team_alpha/register/", {"name": "new"})
    answer = alice.post("/t/team_alpha/models/new/add-version/", {"source": "s3://x"})
    assert answer["Location"].endswith("/versions/1/")


# --- what is shared, and no more -----------------------------------------------------------


@pytest.fixture
def shared(full: World) -> RegisteredModel:
    """A model of gamma's, shared with alpha; it has an owner, history, stars and other grants."""
    model = full.model(full.gamma, THEIRS)
    other = directory.create_tenant("team_third", "Third")
    with tenant_scope(full.gamma, full.hugo):
        share(model, with_tenant=full.alpha)
        share(model, with_tenant=other)
        share(model, with_user=full.charlie)
        registry.update_model(model, owner=full.gina)
    return model


def test_a_shared_model_shows_itself_and_nothing_around_it(
    full: World, shared: RegisteredModel, as_: As
) -> None:
    """L15, L16: no names of people, no history, no other models, no others who have it too."""
    bob = as_(full.bob)
    home = f"/t/team_alpha/shared/{shared.pk}/"
    for address in ("/t/team_alpha/shared/", home, f"{home}versions/1/"):
        page = bob.get(address)
        assert page.status_code == 200
        text = body(page)
        assert THEIRS in text
        for secret in ("hugo", "gina", "charlie", "Third", "team_third", "team_gamma"):
            assert secret not in text, (address, secret)
        assert str(full.gamma.pk) not in text
        assert "fraud" not in text.replace(f"{MODEL_PAGES}fraud", "")
        for verb in ("edit", "archive", "delete", "star", "history", "access", "add-version"):
            assert f"{home}{verb}" not in text, (address, verb)
            assert bob.get(f"{home}{verb}/").status_code == 404
            assert bob.post(f"{home}{verb}/").status_code == 404
    # It is reached as shared and not as alpha's own, nor through gamma.
    for address in (f"{MODEL_PAGES}{quote(THEIRS)}/", f"/t/team_gamma/models/{quote(THEIRS)}/"):
        assert bob.get(address).status_code == 404
    assert THEIRS not in body(bob.get(f"{MODEL_PAGES}?show=all"))
    # B's other model stays hidden, and the version that is not there too.
    for address in (
        f"/t/team_alpha/shared/{full.model(full.gamma, 'fraud').pk}/",
        f"{home}versions/9/",
    ):
        assert bob.get(address).status_code == 404
    # Whoever acts for another team, or none, does not see it.
    for person, slug in ((full.gina, "team_gamma"), (full.charlie, "team_alpha")):
        assert as_(person).get(f"/t/{slug}/shared/{shared.pk}/").status_code == 404


def test_the_giving_teams_log_does_not_grow_by_reading(
    full: World, shared: RegisteredModel, as_: As
) -> None:
    """L16: nor does anything else of the model change when a grantee looks at it."""
    before = everything(full)
    bob = as_(full.bob)
    for address in ("/t/team_alpha/shared/", f"/t/team_alpha/shared/{shared.pk}/"):
        assert bob.get(address).status_code == 200
    assert everything(full) == before


# --- both teams, one person ----------------------------------------------------------------


def test_a_person_of_two_teams_sees_one_at_a_time(full: World, as_: As) -> None:
    """L20: nothing of one team's pages stays for the other's, in any cache or session."""
    directory.add_member(full.gamma, full.alice, Role.VIEWER)
    browser = as_(full.alice)
    cached = column("SELECT cache_key FROM bulkhead_cache ORDER BY 1")
    token, _ = tokens.create_token(full.alice, "mine", scope="read")
    alpha = get_addresses(Target("team_alpha", "fraud", "fraud", token=token.pk))
    gamma = get_addresses(Target("team_gamma", "fraud", "fraud", token=token.pk))
    for slug in ("team_alpha", "team_gamma"):
        browser.get(f"/t/{slug}/models/fraud/")
    for name in alpha:
        first = browser.get(alpha[name])
        between = browser.get(gamma[name])
        again = browser.get(alpha[name])
        assert whole(first) == whole(again), name
        for answer in (first, between):
            assert answer["Cache-Control"] == "private, no-store"
            assert {"Cookie", "HX-Request"} <= {v.strip() for v in answer["Vary"].split(",")}
        if first.status_code == between.status_code == 200:
            # The switcher names both teams; nothing else of the other is there.
            rest = re.sub(r"Gamma CANARY|team_gamma", "", body(first))
            assert not any(secret in rest for secret in (CANARY, *PEOPLE_OF_GAMMA)), name
            assert "ALPHA" not in body(between), name
        # As a viewer there, whatever the role here.
        assert between.status_code in (
            (404,) if name in ("shared_model", "shared_version") else (200, 403)
        ), name
        assert 'href="/t/team_gamma/register/"' not in body(between), name
    assert column("SELECT cache_key FROM bulkhead_cache ORDER BY 1") == cached


def test_roles_do_not_carry_over(full: World, as_: As) -> None:
    """L20: an admin here who is a viewer there writes nothing there."""
    directory.add_member(full.gamma, full.alice, Role.VIEWER)
    browser = as_(full.alice)
    before = everything(full)
    target = Target("team_gamma", "fraud", THEIRS, other_team=full.alpha.pk, robot="canary-bot")
    writes = team_addresses(target)
    refused = 0
    for name, (address, data) in writes.items():
        browser.get(f"{MODEL_PAGES}fraud/")
        with transaction.atomic():
            answer = call(browser, "POST", address, data)
            # What is hers, not the team's, and what writes nothing.
            own = ("star_model", "tokens", "revoke_token", "check_manifests")
            assert answer.status_code in (403, 405) or name in own, name
            transaction.set_rollback(True)
        refused += answer.status_code == 403
    assert refused >= 12
    assert everything(full) == before


# --- taking rights back --------------------------------------------------------------------


def test_a_right_taken_back_is_gone_at_the_next_request(full: World, as_: As) -> None:
    """L21: removed, demoted, expired, deactivated, suspended; one session, no new sign-in."""
    mia = as_(full.mia)
    membership = full.mia.memberships.get()
    edit = f"{MODEL_PAGES}fraud/edit/"
    assert mia.get(edit).status_code == 200
    directory.change_role(membership, Role.VIEWER)
    assert mia.get(edit).status_code == 403
    assert mia.post(edit, {"description": "x"}).status_code == 403
    directory.change_role(membership, Role.MAINTAINER)
    directory.suspend_tenant(full.alpha)
    assert mia.post(edit, {"description": "x"}).status_code == 403
    directory.resume_tenant(full.alpha)
    assert mia.get(edit).status_code == 200
    Membership.objects.filter(pk=membership.pk).update(expires_at="2020-01-01T00:00:00Z")
    assert mia.get(edit).status_code == 404
    Membership.objects.filter(pk=membership.pk).update(expires_at=None)
    assert mia.get(edit).status_code == 200
    directory.remove_member(membership)
    assert mia.get(edit).status_code == 404
    assert "Alpha" not in body(mia.get("/"))
    carol = as_(full.carol)
    assert carol.get(edit).status_code == 200
    directory.deactivate_user(full.carol)
    assert carol.get(edit).status_code == 302


def test_a_grant_taken_back_is_gone_at_the_next_request(
    full: World, shared: RegisteredModel, as_: As
) -> None:
    """L21: from a team, from a person, and with the membership through which it came."""
    bob, carol = as_(full.bob), as_(full.carol)
    page = f"/t/team_alpha/shared/{shared.pk}/"
    assert bob.get(page).status_code == carol.get(page).status_code == 200
    directory.remove_member(full.carol.memberships.get())
    assert carol.get(page).status_code == 404
    with tenant_scope(full.gamma, full.hugo):
        share(shared, with_user=full.alice)
        unshare(shared, with_tenant=full.alpha)
    alice = as_(full.alice)
    assert bob.get(page).status_code == 404
    assert THEIRS not in body(bob.get("/t/team_alpha/shared/"))
    assert alice.get(page).status_code == 200
    with tenant_scope(full.gamma, full.hugo):
        unshare(shared, with_user=full.alice)
    assert alice.get(page).status_code == 404


def test_a_new_team_or_person_of_a_freed_name_inherits_nothing(full: World, as_: As) -> None:
    """L34: a slug is never freed; a model's name is, and its addresses lead to the new one only."""
    alice = as_(full.alice)
    model = full.model(full.alpha, "fraud")
    with member_scope(full.alice, "team_alpha"):
        registry.star(model, True)
        share(model, with_tenant=full.gamma)
        registry.delete_model(registry.archive_model(model))
        again = registry.register_model("fraud", description="another one")
    page = body(alice.get(f"{MODEL_PAGES}fraud/"))
    assert "another one" in page
    assert "champion" not in page
    assert alice.get(f"{MODEL_PAGES}fraud/versions/1/").status_code == 404
    history = body(alice.get(f"{MODEL_PAGES}fraud/history/"))
    assert "champion" not in history
    assert "Gamma" not in body(alice.get(f"{MODEL_PAGES}fraud/access/"))
    gina = as_(full.gina)
    for pk in (model.pk, again.pk):
        assert gina.get(f"/t/team_gamma/shared/{pk}/").status_code == 404


# --- commands, errors and logs -------------------------------------------------------------


def test_a_command_says_for_which_team_it_acts(full: World) -> None:
    """L27: nothing crosses teams without being told to."""
    for arguments in (["list_models"], ["list_models", "--team", "team_nobod"]):
        with pytest.raises(CommandError):
            call_command(*arguments)


def failing(request: HttpRequest, tenant: str) -> HttpResponse:
    """Fail as a view fails that has a row of its team in its hands."""
    rows_in_hand = list(RegisteredModel.objects.all())
    raise RuntimeError(f"in hand: {[model.name for model in rows_in_hand]}")


def failing_in_sql(request: HttpRequest, tenant: str) -> HttpResponse:
    """Fail as a view fails whose error quotes values."""
    RegisteredModel.objects.create(name="fraud")
    raise AssertionError("not reached")


@public
def failing_for_anybody(request: HttpRequest) -> HttpResponse:
    """Fail outside any team."""
    raise RuntimeError(f"{CANARY} in the message")


handler500 = bulkhead_urls.handler500
urlpatterns = [
    path("t/<str:tenant>/failing/", member(failing)),
    path("t/<str:tenant>/failing-in-sql/", member(failing_in_sql)),
    path("failing/", failing_for_anybody),
    path("", include("bulkhead.urls")),
]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the product writes to its log, as it is written."""
    with caplog.at_level(logging.WARNING):
        yield caplog


@override_settings(ROOT_URLCONF=__name__)
def test_an_error_page_holds_no_value(full: World, as_: As) -> None:
    """L28: nor a name of an exception, a table or a file; it says a number to report."""
    browser = as_(full.hugo)
    browser.raise_request_exception = False
    pages = [
        browser.get(address)
        for address in ("/t/team_gamma/failing/", "/t/team_gamma/failing-in-sql/", "/failing/")
    ]
    for page in pages:
        assert page.status_code == 500
        number = page["X-Request-ID"]
        assert re.fullmatch(r"[0-9a-f]{32}", number)
        text = page.content.decode()
        assert number in text
        for word in (CANARY, "fraud", "RuntimeError", "Traceback", "models_registry", ".py"):
            assert word not in text, word
        assert CANARY not in str(page.headers)
        assert page["Cache-Control"] == "private, no-store"
    shapes = {re.sub(page["X-Request-ID"], "", page.content.decode()) for page in pages}
    assert len(shapes) == 1
    # The failed request left no scope behind for the next one on this connection.
    assert rows("SELECT * FROM models_registry_registeredmodel") == []


def test_a_client_cannot_choose_the_number_in_the_log(full: World, as_: As) -> None:
    """L28: a header that names a request's id is not believed."""
    with override_settings(ROOT_URLCONF=__name__):
        browser = as_(full.hugo)
        browser.raise_request_exception = False
        page = browser.get("/failing/", headers={"x-request-id": f"{CANARY}\nforged line"})
    assert CANARY not in str(page.headers)
    assert CANARY not in page.content.decode()


def test_what_is_refused_is_not_repeated_in_the_log(
    full: World, as_: As, log: pytest.LogCaptureFixture
) -> None:
    """L28: an address may hold a model's name; neither 404 nor 403 nor 422 writes it down."""
    bob = as_(full.bob)
    for address in (f"{MODEL_PAGES}{quote(THEIRS)}/", f"/t/team_gamma/models/{quote(THEIRS)}/"):
        bob.get(address)
        bob.post(f"{address}edit/", {"description": CANARY})
    as_(full.alice).post("/t/team_alpha/register/", {"name": f"{CANARY}/:"})
    as_(full.alice).post("/t/team_alpha/register/", {"name": "fraud", "card": CANARY})
    assert CANARY not in log.text


def test_a_refused_value_is_repeated_to_nobody_else(full: World, as_: As) -> None:
    """L28: what somebody typed in a form is theirs; the next person's form is empty."""
    alice, bob = as_(full.alice), as_(full.carol)
    alice.post("/t/team_alpha/register/", {"name": "a/b", "card": "typed by alice"})
    assert "typed by alice" not in body(bob.get("/t/team_alpha/register/"))


def test_names_that_break_what_does_not_quote_break_nothing(full: World, as_: As) -> None:
    """L4, L28: each page of each hostile name works, for its own team only."""
    alice, gina = as_(full.alice), as_(full.gina)
    robots.create_robot(full.alpha, "ci", Role.VIEWER, full.alice)
    identity = refused_identity(full.alpha, "model-server", full.alice)
    for name in HOSTILE_NAMES:
        with tenant_scope(full.alpha, full.alice):
            model = registry.register_model(name, description=name, card=name, tags={"k": name})
            registry.add_version(model, source=name, description=name, tags={"k": name})
            registry.add_version(model)
            registry.set_alias(model, "champion", 1)
        give_files(full.alpha, name)
        token, _ = tokens.create_token(full.alice, name.replace("\n", ""), scope="read")
        target = Target("team_alpha", name, name, token=token.pk, robot="ci", identity=identity.pk)
        for page, address in get_addresses(target).items():
            if page.startswith("shared_") and page != "shared_models":
                continue
            answer = call(alice, "GET", address)
            assert answer.status_code == 200, (name, page)
            assert "<script>alert(1)" not in text_of(answer), (name, page)
        model_page = f"/t/team_gamma/models/{quote(name, safe='')}/"
        assert gina.get(model_page).status_code == 404, name
        assert alice.get(f"{MODEL_PAGES}?q={quote(name)}").status_code == 200, name


def test_one_person_removed_from_everything_sees_nothing(full: World, as_: As) -> None:
    """L15: home, switcher and lists of somebody without a team are empty."""
    erin = make_user("erin")
    directory.remove_member(directory.add_member(full.gamma, erin, Role.ADMIN))
    page = body(as_(erin).get("/"))
    for secret in (*SECRETS, "Alpha", "Gamma"):
        assert secret not in page


# --- nothing is left out -------------------------------------------------------------------

#: The classes of leaks that this much of the product can have.
CLASSES = {*range(1, 26), *range(27, 36), 37}


def test_every_class_of_leak_is_tried_in_some_test() -> None:
    named: set[int] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                named |= {int(n) for n in re.findall(r"\bL(\d+)\b", ast.get_docstring(node) or "")}
    assert named >= CLASSES, f"not tried: {sorted(CLASSES - named)}"
