"""Django's PostgreSQL backend that starts the embedded server when a connection is first opened.

Settings can thus be read (by type checkers, `manage.py help`) without starting a database.
"""

from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.conninfo import conninfo_to_dict


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
        return params
