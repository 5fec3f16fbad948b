"""Each wall holds with the other one switched off.

Wall 1 alone: the owner disables row security on every tenant-owned table, and the ORM, used as
anywhere in the product, still stays inside the acting tenant. Wall 2 alone: querysets without the
row manager's filter, and SQL, still find the acting tenant's rows only.
"""

from collections.abc import Callable
from copy import copy
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, transaction
from django.db.models import Count, Exists, F, Max, OuterRef, QuerySet, prefetch_related_objects
from django.forms import ModelChoiceField
from django.http import Http404
from django.shortcuts import get_object_or_404
from guardian.shortcuts import get_groups_with_perms, get_users_with_perms

from models_registry import registry
from models_registry.models import Alias, ModelVersion, RegisteredModel
from tenants.access import share
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, Tenant, TenantOwned, User, tenant_owned_models
from tests.support.people import CANARY, World, committed, fill_every_table, make_world
from tests.support.sql import FORBIDDEN, column, rows, sqlstate
from tests.support.walls import without_row_security

OWNED = tenant_owned_models()
GONE = "does not exist"
REFUSED = "refused"


def outcome(attempt: Callable[[], Any]) -> Any:
    """Return what the attempt found, or the word for how it failed."""
    try:
        with transaction.atomic():
            return attempt()
    except (ObjectDoesNotExist, Http404):
        return GONE
    except (DatabaseError, ValidationError):
        return REFUSED


def names(found: Any) -> set[str]:
    """Return the names of the models found."""
    return {model.name for model in found}


