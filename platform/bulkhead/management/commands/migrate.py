"""``migrate`` as the owner role; afterwards the web role gets its rights, and no more."""

from typing import Any

from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import connections

from bulkhead.database_rights import grant_to_web_role


class Command(migrate.Command):
    """Django's ``migrate``, run as the role that owns the tables."""

    def add_arguments(self, parser: Any) -> None:
        """Take the owner's connection unless another is named."""
        super().add_arguments(parser)
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, make the cache's table and set the web role's rights anew."""
        super().handle(*args, **options)
        call_command("createcachetable", database=options["database"], verbosity=0)
        grant_to_web_role(connections[options["database"]], connections["default"])
