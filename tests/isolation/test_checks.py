"""System checks: each hole in a wall is an error with its own id, and nothing is served then."""

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.db import connection, connections, models
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from psycopg.conninfo import make_conninfo

from models_registry.models import RegisteredModel
from tenants import checks
from tenants.access import public
from tenants.models import TenantForeignKey, TenantOwned
from tests.support import ROOT
from tests.support.people import committed

TABLE = "models_registry_alias"


# --- what is checked by hand ---------------------------------------------------------------


def test_platform_is_the_standard_librarys() -> None:
    """A package of that name beside manage.py would shadow it, and break whatever imports it."""
    assert platform.__file__ == f"{sysconfig.get_path('stdlib')}/platform.py"
    assert platform.python_version_tuple()[0] == "3"
    assert not (ROOT / "platform" / "__init__.py").exists()
    found = _python("-c", "import platform; print(platform.__file__)")
    assert found.stdout.strip() == platform.__file__


def test_all_system_checks_pass(db: None) -> None:
    assert [found for found in run_checks(databases=["default"]) if not found.is_silenced()] == []


@pytest.mark.django_db(databases=["default", "owner"])
def test_every_change_of_a_model_has_its_migration() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


# --- E007: who answers for models ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("models_registry.pod_models.nothing", 'does not define a "nothing"'),
        ("models_registry.nowhere.verdict_on", "No module named"),
        ("verdict_on", "doesn't look like a module path"),
        ("models_registry.pod_models.UNKNOWN", "cannot be called"),
    ],
)
def test_without_an_answer_for_models_nothing_starts(name: str, problem: str) -> None:
    with override_settings(MODEL_REFERENCES=name):
        [error] = checks.the_registry_answers_for_models(None)
    assert error.id == "bulkhead.E007"
    assert problem in error.msg


# --- E001, E006: who connects --------------------------------------------------------------


def _address(alias: str, **changes: Any) -> str:
    """Return the address of the tests' database for another process."""
    given = connections[alias].get_connection_params()
    named = ("host", "port", "user", "password", "dbname")
    return make_conninfo("", **{key: given[key] for key in named if given.get(key)} | changes)


def _python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "bulkhead.settings",
        "BULKHEAD_SECRET_KEY": "secret",
        **variables,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@committed
def test_nothing_is_served_through_a_role_that_owns_tables() -> None:
    web, owner = _address("default"), _address("owner")
    nowhere = _address("default", dbname="no_such_database")
    serve = ("-c", "import sys; sys.path.insert(0, 'platform'); import bulkhead.wsgi")
    served = _python(*serve, DATABASE_URL=web, DATABASE_OWNER_URL=owner)
    assert served.returncode == 0, served.stderr
    for address, error, words in (
        (owner, "bulkhead.E001", "owns tables"),
        (nowhere, "bulkhead.E006", "does not answer"),
    ):
        refused = _python(*serve, DATABASE_URL=address)
        assert refused.returncode != 0
        assert error in refused.stderr
        assert words in refused.stderr


# --- E002: each table has its policies -----------------------------------------------------

ISOLATION = "tenant_id = (SELECT nullif(current_setting('bulkhead.tenant_id', true), '')::uuid)"

#: Ways to take the wall of one table down, and to put it up again.
HOLES = {
    "not forced": (
        f"ALTER TABLE {TABLE} NO FORCE ROW LEVEL SECURITY",
        f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY",
    ),
    "switched off": (
        f"ALTER TABLE {TABLE} DISABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
    ),
    "one policy more": (
        f"CREATE POLICY more ON {TABLE} USING (false)",
        f"DROP POLICY more ON {TABLE}",
    ),
    "one policy less": (
        f"ALTER POLICY shared_read ON {TABLE} RENAME TO other",
        f"ALTER POLICY other ON {TABLE} RENAME TO shared_read",
    ),
    "reads everything": (
        f"ALTER POLICY tenant_isolation ON {TABLE} USING (true)",
        f"ALTER POLICY tenant_isolation ON {TABLE} USING ({ISOLATION})",
    ),
    "writes everything": (
        f"ALTER POLICY tenant_isolation ON {TABLE} WITH CHECK (true)",
        f"ALTER POLICY tenant_isolation ON {TABLE} WITH CHECK ({ISOLATION})",
    ),
    "or everything": (
        f"ALTER POLICY tenant_isolation ON {TABLE} USING ({ISOLATION} OR true)",
        f"ALTER POLICY tenant_isolation ON {TABLE} USING ({ISOLATION})",
    ),
    "compares with another setting": (
        f"ALTER POLICY tenant_isolation ON {TABLE}"
        f" USING ({ISOLATION.replace('bulkhead.tenant_id', 'bulkhead.other')})",
        f"ALTER POLICY tenant_isolation ON {TABLE} USING ({ISOLATION})",
    ),
    "shares everything": (
        f"CREATE POLICY shared_read ON {TABLE} FOR SELECT USING (true)",
        "",
    ),
    "shares with whoever acts": (
        f"CREATE POLICY shared_read ON {TABLE} FOR SELECT"
        " USING (true OR current_setting('bulkhead.tenant_id', true) = '')",
        "",
    ),
    "shares for writing": (
        f"CREATE POLICY shared_read ON {TABLE} USING (current_setting('bulkhead.x', true) = '')",
        "",
    ),
}