def attempts(world: World, own: RegisteredModel, theirs: RegisteredModel) -> dict[str, Any]:
    """Return every way into another tenant's rows through the ORM, with what it must come to."""
    objects = RegisteredModel.objects
    mine = {"fraud", "ALPHA own"}
    pk = theirs.pk
    their_version = theirs.versions.model(tenant_id=theirs.tenant_id, model_id=pk, number=1)
    return {
        "all": (lambda: names(objects.all()), mine),
        "_base_manager": (lambda: names(RegisteredModel._base_manager.all()), mine),
        "_default_manager": (lambda: names(RegisteredModel._default_manager.all()), mine),
        "using": (lambda: names(objects.using("default")), mine),
        "db_manager": (lambda: names(objects.db_manager("default").all()), mine),
        "iterator": (lambda: names(objects.iterator()), mine),
        "union": (lambda: names(objects.all().union(objects.all(), all=True)), mine),
        "difference": (lambda: names(objects.difference(objects.none())), mine),
        "or": (lambda: names(objects.filter(pk=pk) | objects.all()), mine),
        "exclude": (lambda: names(objects.exclude(pk=own.pk)), {"fraud"}),
        "select_for_update": (lambda: names(objects.select_for_update()), mine),
        "get": (lambda: objects.get(pk=pk), GONE),
        "get_object_or_404": (lambda: get_object_or_404(RegisteredModel, pk=pk), GONE),
        "filter": (lambda: list(objects.filter(pk=pk)), []),
        "filter by tenant": (lambda: list(objects.filter(tenant=world.gamma)), []),
        "filter by the tenant's slug": (
            lambda: list(objects.filter(tenant__slug="team_gamma")),
            [],
        ),
        "values": (lambda: {row["name"] for row in objects.values("name")}, mine),
        "in_bulk": (lambda: objects.in_bulk([pk]), {}),
        "contains": (lambda: objects.contains(theirs), False),
        "exists": (lambda: objects.filter(pk=pk).exists(), False),
        "count": (lambda: objects.count(), 2),
        "aggregate": (lambda: objects.aggregate(n=Max("name"))["n"], "fraud"),
        "aggregate over a join": (lambda: objects.aggregate(n=Count("versions"))["n"], 4),
        "annotate": (
            lambda: set(objects.annotate(n=Count("versions")).values_list("name", "n")),
            {("fraud", 2), ("ALPHA own", 2)},
        ),
        "subquery": (
            lambda: [t.slug for t in Tenant.objects.filter(pk__in=objects.values("tenant"))],
            ["team_alpha"],
        ),
        "exists subquery": (
            lambda: [
                t.slug
                for t in Tenant.objects.filter(Exists(objects.filter(tenant_id=OuterRef("pk"))))
            ],
            ["team_alpha"],
        ),
        "next by date": (lambda: theirs.get_previous_by_created_at().tenant, world.alpha),
        "refresh_from_db": (lambda: theirs.refresh_from_db(), GONE),
        "forward": (lambda: ModelVersion(model_id=pk).model, GONE),
        "forward to a version": (
            lambda: Alias(version_id=world_version(world, theirs)).version,
            GONE,
        ),
        "reverse": (lambda: list(theirs.versions.all()), []),
        "reverse count": (lambda: theirs.versions.count(), 0),
        "reverse get": (lambda: theirs.versions.get(number=1), GONE),
        "reverse aliases": (lambda: list(theirs.aliases.all()), []),
        "reverse bookmarks": (lambda: list(theirs.bookmarks.all()), []),
        "reverse from a person": (
            lambda: {grant.tenant_id for grant in world.charlie.modelusergrant_set.all()},
            {world.alpha.pk},
        ),
        "prefetch": (lambda: prefetched(theirs), []),
        "prefetch own": (
            lambda: {
                version.tenant_id
                for model in objects.prefetch_related("versions")
                for version in model.versions.all()
            },
            {world.alpha.pk},
        ),
        "select_related": (
            lambda: {v.model.tenant_id for v in ModelVersion.objects.select_related("model")},
            {world.alpha.pk},
        ),
        "filter over a join": (
            lambda: list(ModelVersion.objects.filter(model__in=[pk], model__name=theirs.name)),
            [],
        ),
        "content type": (
            lambda: ContentType.objects.get_for_model(RegisteredModel).get_object_for_this_type(
                pk=pk
            ),
            GONE,
        ),
        "form field": (
            lambda: ModelChoiceField(queryset=RegisteredModel.objects.all()).clean(str(pk)),
            REFUSED,
        ),
        "choices": (
            lambda: names(ModelChoiceField(RegisteredModel.objects.all()).queryset),
            mine,
        ),
        "foreign key of a form": (lambda: their_version.clean_fields(), REFUSED),
        "serialize": (lambda: CANARY in serializers.serialize("json", objects.all()), False),
        "update": (lambda: objects.filter(pk=pk).update(description="x"), 0),
        "update all": (lambda: objects.update(description=F("name")), 2),
        "bulk_update": (lambda: objects.bulk_update([theirs], ["description"]), 0),
        "save": (lambda: theirs.save(), REFUSED),
        "save some fields": (lambda: theirs.save(update_fields=["description"]), REFUSED),
        "update_or_create": (
            lambda: objects.update_or_create(pk=pk, defaults={"name": "x"}),
            REFUSED,
        ),
        "delete": (lambda: objects.filter(pk=pk).delete()[0], 0),
        "delete versions": (lambda: ModelVersion.objects.filter(model_id=pk).delete()[0], 0),
        "delete reverse": (lambda: theirs.versions.all().delete()[0], 0),
        "the verbs": (lambda: registry.update_model(theirs, description="x"), GONE),
        "the verb that adds": (lambda: registry.add_version(theirs), GONE),
        "the verb that deletes": (lambda: registry.delete_model(theirs), GONE),
        "the verb that points": (lambda: registry.set_alias(theirs, "champion", 2), GONE),
        "permission": (
            lambda: world.alice.has_perm("models_registry.view_registeredmodel", theirs),
            False,
        ),
        "history": (
            lambda: {event.tenant_id for event in AuditEvent.objects.all()},
            {world.alpha.pk},
        ),
        "shared": (lambda: names(RegisteredModel.shared.all()), {f"{CANARY} own"}),
        "shared versions": (
            lambda: {version.model_id for version in ModelVersion.shared.all()},
            {world.model(world.gamma, f"{CANARY} own").pk},
        ),
        "shared aliases": (lambda: Alias.shared.count(), 1),
        "not among the shared": (lambda: RegisteredModel.shared.get(pk=pk), GONE),
    }


def attempts_from_outside(world: World, theirs: RegisteredModel) -> dict[str, Any]:
    """Return the ways that start at people, teams or grants, which no row manager guards.

    A join takes no manager with it, so these are the second wall's alone.
    """
    pk = theirs.pk
    return {
        "who has permission": (lambda: list(get_users_with_perms(theirs)), []),
        "which teams have permission": (lambda: get_groups_with_perms(theirs, True), {}),
        "people by what they may read": (
            lambda: list(User.objects.filter(modelusergrant__content_object=pk)),
            [],
        ),
    }


def prefetched(model: RegisteredModel) -> list[ModelVersion]:
    """Return what a prefetch finds below ``model``."""
    prefetch_related_objects([model], "versions", "aliases")
    return list(model.versions.all())


def world_version(world: World, model: RegisteredModel) -> Any:
    """Return the id of a version of another tenant's model."""
    with tenant_scope(world.gamma):
        return ModelVersion.objects.get(model=model, number=1).pk


def prepare(world: World) -> tuple[RegisteredModel, RegisteredModel]:
    """Fill every table, share one of gamma's two models with alpha, and return own and theirs."""
    fill_every_table(world)
    with tenant_scope(world.gamma, world.hugo):
        share(world.model(world.gamma, f"{CANARY} own"), with_tenant=world.alpha)
    return world.model(world.alpha, "ALPHA own"), world.model(world.gamma, "fraud")


