"""The pages for our own faults, rendered without a query: the database may be what is broken.

The listener that API servers call answers in plain text.
"""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template import loader


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 with the request's id, under which the log tells what happened."""
    page = loader.get_template("500.html").render({"request_id": getattr(request, "id", "")})
    return HttpResponse(page, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def plain_bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400."""
    return _plain(HTTPStatus.BAD_REQUEST)


def plain_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404."""
    return _plain(HTTPStatus.NOT_FOUND)


def plain_server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500."""
    return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def _plain(status: HTTPStatus) -> HttpResponse:
    return HttpResponse(f"{status.phrase}.\n", status=status, content_type="text/plain")
