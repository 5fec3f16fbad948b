"""``manage.py import_models``: import teams' models from a JSON file, all of it or nothing."""

import sys
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from models_registry.exchange import json_document
from tenants.text import printable


class Command(BaseCommand):
    """Import models."""

    help = (
        "Import models of one or more teams from a JSON file, in one transaction. What the file "
        "does not mention is left as it is; importing it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the file."""
        parser.add_argument("file", help="the file; - reads standard input")
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would change, and change nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and report by team."""
        dry_run = options["dry_run"]
        try:
            document = json_document.parse(read(options["file"]))
            reports = json_document.apply(document, dry_run=dry_run)
        except json_document.ImportProblem as problem:
            raise CommandError(str(problem)) from None
        for report in reports:
            self.stdout.write(str(report))
            if dry_run or options["verbosity"] > 1:
                for done, names in (("created", report.created), ("updated", report.updated)):
                    for name in names:
                        self.stdout.write(f"  {done} {printable(name)}")
        if dry_run:
            self.stdout.write("This was a dry run: nothing was changed.")


def read(name: str) -> bytes:
    """Return the file's bytes."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
