"""What the registry raises beside ValidationError (a bad value) and PermissionDenied.

Each says itself how the API and the pages answer it; see ``tenants.errors``.
"""

from http import HTTPStatus

from django.core.exceptions import ValidationError

from tenants.errors import Refusal


class Conflict(Refusal):
    """Somebody else changed the same thing meanwhile; nothing was written."""

    error_code = "RESOURCE_CONFLICT"


class NameTaken(ValidationError, Refusal):
    """The tenant has a model of this name already."""

    error_code = "RESOURCE_ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(
            {"name": f"Registered Model (name={name}) already exists."}, code="name_taken"
        )

    @property
    def words(self) -> str:
        """What a program reads."""
        return " ".join(self.messages)


class NoLength(Refusal):
    """A file comes without a Content-Length, so nobody could tell its end from a broken line."""

    status = HTTPStatus.LENGTH_REQUIRED
    text = "Send a Content-Length with the file."


class BrokenUpload(Refusal):
    """What arrived is not what was announced; nothing is kept of it."""

    @property
    def page_words(self) -> str:
        """What a person reads on a page."""
        return f"The file did not arrive whole: {self}"


class OutOfSpace(Refusal):
    """The store takes no more bytes; the message, if there is one, is the store's."""

    error_code = "RESOURCE_EXHAUSTED"
    status = HTTPStatus.INSUFFICIENT_STORAGE
    text = (
        "The store of files is full, and nothing was kept of this one. Delete files that "
        "nobody needs and let your operator run `manage.py collect_garbage`, or give the "
        "store more space; then send it again."
    )
    page_text = "There is no room for this file in the store: ask a platform admin for more."


class StoreUnavailable(Refusal):
    """The store does not answer, or does not have what it was given; the message is the store's."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    text = "The store of files does not answer."
    page_text = "The store of files does not answer; try again later."
    is_logged = True
