"""The second wall alone: raw SQL as the web role reads and writes the acting tenant's rows only."""

import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, models, transaction

from models_registry.models import ModelGroupGrant, ModelUserGrant, ModelVersion, RegisteredModel
from tenants.access import share, unshare
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import TenantForeignKey, TenantOwned, tenant_owned_models
from tests.support.people import CANARY, World, committed, fill_every_table, make_world
from tests.support.sql import (
    CHECK_VIOLATION,
    FEATURE_NOT_SUPPORTED,
    FORBIDDEN,
    FOREIGN_KEY_VIOLATION,
    act,
    affected,
    column,
    refused,
    rows,
    sqlstate,
)

MODELS = "models_registry_registeredmodel"
VERSIONS = "models_registry_modelversion"
ALIASES = "models_registry_alias"
USER_GRANTS = "models_registry_modelusergrant"
GROUP_GRANTS = "models_registry_modelgroupgrant"

TABLES = sorted(model._meta.db_table for model in tenant_owned_models())
REFERENCES = [
    (model, field)
    for model in tenant_owned_models()
    for field in model._meta.get_fields()
    if isinstance(field, TenantForeignKey)
]

every_table = pytest.mark.parametrize("table", TABLES)
every_reference = pytest.mark.parametrize(
    ("model", "field"), REFERENCES, ids=[f"{m.__name__}.{f.name}" for m, f in REFERENCES]
)

#: As the acting tenant, copy one of its rows, with other values in some columns.
COPY_ROW = """
INSERT INTO {table}
SELECT (jsonb_populate_record(row, jsonb_build_object('id', gen_random_uuid()) || %s::jsonb)).*
  FROM {table} row LIMIT 1"""

POLICIES = {
    ("models_registry_alias", "shared_read", "SELECT"),
    ("models_registry_alias", "tenant_isolation", "ALL"),
    ("models_registry_artifactfile", "tenant_isolation", "ALL"),
    ("models_registry_blob", "tenant_isolation", "ALL"),
    ("models_registry_bookmark", "tenant_isolation", "ALL"),
    ("models_registry_downloadcount", "tenant_isolation", "ALL"),
    ("models_registry_modelgroupgrant", "grantee_read", "SELECT"),
    ("models_registry_modelgroupgrant", "tenant_isolation", "ALL"),
    ("models_registry_modelusergrant", "grantee_read", "SELECT"),
    ("models_registry_modelusergrant", "tenant_isolation", "ALL"),
    ("models_registry_modelversion", "shared_read", "SELECT"),
    ("models_registry_modelversion", "tenant_isolation", "ALL"),
    ("models_registry_registeredmodel", "shared_read", "SELECT"),
    ("models_registry_registeredmodel", "tenant_isolation", "ALL"),
    ("models_registry_upload", "tenant_isolation", "ALL"),
    ("tenants_auditevent", "tenant_isolation", "ALL"),
    ("tenants_namespacestate", "tenant_isolation", "ALL"),
}


@pytest.fixture
def full(world: World) -> World:
    """Both teams have rows in every tenant-owned table."""
    fill_every_table(world)
    act(None)
    return world


# --- who is asking -------------------------------------------------------------------------


def test_the_tests_run_as_the_web_role_which_may_switch_nothing_off(db: None) -> None:
    """L29: neither superuser nor owner, and a member of no role that is."""
    [(name, superuser, bypass, create_role, create_db)] = rows(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb"
        "  FROM pg_roles WHERE rolname = current_user"
    )
    assert name == connection.settings_dict["USER"] != connections["owner"].settings_dict["USER"]
    assert (superuser, bypass, create_role, create_db) == (False, False, False, False)
    assert column("SELECT session_user") == [name]
    # It is a member of no other role, and nothing in the database is its own.
    assert rows("SELECT roleid FROM pg_auth_members WHERE member = current_user::regrole") == []
    assert rows("SELECT relname FROM pg_class WHERE relowner = current_user::regrole") == []
    assert rows("SELECT proname FROM pg_proc WHERE proowner = current_user::regrole") == []


@pytest.mark.parametrize("right", ["TRUNCATE", "REFERENCES", "TRIGGER"])
def test_the_web_role_has_rights_on_rows_and_none_on_tables(db: None, right: str) -> None:
    assert not column(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        "   AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(oid, %s)",
        right,
    )


# --- reading -------------------------------------------------------------------------------


