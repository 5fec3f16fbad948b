"""The embedded PostgreSQL: shared, never lost, and closed to everybody else on the machine.

Each user of a server is a process of its own, as it is in life.
"""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support import ROOT
from tests.support.embedded import connect_as_superuser
from tests.support.waiting import wait_until

IS_ROOT = os.geteuid() == 0

USE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from bulkhead.embedded_postgres import ensure_running
print(json.dumps(asdict(ensure_running(Path(sys.argv[1])))), flush=True)
"""
USE_UNTIL_TOLD = f"{USE}\nsys.stdin.read()"


@dataclass
class Program:
    """A process that uses the server below a folder."""

    process: subprocess.Popen[str]

    @property
    def urls(self) -> dict[str, str]:
        """The addresses it got; waits for them."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        urls: dict[str, str] = json.loads(line)
        return urls

    def end(self) -> None:
        """Let it end as programs end, with nothing to complain about."""
        assert self.process.communicate(timeout=120) == ("", "")
        assert self.process.returncode == 0

    def end_refused(self) -> str:
        """Return the last words of one that gets no server."""
        said, failure = self.process.communicate(timeout=120)
        assert (said, self.process.returncode) == ("", 1)
        return failure

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.communicate(timeout=120)


def run(data_dir: Path, code: str = USE_UNTIL_TOLD) -> Program:
    """Run ``code`` with the path of a data folder."""
    return Program(
        subprocess.Popen(
            [sys.executable, "-c", code, str(data_dir)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "platform")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


@contextmanager
def using(data_dir: Path) -> Iterator[dict[str, str]]:
    """Use the server as one program among others; yields its addresses."""
    program = run(data_dir)
    try:
        yield program.urls
    finally:
        program.end()


def postmaster(data_dir: Path) -> int | None:
    """Return the process id of the server that runs, if one runs."""
    path = data_dir / "postgres" / "data" / "postmaster.pid"
    return int(path.read_text().split()[0]) if path.exists() else None


def has_ended(process: int) -> bool:
    """Tell whether a process runs no more, even if nobody has asked how it ended."""
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kept_rows(url: str) -> list[int]:
    """Return the rows of the table that `keep_a_row` fills."""
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY number")]


def keep_a_row(url: str, number: int) -> None:
    """Commit a row."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a server that runs until the module's last test."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def urls(data_dir: Path) -> Iterator[dict[str, str]]:
    """The addresses of that server."""
    with using(data_dir) as urls:
        yield urls


def test_the_roles_have_no_privileges(urls: dict[str, str]) -> None:
    with psycopg.connect(urls["web"]) as connection:
        rows = connection.execute(
            """SELECT rolname, rolcanlogin, rolcreatedb,
                      rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication
                 FROM pg_roles WHERE rolname LIKE 'bulkhead%' ORDER BY rolname"""
        ).fetchall()
        owner = connection.execute(
            "SELECT pg_get_userbyid(datdba), current_user FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert rows == [("bulkhead_owner", True, True, False), ("bulkhead_web", True, False, False)]
    assert owner == ("bulkhead_owner", "bulkhead_web")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (number integer)",
        "CREATE TEMPORARY TABLE mine (number integer)",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "SET ROLE bulkhead_owner",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
    ],
)
def test_the_web_role_makes_nothing(urls: dict[str, str], statement: str) -> None:
    with (
        psycopg.connect(urls["web"], autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_a_third_role_does_not_get_in(data_dir: Path, urls: dict[str, str]) -> None:
    with connect_as_superuser(data_dir) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'known'")
        host = connection.info.host
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(host=host, user="stranger", password="known", dbname="bulkhead")


@pytest.mark.parametrize("role", ["postgres", "bulkhead_owner", "bulkhead_web"])
def test_nobody_gets_in_without_a_password(urls: dict[str, str], role: str) -> None:
    with psycopg.connect(urls["web"]) as connection:
        host = connection.info.host
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, user=role, password=password, dbname="bulkhead")


def test_no_rule_trusts_anybody_and_no_port_is_open(data_dir: Path, urls: dict[str, str]) -> None:
    with connect_as_superuser(data_dir) as connection:
        rules = connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
        addresses = connection.execute("SHOW listen_addresses").fetchone()
        durable = connection.execute("SELECT current_setting('fsync')").fetchone()
    assert rules == [("local", "scram-sha-256")]
    assert addresses == ("",)
    assert durable == ("on",)
    # Those that initdb wrote were in force, if any, only while no server ran.
    assert "trust" not in "".join(
        line
        for line in (data_dir / "postgres/data/pg_hba.conf").read_text().splitlines()
        if not line.startswith("#")
    )


def test_the_files_are_private(data_dir: Path, urls: dict[str, str]) -> None:
    home = data_dir / "postgres"

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(home / "passwords.json") == 0o600
    assert mode(home / "data") == mode(home / "socket") == 0o700
    assert mode(home / "socket/.s.PGSQL.5432") == 0o700
    # For root, the server's own account, and it alone, may pass through.
    assert mode(home) == (0o710 if IS_ROOT else 0o700)
    assert not [path for path in home.rglob("*") if path.is_file() and mode(path) & 0o007]


AS_A_STRANGER = """
import os, pathlib, pwd, socket, sys
if os.geteuid() == 0:
    stranger = pwd.getpwnam("nobody")
    os.setgroups([]); os.setgid(stranger.pw_gid); os.setuid(stranger.pw_uid)
    home = pathlib.Path(sys.argv[1], "postgres")
    tries = {
        "connect": lambda: socket.socket(socket.AF_UNIX).connect(f"{home}/socket/.s.PGSQL.5432"),
        "read": (home / "passwords.json").read_text,
        "list": lambda: os.listdir(home),
        "data": lambda: os.listdir(home / "data"),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except PermissionError:
            continue
        sys.exit(f"a stranger may {name}")
"""


def test_another_user_of_the_machine_gets_nowhere(
    data_dir: Path, urls: dict[str, str], tmp_path: Path
) -> None:
    # The folders above must not be what keeps them out; pytest's are private to their user.
    for folder in (data_dir, *data_dir.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    run(data_dir, AS_A_STRANGER).end()


def test_the_last_one_out_stops_the_server(tmp_path: Path) -> None:
    first = run(tmp_path)
    urls = first.urls
    keep_a_row(urls["owner"], 1)
    second = run(tmp_path)
    assert second.urls == urls
    first.end()
    assert kept_rows(urls["owner"]) == [1]
    second.end()
    assert postmaster(tmp_path) is None
    with using(tmp_path) as again:
        assert kept_rows(again["owner"]) == [1]


def test_killed_users_are_not_counted(tmp_path: Path) -> None:
    killed = run(tmp_path)
    urls = killed.urls
    keep_a_row(urls["owner"], 1)
    killed.kill()
    server = postmaster(tmp_path)
    with using(tmp_path) as again:
        assert postmaster(tmp_path) == server
        assert kept_rows(again["owner"]) == [1]
    assert postmaster(tmp_path) is None


def test_a_killed_server_loses_nothing_and_starts_again(tmp_path: Path) -> None:
    killed = run(tmp_path)
    urls = killed.urls
    with psycopg.connect(urls["owner"]):  # its backend outlives the main process for a moment
        keep_a_row(urls["owner"], 1)
        server = postmaster(tmp_path)
        assert server is not None
        os.kill(server, signal.SIGKILL)
        killed.kill()
        with using(tmp_path) as again:
            assert kept_rows(again["owner"]) == [1]


def test_a_user_notices_that_the_server_was_killed(tmp_path: Path) -> None:
    code = f"{USE}\nsys.stdin.readline()\nprint(ensure_running(Path(sys.argv[1])).owner)"
    program = run(tmp_path, code)
    owner = program.urls["owner"]
    keep_a_row(owner, 1)
    server = postmaster(tmp_path)
    assert server is not None
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: has_ended(server))
    assert program.process.communicate("go on\n", timeout=120)[0].strip() == owner


def test_another_process_may_have_got_the_id_of_a_server_long_gone(tmp_path: Path) -> None:
    with using(tmp_path):
        written = (tmp_path / "postgres/data/postmaster.pid").read_text().splitlines()
    written[0] = str(os.getpid())
    (tmp_path / "postgres/data/postmaster.pid").write_text("\n".join(written) + "\n")
    with using(tmp_path) as urls, psycopg.connect(urls["web"]):
        assert postmaster(tmp_path) != os.getpid()


def test_a_child_that_ends_leaves_its_parents_server_alone(tmp_path: Path) -> None:
    code = f"""{USE}
import os
if os.fork() == 0:
    sys.exit()
os.wait()
print(ensure_running(Path(sys.argv[1])).owner, flush=True)
sys.stdin.read()
"""
    program = run(tmp_path, code)
    owner = program.urls["owner"]
    assert program.process.stdout is not None
    assert program.process.stdout.readline().strip() == owner
    keep_a_row(owner, 1)
    program.end()
    assert postmaster(tmp_path) is None


def test_two_first_starts_at_once_make_one_server(tmp_path: Path) -> None:
    programs = [run(tmp_path / "new") for _ in range(3)]
    first, *others = [program.urls for program in programs]
    assert all(urls == first for urls in others)
    keep_a_row(first["owner"], 1)
    for program in programs:
        program.end()
    assert postmaster(tmp_path / "new") is None


def test_an_interrupted_first_start_is_begun_anew(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with using(tmp_path) as urls, psycopg.connect(urls["web"]):
        assert not half_made.exists()


def test_a_deep_folder_with_an_odd_name_works(tmp_path: Path) -> None:
    deep = tmp_path / 'it\'s, "deep" \\ %20 and $long' / ("x" * 120)
    with using(deep) as urls:
        keep_a_row(urls["owner"], 1)
        elsewhere = (deep / "postgres" / "socket").readlink()
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    assert not elsewhere.exists()
    with using(deep) as urls:
        assert kept_rows(urls["owner"]) == [1]


def test_a_role_that_may_do_too_much_stops_the_start(tmp_path: Path) -> None:
    with using(tmp_path), connect_as_superuser(tmp_path) as connection:
        connection.execute("ALTER ROLE bulkhead_web BYPASSRLS")
    refused = run(tmp_path)
    assert "bulkhead_web may do too much" in refused.end_refused()
    assert postmaster(tmp_path) is None


def test_lost_passwords_are_named(tmp_path: Path) -> None:
    with using(tmp_path):
        pass
    (tmp_path / "postgres" / "passwords.json").unlink()
    refused = run(tmp_path)
    assert "passwords.json is missing" in refused.end_refused()
    assert postmaster(tmp_path) is None