def _found() -> list[CheckMessage]:
    return checks.the_database_holds_its_wall(databases=["default"])


@committed
def test_a_table_without_its_wall_is_an_error() -> None:
    """Each hole is made by the owner, as a migration would make it, and closed again."""
    [shared_read] = _quals("shared_read")
    restore = f"CREATE POLICY shared_read ON {TABLE} FOR SELECT USING ({shared_read})"
    assert _found() == []
    with connections["owner"].cursor() as owner:
        for hole, (make, close) in HOLES.items():
            if not close:
                owner.execute(f"DROP POLICY shared_read ON {TABLE}")
            owner.execute(make)
            try:
                found = [(error.id, error.obj.__name__) for error in _found()]
            finally:
                if not close:
                    owner.execute(f"DROP POLICY shared_read ON {TABLE}")
                owner.execute(close or restore)
            assert found == [("bulkhead.E002", "Alias")], hole
            assert _found() == [], hole
    assert _quals("shared_read") == [shared_read]


GRANTED = "bulkhead_granted"
ALL = "SELECT id FROM models_registry_registeredmodel"

#: Ways to let the function of the shared rows find more than was granted.
TAMPERED = {
    "runs as its owner": f"ALTER FUNCTION {GRANTED}() SECURITY DEFINER",
    "finds everything": (
        f"CREATE OR REPLACE FUNCTION {GRANTED}() RETURNS SETOF uuid LANGUAGE plpgsql STABLE"
        f" AS $$BEGIN RETURN QUERY {ALL}; END$$"
    ),
    "asks for one thing or another": (
        f"CREATE OR REPLACE FUNCTION {GRANTED}() RETURNS SETOF uuid LANGUAGE plpgsql STABLE"
        f" AS $$BEGIN RETURN QUERY {ALL} WHERE current_setting('bulkhead.user_id') = ''"
        " OR current_setting('bulkhead.group_id') = ''; END$$"
    ),
}


@committed
def test_a_function_that_finds_more_than_was_granted_is_an_error() -> None:
    """The policies of shared rows ask it, so it is a part of their wall."""
    with connections["owner"].cursor() as owner:
        owner.execute(f"SELECT pg_get_functiondef('{GRANTED}'::regproc)")
        restore = owner.fetchone()[0]
        for hole, make in TAMPERED.items():
            owner.execute(make)
            try:
                found = [error.id for error in _found()]
            finally:
                owner.execute(restore)
            assert found == ["bulkhead.E002"], hole
            assert _found() == [], hole


def _quals(policy: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT qual FROM pg_policies WHERE tablename = %s AND policyname = %s", [TABLE, policy]
        )
        return [row[0] for row in cursor.fetchall()]


# --- E003, E005: models --------------------------------------------------------------------


@contextmanager
def _one_more_model(**attributes: Any) -> Iterator[type[models.Model]]:
    """Declare a tenant-owned model, as an app would, and take it back."""
    names = {"__module__": __name__, "__qualname__": "Leaky"}
    try:
        yield type("Leaky", (TenantOwned,), names | attributes)
    finally:
        apps.all_models["tenants"].pop("leaky")
        apps.clear_cache()


class OwnMeta:
    """A Meta that does not inherit TenantOwned's."""

    app_label = "tenants"


class InheritedMeta(TenantOwned.Meta):
    """A Meta as it should be."""

    app_label = "tenants"
    abstract = False


def _errors() -> list[tuple[str | None, str]]:
    found = [*checks.managers_are_scoped(None), *checks.references_keep_the_tenant(None)]
    return [(error.id, error.msg.split(" ")[0]) for error in found]


