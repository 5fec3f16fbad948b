"""``manage.py load_demo``: three teams with their people and models, to look around in.

Demo accounts exist through this command only. What people do in the demo stays: once loaded, it
is not loaded again, and the command only prints how to sign in.
"""

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from bulkhead import env
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.base import BaseCommand
from django.db import connection, transaction

from models_registry.exchange import json_document
from models_registry.models import RegisteredModel
from tenants import audit
from tenants.access import share
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import AccountEvent, Membership, Role, Tenant, User
from tenants.sizes import SizeName

MODELS = Path(__file__).resolve().parents[2] / "demo" / "models.json"

TEAMS = {
    "team_alpha": (
        "Alpha Diagnostics",
        "Models that help to read laboratory results.",
        SizeName.MEDIUM,
    ),
    "team_beta": ("Beta Cellars", "Models for the quality control of wine.", SizeName.SMALL),
    "team_gamma": (
        "Gamma Vision",
        "Models that read forms, and their little helpers.",
        SizeName.LARGE,
    ),
}
PEOPLE = {
    "alice": ("Alice", "Moreau", {"team_alpha": Role.ADMIN}),
    "bob": ("Bob", "Lindqvist", {"team_alpha": Role.VIEWER}),
    "bela": ("Béla", "Kovács", {"team_beta": Role.ADMIN}),
    "gina": ("Gina", "Rossi", {"team_gamma": Role.CONTRIBUTOR}),
    "hugo": ("Hugo", "Brandt", {"team_gamma": Role.ADMIN}),
    "dana": ("Dana", "Okafor", {}),
}
PLATFORM_ADMINS = {"dana"}

#: The audit event that marks an account as the demo's: nobody can edit the log.
MARK = {"action": "account_created", "changes__demo": True}


class Command(BaseCommand):
    """Load the demo."""

    help = (
        "Make the demo's teams, people and models unless they are there, and print the sign-ins. "
        "The password is BULKHEAD_DEMO_PASSWORD; without one it is made and kept in DATA_DIR."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the demo once; print a line for each account."""
        with transaction.atomic():
            # Of two processes that load at the same time, the second finds the demo loaded.
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('bulkhead.load_demo'))")
            password = demo_password()
            accounts = demo_accounts()
            if not accounts:
                load(password)
                accounts = demo_accounts()
            set_password(accounts, password)
        for user in accounts:
            if user.is_active:
                self.stdout.write(f"{user.username:<5}  {password}  {role(user)}")


def demo_password() -> str:
    """Return the one password of all demo accounts."""
    try:
        password = env.secret("BULKHEAD_DEMO_PASSWORD")
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    if password:
        return password
    path = Path(settings.DATA_DIR) / "demo-password"
    if path.exists():
        return path.read_text().strip()
    password = secrets.token_urlsafe(12)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Write a temporary file and rename it, so that a crash leaves no empty file.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{password}\n")
    Path(draft).replace(path)
    return password


def demo_accounts() -> list[User]:
    """Return the accounts that this command made, in its order."""
    made = AccountEvent.objects.filter(**MARK).values("user")
    accounts = {user.username: user for user in User.objects.filter(pk__in=made)}
    return [accounts[name] for name in PEOPLE if name in accounts]


@transaction.atomic
def load(password: str) -> None:
    """Make everything; nothing of somebody else's is touched."""
    taken = [
        *User.objects.filter(username__in=PEOPLE).values_list("username", flat=True),
        *Tenant.objects.filter(slug__in=TEAMS).values_list("slug", flat=True),
    ]
    if taken:
        raise CommandError(
            f"The demo would take over what is not the demo's: {', '.join(sorted(taken))}."
        )
    teams = {
        slug: directory.create_tenant(
            slug, name, contact="demo@example.com", description=description, size=size
        )
        for slug, (name, description, size) in TEAMS.items()
    }
    secret = make_password(password)
    for username, (first, last, roles) in PEOPLE.items():
        user = make_account(username, first, last, secret)
        for slug, its_role in roles.items():
            directory.add_member(teams[slug], user, its_role)
    json_document.apply(json_document.parse(MODELS.read_bytes()))
    with tenant_scope(teams["team_gamma"], User.objects.get(username="hugo")):
        share(RegisteredModel.objects.get(name="model5"), with_tenant=teams["team_beta"])


def make_account(username: str, first: str, last: str, secret: str) -> User:
    """Make one demo account; ``secret`` is the encoded password."""
    platform = username in PLATFORM_ADMINS
    user = User(
        username=username,
        first_name=first,
        last_name=last,
        email=f"{username}@example.com",
        password=secret,
        is_staff=platform,
        is_superuser=platform,
    )
    user.full_clean()
    user.save(force_insert=True)
    audit.record_account("account_created", user, changes={"by": "system", "demo": True})
    return user


def set_password(accounts: list[User], password: str) -> None:
    """Make ``password`` the accounts' password, as the lines to be printed promise."""
    # Hashing is slow on purpose, and all accounts share one hash: check it once.
    right = {user.password: False for user in accounts}
    right = {encoded: check_password(password, encoded) for encoded in right}
    secret = None
    for user in accounts:
        if not right[user.password]:
            secret = secret or make_password(password)
            user.password = secret
            user.save(update_fields=["password"])
            audit.record_account("password_changed", user, changes={"by": "system"})


def role(user: User) -> str:
    """Say what the account is good for."""
    memberships = Membership.objects.active().filter(user=user).select_related("tenant")
    roles = [f"{membership.role} of {membership.tenant.slug}" for membership in memberships]
    if user.is_superuser and user.is_staff:
        roles.insert(0, "platform admin")
    return ", ".join(roles) or "member of no team"
