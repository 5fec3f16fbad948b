"""What every response gets, whatever the view."""

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

logger = logging.getLogger("bulkhead.request")
GetResponse = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Give each request an id, shown on the 500 page and in the log, so that a report can be found.

    It is made here and never read from a header: a client must not choose what the log says.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.id = uuid.uuid4().hex  # type: ignore[attr-defined]  # read by the 500 page
        response = self.get_response(request)
        if response.status_code >= 500 and response.status_code != HTTPStatus.NOT_IMPLEMENTED:
            response["X-Request-ID"] = request.id  # type: ignore[attr-defined]
            logger.error("%s answered %s", request.id, response.status_code)  # type: ignore[attr-defined]
        return response


class NoStoreMiddleware:
    """Keep every page out of shared and of browser caches: what is on it belongs to one team.

    Static files never get here; whitenoise answers them before.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Cache-Control"] = "private, no-store"
        patch_vary_headers(response, ["Cookie", "HX-Request"])
        return response
