"""Refusals: each says itself how it is answered."""

from collections.abc import Iterator
from http import HTTPStatus

import pytest
from django.core.exceptions import ValidationError

from models_registry import file_views  # noqa: F401  # the pages' own refusals
from models_registry.errors import BrokenUpload, Conflict, NameTaken, OutOfSpace, StoreUnavailable
from tenants import api  # noqa: F401  # the API's own
from tenants.errors import STATUSES, Refusal


def kinds(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    """Return every class of refusals that there is."""
    for inner in kind.__subclasses__():
        yield inner
        yield from kinds(inner)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_each_refusal_has_a_code_of_mlflows_and_an_errors_status(kind: type[Refusal]) -> None:
    assert kind.error_code in STATUSES
    assert 400 <= kind.status < 600
    if "status" not in vars(kind) and "error_code" in vars(kind):
        assert kind.status == STATUSES[kind.error_code]


def test_a_refusal_says_its_own_message_or_the_text_of_its_class() -> None:
    assert Conflict("moved").words == Conflict("moved").page_words == "moved"
    assert (Conflict.error_code, Conflict.status) == ("RESOURCE_CONFLICT", HTTPStatus.CONFLICT)
    assert BrokenUpload("2 of 3").words == "2 of 3"
    assert BrokenUpload("2 of 3").page_words == "The file did not arrive whole: 2 of 3"


@pytest.mark.parametrize("kind", [OutOfSpace, StoreUnavailable])
def test_what_the_store_says_is_for_the_log_alone(kind: type[Refusal]) -> None:
    refusal = kind("disk 7 of host db-3")
    assert str(refusal) == "disk 7 of host db-3"
    assert "db-3" not in refusal.words + refusal.page_words
    assert refusal.words != refusal.page_words


def test_a_taken_name_is_also_an_error_of_its_field() -> None:
    taken = NameTaken("fraud")
    assert isinstance(taken, ValidationError)
    assert list(taken.message_dict) == ["name"]
    assert taken.words == "Registered Model (name=fraud) already exists."
    assert taken.status == HTTPStatus.BAD_REQUEST
