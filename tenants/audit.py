"""The audit log: each change writes its event in the transaction of the change."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from django.db import models

from tenants.isolation.scope import current_scope
from tenants.models import AccountEvent, AuditEvent, User
from tenants.prepared import insert

_address: ContextVar[str | None] = ContextVar("bulkhead_address", default=None)


@contextmanager
def acting_from(address: str | None) -> Iterator[None]:
    """Let the events that the block writes carry the caller's network address."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def record(
    action: str,
    obj: models.Model | None = None,
    *,
    label: str = "",
    changes: dict[str, Any] | None = None,
) -> AuditEvent:
    """Write what the scope's person (or the system) did, in the acting tenant's log.

    ``changes`` is JSON: usually {"from": …, "to": …}. An event of a version carries its model's id,
    so that a model's history is one query. Raises NoTenant without a scope.
    """
    return insert(_event(action, obj, label, changes))


def record_once(
    event_id: UUID,
    action: str,
    obj: models.Model | None = None,
    *,
    label: str = "",
    changes: dict[str, Any] | None = None,
) -> None:
    """Write an event as ``record`` does, unless one of that id is in the log already."""
    event = _event(action, obj, label, changes)
    event.pk = event_id
    AuditEvent.objects.bulk_create([event], ignore_conflicts=True)


def _event(
    action: str, obj: models.Model | None, label: str, changes: dict[str, Any] | None
) -> AuditEvent:
    scope = current_scope()
    object_id = getattr(obj, "audit_id", None) or getattr(obj, "pk", None)
    return AuditEvent(
        actor_id=scope.user_id,
        actor_label=scope.actor_label,
        action=action,
        object_type=str(obj._meta.model_name) if obj is not None else "tenant",
        object_id=object_id if isinstance(object_id, UUID) else None,
        object_label=(label or (str(obj) if obj is not None else scope.slug))[:256],
        changes=changes or {},
        ip=_address.get(),
        via=scope.via,
    )


def record_account(
    action: str,
    user: User | None,
    *,
    changes: dict[str, Any] | None = None,
) -> AccountEvent:
    """Write what happened to an account; the event belongs to no tenant. Raises nothing."""
    return AccountEvent.objects.create(
        action=action, user=user, ip=_address.get(), changes=changes or {}
    )