def test_each_team_has_rows_to_attack(full: World) -> None:
    """A new tenant-owned model must be in ``fill_every_table``, or the tests here prove nothing."""
    for table in TABLES:
        for tenant in (full.alpha, full.gamma):
            act(tenant)
            assert column(f"SELECT count(*) FROM {table}")[0] > 0


def test_without_a_setting_there_are_no_rows(full: World) -> None:
    for table in TABLES:
        assert rows(f"SELECT * FROM {table}") == []
        for name in ("tenant_id", "user_id", "group_id"):
            rows(f"SELECT set_config('bulkhead.{name}', '', true)")
        assert rows(f"SELECT * FROM {table}") == []


def test_a_team_reads_its_own_rows_only(full: World) -> None:
    for table in TABLES:
        act(full.alpha, full.alice)
        assert set(column(f"SELECT tenant_id FROM {table}")) == {full.alpha.pk}
        assert rows(f"SELECT * FROM {table} WHERE tenant_id = %s", full.gamma.pk) == []
        assert CANARY not in str(rows(f"SELECT t::text FROM {table} t"))


def test_a_malformed_setting_is_an_error_and_never_everything(full: World) -> None:
    for table in TABLES:
        for value in ("*", "%", "00000000", "null", "' OR true --"):
            rows("SELECT set_config('bulkhead.tenant_id', %s, true)", value)
            refused(f"SELECT * FROM {table}", state="22P02")
            act(None)


def test_copying_out_sees_no_more(full: World) -> None:
    act(full.alpha, full.alice)
    with connection.cursor() as cursor, cursor.copy(f"COPY {MODELS} TO STDOUT") as copy:
        text = b"".join(copy).decode()
    assert "ALPHA own" in text
    assert CANARY not in text


# --- writing -------------------------------------------------------------------------------


def test_a_team_can_write_no_row_of_another(full: World) -> None:
    for table in TABLES:
        act(full.gamma)
        before = rows(f"SELECT * FROM {table} ORDER BY id")
        target = column(f"SELECT id FROM {table} LIMIT 1")[0]
        act(full.alpha, full.alice)
        refused(COPY_ROW.format(table=table), f'{{"tenant_id": "{full.gamma.pk}"}}')
        for sql in (
            f"UPDATE {table} SET tenant_id = tenant_id WHERE id = %s",
            f"UPDATE {table} SET tenant_id = '{full.alpha.pk}' WHERE id = %s",
            f"DELETE FROM {table} WHERE id = %s",
            f"DELETE FROM {table} USING {table} other WHERE {table}.id = other.id AND other.id=%s",
        ):
            assert _attempt(sql, target) == 0
        act(full.gamma)
        assert rows(f"SELECT * FROM {table} ORDER BY id") == before


def test_a_team_can_give_its_rows_to_no_other(full: World) -> None:
    for table in TABLES:
        act(full.alpha, full.alice)
        refused(f"UPDATE {table} SET tenant_id = %s", full.gamma.pk)
        refused(f"UPDATE {table} SET tenant_id = NULL")


def test_without_a_setting_nothing_can_be_written(full: World) -> None:
    for table in TABLES:
        act(full.alpha)
        [row] = column(f"SELECT to_jsonb(t)::text FROM {table} t LIMIT 1")
        act(None)
        refused(
            f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, %s::jsonb)",
            row,
        )
        assert _attempt(f"UPDATE {table} SET tenant_id = tenant_id") == 0
        assert _attempt(f"DELETE FROM {table}") == 0


def _attempt(sql: str, *params: Any) -> int:
    """Return how many rows were written; a refusal for want of the right wrote none."""
    try:
        with transaction.atomic():
            return affected(sql, *params)
    except DatabaseError as error:
        assert sqlstate(error) == FORBIDDEN, f"{sql}: {error}"
        return 0


# --- references ----------------------------------------------------------------------------


def _row_ids(world: World, model: type[models.Model]) -> list[uuid.UUID]:
    with tenant_scope(world.gamma):
        ids = list(model._default_manager.values_list("pk", flat=True))
    assert ids
    return ids


