"""Commands of manage.py, run here or in a process of their own."""

import os
import subprocess
import sys
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.conninfo import make_conninfo


def run(*words: str) -> str:
    """Run a command and return what it prints."""
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def refusal(*words: str) -> str:
    """Return why a command refuses."""
    with pytest.raises(CommandError) as raised:
        run(*words)
    return str(raised.value)


def manage(*words: str, feed: str = "") -> subprocess.CompletedProcess[str]:
    """Run manage.py as a process of its own, on the test database."""
    params = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    address = make_conninfo("", **{name: params[name] for name in names if params.get(name)})
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": address, "BULKHEAD_SECRET_KEY": "only for this test"},
        input=feed,
        capture_output=True,
        text=True,
        check=False,
    )
