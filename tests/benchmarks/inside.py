"""What is measured inside the product's settings, in a process for each site; prints JSON."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import django
import psycopg
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.benchmarks import contents

HOST = "127.0.0.1"
#: The team whose registry is compared, and who asks for it.
TEAM = "registry"
CONTRIBUTOR = "bench-contributor"
#: How many models of each team are looked at.
LOOKED_AT = 100
WALL_ROUNDS = 40

# A page without walls must prove the membership too; it only tells the database nothing of it.
PROVE_MEMBERSHIP = """
SELECT tenant.id, tenant.slug, tenant.name, tenant.status = 'suspended', tenant.group_id,
       member.role, person.username
  FROM tenants_membership member
  JOIN tenants_tenant tenant ON tenant.id = member.tenant_id
  JOIN tenants_user person ON person.id = member.user_id
 WHERE member.user_id = {user} AND tenant.slug = '{slug}' AND person.is_active
   AND (member.expires_at IS NULL OR member.expires_at > now())"""


def browser(username: str) -> tuple[Any, Client]:
    """Return the person and a browser in which they are signed in."""
    from tenants.models import User

    person = User.objects.get(username=username)
    client = Client(SERVER_NAME=HOST)
    client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
    return person, client


def pages(person: Any) -> dict[str, dict[str, list[str]]]:
    """Return for each team of ``person`` its models page and the pages of some of its models."""
    from models_registry.models import RegisteredModel
    from tenants.isolation.scope import tenant_scope
    from tenants.models import Tenant

    found = {}
    for tenant in Tenant.objects.filter(memberships__user=person):
        with tenant_scope(tenant):
            names = list(RegisteredModel.objects.order_by("id").values_list("name", flat=True))
        found[tenant.slug] = {
            "models": [reverse("models", args=[tenant.slug])],
            "model": [reverse("model", args=[tenant.slug, name]) for name in names[:LOOKED_AT]],
        }
    return found


def sign_in() -> dict[str, Any]:
    """Open a session; return its cookie and the pages to look at."""
    from models_registry.demo.generate import MEMBER

    person, client = browser(MEMBER)
    name = settings.SESSION_COOKIE_NAME
    all_pages = pages(person).values()
    return {
        "cookie": f"{name}={client.cookies[name].value}",
        "models": [path for team in all_pages for path in team["models"]],
        "model": [path for team in all_pages for path in team["model"]],
    }


def statements(client: Client, path: str) -> list[str]:
    """Return what a page sends to the database, BEGIN and COMMIT among it."""
    client.get(path)  # what a process reads once is read now
    with CaptureQueriesContext(connection) as captured:
        response = client.get(path)
    if response.status_code != 200:
        raise RuntimeError(f"{path} answered {response.status_code}.")
    return [query["sql"] for query in captured.captured_queries]


def queries() -> dict[str, list[int]]:
    """Count the queries of each page, for 2 models of 2 versions and for 20 models of 20."""
    from models_registry.demo import generate

    counts: dict[str, list[int]] = {"models": [], "model": []}
    for rows in (2, 20):
        member = f"rows-of-{rows}"
        list(generate.generate(1, rows, rows, prefix=f"rows-{rows}", member=member))
        person, client = browser(member)
        for team in pages(person).values():
            for page, paths in team.items():
                sent = statements(client, paths[0])
                counts[page].append(len([sql for sql in sent if sql not in ("BEGIN", "COMMIT")]))
    return counts


def walls() -> dict[str, dict[str, float]]:
    """Time each page's queries behind both walls, and as the owner without any; in turns.

    The statements are the same, word for word: the row manager's filter is what any application
    would write. What differs is who sends them, whether row security applies to them, and the
    settings that it reads. On both sides the membership is proven first.
    """
    from models_registry.demo.generate import MEMBER

    person, client = browser(MEMBER)
    bare, guarded = connect("owner"), connect("default")
    found = {}
    switch("NO FORCE")
    try:
        for page in ("models", "model"):
            work = []
            for slug, team in pages(person).items():
                sent = statements(client, team[page][0])
                begin = sent.index("BEGIN")
                opening, *rest = sent[begin + 1 : sent.index("COMMIT", begin)]
                proof = PROVE_MEMBERSHIP.format(user=person.pk, slug=slug)
                work.append((_work(guarded, [opening, *rest]), _work(bare, [proof, *rest])))
            found[page] = _compare(work)
    finally:
        switch("FORCE")
    return found


def switch(word: str) -> None:
    """Let row security hold the owner too, or (``NO FORCE``) all but the owner."""
    from models_registry.demo.generate import TABLES

    with connections["owner"].cursor() as owner:
        for model in TABLES:
            owner.execute(f"ALTER TABLE {model._meta.db_table} {word} ROW LEVEL SECURITY")


def connect(alias: str) -> "psycopg.Connection[Any]":
    """Return a connection that sends statements as Django sends them, and does nothing else."""
    parameters = connections[alias].get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    chosen = {name: parameters[name] for name in names if name in parameters}
    return psycopg.connect(**chosen, autocommit=True, prepare_threshold=None)


def _work(database: "psycopg.Connection[Any]", sent: Sequence[str]) -> Callable[[], list[Any]]:
    """Return a function that runs the statements in a transaction and returns their rows."""

    def run() -> list[Any]:
        found: list[Any] = []
        with database.cursor() as cursor:
            cursor.execute("BEGIN")
            for statement in sent:
                cursor.execute(statement.encode())
                found.append(cursor.fetchall() if cursor.description else [])
            cursor.execute("COMMIT")
        return found

    return run


def _compare(
    work: Sequence[tuple[Callable[[], list[Any]], Callable[[], list[Any]]]],
) -> dict[str, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for guarded, bare in work:
        # Without ORDER BY the two sides may find the same rows in another order.
        rows = [[sorted(map(repr, found)) for found in side()[1:]] for side in (guarded, bare)]
        if rows[0] != rows[1]:
            raise RuntimeError("The two sides found different rows: they cannot be compared.")
    for turn in range(WALL_ROUNDS):
        for sides in work:
            for side in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                sides[side]()
                times[side].append(time.perf_counter() - start)
    guarded_time, bare_time = (statistics.median(side) * 1000 for side in times)
    return {"walls": guarded_time, "bare": bare_time}


def fill_team(models: str) -> dict[str, str]:
    """Give the team ``models`` models, delete those of an earlier run, and return a token."""
    from models_registry.demo import generate
    from tenants.isolation.scope import tenant_scope
    from tenants.isolation.statements import SET

    tenant, person = _team()
    values = contents.parameters(contents.names(int(models))) | {"tenant": tenant.pk}
    with transaction.atomic(using="owner"), connections["owner"].cursor() as owner:
        owner.execute(SET, [str(tenant.pk), "", ""])
        for statement in contents.TIDY_BULKHEAD.split(";"):
            owner.execute(statement, values)
    with tenant_scope(tenant), connection.cursor() as cursor:
        cursor.execute(contents.FILL_BULKHEAD, values)
    generate.tidy()
    return {"token": _token(person, tenant)}


def team_token() -> dict[str, str]:
    """Return a token for the team as it is."""
    tenant, person = _team()
    return {"token": _token(person, tenant)}


def _team() -> tuple[Any, Any]:
    """Return the team and its contributor, made where they are missing."""
    from tenants.identity import directory
    from tenants.models import Tenant, User

    tenant = Tenant.objects.filter(slug=TEAM).first() or directory.create_tenant(TEAM)
    person, is_new = User.objects.get_or_create(username=CONTRIBUTOR)
    if is_new:
        directory.add_member(tenant, person, "contributor")
    return tenant, person


def _token(person: Any, tenant: Any) -> str:
    """Make a token as the verbs do; what signs it is another secret at each run."""
    from tenants.identity import tokens
    from tenants.models import ApiToken

    secret = tokens.new_secret("write")
    ApiToken.objects.create(
        user=person,
        tenant=tenant,
        scope="write",
        name="benchmark",
        prefix=secret[: tokens.PREFIX_CHARS],
        digest=tokens.digest(secret),
        expires_at=timezone.now() + timedelta(days=1),
    )
    return secret


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    "sign_in": sign_in,
    "queries": queries,
    "walls": walls,
    "fill_team": fill_team,
    "team_token": team_token,
}


def main() -> None:
    """Measure, or prepare, what the arguments name."""
    django.setup()
    name, *rest = sys.argv[1:]
    sys.stdout.write(json.dumps(MEASUREMENTS[name](*rest)))


if __name__ == "__main__":
    main()