@every_reference
def test_a_reference_cannot_point_into_another_team(
    full: World, model: type[TenantOwned], field: TenantForeignKey
) -> None:
    """L5, L30: a foreign-key check ignores row security: only the tenant in the key refuses."""
    table = model._meta.db_table
    theirs = _row_ids(full, field.related_model)[0]
    act(full.alpha, full.alice)
    own = column(f"SELECT id FROM {table} LIMIT 1")[0]
    refused(
        f"UPDATE {table} SET {field.column} = %s WHERE id = %s",
        theirs,
        own,
        state=FOREIGN_KEY_VIOLATION,
    )
    changes = f'{{"{field.column}": "{theirs}", "name": "new", "number": 99, "path": "new"}}'
    refused(COPY_ROW.format(table=table), changes, state=FOREIGN_KEY_VIOLATION)
    # To a row that is nowhere the answer is the same.
    refused(
        f"UPDATE {table} SET {field.column} = gen_random_uuid() WHERE id = %s",
        own,
        state=FOREIGN_KEY_VIOLATION,
    )


@every_reference
def test_each_reference_carries_the_tenant_in_the_database(
    db: None, model: type[TenantOwned], field: TenantForeignKey
) -> None:
    keys = column(
        """SELECT (SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
                    WHERE attrelid = conrelid AND attnum = ANY (conkey))
             FROM pg_constraint
            WHERE contype = 'f' AND conrelid = %s::regclass AND confrelid = %s::regclass""",
        model._meta.db_table,
        field.related_model._meta.db_table,
    )
    assert any(field.column in key for key in keys)
    assert all("tenant_id" in key for key in keys)


def test_an_alias_cannot_name_a_version_of_another_model(full: World) -> None:
    with tenant_scope(full.alpha):
        one, other = RegisteredModel.objects.order_by("name")
        version = ModelVersion.objects.get(model=other, number=2)
    act(full.alpha)
    for name, value in (("version_id", version.pk), ("model_id", other.pk)):
        refused(
            f"UPDATE {ALIASES} SET {name} = %s, name = 'new' WHERE model_id = %s",
            value,
            one.pk,
            state=FOREIGN_KEY_VIOLATION,
        )


@every_table
def test_unique_keys_start_with_the_tenant(db: None, table: str) -> None:
    """L11, L30: a unique check ignores row security and would tell that another has the name."""
    keys = rows(
        """SELECT indexrelid::regclass::text, indisprimary,
                  array(SELECT pg_get_indexdef(indexrelid, n, true)
                          FROM generate_series(1, indnkeyatts) n)
             FROM pg_index WHERE indrelid = %s::regclass AND (indisunique OR indisexclusion)""",
        table,
    )
    assert keys
    for name, primary, columns in keys:
        assert columns[0] == "tenant_id" or (primary and columns == ["id"]), name


def test_equal_names_in_two_teams_do_not_collide(full: World) -> None:
    act(full.alpha)
    changes = f'{{"name": "{CANARY} own"}}'
    assert affected(COPY_ROW.format(table=MODELS), changes) == 1
    affected("SET CONSTRAINTS ALL IMMEDIATE")


# --- grants --------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [USER_GRANTS, GROUP_GRANTS])
def test_a_grant_of_anothers_model_cannot_be_forged(full: World, table: str) -> None:
    theirs = full.model(full.gamma, f"{CANARY} own")
    grantee = {
        USER_GRANTS: f'"user_id": {full.alice.pk}',
        GROUP_GRANTS: f'"group_id": {full.alpha.group_id}',
    }[table]
    own, other = f'"tenant_id": "{full.alpha.pk}"', f'"tenant_id": "{full.gamma.pk}"'
    target = f'"content_object_id": "{theirs.pk}"'
    act(full.alpha, full.alice)
    refused(COPY_ROW.format(table=table), f"{{{grantee}, {target}, {other}}}")
    refused(
        COPY_ROW.format(table=table),
        f"{{{grantee}, {target}, {own}}}",
        state=FOREIGN_KEY_VIOLATION,
    )
    one = column(f"SELECT id FROM {table} WHERE tenant_id = %s", full.alpha.pk)[0]
    refused(
        f"UPDATE {table} SET content_object_id = %s WHERE id = %s",
        theirs.pk,
        one,
        state=FOREIGN_KEY_VIOLATION,
    )


def _grantee(table: str) -> str:
    return "user_id" if table == USER_GRANTS else "group_id"


