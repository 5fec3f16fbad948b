"""``manage.py add_member``: let a person into a team, with a new account if need be."""

import sys
from datetime import UTC, datetime
from getpass import getpass
from typing import Any

from bulkhead import env
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.identity import directory
from tenants.management import lookup
from tenants.models import Role, User


class Command(BaseCommand):
    """Let a person into a team."""

    help = (
        "Let a person into a team. With --create, an account is made if there is none; its "
        "password is BULKHEAD_PASSWORD (or in the file that BULKHEAD_PASSWORD_FILE names), or "
        "is asked for at a terminal; otherwise the account cannot sign in with a password."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the team, the person and the membership."""
        parser.add_argument("team", help="the team's slug")
        parser.add_argument("username", help="the person's user name")
        parser.add_argument("--role", choices=Role.values, default=Role.VIEWER)
        parser.add_argument("--reason", default="", help="why; the team can read it")
        parser.add_argument(
            "--expires",
            metavar="DATE",
            help="when the person is out again: 2026-12-31 (at 0:00 UTC), 2026-12-31T18:00+01:00",
        )
        parser.add_argument("--create", action="store_true", help="make the account if need be")
        parser.add_argument("--email", default="", help="of the new account")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Let the person in, or say why not."""
        tenant = lookup.team(options["team"])
        expires = moment(options["expires"]) if options["expires"] else None
        if expires is not None and expires <= timezone.now():
            raise CommandError("--expires is in the past.")
        try:
            user = account(options["username"], options["email"], create=options["create"])
            if not user.is_active:
                raise CommandError(f"The account {user.username} is deactivated.")
            directory.add_member(
                tenant, user, options["role"], reason=options["reason"], expires_at=expires
            )
        except ValidationError as error:
            raise lookup.as_command_error(error) from None
        until = f" until {expires:%Y-%m-%d %H:%M} UTC" if expires else ""
        self.stdout.write(f"{user.username} is {options['role']} of {tenant.slug}{until}.")
        if not user.has_usable_password():
            self.stdout.write("The account has no password, so nobody can sign in with one.")


def account(username: str, email: str, *, create: bool) -> User:
    """Return the account of that user name; with ``create`` it is made if there is none.

    Raises CommandError, and ValidationError for what a new account may not be.
    """
    if not create or User.objects.filter(username=username).exists():
        return lookup.person(username)
    user = User(username=username, email=User.objects.normalize_email(email))
    password = new_password()
    if password:
        validate_password(password, user)
    user.set_password(password or None)
    user.full_clean()
    user.save(force_insert=True)
    audit.record_account("account_created", user, changes={"by": "system"})
    return user


def new_password() -> str | None:
    """Return the new account's password: the environment's, or the typed one; None for none.

    Raises CommandError.
    """
    try:
        password = env.secret("BULKHEAD_PASSWORD")
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    if password is not None or not sys.stdin.isatty():
        return password
    try:
        password = getpass("Password (empty for none): ")
        if password and getpass("The same again: ") != password:
            raise CommandError("These were two different passwords.")
    except EOFError:
        raise CommandError("No password was typed.") from None
    return password


def moment(text: str) -> datetime:
    """Return the time that ``text`` names, in UTC unless it has a zone; raises CommandError."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"--expires {text} is no date such as 2026-12-31.") from None
