"""Refusal: the base of every error that a caller sees, with its status, headers and words.

An exception that inherits it carries how it is answered, so no code that answers has a table of
exceptions. The API writes ``error_code`` and ``words`` and sends ``headers``; a page shows
``page_words``; both send ``status``. What Django and the database raise is translated in
``tenants.api``.
"""

from collections.abc import Mapping
from http import HTTPStatus

#: MLflow's error codes and their statuses (mlflow.exceptions.ERROR_CODE_TO_HTTP_STATUS).
STATUSES = {
    "BAD_REQUEST": HTTPStatus.BAD_REQUEST,
    "INVALID_PARAMETER_VALUE": HTTPStatus.BAD_REQUEST,
    "RESOURCE_ALREADY_EXISTS": HTTPStatus.BAD_REQUEST,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "ENDPOINT_NOT_FOUND": HTTPStatus.NOT_FOUND,
    "RESOURCE_DOES_NOT_EXIST": HTTPStatus.NOT_FOUND,
    "RESOURCE_CONFLICT": HTTPStatus.CONFLICT,
    "REQUEST_LIMIT_EXCEEDED": HTTPStatus.TOO_MANY_REQUESTS,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "INTERNAL_ERROR": HTTPStatus.INTERNAL_SERVER_ERROR,
    "NOT_IMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "TEMPORARILY_UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}


class Refusal(Exception):
    """An error that a caller sees; a class of its own for each reason that is told apart.

    A class names its ``error_code``, and its ``status`` where that is not the code's own. Where
    the caller always reads the same, ``text`` is that; the exception's own message, which then may
    be a detail, is for the log. ``page_text`` is for people where they need other words than
    programs.
    """

    error_code = "BAD_REQUEST"
    status = STATUSES["BAD_REQUEST"]
    headers: Mapping[str, str] = {}
    text = ""
    page_text = ""
    #: Whether the operator must know too: the door of the API logs the exception's message.
    is_logged = False

    def __init_subclass__(cls) -> None:
        own = vars(cls)
        if "error_code" in own and "status" not in own:
            cls.status = STATUSES[cls.error_code]

    @property
    def words(self) -> str:
        """What a program reads."""
        return self.text or str(self)

    @property
    def page_words(self) -> str:
        """What a person reads on a page."""
        return self.page_text or self.words


class BadRequest(Refusal):
    """The request cannot be read."""


class InvalidRequest(Refusal):
    """What the request says cannot be."""

    error_code = "INVALID_PARAMETER_VALUE"


class NotFound(Refusal):
    """It is not there, or not the caller's to see; nobody may tell which."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


class Forbidden(Refusal):
    """The caller may see it, and may not do this with it."""

    error_code = "PERMISSION_DENIED"


class BodyTooLarge(Refusal):
    """The request's body is larger than the settings allow."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    text = "The body is too large."


class ConcurrentChange(Refusal):
    """The database undid the transaction, since another one changed the same rows."""

    error_code = "RESOURCE_CONFLICT"
    text = "Somebody changed the same meanwhile; try again."


class TooSlow(Refusal):
    """A statement took longer than the database lets it."""

    error_code = "INVALID_PARAMETER_VALUE"
    text = "This takes too long here; ask for less, or by a simpler pattern."


class DatabaseUnavailable(Refusal):
    """The database does not answer; the exception's message is the driver's."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    text = "The database does not answer; try again."
    is_logged = True


class Broken(Refusal):
    """Something went wrong that nobody expected; the message says its number in the log only."""

    error_code = "INTERNAL_ERROR"