@pytest.mark.parametrize("table", [USER_GRANTS, GROUP_GRANTS])
def test_a_forged_grant_opens_nothing_before_the_commit_either(full: World, table: str) -> None:
    """A key that is checked at commit would let the transaction read what it forged."""
    theirs = full.model(full.gamma, f"{CANARY} own")
    act(full.alpha, full.alice)
    changes = {
        USER_GRANTS: f'{{"user_id": {full.alice.pk}, "content_object_id": "{theirs.pk}"}}',
        GROUP_GRANTS: f'{{"group_id": {full.alpha.group_id}, "content_object_id": "{theirs.pk}"}}',
    }[table]
    _forge(table, changes)
    assert rows(f"SELECT name FROM {MODELS} WHERE id = %s", theirs.pk) == []


def _forge(table: str, changes: str) -> None:
    try:
        with transaction.atomic():
            affected(COPY_ROW.format(table=table), changes)
    except DatabaseError as error:
        assert sqlstate(error) == FOREIGN_KEY_VIOLATION


def _share(world: World, *, with_alpha: bool) -> RegisteredModel:
    model = world.model(world.gamma, f"{CANARY} own")
    with tenant_scope(world.gamma, world.hugo):
        if with_alpha:
            share(model, with_tenant=world.alpha)
        else:
            share(model, with_user=world.alice)
    return model


@pytest.mark.parametrize("with_alpha", [True, False], ids=["with a team", "with a person"])
def test_a_grantee_reads_the_shared_model_and_nothing_else(full: World, with_alpha: bool) -> None:
    model = _share(full, with_alpha=with_alpha)
    act(full.alpha, full.alice)
    gamma = full.gamma.pk
    assert column(f"SELECT id FROM {MODELS} WHERE tenant_id = %s", gamma) == [model.pk]
    for table in (VERSIONS, ALIASES):
        assert set(column(f"SELECT model_id FROM {table} WHERE tenant_id = %s", gamma)) == {
            model.pk
        }
    for table in ("tenants_auditevent", "models_registry_bookmark"):
        assert rows(f"SELECT * FROM {table} WHERE tenant_id = %s", gamma) == []
    # Of the grants only the one that names the grantee: not with whom else it is shared.
    grants = [
        *rows(f"SELECT user_id FROM {USER_GRANTS} WHERE tenant_id = %s", gamma),
        *rows(f"SELECT group_id FROM {GROUP_GRANTS} WHERE tenant_id = %s", gamma),
    ]
    assert grants == [(full.alpha.group_id if with_alpha else full.alice.pk,)]


@pytest.mark.parametrize("with_alpha", [True, False], ids=["with a team", "with a person"])
def test_a_grantee_cannot_write_the_shared_model(full: World, with_alpha: bool) -> None:
    model = _share(full, with_alpha=with_alpha)
    act(full.alpha, full.alice)
    gamma = full.gamma.pk
    for table in TABLES:
        for sql in (f"UPDATE {table} SET tenant_id = tenant_id", f"DELETE FROM {table}"):
            assert _attempt(f"{sql} WHERE tenant_id = %s", gamma) == 0
    assert rows(f"SELECT id FROM {MODELS} WHERE id = %s FOR SHARE", model.pk) == []
    for table in (VERSIONS, ALIASES):
        for tenant, state in ((gamma, FORBIDDEN), (full.alpha.pk, FOREIGN_KEY_VIOLATION)):
            refused(
                COPY_ROW.format(table=table),
                f'{{"model_id": "{model.pk}", "tenant_id": "{tenant}", "number": 9, "name": "x"}}',
                state=state,
            )
    # A grantee cannot pass the grant on.
    for table, grantee in ((USER_GRANTS, full.bob.pk), (GROUP_GRANTS, full.alpha.group_id)):
        refused(
            COPY_ROW.format(table=table),
            f'{{"content_object_id": "{model.pk}", "{_grantee(table)}": {grantee}}}',
            state=FOREIGN_KEY_VIOLATION,
        )


def test_a_grant_row_is_read_by_giver_and_grantee_alone(full: World) -> None:
    _share(full, with_alpha=True)
    _share(full, with_alpha=False)
    third = directory.create_tenant("team_third", "Third", admin=full.dana)
    for tenant, user, users, groups in (
        (full.alpha, full.alice, {full.alice.pk}, {full.alpha.group_id}),
        (full.alpha, full.bob, set(), {full.alpha.group_id}),
        (third, full.dana, set(), set()),
        (third, full.alice, {full.alice.pk}, set()),
    ):
        act(tenant, user)
        gamma = full.gamma.pk
        assert (
            set(column(f"SELECT user_id FROM {USER_GRANTS} WHERE tenant_id = %s", gamma)) == users
        )
        assert (
            set(column(f"SELECT group_id FROM {GROUP_GRANTS} WHERE tenant_id = %s", gamma))
            == groups
        )
    act(full.gamma, full.gina)
    assert full.alice.pk in column(f"SELECT user_id FROM {USER_GRANTS}")