def test_a_manager_that_shows_every_row_is_an_error() -> None:
    with _one_more_model(Meta=InheritedMeta):
        assert _errors() == []
    with _one_more_model(Meta=OwnMeta, everything=models.Manager()):
        assert _errors() == [("bulkhead.E003", "Leaky._default_manager")]
    with _one_more_model(Meta=InheritedMeta, objects=models.Manager()):
        assert _errors() == [
            ("bulkhead.E003", "Leaky._default_manager"),
            ("bulkhead.E003", "Leaky._base_manager"),
        ]
    assert _errors() == []


def test_a_reference_without_the_tenant_is_an_error() -> None:
    for kind, errors in (
        (TenantForeignKey, []),
        (models.ForeignKey, [("bulkhead.E005", "Leaky.model")]),
        (models.OneToOneField, [("bulkhead.E005", "Leaky.model")]),
    ):
        field: Any = kind(RegisteredModel, on_delete=models.CASCADE, related_name="+")
        with _one_more_model(Meta=InheritedMeta, model=field):
            assert _errors() == errors


# --- E004: views ---------------------------------------------------------------------------


def undeclared(request: HttpRequest) -> HttpResponse:
    """Say nothing about who may call it."""
    return HttpResponse("reached")


@public
def declared(request: HttpRequest) -> HttpResponse:
    """Say that anybody may."""
    return HttpResponse("reached")


urlpatterns = [
    path("undeclared/", undeclared),
    path("declared/", declared),
    path("deep/", include([path("er/", undeclared)])),
]


@override_settings(ROOT_URLCONF=__name__)
def test_a_view_without_a_policy_is_an_error_and_is_never_reached(db: None) -> None:
    """L1: two locks again: the check before the start, the middleware at the request."""
    found = checks.views_declare_policies(None)
    assert [error.id for error in found] == ["bulkhead.E004"] * 2
    assert "“undeclared/”" in found[0].msg
    assert "“deep/er/”" in found[1].msg
    assert Client().get("/declared/").content == b"reached"
    for address in ("/undeclared/", "/deep/er/"):
        assert Client().get(address).status_code == 404


@override_settings(PRIVATE_URLCONFS=[__name__])
def test_a_private_listeners_view_without_a_policy_is_an_error() -> None:
    found = checks.views_declare_policies(None)
    assert [error.id for error in found] == ["bulkhead.E004"] * 2


# --- migrations go back --------------------------------------------------------------------

BACK_AND_FORTH = """
import sys
sys.path.insert(0, "platform")
import django
django.setup()
from django.core.management import call_command
from django.db import connections

def migrate(*arguments):
    call_command("migrate", *arguments, verbosity=0)

def look(sql):
    with connections["owner"].cursor() as cursor:
        cursor.execute(sql)
        return sorted(cursor.fetchall())

POLICIES = "SELECT tablename, policyname, cmd, qual, with_check FROM pg_policies"
KEYS = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'"
TABLES = "SELECT tablename FROM pg_tables WHERE tablename ~ '^(tenants|models_registry)_'"

migrate()
before = look(POLICIES), look(KEYS), look(TABLES)
assert all(before)
migrate("models_registry", "zero")
left = {"tenants_auditevent", "tenants_namespacestate"}
assert {table for table, *_ in look(POLICIES)} == left, look(POLICIES)
migrate("admin", "zero")
migrate("guardian", "zero")
migrate("account", "zero")
migrate("tenants", "zero")
assert look(POLICIES) == look(TABLES) == [], (look(POLICIES), look(TABLES))
assert not look("SELECT proname FROM pg_proc WHERE proname LIKE 'tenants%'")
migrate()
assert (look(POLICIES), look(KEYS), look(TABLES)) == before
call_command("check", databases=["default"])
"""


@committed
def test_migrations_go_back_to_nothing_and_forth_again() -> None:
    name = f"{connection.settings_dict['NAME']}_back_and_forth"
    with connections["owner"].cursor() as owner:
        owner.execute(f"DROP DATABASE IF EXISTS {name}")
        owner.execute(f"CREATE DATABASE {name}")
        try:
            done = _python(
                "-c",
                BACK_AND_FORTH,
                DATABASE_URL=_address("default", dbname=name),
                DATABASE_OWNER_URL=_address("owner", dbname=name),
            )
            assert done.returncode == 0, done.stderr
        finally:
            owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
