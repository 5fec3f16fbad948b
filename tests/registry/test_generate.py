"""`manage.py generate_models` makes rows as the verbs write them, and deletes no others.

The rows must be committed: the owner, who deletes them, has another connection.
"""

import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from models_registry.demo import generate
from models_registry.models import Alias, ModelVersion, RegisteredModel
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Membership, Tenant, User, tenant_owned_models
from tests.support.people import committed, make_user, make_world


def run(*words: str) -> str:
    """Run the command quietly and return what it printed."""
    printed = io.StringIO()
    call_command("generate_models", *words, stdout=printed, stderr=io.StringIO())
    return printed.getvalue()


def counts(slug: str) -> tuple[int, int]:
    """Return how many models and versions the team has."""
    with tenant_scope(Tenant.objects.get(slug=slug)):
        return RegisteredModel.objects.count(), ModelVersion.objects.count()


@committed
def test_it_makes_what_is_asked_for_and_a_second_run_adds_what_is_missing() -> None:
    printed = run("--tenants=2", "--models=3", "--versions=2")
    assert printed.startswith("Made 6 models in 2 teams")
    assert counts("bench-0001") == counts("bench-0002") == (3, 6)
    assert run("--tenants=2", "--models=3", "--versions=2").startswith("Made 0 models")
    assert run("--tenants=3", "--models=4", "--versions=2").startswith("Made 6 models")
    assert [counts(f"bench-000{number}") for number in (1, 2, 3)] == [(4, 8)] * 3


@committed
def test_its_rows_are_such_as_the_verbs_take(as_: Callable[[User], Client]) -> None:
    run("--tenants=12", "--models=40", "--versions=3")
    person = User.objects.get(username="bench")
    assert not person.has_usable_password()
    assert Membership.objects.filter(user=person).count() == generate.MEMBERSHIPS
    tenant = Tenant.objects.get(slug="bench-0001")
    with tenant_scope(tenant, person):
        rows = [
            *RegisteredModel.objects.all(),
            *ModelVersion.objects.all(),
            *(aliases := Alias.objects.select_related("version", "model").all()),
        ]
        for row in rows:
            row.full_clean()
        assert {alias.name for alias in aliases} == {"champion", "challenger"}
        assert 0 < len(aliases) < 80
        for alias in aliases:
            assert alias.version.model_id == alias.model_id
        actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert actions == {"tenant.created", "member.added"}
    browser = as_(person)
    assert browser.get(f"/t/{tenant.slug}/models/").status_code == 200
    assert browser.get(f"/t/{tenant.slug}/models/{rows[0]}/").status_code == 200


@committed
def test_it_makes_nothing_where_a_real_team_has_the_name() -> None:
    directory.create_tenant("bench-0002", "Ben Chapman and others")
    with pytest.raises(CommandError, match="bench-0002 was not made by generate_models"):
        run("--tenants=2", "--models=1")
    assert not Tenant.objects.filter(slug="bench-0001")
    assert counts("bench-0002") == (0, 0)


@committed
def test_delete_takes_all_of_it_away_and_nothing_else() -> None:
    world = make_world()
    directory.create_tenant("bench-real", "Ben Chapman and others", admin=make_user("ben"))
    teams = set(Tenant.objects.values_list("slug", flat=True))
    before = {slug: counts(slug) for slug in teams}
    with tenant_scope(world.alpha):
        history = AuditEvent.objects.count()
    run("--tenants=2", "--models=3")
    assert run("--delete").startswith("Deleted 6 models in 2 teams")
    assert set(Tenant.objects.values_list("slug", flat=True)) == teams
    assert {slug: counts(slug) for slug in teams} == before
    with tenant_scope(world.alpha):
        assert AuditEvent.objects.count() == history
    assert not User.objects.get(username="bench").is_active
    assert run("--delete").startswith("Deleted 0 models in 0 teams")
    run("--tenants=1", "--models=1")
    assert User.objects.get(username="bench").is_active


@pytest.mark.parametrize("words", [("--tenants=0",), ("--models=-1",), ("--versions=-1",)])
def test_numbers_that_make_no_sense_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="at least one team"):
        run(*words)


def test_deleting_generated_models_covers_each_tenant_owned_table() -> None:
    assert set(generate.TABLES) == set(tenant_owned_models())
