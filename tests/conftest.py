"""Fixtures for all tests. Django connects as the web role; the owner only makes the database."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client
from zeal import zeal_context

from tenants.models import User
from tests.people import World, make_world


@pytest.fixture(autouse=True)
def _no_n_plus_one() -> Iterator[None]:
    with zeal_context():
        yield


@pytest.fixture
def world(db: None) -> World:
    """Two teams and everybody."""
    return make_world()


@pytest.fixture
def as_(client: Client) -> Callable[[User | None], Client]:
    """Return a browser in which that person is signed in (None: nobody)."""

    def sign_in(user: User | None) -> Client:
        browser = Client()
        if user is not None and not isinstance(user, AnonymousUser):
            browser.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return browser

    return sign_in
