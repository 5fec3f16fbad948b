"""``manage.py list_groups``: the clusters' groups and who is in them, for an identity provider."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tenants.kubernetes.bundle.objects import team_of
from tenants.kubernetes.names import CLUSTER_ROLES, group
from tenants.management import lookup
from tenants.models import Tenant


class Command(BaseCommand):
    """List groups."""

    help = (
        "List the groups that the RoleBindings in tenants' namespaces name, each with the user "
        "names of its members at this moment: what an OpenID provider has to put into the tokens "
        "that it gives to people. Robots are in none, and a suspended team's are empty."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose groups, and how to print them."""
        parser.add_argument(
            "--tenant",
            metavar="SLUG",
            nargs="+",
            action="extend",
            help="only these teams' groups (all)",
        )
        parser.add_argument("--json", action="store_true", help="as an object: group to names")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the groups."""
        named = options["tenant"]
        tenants = [lookup.team(slug) for slug in named] if named else Tenant.objects.all()
        groups = {name: people for tenant in tenants for name, people in groups_of(tenant).items()}
        if options["json"]:
            self.stdout.write(json.dumps(groups, indent=2))
            return
        for name, people in groups.items():
            self.stdout.write(f"{name}: {', '.join(people)}".rstrip())


def groups_of(tenant: Tenant) -> dict[str, list[str]]:
    """Return the team's groups, each with the user names of its current members."""
    team = team_of(tenant)
    members = () if team.suspended else team.members
    return {
        group(team.slug, role): sorted(name for name, held in members if held in held_by)
        for role, held_by in CLUSTER_ROLES.items()
    }
