"""The people of the tests, their two teams, and what each team has.

alice is admin of team_alpha, bob viewer there; gina is contributor of team_gamma, hugo admin
there; charlie is a member of nothing; dana is a platform admin. What team_gamma owns
carries the word CANARY, which nobody else may ever see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pytest

from models_registry import registry
from models_registry.files import artifacts
from models_registry.models import ModelVersion, RegisteredModel
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import Role, Tenant, User

#: For tests that need committed rows (threads, other processes); everything is emptied afterwards.
committed = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

PASSWORD = "correct horse battery staple"
CANARY = "CANARY"

#: Names that break what does not quote: each page must work for each of them.
HOSTILE_NAMES = (
    "fraud détection v2 %2e",
    "模型",
    "<script>alert(1)</script>".replace("/", ""),
    "a&b=c?d#e",
    "%2e%2e",
    'it\'s "quoted" {{ braces }}',
    " leading and trailing ",
    "new\nline",
)


def make_user(name: str, **fields: object) -> User:
    """Make an account that can sign in with PASSWORD."""
    return User.objects.create_user(name, f"{name}@example.com", PASSWORD, **fields)


@dataclass(frozen=True)
class World:
    """Two teams with equal model names, and people in and outside them."""

    alpha: Tenant
    gamma: Tenant
    alice: User
    bob: User
    mia: User
    carol: User
    gina: User
    hugo: User
    charlie: User
    dana: User

    def person(self, name: str) -> User:
        """Return the person of that name."""
        user: User = getattr(self, name)
        return user

    def model(self, tenant: Tenant, name: str) -> RegisteredModel:
        """Return a model by its name."""
        with tenant_scope(tenant):
            return RegisteredModel.objects.get(name=name)


def make_world() -> World:
    """Make everybody and everything; registered through the product's own verbs."""
    names = ("alice", "bob", "mia", "carol", "gina", "hugo", "charlie")
    users = {name: make_user(name) for name in names}
    users["dana"] = make_user("dana", is_staff=True, is_superuser=True)
    alpha = directory.create_tenant("team_alpha", "Alpha", admin=users["alice"])
    gamma = directory.create_tenant("team_gamma", f"Gamma {CANARY}", admin=users["hugo"])
    directory.add_member(alpha, users["bob"], Role.VIEWER)
    directory.add_member(alpha, users["carol"], Role.CONTRIBUTOR)
    directory.add_member(alpha, users["mia"], Role.MAINTAINER)
    directory.add_member(gamma, users["gina"], Role.CONTRIBUTOR)
    fill(alpha, users["alice"], "ALPHA")
    fill(gamma, users["hugo"], CANARY)
    return World(alpha=alpha, gamma=gamma, **users)


def fill(tenant: Tenant, owner: User, word: str) -> None:
    """Give the tenant `fraud`, which every tenant has, and one model that only it has."""
    with tenant_scope(tenant, owner):
        for name in ("fraud", f"{word} own"):
            model = registry.register_model(
                name, description=f"{word} description", card=f"# {word} card", tags={word: word}
            )
            for number in (1, 2):
                add_version(model, word, auc=0.9 + number / 100)
            registry.set_alias(model, "champion", 1)


def add_version(model: RegisteredModel, word: str = "some", **metrics: float) -> ModelVersion:
    """Add a version with a value in each field."""
    return registry.add_version(
        model,
        source=f"s3://{word}/model",
        run_id="0" * 32,
        description=f"{word} version",
        tags={"framework": "scikit-learn", "word": word},
        params={"C": "1.0", "word": word},
        metrics=metrics,
    )


#: What `give_files` uploads, by path.
FILES = {
    "MLmodel": b"flavors:\n  sklearn: {sklearn_version: 1.7.2, pickled_model: data/model.pkl}\n",
    "data/model.pkl": b"\x80\x04 never loaded",
    "notes.txt": b"a note",
}


def give_files(
    tenant: Tenant,
    name: str,
    files: Mapping[str, bytes] = FILES,
    *,
    number: int = 1,
    owner: User | None = None,
) -> ModelVersion:
    """Upload files to a version of the model; afterwards its status is what it was."""
    with tenant_scope(tenant):
        version = ModelVersion.objects.get(model__name=name, number=number)
        status, version.status = version.status, ModelVersion.Status.PENDING
        version.save()
    for path, content in files.items():
        artifacts.add_file(
            partial(tenant_scope, tenant, owner), version, path, [content], length=len(content)
        )
    with tenant_scope(tenant):
        version.status = status
        version.save()
    return version
