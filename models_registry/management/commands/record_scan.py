"""``manage.py record_scan``: keep what a scanner found in a version's files."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from models_registry import registry
from models_registry.models import ModelVersion
from tenants.isolation.scope import tenant_scope
from tenants.management import lookup


class Command(BaseCommand):
    """Keep a scanner's verdict."""

    help = (
        "Say whether a version passed a scan or is blocked by it; a scanner calls this. No pod "
        "that names a blocked version starts."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the version and the verdict."""
        parser.add_argument("team", help="the team's slug")
        parser.add_argument("model", help="the model's name")
        parser.add_argument("number", metavar="version", type=int, help="the version's number")
        verdicts = (ModelVersion.Scan.PASSED.value, ModelVersion.Scan.BLOCKED.value)
        parser.add_argument("verdict", choices=verdicts)
        parser.add_argument("--note", default="", help="what was found; the team can read it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Keep the verdict, or say why not."""
        name, number = options["model"], options["number"]
        with tenant_scope(lookup.team(options["team"])):
            versions = ModelVersion.objects.filter(model__name=name, number=number)
            version = versions.first() if 0 < number <= registry.MAX_VERSION_NUMBER else None
            if version is None:
                raise CommandError(f"{options['team']} has no version {number} of {name}.")
            try:
                registry.record_scan(version, options["verdict"], options["note"])
            except ValidationError as error:
                raise lookup.as_command_error(error) from None
        self.stdout.write(f"{name} version {number}: {options['verdict']}.")
