"""Django's PostgreSQL backend, with what the API's speed needs and with the embedded server.

That server is started when a connection is first opened, so that settings can be read (by type
checkers, `manage.py help`) without starting a database.
"""

from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.conninfo import conninfo_to_dict

#: psycopg prepares a statement after this many executions, or at once if ``prepare`` is given.
PREPARE_THRESHOLD = 5


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL, embedded unless ``DATABASE_URL`` names another server."""

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's parameters; the embedded server's address and password are its own."""
        params: dict[str, Any] = super().get_connection_params()
        if settings.EMBEDDED_DATABASE:
            from bulkhead.embedded_postgres import ensure_running

            urls = ensure_running(settings.DATA_DIR)
            url = urls.owner if params["user"] == "bulkhead_owner" else urls.web
            address = conninfo_to_dict(url)
            params |= {key: address[key] for key in ("host", "port", "password") if key in address}
        if settings.PREPARE_STATEMENTS:
            params["prepare_threshold"] = PREPARE_THRESHOLD
        return params

    def init_connection_state(self) -> None:
        """Let prepared statements keep their plan; Django's own statements are not prepared.

        PostgreSQL would plan the API's look-ups anew each time, which costs several times as
        much as running them.
        """
        super().init_connection_state()
        if settings.PREPARE_STATEMENTS:
            with self.cursor() as cursor:
                cursor.execute("SET plan_cache_mode = force_generic_plan")
