"""The scope fails closed: without one, no tenant-owned row is read or written."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count

from models_registry.models import RegisteredModel
from tenants.identity import directory
from tenants.isolation.credentials import NotAMember, NoTenant
from tenants.isolation.scope import current_scope, member_scope, tenant_scope
from tenants.models import Role, Tenant
from tests.support.people import CANARY, World, committed, make_world

#: Built at import, when nobody acts: each takes the scope of whoever runs it.
AT_IMPORT = RegisteredModel.objects.filter(name="fraud")

objects = RegisteredModel.objects

WITHOUT_SCOPE: dict[str, Callable[[], Any]] = {
    "list": lambda: list(objects.all()),
    "get": lambda: objects.get(name="fraud"),
    "first": objects.first,
    "last": objects.last,
    "earliest": lambda: objects.earliest("created_at"),
    "latest": lambda: objects.latest("created_at"),
    "count": objects.count,
    "exists": objects.exists,
    "contains": lambda: objects.contains(RegisteredModel(tenant_id=None, name="x")),
    "iterator": lambda: list(objects.iterator()),
    "in_bulk": lambda: objects.in_bulk(),
    "aggregate": lambda: objects.aggregate(n=Count("pk")),
    "annotate": lambda: list(objects.annotate(n=Count("versions"))),
    "values": lambda: list(objects.values("name")),
    "values_list": lambda: list(objects.values_list("name")),
    "dates": lambda: list(objects.dates("created_at", "day")),
    "datetimes": lambda: list(objects.datetimes("created_at", "hour")),
    "distinct": lambda: list(objects.distinct()),
    "exclude": lambda: list(objects.exclude(name="x")),
    "union": lambda: list(objects.union(objects.all())),
    "select_for_update": lambda: list(objects.select_for_update()),
    "subquery": lambda: list(Tenant.objects.filter(pk__in=objects.values("tenant_id"))),
    "explain": objects.explain,
    "create": lambda: objects.create(name="x"),
    "get_or_create": lambda: objects.get_or_create(name="x"),
    "update_or_create": lambda: objects.update_or_create(name="x"),
    "bulk_create": lambda: objects.bulk_create([RegisteredModel(name="x")]),
    "bulk_update": lambda: objects.bulk_update(
        [RegisteredModel(tenant_id=None, name="x")], ["name"]
    ),
    "update": lambda: objects.update(name="x"),
    "delete": lambda: objects.all().delete(),
    "refresh": lambda: RegisteredModel(tenant_id=None).refresh_from_db(),
    "shared": lambda: list(RegisteredModel.shared.all()),
    "at_import": lambda: list(AT_IMPORT.all()),
}


@pytest.mark.parametrize("method", WITHOUT_SCOPE)
def test_without_a_scope_every_method_raises(world: World, method: str) -> None:
    with pytest.raises(NoTenant):
        WITHOUT_SCOPE[method]()


def test_a_queryset_takes_the_tenant_of_whoever_runs_it(world: World) -> None:
    with tenant_scope(world.alpha):
        assert [model.tenant_id for model in AT_IMPORT.all()] == [world.alpha.pk]
    with tenant_scope(world.gamma):
        assert [model.tenant_id for model in AT_IMPORT.all()] == [world.gamma.pk]


def test_scopes_nest_and_the_outer_one_comes_back_in_both_walls(world: World) -> None:
    with tenant_scope(world.alpha):
        with tenant_scope(world.gamma):
            assert set(_names()) == {"fraud", f"{CANARY} own"}
            assert _setting("tenant_id") == str(world.gamma.pk)
        assert set(_names()) == {"fraud", "ALPHA own"}
        assert _setting("tenant_id") == str(world.alpha.pk)


def test_the_outer_scope_comes_back_after_an_error_inside(world: World) -> None:
    with tenant_scope(world.alpha, world.alice):
        with pytest.raises(RuntimeError), tenant_scope(world.gamma):
            raise RuntimeError
        assert _setting("tenant_id") == str(world.alpha.pk)
        assert _setting("user_id") == str(world.alice.pk)
        with pytest.raises(NotAMember), member_scope(world.alice, "team_gamma"):
            raise AssertionError("not reached")
        assert _setting("tenant_id") == str(world.alpha.pk)


def test_after_the_scope_nothing_is_left(world: World) -> None:
    with tenant_scope(world.alpha):
        pass
    assert _setting("tenant_id") == ""
    with pytest.raises(NoTenant):
        current_scope()


@committed
def test_a_thread_has_no_scope_and_no_setting() -> None:
    world = make_world()

    def look() -> tuple[bool, str | None]:
        try:
            list(RegisteredModel.objects.all())
        except NoTenant:
            return True, _setting("tenant_id")
        finally:
            connection.close()
        return False, None

    with tenant_scope(world.alpha), ThreadPoolExecutor(1) as threads:
        assert threads.submit(look).result() in [(True, ""), (True, None)]


@committed
def test_an_on_commit_callback_has_no_scope() -> None:
    world = make_world()
    seen: list[bool] = []

    def callback() -> None:
        try:
            RegisteredModel.objects.count()
        except NoTenant:
            seen.append(_setting("tenant_id") in {"", None})

    with transaction.atomic():
        with tenant_scope(world.alpha):
            transaction.on_commit(callback)
        assert not seen
    assert seen == [True]


def test_membership_is_proven_where_the_scope_opens(world: World) -> None:
    with member_scope(world.alice, "team_alpha") as scope:
        assert (scope.role, scope.tenant_id) == (Role.ADMIN, world.alpha.pk)
    for slug in ("team_gamma", "nothing_of_the_sort", "TEAM_ALPHA", "", "team_alpha "):
        with pytest.raises(NotAMember), member_scope(world.alice, slug):
            raise AssertionError("not reached")


def test_a_removed_deactivated_or_expired_member_is_out_at_once(world: World) -> None:
    bob = world.bob.memberships.get()
    bob.expires_at = bob.created_at - timedelta(minutes=1)
    bob.save()
    directory.deactivate_user(world.mia)
    directory.remove_member(world.carol.memberships.get())
    for person in (world.bob, world.mia, world.carol):
        with pytest.raises(NotAMember), member_scope(person, "team_alpha"):
            raise AssertionError("not reached")


def _names() -> list[str]:
    return list(RegisteredModel.objects.values_list("name", flat=True))


def _setting(name: str) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s, true)", [f"bulkhead.{name}"])
        value: str | None = cursor.fetchone()[0]
        return value
