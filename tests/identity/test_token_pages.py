"""The pages for tokens and robots: whose they are, and a secret that is shown once."""

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from tenants.identity import directory, robots, tokens
from tenants.isolation.scope import tenant_scope, token_scope
from tenants.models import ApiToken, AuditEvent, Membership, Role, User
from tests.support.answers import whole
from tests.support.pages import Page, page_with_status
from tests.support.people import CANARY, HOSTILE_NAMES, World

As = Callable[[User | None], Client]

TOKENS = "/t/team_alpha/tokens/"
ROBOTS = "/t/team_alpha/admin/robots/"
TOKEN = re.compile(r"bh[rw]_[0-9A-Za-z]{48}")


def asked(browser: Client, address: str, **typed: str) -> dict[str, str]:
    """Return what the page's form would send, with what is typed into it."""
    page = page_with_status(browser.get(address))
    form = next(form for form in page.forms if "once" in form.fields)
    data = {name: value for name, value in form.fields.items() if value}
    chosen = {"scope": "write", "days": "30"}
    return {**data, **chosen, **typed}


def secret_on(page: Page) -> str:
    """Return the one secret that the page shows."""
    [secret] = set(TOKEN.findall(page.text))
    return str(secret)


def opens(secret: str) -> str:
    """Return the team that the token opens."""
    credential = tokens.credential(secret)
    assert credential is not None
    with token_scope(credential) as scope:
        return scope.slug


# --- tokens of one's own -------------------------------------------------------------------


@pytest.mark.parametrize("person", ["bob", "carol", "mia", "alice"])
def test_everybody_makes_sees_and_revokes_their_own(world: World, as_: As, person: str) -> None:
    browser = as_(world.person(person))
    assert "No tokens yet" in page_with_status(browser.get(TOKENS)).text
    page = page_with_status(
        browser.post(TOKENS, asked(browser, TOKENS, name="laptop", team="this"))
    )
    assert opens(secret_on(page)) == "team_alpha"
    token = ApiToken.objects.get()
    assert (token.user, token.created_by, token.tenant, token.scope) == (
        *(world.person(person), world.person(person), world.alpha),
        "write",
    )
    listed = page_with_status(browser.get(TOKENS))
    for text in ("laptop", token.prefix, "read and write", "Alpha", "just now"):
        assert text in listed.text
    revoke = f"{TOKENS}{token.pk}/revoke/"
    assert revoke in listed.links
    assert "cannot be undone" in page_with_status(browser.get(revoke)).text
    token.refresh_from_db()
    assert token.revoked_at is None  # the page only asks
    assert browser.post(revoke)["Location"] == TOKENS
    after = page_with_status(browser.get(TOKENS)).text
    assert "The token laptop is revoked." in after
    assert "No tokens yet" in after
    # Sent twice, or opened again, it leads back to the list.
    assert browser.post(revoke)["Location"] == browser.get(revoke)["Location"] == TOKENS


def test_a_token_may_be_for_any_of_ones_teams(world: World, as_: As) -> None:
    directory.add_member(world.gamma, world.bob, Role.VIEWER)
    browser = as_(world.bob)
    browser.post(TOKENS, asked(browser, TOKENS, name="free", team="any", scope="read"))
    browser.post(
        "/t/team_gamma/tokens/",
        asked(browser, "/t/team_gamma/tokens/", name="bound", team="this"),
    )
    assert dict(ApiToken.objects.values_list("name", "tenant__slug")) == {
        "free": None,
        "bound": "team_gamma",
    }
    for address in (TOKENS, "/t/team_gamma/tokens/"):
        text = page_with_status(browser.get(address)).text
        assert "any of my teams" in text
        assert world.gamma.name in text


def test_a_secret_is_shown_once(world: World, as_: As) -> None:
    """On the answer to the form alone: not again by a reload, a list, a message or the session."""
    browser = as_(world.bob)
    form = asked(browser, TOKENS, name="laptop", team="this")
    answer = browser.post(TOKENS, form)
    secret = secret_on(page_with_status(answer))
    assert answer["Cache-Control"] == "private, no-store"
    assert "Location" not in answer
    for name, value in answer.headers.items():
        assert secret not in value, name
    assert secret not in str(answer.cookies)
    assert secret not in str(list(browser.session.items()))
    again = browser.post(TOKENS, form, follow=True)
    assert again.redirect_chain == [(TOKENS, 302)]
    page = page_with_status(again)
    assert "was made already" in page.text
    assert ApiToken.objects.count() == 1
    for later in (
        page,
        *(page_with_status(browser.get(a)) for a in (TOKENS, "/t/team_alpha/activity/")),
    ):
        assert secret not in later.html
        assert secret[tokens.PREFIX_CHARS :] not in later.html
    # The next form is another one.
    assert secret_on(
        page_with_status(browser.post(TOKENS, asked(browser, TOKENS, name="b", team="this")))
    )
    assert ApiToken.objects.count() == 2


