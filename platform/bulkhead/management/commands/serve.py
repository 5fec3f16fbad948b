"""``manage.py serve``: everything from an empty folder to a page that answers, in one process tree.

The database is started and migrated, static files are collected, and granian serves the pages.
Ctrl-C and SIGTERM stop all of it. So does the death of this process, however it comes: the
workers notice, and the last one to go stops the database.
"""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, connections
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import MPServer

from bulkhead import env

APPLICATION = "bulkhead.wsgi:application"
#: Threads of a worker; each keeps a database connection, and all workers together at most
#: CONNECTIONS: the embedded database accepts 100.
THREADS = 8
CONNECTIONS = 80
#: Seconds to wait for a port in use: a killed server's workers take a moment to end.
PORT_WAIT_SECONDS = 2.0
STOP_SECONDS = 10
TERMINAL_SIGNALS = {signal.SIGINT, signal.SIGHUP}


class Command(BaseCommand):
    """Serve Bulkhead."""

    help = "Start the database, migrate it and serve the pages until Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the defaults from the environment."""
        parser.add_argument("--host", default="127.0.0.1", help="address (127.0.0.1)")
        parser.add_argument("--port", type=int, help="port (PORT, 8000)")
        parser.add_argument("--workers", type=int, help="worker processes (WORKERS, 2)")
        parser.add_argument("--demo", action="store_true", help="load the demo's teams and models")

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse, or serve until told to stop."""
        host = options["host"]
        port = options["port"] or env.integer("PORT", 8000, minimum=1)
        workers = options["workers"] or env.integer("WORKERS", 2, minimum=1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, leave)
        claim_port(host, port)
        try:
            sign_ins = prepare(demo=options["demo"])
        except OperationalError as error:
            raise CommandError(f"The database cannot be used: {error}") from error
        server = make_server(host, port, workers)
        announcement = threading.Thread(
            target=announce, args=(self.stdout.write, host, port, sign_ins), daemon=True
        )
        announcement.start()
        server.serve(target_loader=load)


def leave(signum: int, frame: object) -> None:
    """Leave at once, but properly: what is registered to run at exit stops the database."""
    sys.exit(0)


def claim_port(host: str, port: int) -> None:
    """Raise CommandError if another program listens there or the port cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + PORT_WAIT_SECONDS
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()  # two may be bound, one can listen
            except PermissionError:
                raise CommandError(
                    f"Port {port} needs more rights than this user has: choose one above 1023,"
                    " for example with PORT=8001."
                ) from None
            except OverflowError:
                raise CommandError(f"Port {port} is not between 1 and 65535.") from None
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                raise CommandError(
                    f"Port {port} of {host} is taken or cannot be used ({error.strerror}): stop the"
                    f" other program, or choose another port, for example with PORT={port + 1}."
                ) from None
            return


def prepare(*, demo: bool) -> list[str]:
    """Bring database and static files up to date; return the demo's sign-ins, a line each."""
    call_command("migrate", verbosity=0)
    sign_ins = io.StringIO()
    call_command("check", databases=["default"], stdout=io.StringIO())
    if demo:
        call_command("load_demo", stdout=sign_ins)
    collect_static_files()
    connections.close_all()
    return sign_ins.getvalue().splitlines()


def collect_static_files() -> None:
    """Collect the static files, unless those collected are made of these very files."""
    root = Path(settings.STATIC_ROOT)
    stamp = root.with_name(f"{root.name}.sha256")
    digest = hashlib.sha256(json.dumps(sorted(_static_sources())).encode()).hexdigest()
    if root.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(digest)


def _static_sources() -> Iterator[tuple[str, int, int]]:
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            status = os.stat(storage.path(path))  # noqa: PTH116 - one call for two facts
            yield storage.path(path), status.st_size, status.st_mtime_ns


class _Server(MPServer):
    """Granian's server, made for a terminal.

    Ctrl-C and the closing of the terminal reach every process. A worker that stops by itself
    looks like a crash; so workers are born with those signals blocked, and are told to stop by
    their parent. For the parent, a closed terminal means to stop, not to start new workers.
    """

    def startup(self, *args: Any, **kwargs: Any) -> None:
        """Start the workers with the terminal's signals blocked; for us they are delayed."""
        hangup = signal.getsignal(signal.SIGHUP)  # ignored under nohup
        signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        super().startup(*args, **kwargs)  # type: ignore[no-untyped-call]  # granian's has no types
        stop = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGHUP, hangup if hangup == signal.SIG_IGN else stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)


def make_server(
    host: str, port: int, workers: int, *, application: str = APPLICATION, **tls: Any
) -> MPServer:
    """Return granian, set up for Django: a few threads, each with its database connection.

    ``tls`` are granian's own options that begin with ``ssl``.
    """
    # Workers start afresh: a forked one would share our connections and threads. The tracker,
    # a helper of multiprocessing, would unblock Ctrl-C if it were started with the first worker.
    multiprocessing.set_start_method("spawn", force=True)
    resource_tracker.ensure_running()
    return _Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=max(1, min(THREADS, CONNECTIONS // workers)),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        log_level=LogLevels.error,
        **tls,
    )


def load(target: str) -> Callable[..., Any]:
    """Return the application; called in each worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, name = target.partition(":")
    application: Callable[..., Any] = getattr(import_module(module), name)
    return application


def _end_with_parent() -> None:
    """Stop this worker when the main process is gone: killed, it cannot tell anybody."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def announce(write: Callable[[str], Any], host: str, port: int, sign_ins: list[str]) -> None:
    """Print the address and the demo's sign-ins as soon as the pages can be had."""
    shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104
    address = f"http://{shown}:{port}"
    while not answers(f"{address}/healthz"):
        time.sleep(0.05)
    write(f"Bulkhead is ready at {address}")
    if sign_ins:
        write("Sign in as (username  password  role):")
        for line in sign_ins:
            write(f"  {line}")
    write("Ctrl-C stops it.")
    sys.stdout.flush()  # into a file or a pipe it would wait for the end


def answers(url: str) -> bool:
    """Tell whether the page can be had."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
