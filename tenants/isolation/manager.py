"""The row manager: the wall that stands in Django."""

from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models
from django.db.models.sql.compiler import SQLCompiler

from tenants.isolation.scope import current_scope

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

ModelT = TypeVar("ModelT", bound=models.Model)


class _ScopeValue(models.Expression):
    """A value of the scope that is read when SQL is compiled, not when the queryset is built.

    A queryset may thus be a class attribute or a form field made at import: it takes the tenant
    of whoever runs it, and raises NoTenant if nobody is acting.
    """

    attribute: str

    def as_sql(
        self, compiler: SQLCompiler, connection: "BaseDatabaseWrapper"
    ) -> tuple[str, tuple[Any, ...]]:
        """Return a placeholder and the scope's value."""
        return "%s", (getattr(current_scope(), self.attribute),)


class CurrentTenantId(_ScopeValue):
    """The acting tenant's id, in SQL."""

    attribute = "tenant_id"
    output_field = models.UUIDField()


class CurrentUserId(_ScopeValue):
    """The acting person's id, in SQL; NULL in a system scope."""

    attribute = "user_id"
    output_field = models.BigIntegerField(null=True)


class CurrentGroupId(_ScopeValue):
    """The id of the acting tenant's group, to which other tenants may grant, in SQL."""

    attribute = "group_id"
    output_field = models.IntegerField()


class TenantManager(models.Manager[ModelT]):
    """The row manager: every queryset holds the acting tenant's rows only."""

    def get_queryset(self) -> models.QuerySet[ModelT]:
        """Return the acting tenant's rows; running it without a scope raises NoTenant.

        The filtered queryset is built once for each database and copied from then on: it holds
        no tenant, and building it costs as much as running it.
        """
        if getattr(self, "_hints", None):  # a related manager's, made for one row
            return self._filtered()
        kept = self.__dict__.setdefault("_kept", {})
        if self._db not in kept:
            kept[self._db] = self._filtered()
        copy: models.QuerySet[ModelT] = kept[self._db].all()
        return copy

    def _filtered(self) -> models.QuerySet[ModelT]:
        return super().get_queryset().filter(tenant_id=CurrentTenantId())