def test_the_lines_to_paste_name_this_sites_address(world: World, as_: As) -> None:
    """As people reach it, whatever the proxy and the request's headers call it."""
    browser = as_(world.bob)
    for url in ("https://registry.example", "http://127.0.0.1:8000"):
        with override_settings(SITE_URL=url):
            form = asked(browser, TOKENS, name="x", team="this")
            page = page_with_status(browser.post(TOKENS, form, headers={"host": "testserver"}))
            lines = (
                f"export MLFLOW_TRACKING_URI={url}/t/team_alpha\n"
                f"export MLFLOW_TRACKING_TOKEN={secret_on(page)}"
            )
            assert lines in page.text
    assert settings.SITE_URL.startswith("http")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_visible_name_is_shown_as_it_was_typed(world: World, as_: As, name: str) -> None:
    browser = as_(world.alice)
    answer = browser.post(TOKENS, asked(browser, TOKENS, name=name, team="this"))
    if "\n" in name:
        assert "all of them visible" in page_with_status(answer, 422).text
        return
    page_with_status(answer)
    token = ApiToken.objects.get()
    assert token.name == name.strip()
    for address in (TOKENS, f"{TOKENS}{token.pk}/revoke/", "/t/team_alpha/activity/"):
        assert name.strip() in page_with_status(browser.get(address)).text


WRONG = (
    ({"name": ""}, "required"),
    ({"name": "x" * 101}, "at most 100"),
    ({"name": "a\x00b"}, "Null characters"),
    ({"name": "a\u202eb"}, "all of them visible"),
    ({"scope": "WRITE"}, "not one of the available choices"),
    ({"scope": "admin"}, "not one of the available choices"),
    ({"days": "3650"}, "not one of the available choices"),
    ({"days": "-1"}, "not one of the available choices"),
    ({"team": "team_gamma"}, "not one of the available choices"),
    ({"once": ""}, "required"),
)


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_what_is_wrong_is_said_and_nothing_is_made(
    world: World, as_: As, wrong: dict[str, str], said: str
) -> None:
    """L22: nor is a scope in another spelling taken."""
    browser = as_(world.bob)
    form = asked(browser, TOKENS, name="good", team="this") | wrong
    answer = browser.post(TOKENS, form)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_a_form_takes_only_its_own_fields(world: World, as_: As) -> None:
    """L4: whose the token is and what it opens comes from the session and the path."""
    browser = as_(world.bob)
    smuggled = {
        *(("user", world.alice.pk), ("user_id", world.alice.pk), ("tenant", world.gamma.pk)),
        *(("created_by", world.alice.pk), ("id", str(uuid4())), ("prefix", "bhw_aaaaaaaa")),
        *(("expires_at", "2999-01-01"), ("robot", "ci"), ("actor", world.alice.pk)),
    }
    form = asked(browser, TOKENS, name="x", team="this")
    browser.post(TOKENS, {**form, **{key: str(value) for key, value in smuggled}})
    token = ApiToken.objects.get()
    assert (token.user, token.created_by, token.tenant) == (world.bob, world.bob, world.alpha)
    assert str(token.pk) not in {str(value) for _, value in smuggled}
    assert token.prefix != "bhw_aaaaaaaa"
    assert token.expires_at < timezone.now() + timedelta(days=31)


def test_too_many_tokens_are_refused_in_words(
    world: World, as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 1)
    browser = as_(world.bob)
    browser.post(TOKENS, asked(browser, TOKENS, name="one", team="this"))
    answer = browser.post(TOKENS, asked(browser, TOKENS, name="two", team="this"))
    assert "revoke one first" in page_with_status(answer, 422).text


