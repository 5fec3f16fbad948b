"""``manage.py collect_garbage``: give back the space of files that nobody has any more."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from models_registry.errors import StoreUnavailable
from models_registry.files.garbage import Collection, Garbage
from tenants.models import Tenant

REPORT_SECONDS = 5


class Command(BaseCommand):
    """Clear away bytes that no file has, and uploads that never ended."""

    help = (
        "Delete from the store what no file has any more and what broken uploads left. It may run "
        "at any time, beside uploads; run it once a day."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what counts as old, and whether to delete at all."""
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would go, and delete nothing"
        )
        parser.add_argument(
            "--older-than",
            type=int,
            default=24,
            metavar="HOURS",
            help="leave alone what was written less than this many hours ago (24)",
        )
        parser.add_argument(
            "--of-no-team",
            action="store_true",
            help="also delete files of teams that this database does not know: only where no other "
            "installation keeps its files in the same store",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it team by team, and say on stderr how far it has come."""
        if options["older_than"] < 0:
            raise CommandError("--older-than takes a number of hours, 0 or more.")
        before = timezone.now() - timedelta(hours=options["older_than"])
        collection = Collection(before, options["dry_run"])
        try:
            self._report("Would free" if collection.dry_run else "Freed", self._teams(collection))
            strangers = collection
            if not options["of_no_team"]:
                strangers = Collection(before, dry_run=True)
            self._of_no_team(strangers, options)
        except StoreUnavailable as error:
            raise CommandError(f"The store of files does not answer: {error}") from error

    def _teams(self, collection: Collection) -> Iterator[Garbage]:
        reported = time.monotonic()
        teams = list(Tenant.objects.all())
        for done, tenant in enumerate(teams):
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                self.stderr.write(f"{done:,} of {len(teams):,} teams")
            yield from collection.of_team(tenant)

    def _of_no_team(self, collection: Collection, options: dict[str, Any]) -> None:
        found = list(collection.of_no_team())
        size = sum(garbage.size for garbage in found)
        if options["of_no_team"]:
            verb = "Would free" if collection.dry_run else "Freed"
            self.stdout.write(f"{verb} {size:,} bytes of teams that are not in the database.")
        elif found:
            self.stdout.write(
                f"{size:,} bytes belong to teams that are not in the database; if no other "
                "installation keeps its files there, --of-no-team deletes them."
            )

    def _report(self, verb: str, garbage: Iterator[Garbage]) -> None:
        counts: Counter[str] = Counter()
        size = 0
        for found in garbage:
            counts[found.kind] += 1
            size += found.size
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        self.stdout.write(f"{verb} {size:,} bytes: {kinds or 'nothing was left over'}.")
