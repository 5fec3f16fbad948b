"""Two installations of the product on one database server: many rows in one, few in the other.

Their databases are kept for the next run. They are apart from the product's own, and from the
tests'.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.benchmarks.servers import WORKERS, Server, running
from tests.support import ROOT
from tests.support.servers import free_port


@dataclass(frozen=True)
class Size:
    """How many rows there are, and the database that holds them."""

    name: str
    teams: int
    models: int
    versions: int = 2

    @property
    def words(self) -> str:
        """The size as people say it."""
        return f"{self.teams * self.models:,} models in {self.teams:,} teams"


@dataclass(frozen=True)
class Site:
    """An installation: its addresses and how its processes are told of them."""

    size: Size
    port: int
    web_url: str
    owner_url: str
    environment: dict[str, str]

    def manage(self, *words: str) -> None:
        """Run a command of manage.py; it prints what it does."""
        command = [sys.executable, "manage.py", *words]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True)

    def python(self, module: str, *words: str) -> str:
        """Run a module inside the product's settings and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Serve the site while the block runs."""
        command = [sys.executable, "manage.py", "serve", f"--port={self.port}"]
        address = f"http://127.0.0.1:{self.port}/healthz"
        log = data_dir() / f"bulkhead-{self.size.name}.log"
        command.append(f"--workers={WORKERS}")
        with running(command, self.environment, address, log) as server:
            yield server


def make_site(size: Size) -> Site:
    """Make the installation, unless it is there; its server is not started."""
    web, owner = addresses()
    database = f"bulkhead_bench_{size.name}"
    make_database(owner, database)
    web_role = str(conninfo_to_dict(web)["user"])
    with psycopg.connect(owner, autocommit=True) as connection:
        grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}")
        connection.execute(grant.format(sql.Identifier(database), sql.Identifier(web_role)))
    web_url, owner_url = (make_conninfo(url, dbname=database) for url in (web, owner))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL_FILE", "DATABASE_OWNER_URL_FILE", "BULKHEAD_SECRET_KEY_FILE"}
    } | {
        "DATABASE_URL": web_url,
        "DATABASE_OWNER_URL": owner_url,
        "BULKHEAD_SECRET_KEY": secrets.token_urlsafe(32),
        "DATA_DIR": str(data_dir()),
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "bulkhead.settings",
    }
    site = Site(size, free_port(), web_url, owner_url, environment)
    site.manage("migrate", "--verbosity=0")
    numbers = {"tenants": size.teams, "models": size.models, "versions": size.versions}
    site.manage("generate_models", *(f"--{name}={number}" for name, number in numbers.items()))
    return site


def data_dir() -> Path:
    """Return the folder in which the benchmarks keep everything."""
    folder = Path(os.environ.get("DATA_DIR") or ROOT / "var").resolve() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def addresses() -> tuple[str, str]:
    """Return the addresses for the web role and for the owner: from outside, or embedded."""
    sys.path.append(str(ROOT / "platform"))
    from bulkhead import env
    from bulkhead.embedded_postgres import ensure_running

    web = env.secret("DATABASE_URL")
    if web is None:
        urls = ensure_running(data_dir())
        return urls.web, urls.owner
    return web, env.secret("DATABASE_OWNER_URL") or web


def make_database(owner_url: str, name: str, *, anew: bool = False) -> None:
    """Make a database of the owner's, unless it is there; with ``anew`` an empty one anyway."""
    database = sql.Identifier(name)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        if anew:
            owner.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        if owner.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return
        for statement in (
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
            "REVOKE ALL ON DATABASE {} FROM PUBLIC",
        ):
            owner.execute(sql.SQL(statement).format(database))
