"""``manage.py create_tenant``: make a team and, if named, its first admin."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser

from tenants.identity import directory
from tenants.management import lookup
from tenants.sizes import SIZES, SizeName


class Command(BaseCommand):
    """Make a team."""

    help = "Make a team; its slug is its address and can never be changed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the team's slug and what is known about it."""
        parser.add_argument("slug", help="lower-case letters, digits, “-” and “_”")
        parser.add_argument("--name", default="", help="what people read (the slug)")
        parser.add_argument("--contact", default="", help="who answers for the team")
        parser.add_argument("--description", default="", help="what the team does")
        parser.add_argument(
            "--size",
            choices=[str(name) for name in SIZES],
            default=str(SizeName.SMALL),
            help="how much of a cluster it may use (small)",
        )
        parser.add_argument("--admin", metavar="USERNAME", help="its first admin")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the team, or say what is wrong with it."""
        admin = lookup.person(options["admin"]) if options["admin"] else None
        try:
            tenant = directory.create_tenant(
                options["slug"],
                options["name"],
                contact=options["contact"],
                description=options["description"],
                size=options["size"],
                admin=admin,
            )
        except ValidationError as error:
            raise lookup.as_command_error(error) from None
        self.stdout.write(f"Made {tenant.slug}.")
        if admin is not None:
            self.stdout.write(f"{admin.username} is its admin.")
        else:
            self.stdout.write(
                f"It has no admin yet: manage.py add_member {tenant.slug} USERNAME --role admin"
            )
