"""Row-level security as migration operations: the wall that stands in the database.

A tenant-owned table gets ``IsolateByTenant`` in the migration that creates it, one ``SameTenant``
per reference to another tenant-owned table, and ``SharedRead`` if its rows can be shared.
See https://www.postgresql.org/docs/current/ddl-rowsecurity.html
"""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

# A used and then unset setting reads '' and not NULL; the sub-select makes it one constant a query.
TENANT = "(SELECT nullif(current_setting('bulkhead.tenant_id', true), '')::uuid)"
USER = "(SELECT nullif(current_setting('bulkhead.user_id', true), '')::bigint)"
GROUP = "(SELECT nullif(current_setting('bulkhead.group_id', true), '')::integer)"

TENANT_ISOLATION = "tenant_isolation"
SHARED_READ = "shared_read"
GRANTEE_READ = "grantee_read"


class _SqlOperation(Operation):
    """An operation that changes the database and not Django's state of the models."""

    reduces_to_sql = True
    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def forwards(self, table: str) -> list[str]:
        """Return the statements that apply the operation."""
        raise NotImplementedError

    def backwards(self, table: str) -> list[str]:
        """Return the statements that take it back."""
        raise NotImplementedError

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def _run(
        self,
        statements: str,
        app_label: str,
        editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
    ) -> None:
        table = state.apps.get_model(app_label, self.model_name)._meta.db_table
        for statement in getattr(self, statements)(table):
            editor.execute(statement)

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Run the statements."""
        self._run("forwards", app_label, schema_editor, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Take the statements back."""
        self._run("backwards", app_label, schema_editor, from_state)


class IsolateByTenant(_SqlOperation):
    """Let the acting tenant read and write its own rows of the table, and no others."""

    def forwards(self, table: str) -> list[str]:
        """Enable and force row security and make the policy."""
        return [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {TENANT_ISOLATION} ON {table} "
            f"USING (tenant_id = {TENANT}) WITH CHECK (tenant_id = {TENANT})",
        ]

    def backwards(self, table: str) -> list[str]:
        """Take policy and row security away."""
        return [
            f"DROP POLICY {TENANT_ISOLATION} ON {table}",
            f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ]

    def describe(self) -> str:
        """Say what the operation does."""
        return f"Isolate {self.model_name} by tenant"


class SameTenant(_SqlOperation):
    """Tie the tenant into a reference: a foreign-key check alone ignores row security.

    ``columns`` go with ``tenant_id`` into the key, ``to_columns`` are theirs in ``to_table``
    (both ``(tenant_id, …)``); the unique key there is made by the model's constraints.
    """

    def __init__(
        self,
        model_name: str,
        columns: tuple[str, ...],
        to_table: str,
        to_columns: tuple[str, ...] = ("id",),
    ) -> None:
        super().__init__(model_name)
        self.columns = columns
        self.to_table = to_table
        self.to_columns = to_columns

    def _name(self, table: str) -> str:
        return f"{table}_{'_'.join(self.columns)}_same_tenant"[:63]

    def forwards(self, table: str) -> list[str]:
        """Add the composite foreign key, checked at once.

        Django's own are checked at commit: until then, a forged grant would open what it names.
        """
        return [
            f"ALTER TABLE {table} ADD CONSTRAINT {self._name(table)} "
            f"FOREIGN KEY (tenant_id, {', '.join(self.columns)}) "
            f"REFERENCES {self.to_table} (tenant_id, {', '.join(self.to_columns)})"
        ]

    def backwards(self, table: str) -> list[str]:
        """Drop the composite foreign key."""
        return [f"ALTER TABLE {table} DROP CONSTRAINT {self._name(table)}"]

    def describe(self) -> str:
        """Say what the operation does."""
        return f"Keep {self.model_name}'s {', '.join(self.columns)} inside its tenant"


class GranteeRead(_SqlOperation):
    """Let the person or the tenant that a grant names read that row of the grant table.

    ``column`` is the grantee's: ``user_id`` or ``group_id``. The policy refers to no other
    table: policies that refer to each other recurse.
    """

    def __init__(self, model_name: str, column: str) -> None:
        super().__init__(model_name)
        self.column = column

    def forwards(self, table: str) -> list[str]:
        """Make the policy, for reading only."""
        acting = {"user_id": USER, "group_id": GROUP}[self.column]
        return [
            f"CREATE POLICY {GRANTEE_READ} ON {table} FOR SELECT USING ({self.column} = {acting})"
        ]

    def backwards(self, table: str) -> list[str]:
        """Drop the policy."""
        return [f"DROP POLICY {GRANTEE_READ} ON {table}"]

    def describe(self) -> str:
        """Say what the operation does."""
        return f"Let grantees read their rows of {self.model_name}"


#: Finds the ids of what is granted to whoever is acting. A function, since PostgreSQL plans a
#: policy's own sub-select, with the grant tables' policies in it, into every query anew.
GRANTED = "bulkhead_granted"


def granted_body(grants: list[tuple[str, str]]) -> str:
    """Return the body of the function; ``grants`` are pairs (grant table, grantee column)."""
    acting = {"user_id": USER, "group_id": GROUP}
    found = " UNION ALL ".join(
        f"SELECT content_object_id FROM public.{grant} WHERE {column} = {acting[column]}"  # noqa: S608  # names from migrations
        for grant, column in grants
    )
    return f"BEGIN RETURN QUERY {found}; END"


class MakeGranted(_SqlOperation):
    """Make the function that SharedRead's policies call.

    It runs with the caller's rights, so the grant tables' own row security holds inside it.
    """

    def __init__(self, model_name: str, grants: list[tuple[str, str]]) -> None:
        super().__init__(model_name)
        self.grants = grants

    def forwards(self, table: str) -> list[str]:
        """Make the function."""
        return [
            f"CREATE FUNCTION {GRANTED}() RETURNS SETOF uuid LANGUAGE plpgsql STABLE ROWS 10 "
            f"AS $body${granted_body(self.grants)}$body$"
        ]

    def backwards(self, table: str) -> list[str]:
        """Drop the function."""
        return [f"DROP FUNCTION {GRANTED}()"]

    def describe(self) -> str:
        """Say what the operation does."""
        return "Find what is granted to whoever is acting"


class SharedRead(_SqlOperation):
    """Let the acting person or tenant read, never write, the rows of models granted to them.

    ``column`` holds the shared model's id.
    """

    def __init__(self, model_name: str, column: str) -> None:
        super().__init__(model_name)
        self.column = column

    def forwards(self, table: str) -> list[str]:
        """Make the policy, for reading only."""
        return [
            f"CREATE POLICY {SHARED_READ} ON {table} FOR SELECT "
            f"USING ({self.column} IN (SELECT {GRANTED}()))"
        ]

    def backwards(self, table: str) -> list[str]:
        """Drop the policy."""
        return [f"DROP POLICY {SHARED_READ} ON {table}"]

    def describe(self) -> str:
        """Say what the operation does."""
        return f"Let grantees read shared rows of {self.model_name}"
