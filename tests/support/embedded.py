"""The embedded PostgreSQL as its superuser, whose password lies beside the data."""

import json
from pathlib import Path

import psycopg
from bulkhead.embedded_postgres import ensure_running

#: What a server need not do whose data nobody wants back after a power cut.
NOT_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def connect_as_superuser(data_dir: Path) -> psycopg.Connection:
    """Connect as the superuser, with the password from its file."""
    home = data_dir / "postgres"
    password = json.loads((home / "passwords.json").read_text())["postgres"]
    return psycopg.connect(
        host=str((home / "socket").resolve()),
        user="postgres",
        dbname="postgres",
        password=password,
        autocommit=True,
    )


def start_without_durability(data_dir: Path) -> None:
    """Start the tests' own server, which waits for no disk; servers that tests start do."""
    ensure_running(data_dir)
    with connect_as_superuser(data_dir) as connection:
        for name in NOT_DURABLE:
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")
