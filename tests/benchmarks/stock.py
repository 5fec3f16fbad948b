"""Stock MLflow servers on the database server that Bulkhead uses, alone or for many teams.

As ``mlflow server`` comes, but for what serves no registry: its runner of evaluation jobs (nine
processes that poll), its access log, and what it tells its makers about its use. All that is in
its favour.
"""

import base64
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.benchmarks import contents
from tests.benchmarks.load import HOST, Client
from tests.benchmarks.servers import WORKERS, Server, running
from tests.benchmarks.sites import addresses, data_dir, make_database
from tests.support.servers import free_port

#: Where everything is that belongs to no workspace.
DEFAULT = "default"
WORKSPACE = "team-bench"
ADMIN, MEMBER = "admin", "ben"
# On a busy machine a worker starts more slowly than uvicorn has patience.
UVICORN = "--no-access-log --timeout-worker-healthcheck=60"
UP = b"Application startup complete."
#: What lets a member read a workspace, register models there, and add versions to those of others.
RIGHTS = (("workspace", "*", "USE"), ("registered_model", "*", "EDIT"))
#: Variables that are meant for other servers.
VARIABLES = ("MLFLOW_", "DATABASE_URL", "DATABASE_OWNER_URL", "BULKHEAD_")


@dataclass(frozen=True)
class Stock:
    """A stock server; with ``teams``, in its multi-tenant mode, with that many other teams."""

    name: str
    models: int
    teams: int = 0

    @property
    def database(self) -> str:
        """The database's name; each size has its own."""
        return f"mlflow_bench_{self.name}_{self.models}"

    @contextmanager
    def served(self) -> Iterator[tuple[Server, Client]]:
        """Serve it while the block runs; whoever asks may read and write all that is asked for."""
        _, owner = addresses()
        make_database(owner, self.database)
        port, admin_password = free_port(), secrets.token_urlsafe(16)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)
        } | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [sys.executable, "-m", "mlflow", "server", f"--host={HOST}", f"--port={port}"]
        command += [f"--workers={WORKERS}", f"--uvicorn-opts={UVICORN}"]
        command += [f"--backend-store-uri={_address(owner, self.database)}"]
        command += [f"--artifacts-destination={data_dir() / self.database}"]
        if self.teams:
            command += ["--app-name=basic-auth", "--enable-workspaces"]
            environment |= _basic_auth(owner, f"{self.database}_users", admin_password)
        log = data_dir() / f"{self.database}.log"
        with running(command, environment, f"http://{HOST}:{port}/health", log) as server:
            while log.read_bytes().count(UP) < WORKERS:
                time.sleep(0.2)
            self._fill(make_conninfo(owner, dbname=self.database))
            client = Client(port, {})
            if self.teams:
                client = _member(Client(port, _basic(ADMIN, admin_password)))
            yield server, client

    def _fill(self, address: str) -> None:
        """Fill what is missing, and take away what an earlier run has made."""
        ours = contents.names(self.models)
        with psycopg.connect(address, autocommit=True, cursor_factory=psycopg.ClientCursor) as to:
            for statement in contents.TIDY_STOCK.split(";"):
                to.execute(statement, contents.parameters(ours))
            if not self.teams:
                to.execute(contents.FILL_STOCK, {**contents.parameters(ours), "workspace": DEFAULT})
            else:
                teams = {f"team-{team:04}": ours[: len(ours) // 10] for team in range(self.teams)}
                for workspace, chosen in {WORKSPACE: ours, **teams}.items():
                    values = {**contents.parameters(chosen), "workspace": workspace}
                    to.execute(
                        "INSERT INTO workspaces (name) VALUES (%(workspace)s)"
                        " ON CONFLICT DO NOTHING",
                        values,
                    )
                    to.execute(contents.FILL_STOCK, values)
            to.execute("VACUUM (ANALYZE)")


def _address(owner_url: str, database: str) -> str:
    """Return the database's address as SQLAlchemy reads it; a folder's path means a socket."""
    given = conninfo_to_dict(owner_url)
    login = f"{quote(str(given['user']), '')}:{quote(str(given.get('password', '')), '')}"
    where = f"host={quote(str(given.get('host', 'localhost')), '')}&port={given.get('port', 5432)}"
    return f"postgresql+psycopg://{login}@/{database}?{where}"


def _basic_auth(owner_url: str, database: str, password: str) -> dict[str, str]:
    """Return the variables of the multi-tenant mode; its people are made anew each time."""
    make_database(owner_url, database, anew=True)
    path = data_dir() / f"{database}.ini"
    path.touch(mode=0o600)
    address = _address(owner_url, database).replace("%", "%%")
    path.write_text(
        "[mlflow]\ndefault_permission = READ\ngrant_default_workspace_access = false\n"
        f"database_uri = {address}\nadmin_username = {ADMIN}\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
    }


def _basic(username: str, password: str) -> dict[str, str]:
    login = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


def _member(admin: Client) -> Client:
    """Make an ordinary member of our workspace; return them, asking for it."""
    password = secrets.token_urlsafe(16)

    def post(path: str, **body: object) -> dict[str, dict[str, int]]:
        answer: dict[str, dict[str, int]] = json.loads(
            admin.ask(admin.request("POST", f"/api/{path}", body))
        )
        return answer

    post("2.0/mlflow/users/create", username=MEMBER, password=password)
    role = post("3.0/mlflow/roles/create", workspace=WORKSPACE, name="contributor")["role"]["id"]
    for kind, pattern, permission in RIGHTS:
        post(
            "3.0/mlflow/roles/permissions/add",
            role_id=role,
            resource_type=kind,
            resource_pattern=pattern,
            permission=permission,
        )
    post("3.0/mlflow/roles/assign", username=MEMBER, role_id=role)
    return Client(admin.port, _basic(MEMBER, password) | {"X-MLFLOW-WORKSPACE": WORKSPACE})