def test_anothers_token_a_random_one_and_none_answer_alike(world: World, as_: As) -> None:
    """L3, L9: of a member of the same team, of another team, and of nobody."""
    browser = as_(world.alice)
    theirs = [
        tokens.create_token(person, "x", scope="read", tenant=tenant)[0].pk
        for person, tenant in ((world.bob, world.alpha), (world.gina, world.gamma))
    ]
    for send in (browser.get, browser.post):
        expected = whole(send(f"{TOKENS}{uuid4()}/revoke/"))
        assert expected[0] == 404
        for pk in theirs:
            assert whole(send(f"{TOKENS}{pk}/revoke/")) == expected
    for malformed in ("1", "nothing", str(theirs[0]).upper(), "../x"):
        assert browser.post(f"{TOKENS}{malformed}/revoke/").status_code == 404
    assert ApiToken.objects.living().count() == 2
    assert "x" not in [token.name for token in browser.get(TOKENS).context["tokens"]]


def test_forms_need_a_csrf_token(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.alice, backend="allauth.account.auth_backends.AuthenticationBackend")
    token, _ = tokens.create_token(world.alice, "x", scope="read")
    robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    secret = {"scope": "read", "days": "30", "once": "o"}
    for address, data in (
        (TOKENS, {"name": "y", "team": "this", **secret}),
        (f"{TOKENS}{token.pk}/revoke/", {}),
        (ROBOTS, {"name": "new", "role": "viewer", **secret}),
        (f"{ROBOTS}ci/rotate/", secret),
        (f"{ROBOTS}ci/remove/", {}),
    ):
        assert browser.post(address, data).status_code == 403, address
    assert list(ApiToken.objects.living()) == [token]
    assert len(robots.robots_of(world.alpha)) == 1


def test_a_token_that_expires_soon_is_pointed_out(world: World, as_: As) -> None:
    for name, days in (("soon", 13), ("later", 15), ("gone", 1)):
        token, _ = tokens.create_token(world.bob, name, scope="read", days=days)
        if name == "gone":
            ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    page = page_with_status(as_(world.bob).get(TOKENS))
    assert re.findall(r"in (1 week|2 weeks)", page.html.replace("\xa0", " ")) == ["1 week"]
    assert "gone" not in page.text


def test_a_suspended_teams_members_still_end_their_tokens(world: World, as_: As) -> None:
    token, _ = tokens.create_token(world.bob, "x", scope="write", tenant=world.alpha)
    directory.suspend_tenant(world.alpha)
    browser = as_(world.bob)
    assert browser.post(f"{TOKENS}{token.pk}/revoke/").status_code == 302
    assert not ApiToken.objects.living().exists()


# --- robots --------------------------------------------------------------------------------


def test_only_admins_see_robots_and_are_led_to_them(world: World, as_: As) -> None:
    robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    for person in ("bob", "carol", "mia"):
        browser = as_(world.person(person))
        for page in ("", "ci/rotate/", "ci/remove/", "nothing/rotate/"):
            refused = page_with_status(browser.get(f"{ROBOTS}{page}"), 403)
            assert "admin" in refused.text
            assert browser.post(f"{ROBOTS}{page}").status_code == 403
        nav = page_with_status(browser.get(TOKENS)).links
        assert ROBOTS not in nav
        assert TOKENS in nav
    assert ROBOTS in page_with_status(as_(world.alice).get(TOKENS)).links
    assert not ApiToken.objects.exists()


def test_an_admin_makes_rotates_and_removes_a_robot(world: World, as_: As) -> None:
    browser = as_(world.alice)
    assert "No robots yet" in page_with_status(browser.get(ROBOTS)).text
    form = asked(browser, ROBOTS, name="ci", role="contributor")
    made = browser.post(ROBOTS, form)
    first = secret_on(page_with_status(made))
    assert opens(first) == "team_alpha"
    robot = Membership.objects.get(user__robot_of=world.alpha)
    assert (robot.user.robot_name, robot.role) == ("ci", "contributor")
    # The same form again makes nothing.
    assert "has a robot" in page_with_status(browser.post(ROBOTS, form), 422).text
    listed = page_with_status(browser.get(ROBOTS))
    for text in ("ci", "Contributor", first[: tokens.PREFIX_CHARS], "alice", "read and write"):
        assert text in listed.text
    assert first not in listed.html

    rotate = f"{ROBOTS}ci/rotate/"
    form = asked(browser, rotate)
    second = secret_on(page_with_status(browser.post(rotate, form)))
    again = browser.post(rotate, form, follow=True)
    assert again.redirect_chain == [(ROBOTS, 302)]
    assert "was made already" in page_with_status(again).text
    assert [token.prefix for token in ApiToken.objects.living()] == [second[:12]]

    remove = f"{ROBOTS}ci/remove/"
    assert "Remove the robot ci?" in page_with_status(browser.get(remove)).text
    assert browser.post(remove)["Location"] == ROBOTS
    assert "No robots yet" in page_with_status(browser.get(ROBOTS)).text
    assert not ApiToken.objects.living().exists()
    assert browser.post(remove).status_code == browser.get(rotate).status_code == 404
    words = page_with_status(browser.get("/t/team_alpha/activity/?action=robot")).text
    assert "made the robot ci as contributor" in words
    assert "removed the robot ci, which was contributor" in words
    assert (
        "revoked the token ci"
        in page_with_status(browser.get("/t/team_alpha/activity/?action=token")).text
    )


