"""What writing a row by a prepared statement leaves out, none of these models needs."""

import pytest
from django.db.models import DateTimeField, Field
from django.db.models.signals import post_save, pre_save

from models_registry.models import ModelVersion, RegisteredModel
from tenants.audit import acting_from
from tenants.isolation.scope import tenant_scope
from tenants.models import AuditEvent, TenantOwned
from tenants.prepared import insert
from tests.support.people import World
from tests.support.sql import column


@pytest.mark.parametrize("model", [RegisteredModel, ModelVersion, AuditEvent])
def test_a_row_that_is_inserted_misses_nothing_that_saving_does(model: type[TenantOwned]) -> None:
    assert not pre_save.has_listeners(model)
    assert not post_save.has_listeners(model)
    for field in model._meta.concrete_fields:
        if isinstance(field, DateTimeField):
            assert not (field.auto_now or field.auto_now_add), field
        else:
            assert type(field).pre_save is Field.pre_save, field


def test_a_row_that_is_inserted_is_the_one_that_saving_writes(world: World) -> None:
    with tenant_scope(world.alpha, world.alice), acting_from("2001:db8::1"):
        model = RegisteredModel.objects.get(name="fraud")
        moment = model.created_at
        times = {"created_at": moment, "updated_at": moment}
        given: list[tuple[type[TenantOwned], dict[str, object]]] = [
            (RegisteredModel, {"tags": {"ä": "\u2028"}, "owner_id": world.alice.pk, **times}),
            (
                ModelVersion,
                {
                    "model": model,
                    "status": ModelVersion.Status.PENDING,
                    "stage": ModelVersion.Stage.STAGING,
                    "metrics": {"auc": 0.1},
                    **times,
                },
            ),
            (AuditEvent, {"ip": "2001:db8::1", "changes": {"to": [1, None]}, "created_at": moment}),
        ]
        for made, values in given:
            own = {RegisteredModel: "name", ModelVersion: "number", AuditEvent: "action"}[made]
            names: list[object] = [8, 9] if made is ModelVersion else ["first", "second"]
            insert(made(**values, **{own: names[0]}))
            made(**values, **{own: names[1]}).save(force_insert=True)
            table = made._meta.db_table
            first, second = column(
                f"SELECT (to_jsonb(t) - 'id' - '{own}')::text FROM {table} t "
                f"WHERE {own} = ANY (%s) ORDER BY {own}",
                names,
            )
            assert first == second
