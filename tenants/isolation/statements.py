"""The SQL that proves who acts and opens their scope, and how a statement is sent.

A statement that opens a scope proves the right to it in the same breath: a row comes back, and the
settings that row-level security reads are set, only where the proof holds. Its columns have the
names of ``Scope``'s fields.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from psycopg.rows import RowFactory, dict_row, tuple_row

RowT = TypeVar("RowT")

#: What stands for the placeholders of a statement, in their order or by their names.
Values = Sequence[Any] | Mapping[str, Any]

# --- what a scope is made of ---------------------------------------------------------------


def active(member: str = "member", person: str = "person") -> str:
    """Return the SQL for a membership in force, of a person who is not deactivated.

    ``Membership.objects.active()`` asks the same of the ORM.
    """
    in_force = f"{member}.expires_at IS NULL OR {member}.expires_at > now()"
    return f"{person}.is_active AND ({in_force})"


_OF_TENANT = """tenant.id AS tenant_id, tenant.slug, tenant.name,
       tenant.status = 'suspended' AS suspended, tenant.group_id"""
_OF_MEMBER = f"{_OF_TENANT}, person.id AS user_id, member.role, person.username AS actor_label"

# The settings live until the transaction ends; a policy reads '' as nobody.
_SET = """set_config('bulkhead.tenant_id', {tenant}, true),
       set_config('bulkhead.user_id', {user}, true),
       set_config('bulkhead.group_id', {group}, true)"""
#: Sets what row-level security reads to three texts: the ids of tenant, person and group.
SET = f"SELECT {_SET.format(tenant='%s', user='%s', group='%s')}"


def _open(found: str, user: str = "user_id::text") -> str:
    """Return ``found`` with the settings made for its row; of several rows none is opened."""
    settings_of_row = _SET.format(tenant="tenant_id::text", user=user, group="group_id::text")
    return f"""
WITH found AS MATERIALIZED ({found})
SELECT *, CASE WHEN count(*) OVER () = 1 THEN concat({settings_of_row}) END AS settings
  FROM found ORDER BY slug"""


#: For a signed-in person and a slug.
OPEN_FOR_MEMBER = _open(f"""
SELECT {_OF_MEMBER}
  FROM tenants_membership member
  JOIN tenants_tenant tenant ON tenant.id = member.tenant_id
  JOIN tenants_user person ON person.id = member.user_id
 WHERE member.user_id = %s AND tenant.slug = %s AND {active()} AND person.robot_of_id IS NULL""")

#: For the admission webhook: nobody is signed in, so there is no user id.
OPEN_FOR_NAMESPACE = _open(
    f"SELECT {_OF_TENANT}, 'system' AS actor_label, true AS reads_only"
    " FROM tenants_tenant tenant WHERE namespace = %s",
    user="''",
)
#: Makes the transaction read-only and limits each of its statements to a time, such as ``80ms``.
READ_BRIEFLY = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)"""

#: A search by a pattern can be made to take minutes; after this time PostgreSQL cancels it.
LIMIT_SEARCH_TIME = "SELECT set_config('statement_timeout', '20s', true)"

# --- what credentials prove ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """The statements of one kind of credential; their values are ``credentials.as_values``."""

    #: Opens the scope; ``mark_used`` says whether the credential's last use is to be noted.
    open: str
    #: Lists the tenants that the credential opens, whichever the request names.
    list_tenants: str
    #: Notes that the credential was used.
    note_use: str


def _proof(
    rows: str, named: str, *, reads_only: str, via: str, last_used: str, alone: str, note_use: str
) -> Proof:
    """Build the statements of a credential; ``rows`` are what it opens, ``named`` what is meant."""
    return Proof(
        open=_open(f"""
SELECT {_OF_MEMBER}, {reads_only} AS reads_only, {via} AS via,
       {last_used} IS NULL OR {last_used} < now() - interval '1 minute' AS mark_used
{rows} AND {named}"""),
        list_tenants=f"""
SELECT tenant.slug, tenant.name, tenant.description, {alone} AS alone {rows}
 ORDER BY tenant.slug""",
        note_use=note_use,
    )


#: What a statement of ours begins with; its first value is the acting tenant's id.
ACTING = "WITH acting AS (SELECT %s::uuid AS tenant_id)\n"
#: What such a statement compares ``tenant_id`` with. The value comes from the row that proved the
#: credential, and not from the settings that row-level security compares with.
ACTING_TENANT = "(SELECT tenant_id FROM acting)"

