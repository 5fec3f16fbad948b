"""``manage.py revoke_token``: end a token at once."""

from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from tenants.identity import tokens
from tenants.models import ApiToken


class Command(BaseCommand):
    """Revoke a token."""

    help = "End a token at once and for good; it is named by its first twelve characters."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the token's clear beginning."""
        parser.add_argument("prefix", help="such as bhw_1a2B3c4D")

    def handle(self, *args: Any, **options: Any) -> None:
        """Revoke the token, or say that there is none."""
        prefix = options["prefix"][: tokens.PREFIX_CHARS]
        token = ApiToken.objects.filter(prefix=prefix).select_related("user").first()
        if token is None:
            raise CommandError(f"There is no token {prefix}.")
        if token.revoked_at is not None:
            self.stdout.write(f"{token.prefix} of {token.user.username} was revoked already.")
            return
        tokens.revoke_token(token)
        self.stdout.write(f"{token.prefix} of {token.user.username} is revoked.")
