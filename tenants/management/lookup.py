"""Finding the rows that a command's arguments name; a missing one is a CommandError."""

from django.core.exceptions import ValidationError
from django.core.management import CommandError

from tenants.models import Tenant, User


def team(slug: str) -> Tenant:
    """Return the team of that slug; raises CommandError."""
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise CommandError(f"There is no team {slug}.")
    return tenant


def person(username: str) -> User:
    """Return the account of that user name; raises CommandError."""
    user = User.objects.filter(username=username).first()
    if user is None:
        raise CommandError(f"There is no account {username}.")
    return user


def as_command_error(error: ValidationError) -> CommandError:
    """Return a verb's refusal as the error that ends a command."""
    return CommandError(" ".join(error.messages))
