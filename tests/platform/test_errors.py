"""Our own faults: the page names the request and nothing else, and the log has the same number."""

import re

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path

from tenants.access import public
from tests.support.people import CANARY


@public
def broken(request: HttpRequest) -> HttpResponse:
    """Fail as a view fails that has somebody's data in hand."""
    raise RuntimeError(f"{CANARY} {request.method}")


handler500 = "bulkhead.errors.server_error"
urlpatterns = [path("broken/", broken), path("", include("bulkhead.urls"))]


@override_settings(ROOT_URLCONF="tests.platform.test_errors")
def test_a_fault_shows_its_number_and_no_value(db: None, caplog: pytest.LogCaptureFixture) -> None:
    answer = Client(raise_request_exception=False).get("/broken/")
    page = answer.content.decode()
    [number] = re.findall(r"<code>([0-9a-f]{32})</code>", page)
    assert answer.status_code == 500
    assert answer["X-Request-ID"] == number
    assert CANARY not in page
    assert any(number in message for message in caplog.messages)
