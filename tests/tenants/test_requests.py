"""What is asked of any request: whose address it comes from, and where it may be sent on to."""

import pytest
from django.conf import LazySettings
from django.http import HttpResponse
from django.test import RequestFactory

from tenants.dns import is_loopback
from tenants.requests import client_ip, is_here, read_form, require_get_or_post
from tests.support.addresses import METHODS

LOCAL = ["127.0.0.1", "127.8.9.10", "::1", "localhost"]
ANYBODYS = [
    *("", "0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "2001:db8::1"),  # noqa: S104 - not bound
    *("localhost.example.com", "127.0.0.1.example.com", "127.1", "2130706433", "0x7f.0.0.1"),
]


@pytest.mark.parametrize("host", LOCAL)
def test_a_loopback_address_is_this_machines_own(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ANYBODYS)
def test_any_other_name_or_address_could_be_anybodys(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("sent", "address"),
    {"10.0.0.1": "10.0.0.1", "::1": "::1", "2001:DB8::1": "2001:db8::1", "": None}.items(),
)
def test_the_callers_address_is_the_connections(
    rf: RequestFactory, sent: str, address: str | None
) -> None:
    request = rf.get("/", REMOTE_ADDR=sent, HTTP_X_FORWARDED_FOR="9.9.9.9")
    assert client_ip(request) == address


def test_a_proxy_in_front_says_whom_it_answers(rf: RequestFactory, settings: LazySettings) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    request = rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="8.8.8.8, 9.9.9.9")
    assert client_ip(request) == "9.9.9.9"
    assert client_ip(rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="who")) is None


@pytest.mark.parametrize("address", ["/t/alpha/", "t", "http://testserver/t/"])
def test_a_request_may_be_sent_on_to_this_site(rf: RequestFactory, address: str) -> None:
    assert is_here(rf.get("/"), address)


@pytest.mark.parametrize(
    "address", ["", "//evil.example", "https://evil.example/", "javascript:alert(1)"]
)
def test_a_request_is_sent_on_to_no_other_site(rf: RequestFactory, address: str) -> None:
    assert not is_here(rf.get("/"), address)


def test_a_form_is_read_up_to_a_bound(rf: RequestFactory, settings: LazySettings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert read_form(rf.post("/", {"name": "x"}))
    assert not read_form(rf.post("/", {"name": "x" * 200}))
    assert read_form(rf.post("/", b"x" * 200, content_type="application/octet-stream"))
    assert read_form(rf.put("/", b"x" * 200))


def test_a_view_of_a_form_answers_get_head_and_post(rf: RequestFactory) -> None:
    @require_get_or_post
    def view(request: object) -> HttpResponse:
        return HttpResponse()

    allowed = {name for name in METHODS if view(rf.generic(name, "/")).status_code == 200}
    assert allowed == {"GET", "HEAD", "POST"}
