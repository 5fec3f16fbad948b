"""What writing a row by a prepared statement leaves out, none of these models needs."""

import pytest
from django.db.models import DateTimeField, Field
from django.db.models.signals import post_save, pre_save

from models_registry.models import ModelVersion, RegisteredModel
from tenants.models import AuditEvent, TenantOwned


@pytest.mark.parametrize("model", [RegisteredModel, ModelVersion, AuditEvent])
def test_a_row_that_is_inserted_misses_nothing_that_saving_does(model: type[TenantOwned]) -> None:
    assert not pre_save.has_listeners(model)
    assert not post_save.has_listeners(model)
    for field in model._meta.concrete_fields:
        if isinstance(field, DateTimeField):
            assert not (field.auto_now or field.auto_now_add), field
        else:
            assert type(field).pre_save is Field.pre_save, field