def test_a_grant_taken_back_ends_reading_at_once(full: World) -> None:
    model = _share(full, with_alpha=True)
    with tenant_scope(full.gamma, full.hugo):
        unshare(model, with_tenant=full.alpha)
    act(full.alpha, full.alice)
    assert rows(f"SELECT * FROM {MODELS} WHERE id = %s", model.pk) == []


def test_guardians_own_tables_take_no_grant(world: World) -> None:
    """guardian falls back to them silently, and no row security guards them."""
    for table, grantee in (
        ("guardian_userobjectpermission", "user_id"),
        ("guardian_groupobjectpermission", "group_id"),
    ):
        refused(
            f"INSERT INTO {table} (object_pk, content_type_id, permission_id, {grantee})"
            " SELECT %s, content_type_id, id, 1 FROM auth_permission LIMIT 1",
            str(world.model(world.gamma, "fraud").pk),
        )
        refused(f"UPDATE {table} SET object_pk = 'x'")


# --- the life of a setting -----------------------------------------------------------------


@committed
def test_a_setting_ends_with_its_transaction() -> None:
    """L29: the next request on this connection, or on the pool's, starts with nothing."""
    world = make_world()
    pid = column("SELECT pg_backend_pid()")
    with transaction.atomic():
        act(world.alpha, world.alice)
        assert column(f"SELECT count(*) FROM {MODELS}") == [2]
    assert rows(f"SELECT * FROM {MODELS}") == []
    with transaction.atomic():
        assert rows(f"SELECT * FROM {MODELS}") == []
    with pytest.raises(RuntimeError), tenant_scope(world.alpha):
        assert column(f"SELECT count(*) FROM {MODELS}") == [2]
        raise RuntimeError
    assert rows(f"SELECT * FROM {MODELS}") == []
    assert column("SELECT pg_backend_pid()") == pid


@committed
def test_a_scope_inside_a_savepoint_leaves_nothing_after_it() -> None:
    world = make_world()
    with transaction.atomic():
        with transaction.atomic(), tenant_scope(world.gamma):
            assert column(f"SELECT count(*) FROM {MODELS}") == [2]
        assert rows(f"SELECT * FROM {MODELS}") == []
        with tenant_scope(world.alpha):
            with transaction.atomic(), tenant_scope(world.gamma):
                pass
            assert set(column(f"SELECT tenant_id FROM {MODELS}")) == {world.alpha.pk}


# --- what the web role cannot do -----------------------------------------------------------

SWITCHES = (
    f"TRUNCATE {MODELS} CASCADE",
    "TRUNCATE tenants_auditevent",
    f"ALTER TABLE {MODELS} DISABLE ROW LEVEL SECURITY",
    f"ALTER TABLE {MODELS} NO FORCE ROW LEVEL SECURITY",
    f"ALTER TABLE {MODELS} OWNER TO CURRENT_USER",
    f"ALTER TABLE {MODELS} ADD COLUMN x text",
    f"ALTER TABLE {ALIASES} DROP CONSTRAINT alias_unique_in_model",
    f"DROP POLICY tenant_isolation ON {MODELS}",
    f"CREATE POLICY all_of_it ON {MODELS} USING (true)",
    f"ALTER POLICY tenant_isolation ON {MODELS} USING (true)",
    f"DROP TABLE {MODELS} CASCADE",
    "CREATE TABLE public.mine (x int)",
    f"CREATE VIEW public.mine AS SELECT * FROM {MODELS}",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine SUPERUSER",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER ROLE {owner} SET bulkhead.tenant_id = 'x'",
    "SET ROLE {owner}",
    "SET SESSION AUTHORIZATION {owner}",
    f"CREATE TRIGGER t BEFORE INSERT ON {MODELS} EXECUTE FUNCTION tenants_slug_never_changes()",
    "DROP TRIGGER slug_never_changes ON tenants_tenant",
    "DROP TRIGGER namespace_never_changes ON tenants_tenant",
    "ALTER TABLE tenants_tenant DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "SELECT pg_read_file('/etc/passwd')",
    f"COPY {MODELS} TO PROGRAM 'cat'",
    f"COPY {MODELS} TO '/tmp/models'",
    "UPDATE tenants_auditevent SET actor_label = 'nobody'",
    "DELETE FROM tenants_auditevent",
    "UPDATE tenants_accountevent SET user_id = NULL",
    "DELETE FROM tenants_accountevent",
    "DELETE FROM django_migrations",
)


