"""``manage.py list_models``: the names, or all there is to know, of one team's models or of all."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from models_registry.exchange.json_document import export
from models_registry.models import RegisteredModel
from tenants.isolation.scope import tenant_scope
from tenants.management import lookup
from tenants.models import Tenant
from tenants.text import printable


class Command(BaseCommand):
    """List models."""

    help = "List the models of one team, or of each team."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose models; all teams' only if asked for by name."""
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--team", metavar="SLUG", help="one team's")
        whose.add_argument("--all-teams", action="store_true", help="each team's, a line each")
        parser.add_argument(
            "--json", action="store_true", help="everything about them, as import_models reads it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the list."""
        everybody = options["all_teams"]
        teams = list(Tenant.objects.all()) if everybody else [lookup.team(options["team"])]
        if options["json"]:
            rows = {tenant.slug: export(tenant) for tenant in teams}
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False))
        elif everybody:
            for tenant in teams:
                names = ", ".join(printable(name) for name in model_names(tenant))
                has = f"has models: {names}" if names else "has no models"
                self.stdout.write(f"{tenant.slug} {has}")
        else:
            self.stdout.write(str(model_names(*teams)))


def model_names(tenant: Tenant) -> list[str]:
    """Return the names of the team's models in order."""
    with tenant_scope(tenant):
        return sorted(RegisteredModel.objects.values_list("name", flat=True))