def assert_all_attempts_fail(world: World, *, second_wall: bool) -> None:
    """Try everything as alice, for alpha."""
    own, theirs = prepare(world)
    theirs.description = "changed"
    tried = attempts(world, own, theirs)
    if second_wall:
        tried |= attempts_from_outside(world, theirs)
    found, expected = {}, {}
    with tenant_scope(world.alpha, world.alice):
        for name, (attempt, result) in tried.items():
            found[name], expected[name] = outcome(attempt), result
    assert found == expected
    with tenant_scope(world.gamma):
        theirs = RegisteredModel.objects.get(pk=theirs.pk)
        assert theirs.description == f"{CANARY} description"
        assert (theirs.versions.count(), theirs.aliases.count()) == (2, 1)


@committed
def test_wall_1_holds_alone() -> None:
    """L31: the ORM's ways around a manager, with row security switched off."""
    world = make_world()
    with without_row_security():
        assert column("SELECT count(*) FROM models_registry_registeredmodel") == [4]
        assert_all_attempts_fail(world, second_wall=False)
        for model in OWNED:
            with tenant_scope(world.alpha):
                for manager in (model._base_manager, model._default_manager):
                    found = {row.tenant_id for row in manager.all()}
                    assert found == {world.alpha.pk}, f"{model}: is it in fill_every_table?"
                    assert not manager.filter(tenant_id=world.gamma.pk).exists(), model
        assert len(column("SELECT DISTINCT tenant_id FROM tenants_auditevent")) == 3
    assert rows("SELECT * FROM models_registry_registeredmodel") == []


def test_both_walls_together(world: World) -> None:
    """L31: the same attempts with both walls up come to the same."""
    assert_all_attempts_fail(world, second_wall=True)


def plain(model: type[TenantOwned]) -> QuerySet[Any]:
    """Return a queryset as it would be without the row manager."""
    return QuerySet(model)


#: What gamma shares with alpha's people: one model with two versions and an alias, and the grant.
SHARED_ROWS = {
    "RegisteredModel": 1,
    "ModelVersion": 2,
    "Alias": 1,
    "ModelGroupGrant": 1,
    "ModelUserGrant": 0,
    "AuditEvent": 0,
    "Bookmark": 0,
    "Blob": 0,
    "ArtifactFile": 0,
    "Upload": 0,
    "DownloadCount": 0,
    "NamespaceState": 0,
}


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_wall_2_holds_alone(world: World, model: type[TenantOwned]) -> None:
    """L31: querysets that the row manager does not filter, raw queries and cursors."""
    prepare(world)
    table = model._meta.db_table
    with tenant_scope(world.gamma):
        theirs = list(plain(model).filter(tenant=world.gamma))
    assert model.__name__ in SHARED_ROWS, "say in SHARED_ROWS how many rows a share makes visible"
    assert len(theirs) > SHARED_ROWS[model.__name__], "add a row to fill_every_table"
    assert list(plain(model)) == []
    with tenant_scope(world.alpha, world.alice):
        count = SHARED_ROWS[model.__name__]
        own = plain(model).filter(tenant=world.alpha).count()
        assert own > 0
        assert plain(model).count() == own + count
        for found in (
            list(plain(model).filter(tenant_id=world.gamma.pk)),
            list(plain(model).raw(f"SELECT * FROM {table} WHERE tenant_id = %s", [world.gamma.pk])),
            rows(f"SELECT * FROM {table} WHERE tenant_id = %s", world.gamma.pk),
        ):
            assert len(found) == count
        for row in theirs:
            for attempt in writes(row, world.alpha):
                assert outcome(attempt) in DENIED
        refused_insert(model, theirs[0])
    with tenant_scope(world.gamma):
        assert set(plain(model).values_list("pk", flat=True)) >= {row.pk for row in theirs}


DENIED = (0, REFUSED, GONE)


def writes(row: TenantOwned, own: Tenant) -> list[Callable[[], Any]]:
    """Return the ways to write ``row``, which somebody kept from elsewhere or got as shared."""
    unguarded = plain(type(row)).filter(pk=row.pk)
    return [
        lambda: unguarded.update(tenant=own),
        lambda: unguarded.update(tenant=row.tenant_id),
        lambda: unguarded._raw_delete("default"),
        lambda: unguarded.delete()[0],
        lambda: row.save_base(raw=True),
        lambda: row.save_base(raw=True, force_update=True),
        lambda: copy(row).delete()[0],
    ]


def refused_insert(model: type[TenantOwned], theirs: TenantOwned) -> None:
    """Try to put a row into the tenant of ``theirs``."""
    new = copy(theirs)
    new.pk = uuid4()
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        plain(model).bulk_create([new])
    assert sqlstate(caught.value) == FORBIDDEN
