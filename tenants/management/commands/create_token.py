"""``manage.py create_token``: make a token for a person or a robot and print it, alone."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from tenants.identity import robots, tokens
from tenants.management import lookup
from tenants.models import ApiToken, User


class Command(BaseCommand):
    """Make a token."""

    help = (
        "Make a token for a person, or with --robot for a team's robot, which is made if there is "
        "none. The token alone is printed: TOKEN=$(manage.py create_token PERSON). It is shown "
        "this once; what is said about it goes to the standard error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose token it is and what it opens."""
        holder = parser.add_mutually_exclusive_group(required=True)
        holder.add_argument("username", nargs="?", help="the person's user name")
        holder.add_argument("--robot", metavar="NAME", help="the robot's name in its team")
        parser.add_argument("--team", metavar="SLUG", help="the only team that it opens (any)")
        parser.add_argument(
            "--role", choices=robots.ROLES, help=f"of a new robot ({robots.ROLES[0]})"
        )
        parser.add_argument("--scope", choices=ApiToken.Scope.values, default=ApiToken.Scope.READ)
        parser.add_argument("--days", type=int, default=tokens.DEFAULT_DAYS, help="lifetime (90)")
        parser.add_argument("--name", default="command line", help="what will use it")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Make the token, or say what is wrong."""
        tenant = lookup.team(options["team"]) if options["team"] else None
        if options["robot"] is None and options["role"]:
            raise CommandError("--role is for a robot; a person's role is that of the membership.")
        try:
            if options["robot"] is None:
                holder = lookup.person(options["username"])
                if holder.robot_of_id is not None:
                    raise CommandError(f"{holder.username} is a robot: name it by --robot, --team.")
            elif tenant is None:
                raise CommandError("--robot needs the --team that the robot belongs to.")
            else:
                holder = self.robot(tenant, options["robot"], options["role"])
            token, secret = tokens.create_token(
                holder, options["name"], scope=options["scope"], tenant=tenant, days=options["days"]
            )
        except ValidationError as error:
            raise lookup.as_command_error(error) from None
        opens = token.tenant.slug if token.tenant else "any team of the person"
        self.say(
            f"Made a token for {holder.username}: scope {token.scope}, opens {opens}, "
            f"expires {token.expires_at:%Y-%m-%d %H:%M} UTC."
        )
        self.stdout.write(secret)

    def robot(self, tenant: Any, name: str, role: str | None) -> User:
        """Return the team's robot of that name, which is made if there is none."""
        found = robots.robot_named(tenant, name)
        if found is None:
            robot = robots.create_robot(tenant, name, role or robots.ROLES[0])
            self.say(f"Made the robot {robot.username} as {role or robots.ROLES[0]}.")
            return robot
        if role and role != found.role:
            raise CommandError(f"The robot {name} is there already, as {found.role}.")
        return found.user

    def say(self, text: str) -> None:
        """Write to standard error: standard output has the token alone."""
        self.stderr.write(text, style_func=str)
