"""Signing in and out: what a stranger can learn, try and steal at the door."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import NoReverseMatch, reverse

from tenants.identity import directory
from tenants.models import AccountEvent, User
from tests.support.answers import body, whole
from tests.support.people import PASSWORD, World, make_user

SIGN_IN = "/sign-in/"
WRONG = "not the password of anybody"
HERE, ELSEWHERE = "198.51.100.1", "203.0.113.2"


def sign_in(login: str, password: str, *, address: str = HERE, **data: str) -> tuple[Client, Any]:
    """Fill in the sign-in page in a fresh browser and return it with the answer."""
    browser = Client(REMOTE_ADDR=address)
    answer = browser.post(SIGN_IN, {"login": login, "password": password, **data})
    return browser, answer


def is_signed_in(browser: Client) -> bool:
    """Tell whether the browser's next request is somebody's."""
    return browser.get("/t/team_alpha/models/").status_code != 302


# --- getting in ----------------------------------------------------------------------------


def test_a_member_signs_in_by_user_name_or_e_mail(world: World) -> None:
    for login in ("alice", "alice@example.com", "ALICE@example.com", " alice "):
        browser, answer = sign_in(login, PASSWORD)
        assert (answer.status_code, answer["Location"]) == (302, "/"), login
        assert browser.get("/", follow=True).redirect_chain[-1][0] == "/t/team_alpha/"


def test_the_session_cookie_is_for_this_site_and_this_browser_session(world: World) -> None:
    browser, answer = sign_in("alice", PASSWORD)
    for name in ("sessionid", "csrftoken"):
        cookie = answer.cookies[name]
        assert cookie["httponly"], name
        assert cookie["samesite"] == "Lax", name
        assert cookie["domain"] == "", name
    assert not answer.cookies["sessionid"]["max-age"]
    assert 0 < browser.session.get_expiry_age() <= 12 * 60 * 60
    assert "alice" not in answer.cookies["sessionid"].value
    with override_settings(SESSION_COOKIE_SECURE=True):
        assert sign_in("alice", PASSWORD)[1].cookies["sessionid"]["secure"]


def test_a_session_from_before_the_sign_in_is_worth_nothing(world: World) -> None:
    """Session fixation: the key changes at the sign-in, and the CSRF token with it."""
    browser = Client()
    session = browser.session
    session["planted"] = True
    session.save()
    planted = str(session.session_key)
    browser.cookies["sessionid"] = planted
    before = browser.get(SIGN_IN).cookies["csrftoken"].value
    answer = browser.post(SIGN_IN, {"login": "alice", "password": PASSWORD})
    assert is_signed_in(browser)
    assert browser.cookies["sessionid"].value != planted
    assert answer.cookies["csrftoken"].value != before
    thief = Client()
    thief.cookies["sessionid"] = planted
    assert not is_signed_in(thief)


def test_forms_need_a_csrf_token(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    answer = browser.post(SIGN_IN, {"login": "alice", "password": PASSWORD})
    assert answer.status_code == 403
    assert not is_signed_in(browser)


def test_the_page_is_never_kept_in_a_cache(world: World) -> None:
    for answer in (Client().get(SIGN_IN), sign_in("alice", WRONG)[1]):
        assert answer["Cache-Control"] == "private, no-store"


# --- what a stranger learns ----------------------------------------------------------------

STRANGERS = ("nobody", "nobody@example.com", "alice", "alice@example.com", "erin", "robo")


def _accounts_of_each_kind() -> None:
    directory.deactivate_user(make_user("erin"))
    robo = make_user("robo")
    robo.set_unusable_password()
    robo.save()


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(world: World) -> None:
    """L9: also for a closed account, and for one that has no password."""
    _accounts_of_each_kind()
    answers = {login: sign_in(login, WRONG)[1] for login in STRANGERS}
    for login, answer in answers.items():
        # The sentence says “e-mail” to who typed one.
        unknown = "nobody@example.com" if "@" in login else "nobody"
        expected = whole(answers[unknown], f'value="{unknown}"')
        assert expected[0] == 200
        answer.headers["Content-Length"] = expected[1]["Content-Length"]  # what was typed is in it
        assert whole(answer, f'value="{login}"') == expected, login
        assert WRONG not in answer.content.decode()


@override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"])
def test_a_wrong_password_and_an_unknown_account_take_the_same_time(db: None) -> None:
    """L10: with the real, slow hash; a check that is left out would be many times faster."""
    make_user("alice")
    _accounts_of_each_kind()
    times: dict[str, list[float]] = {login: [] for login in STRANGERS}
    for attempt in range(3):
        for login in STRANGERS:
            start = time.process_time()  # our work, whatever else the machine is doing
            sign_in(login, WRONG, address=f"198.51.100.{attempt}")
            times[login].append(time.process_time() - start)
    medians = {login: median(taken) for login, taken in times.items()}
    assert max(medians.values()) < 3 * min(medians.values()), medians


STRANGE = (
    ("", ""),
    ("alice", ""),
    ("", PASSWORD),
    ("a\x00b", WRONG),
    ("alice", "a\x00b"),
    ("a" * 5000, "b" * 5000),
    ("alice' OR 1=1 --", WRONG),
    ("\N{FULLWIDTH LATIN SMALL LETTER A}lice", PASSWORD),
    ("alice@EXAMPLE.com\n", WRONG),
    ("{{ 7*7 }}", "<script>"),
)


def test_strange_input_is_a_failed_attempt(world: World) -> None:
    for login, password in STRANGE:
        browser, answer = sign_in(login, password)
        assert answer.status_code == 200, login
        assert not is_signed_in(browser), login
        assert "<script>" not in answer.content.decode()


# --- trying often --------------------------------------------------------------------------


def test_repeated_failures_are_slowed_down(world: World) -> None:
    """Neither another person nor somebody at another address waits for it."""
    for _ in range(10):
        assert "Too many" not in body(sign_in("alice", WRONG)[1])
    browser, answer = sign_in("alice", PASSWORD)
    assert answer.status_code in (200, 429)
    assert "Too many" in body(answer)
    assert not is_signed_in(browser)
    # An account that nobody has is throttled alike, or the throttle would tell it.
    for _ in range(10):
        sign_in("nobody", WRONG, address=ELSEWHERE)
    throttled = sign_in("nobody", WRONG, address=ELSEWHERE)[1]
    assert body(throttled, 'value="nobody"') == body(answer, 'value="alice"')
    assert is_signed_in(sign_in("bob", PASSWORD)[0])
    assert is_signed_in(sign_in("alice", PASSWORD, address=ELSEWHERE)[0])


def test_one_address_that_tries_many_accounts_is_slowed_down(world: World) -> None:
    for number in range(20):
        sign_in(f"nobody{number}", WRONG)
    browser, answer = sign_in("alice", PASSWORD)
    assert "Too many" in body(answer)
    assert not is_signed_in(browser)
    assert is_signed_in(sign_in("alice", PASSWORD, address=ELSEWHERE)[0])


def test_a_client_cannot_choose_its_address(world: World) -> None:
    """L24: without a trusted proxy in front, what the header says is nothing."""
    for number in range(20):
        browser = Client(REMOTE_ADDR=HERE, headers={"x-forwarded-for": f"192.0.2.{number}"})
        browser.post(SIGN_IN, {"login": f"nobody{number}", "password": WRONG})
    assert "Too many" in body(sign_in("alice", PASSWORD)[1])
    assert set(AccountEvent.objects.values_list("ip", flat=True)) == {HERE}


# --- where it leads ------------------------------------------------------------------------

OUTSIDE = (
    "https://evil.example/",
    "//evil.example/",
    r"/\evil.example",
    r"\\evil.example",
    "///evil.example",
    "javascript:alert(1)",
    "http:evil.example",
    " https://evil.example",
    "https://testserver@evil.example/",
    "\thttps://evil.example",
)


def test_signing_in_or_out_leads_nowhere_outside(world: World) -> None:
    for target in OUTSIDE:
        browser, answer = sign_in("alice", PASSWORD, next=target)
        assert (answer.status_code, answer["Location"]) == (302, "/"), target
        # Who is signed in already is sent on at once.
        assert browser.get(SIGN_IN, {"next": target})["Location"] == "/", target
        assert browser.post("/sign-out/", {"next": target})["Location"] == SIGN_IN, target


def test_signing_in_leads_back_to_the_page_that_asked_for_it(world: World) -> None:
    asked = Client().get("/t/team_alpha/models/?q=a")
    assert asked["Location"] == f"{SIGN_IN}?next=/t/team_alpha/models/%3Fq%3Da"
    target = "/t/team_alpha/models/?q=a"
    assert sign_in("alice", PASSWORD, next=target)[1]["Location"] == target


# --- getting out, and staying out ----------------------------------------------------------


def test_signing_out_ends_the_session_for_whoever_has_its_key(world: World) -> None:
    browser, _ = sign_in("alice", PASSWORD)
    copy = Client()
    copy.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert is_signed_in(copy)
    assert browser.get("/sign-out/").status_code == 200  # a link to it signs nobody out
    assert is_signed_in(browser)
    assert browser.post("/sign-out/").status_code == 302
    assert not is_signed_in(browser)
    assert not is_signed_in(copy)


def _deactivate(user: User) -> None:
    directory.deactivate_user(user)


def _new_password(user: User) -> None:
    user.set_password("another long enough password")
    user.save()


@pytest.mark.parametrize("end", [_deactivate, _new_password])
def test_sessions_end_at_the_next_request(world: World, end: Callable[[User], None]) -> None:
    """L21: of an account that is closed, and after a new password."""
    browser, _ = sign_in("bob", PASSWORD)
    assert is_signed_in(browser)
    end(world.bob)
    assert browser.get("/t/team_alpha/models/")["Location"].startswith(SIGN_IN)
    assert browser.get("/")["Location"].startswith(SIGN_IN)


def test_a_closed_account_does_not_get_in(world: World) -> None:
    directory.deactivate_user(world.bob)
    browser, answer = sign_in("bob", PASSWORD)
    assert (answer.status_code, answer["Location"]) == (302, "/inactive/")
    assert not is_signed_in(browser)


# --- what is not there ---------------------------------------------------------------------


def test_nobody_signs_up_or_resets_a_password_by_themselves(world: World) -> None:
    before = User.objects.count()
    for name in ("signup", "reset_password", "email", "change_password", "set_password"):
        with pytest.raises(NoReverseMatch):
            reverse(f"account_{name}")
    for address in ("/sign-up/", "/signup/", "/accounts/signup/", "/accounts/login/"):
        data = {"username": "mallory", "password1": PASSWORD, "password2": PASSWORD}
        assert Client().post(address, data).status_code == 404
    assert User.objects.count() == before
    assert "sign-up" not in Client().get(SIGN_IN).content.decode()


def test_the_admin_has_no_door_of_its_own(world: World) -> None:
    """Django's own sign-in page is throttled by nothing."""
    answer = Client().get("/admin/login/")
    assert answer.status_code == 302
    assert answer["Location"].startswith(SIGN_IN)
    browser = Client()
    browser.post("/admin/login/", {"username": "dana", "password": PASSWORD})
    assert "sessionid" not in browser.cookies
