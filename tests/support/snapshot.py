"""Rows that the product's own verbs have made once, put back later in a single round trip.

Making two teams with models takes some two hundred statements, and most tests begin with that.
Each time the rows get new ids where those are random, and times that end now; numbers from
sequences stay, which is why the tests never set a sequence back.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from graphlib import TopologicalSorter
from uuid import uuid4

from django.db import connection, transaction

from tests.support.sql import column, rows

UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")
NO_TENANT = ""


@dataclass(frozen=True)
class Table:
    """A table: its columns but for those that the database computes, and whether teams own rows."""

    name: str
    columns: tuple[str, ...]
    is_owned: bool

    def insert(self) -> str:
        """Return the statement that takes rows as JSON."""
        names = ", ".join(f'"{name}"' for name in self.columns)
        return (
            f"INSERT INTO {self.name} ({names}) SELECT {names}"
            f" FROM json_populate_recordset(NULL::{self.name}, %s);"
        )


@dataclass(frozen=True)
class Snapshot:
    """Rows of one team, or of none: their table and the rows as a list in JSON."""

    taken_at: datetime
    parts: tuple[tuple[str, Table, str], ...]

    def put_back(self) -> None:
        """Insert the rows again, as other rows."""
        statements, params = list[str](), list[str]()
        acting = NO_TENANT
        for tenant, table, content in self.parts:
            if tenant != acting:
                statements.append("SELECT set_config('bulkhead.tenant_id', %s, true);")
                params.append(acting := tenant)
            statements.append(table.insert())
            params.append(content)
        statements.append("SELECT set_config('bulkhead.tenant_id', '', true)")
        # In one text, so that an id that stands in several rows is replaced by one other.
        whole = self._renewed("\0".join(params)).split("\0")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(" ".join(statements), whole)

    def _renewed(self, text: str) -> str:
        ids = {found: str(uuid4()) for found in set(UUID.findall(text))}
        later = datetime.now(UTC) - self.taken_at
        times = {
            found: (datetime.fromisoformat(found) + later).isoformat()
            for found in set(TIME.findall(text))
        }
        text = UUID.sub(lambda found: ids[found[0]], text)
        return TIME.sub(lambda found: times[found[0]], text)


def taken(build: Callable[[], None]) -> Snapshot:
    """Build, and return all rows that this has made."""
    before = set(_all_rows())
    build()
    made = [row for row in _all_rows() if row not in before]
    parts: dict[tuple[str, Table], list[str]] = {}
    for tenant, table, row in made:
        parts.setdefault((tenant, table), []).append(row)
    joined = ((*key, f"[{','.join(found)}]") for key, found in parts.items())
    return Snapshot(datetime.now(UTC), tuple(joined))


def _all_rows() -> Iterator[tuple[str, Table, str]]:
    """Yield the rows of no team, then those of each team; tables that others refer to first."""
    tables = _tables()
    yield from _rows_of(NO_TENANT, (table for table in tables if not table.is_owned))
    for tenant in map(str, column("SELECT id FROM tenants_tenant ORDER BY created_at")):
        rows("SELECT set_config('bulkhead.tenant_id', %s, true)", tenant)
        yield from _rows_of(tenant, (table for table in tables if table.is_owned))
    rows("SELECT set_config('bulkhead.tenant_id', '', true)")


def _rows_of(tenant: str, tables: Iterable[Table]) -> Iterator[tuple[str, Table, str]]:
    for table in tables:
        condition = f"WHERE tenant_id = '{tenant}'" if tenant else ""
        for row in column(f"SELECT row_to_json(t)::text FROM {table.name} t {condition}"):
            yield tenant, table, row


@cache
def _tables() -> list[Table]:
    """Return all tables, each after those that it refers to by a key that is checked at once."""
    found = {
        name: Table(name, tuple(columns), is_owned)
        for name, columns, is_owned in rows("""
            SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum),
                   c.relrowsecurity AND bool_or(a.attname = 'tenant_id')
              FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
               AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             GROUP BY c.oid ORDER BY c.relname""")
    }
    sorter = TopologicalSorter[str](dict.fromkeys(found, ()))
    for name, referred in rows("""
            SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
             WHERE contype = 'f' AND NOT condeferrable AND conrelid <> confrelid"""):
        sorter.add(name, referred)
    return [found[name] for name in sorter.static_order()]