def test_another_teams_robot_and_none_answer_alike(world: World, as_: As) -> None:
    """L3, L9, L11: its name can be used here, and its page is as if it were not there."""
    robots.create_robot(world.gamma, "theirs", Role.VIEWER, world.hugo)
    removed = robots.create_robot(world.alpha, "remove", Role.VIEWER, world.alice)
    robots.remove_robot(removed.memberships.get(), world.alice)
    browser = as_(world.alice)
    names = ("theirs", "remove", f"remove.removed{removed.pk}", "alice", "%00", "Theirs", "..%2f")
    for page in ("rotate/", "remove/"):
        for send in (browser.get, browser.post):
            expected = whole(send(f"{ROBOTS}nobody/{page}"))
            assert expected[0] == 404
            for name in names:
                assert whole(send(f"{ROBOTS}{name}/{page}")) == expected, name
    texts = []
    for name in ("theirs", "nobody"):
        answer = browser.post(ROBOTS, asked(browser, ROBOTS, name=name, role="viewer"))
        texts.append(TOKEN.sub("", page_with_status(answer).text).count(CANARY))
    assert texts == [0, 0]
    assert {m.user.robot_name for m in robots.robots_of(world.gamma)} == {"theirs"}


def test_a_robot_is_never_made_an_admin_by_page(world: World, as_: As) -> None:
    """L22: neither by its own form nor by the one for members."""
    browser = as_(world.alice)
    for role in ("admin", "MAINTAINER", ""):
        form = asked(browser, ROBOTS, name="ci") | {"role": role}
        assert browser.post(ROBOTS, form).status_code == 422
    robot = robots.create_robot(world.alpha, "ci", Role.VIEWER, world.alice)
    members = "/t/team_alpha/admin/members/"
    for role in ("admin", "viewer", "remove"):
        assert browser.post(members, {"user": robot.pk, "role": role}).status_code == 404
    page = page_with_status(browser.get(members))
    assert "robot.team_alpha.ci" in page.text
    assert str(robot.pk) not in [form.fields.get("user") for form in page.forms]
    assert robot.memberships.get().role == Role.VIEWER


def test_a_robots_maker_who_is_out_is_pointed_out(world: World, as_: As) -> None:
    directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    robot = robots.create_robot(world.alpha, "ci", Role.VIEWER, world.charlie)
    robots.rotate_token(robot, scope="read", days=30, actor=world.charlie)
    assert "opens nothing" not in page_with_status(as_(world.alice).get(ROBOTS)).text
    directory.deactivate_user(world.charlie)
    assert "opens nothing" in page_with_status(as_(world.alice).get(ROBOTS)).text


def test_removing_a_member_says_what_ends_with_it(world: World, as_: As) -> None:
    """L21: the tokens for the team, and what was made for its robots."""
    directory.add_member(world.alpha, world.charlie, Role.ADMIN)
    robot = robots.create_robot(world.alpha, "ci", Role.VIEWER, world.charlie)
    robots.rotate_token(robot, scope="read", days=30, actor=world.charlie)
    tokens.create_token(world.charlie, "own", scope="read", tenant=world.alpha)
    members = reverse("members", args=["team_alpha"])
    browser = as_(world.alice)
    assert "their tokens for it, and those that they made" in browser.get(members).content.decode()
    browser.post(members, {"user": world.charlie.pk, "role": "remove"})
    assert not ApiToken.objects.living().exists()
    with tenant_scope(world.alpha):
        revoked = AuditEvent.objects.filter(action="token.revoked", actor=world.alice)
        assert {event.object_label for event in revoked} == {"ci", "own"}