def test_the_web_role_can_switch_nothing_off_and_make_nothing(world: World) -> None:
    act(world.alpha, world.alice)
    owner = connections["owner"].settings_dict["USER"]
    for sql in SWITCHES:
        refused(sql.replace("{owner}", owner))


def test_row_security_cannot_be_switched_off_for_a_session(world: World) -> None:
    """L29: the query is an error, and never answered without the policies."""
    with transaction.atomic():
        act(world.alpha)
        affected("SET LOCAL row_security = off")
        for table in TABLES:
            refused(f"SELECT * FROM {table}")


def test_rows_cannot_be_copied_in(world: World) -> None:
    act(world.alpha)
    for table in TABLES:
        refused(f"COPY {table} FROM STDIN", state=FEATURE_NOT_SUPPORTED)


def test_a_slug_never_changes(world: World) -> None:
    refused(
        "UPDATE tenants_tenant SET slug = 'other' WHERE id = %s",
        world.alpha.pk,
        state=CHECK_VIOLATION,
    )
    assert affected("UPDATE tenants_tenant SET slug = slug, name = 'New'") >= 2


def test_a_namespace_never_changes_and_is_never_shared(world: World) -> None:
    """L11, L32: whatever a cluster holds of a team is found by its name."""
    sql = "UPDATE tenants_tenant SET namespace = %s WHERE id = %s"
    refused(sql, "bh-other", world.alpha.pk, state=CHECK_VIOLATION)
    refused(sql, world.gamma.namespace, world.alpha.pk, state=CHECK_VIOLATION)
    assert affected("UPDATE tenants_tenant SET namespace = namespace, name = 'New'") >= 2


# --- the catalogue -------------------------------------------------------------------------


def test_the_policies_are_exactly_these(db: None) -> None:
    found = rows("SELECT tablename, policyname, cmd FROM pg_policies WHERE schemaname = 'public'")
    assert set(found) == POLICIES
    assert {table for table, _, _ in POLICIES} == set(TABLES)
    assert column("SELECT DISTINCT permissive FROM pg_policies") == ["PERMISSIVE"]


def test_row_security_is_forced_on_every_table_with_a_tenant(db: None) -> None:
    """Found by their column, so a table that no model declares as tenant-owned is found too."""
    # Read before a scope is open.
    unguarded = {"tenants_membership", "tenants_apitoken", "tenants_workloadidentity"}
    tables = rows(
        """SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
              AND EXISTS (SELECT FROM pg_attribute
                           WHERE attrelid = pg_class.oid AND attname = 'tenant_id')"""
    )
    assert {name for name, forced in tables if forced} == set(TABLES)
    assert {name for name, forced in tables if not forced} == unguarded


def test_no_function_view_or_copy_of_a_table_goes_around_row_security(db: None) -> None:
    """L29: SECURITY DEFINER, views that run as their owner, materialized views."""
    ours = "NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    assert not rows(
        "SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
        f" WHERE prosecdef AND nspname {ours}"
    )
    assert not rows(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        f" WHERE nspname {ours} AND (relkind = 'm' OR relkind = 'v'"
        "   AND NOT coalesce(reloptions::text LIKE '%%security_invoker=true%%', false))"
    )


@committed
def test_the_planners_statistics_tell_nothing_of_rows() -> None:
    """L30: most common values and histograms are of all tenants' rows."""
    make_world()
    with connections["owner"].cursor() as owner:
        owner.execute("ANALYZE")
    with_statistics = set(column("SELECT tablename FROM pg_stats WHERE schemaname = 'public'"))
    assert "tenants_tenant" in with_statistics
    assert not with_statistics & set(TABLES)


def test_all_grants_are_the_giving_teams(full: World) -> None:
    """The manager of grants is scoped too: the acting team sees what it gave."""
    with tenant_scope(full.alpha):
        for model in (ModelUserGrant, ModelGroupGrant):
            assert {grant.tenant_id for grant in model.objects.all()} == {full.alpha.pk}
