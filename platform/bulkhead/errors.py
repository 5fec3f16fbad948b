"""The page for our own faults; it asks the database nothing, since that may be what is broken."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template import loader


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 with the request's id, under which the log tells what happened."""
    page = loader.get_template("500.html").render({"request_id": getattr(request, "id", "")})
    return HttpResponse(page, status=HTTPStatus.INTERNAL_SERVER_ERROR)