# A robot's token also stops working when the admin who created it (and has seen the secret) leaves
# the tenant.
TOKEN = _proof(
    f"""
  FROM tenants_apitoken token
  JOIN tenants_user person ON person.id = token.user_id
  JOIN tenants_membership member ON member.user_id = token.user_id
  JOIN tenants_tenant tenant ON tenant.id = member.tenant_id
 WHERE token.prefix = %(prefix)s AND token.digest = %(digest)s
   AND token.revoked_at IS NULL AND token.expires_at > now()
   AND {active()}
   AND (token.tenant_id IS NULL OR token.tenant_id = member.tenant_id)
   AND (person.robot_of_id IS NULL OR person.robot_of_id = member.tenant_id)
   AND (token.created_by_id IS NULL OR token.created_by_id = token.user_id OR EXISTS (
           SELECT FROM tenants_membership made_by
             JOIN tenants_user maker ON maker.id = made_by.user_id
            WHERE made_by.user_id = token.created_by_id AND made_by.tenant_id = member.tenant_id
              AND {active("made_by", "maker")}))""",
    named="%(team)s IN ('', replace(tenant.slug, '_', '-'))",
    reads_only="token.scope = 'read'",
    via="token.prefix",
    last_used="token.last_used_at",
    alone="token.tenant_id IS NOT NULL OR person.robot_of_id IS NOT NULL",
    # SKIP LOCKED: of two concurrent requests one updates last_used_at, the other does not wait.
    note_use="""
UPDATE tenants_apitoken SET last_used_at = now()
 WHERE id = (SELECT id FROM tenants_apitoken WHERE prefix = %(via)s FOR UPDATE SKIP LOCKED)""",
)

# A pod's service account opens what its robot is a member of, in the tenant of its namespace. The
# uid is that of the account that signed in first: one made anew under its name has another uid.
WORKLOAD = _proof(
    f"""
  FROM tenants_tenant tenant
  JOIN tenants_workloadidentity identity ON identity.tenant_id = tenant.id
  JOIN tenants_user person ON person.id = identity.user_id
  JOIN tenants_membership member ON member.user_id = person.id AND member.tenant_id = tenant.id
 WHERE tenant.namespace = %(namespace)s AND identity.cluster = %(cluster)s
   AND identity.service_account = %(service_account)s
   AND identity.uid = %(uid)s AND identity.uid <> ''
   AND {active()} AND person.robot_of_id = tenant.id""",
    named="%(team)s IN ('', replace(tenant.slug, '_', '-'), tenant.namespace)",
    reads_only="false",
    via="%(token_id)s::text",
    last_used="identity.last_used_at",
    alone="true",
    note_use="""
UPDATE tenants_workloadidentity SET last_used_at = now()
 WHERE id = (SELECT id FROM tenants_workloadidentity
              WHERE user_id = %(user_id)s FOR UPDATE SKIP LOCKED)""",
)

# --- how a statement is sent ---------------------------------------------------------------


@contextmanager
def pipeline() -> Iterator[None]:
    """Send the statements that the block runs in one trip; fetch their rows when it has ended.

    An error of any of them is raised at the end of the block.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


def run(statement: str, values: Values, *, prepare: bool = True) -> psycopg.Cursor[dict[str, Any]]:
    """Run a statement by psycopg itself, since Django's cursors can prepare none; rows are dicts.

    ``prepare`` keeps its plan, for texts that are always the same. Raises Django's database errors.
    """
    return _run(statement, values, dict_row, prepare=prepare)


def run_for_tuples(
    statement: str, values: Values, *, prepare: bool = True
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run a statement as ``run`` does; rows are tuples, which cost less."""
    return _run(statement, values, tuple_row, prepare=prepare)


def _run(
    statement: str, values: Values, row_factory: RowFactory[RowT], *, prepare: bool
) -> psycopg.Cursor[RowT]:
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    cursor = psycopg.Cursor(database.connection, row_factory=row_factory)
    with database.wrap_database_errors:
        prepare = prepare and settings.PREPARE_STATEMENTS
        cursor.execute(statement, values, prepare=prepare, binary=True)
    return cursor
