"""Sharing with another team by the address that the team gave out, and taking it back."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from models_registry.models import RegisteredModel
from tenants.access import share
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, User
from tests.support.people import World

As = Callable[[User | None], Client]
SHARE = reverse("share_model", args=["team_alpha", "fraud"])
UNSHARE = reverse("unshare_model", args=["team_alpha", "fraud"])
RECEIVED = reverse("shared_models", args=["team_gamma"])


def test_a_maintainer_shares_a_model_and_stops_it_again(world: World, as_: As) -> None:
    maintainer, receiver = as_(world.mia), as_(world.gina)
    assert str(world.gamma.pk) in receiver.get(RECEIVED).content.decode()
    assert maintainer.post(SHARE, {"address": str(world.gamma.pk)}).status_code == 302
    shared = reverse("shared_model", args=["team_gamma", world.model(world.alpha, "fraud").pk])
    assert receiver.get(shared).status_code == 200
    assert "ALPHA description" in receiver.get(RECEIVED).content.decode()
    assert maintainer.post(UNSHARE, {"team": str(world.gamma.pk)}).status_code == 302
    assert receiver.get(shared).status_code == 404
    assert "ALPHA" not in receiver.get(RECEIVED).content.decode()
    with tenant_scope(world.alpha):
        events = AuditEvent.objects.filter(action__startswith="grant.", actor=world.mia)
        assert set(events.values_list("action", flat=True)) == {"grant.given", "grant.revoked"}


@pytest.mark.parametrize("address", ["", "team_gamma", "CANARY", "unknown", "own"])
def test_any_other_address_shares_nothing(world: World, as_: As, address: str) -> None:
    typed = {"own": str(world.alpha.pk), "unknown": str(uuid4())}.get(address, address)
    response = as_(world.alice).post(SHARE, {"address": typed})
    assert response.status_code == 422
    assert "Gamma" not in response.content.decode()
    with tenant_scope(world.gamma):
        assert not RegisteredModel.shared.exists()


def test_a_person_stops_seeing_what_is_no_longer_shared(world: World, as_: As) -> None:
    model = world.model(world.alpha, "fraud")
    with tenant_scope(world.alpha):
        share(model, with_user=world.gina)
    page = reverse("shared_model", args=["team_gamma", model.pk])
    assert as_(world.gina).get(page).status_code == 200
    assert as_(world.hugo).get(page).status_code == 404
    as_(world.alice).post(UNSHARE, {"person": str(world.gina.pk)})
    assert as_(world.gina).get(page).status_code == 404


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_who_may_not_share_is_told_which_role_may(world: World, as_: As, name: str) -> None:
    browser = as_(world.person(name))
    for url in (SHARE, UNSHARE):
        response = browser.post(url, {"address": str(world.gamma.pk)})
        assert response.status_code == 403
        assert "maintainer" in response.content.decode()
