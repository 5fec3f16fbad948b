"""The people of the tests, their two teams, and what each team has.

alice is admin of team_alpha, bob viewer there; gina is contributor of team_gamma, hugo admin
there; charlie is a member of nothing; dana is a platform admin. What team_gamma owns
carries the word CANARY, which nobody else may ever see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

import pytest
from django.db import transaction
from django.utils import timezone

from models_registry import registry
from models_registry.files import artifacts
from models_registry.models import (
    ArtifactFile,
    Blob,
    DownloadCount,
    ModelVersion,
    RegisteredModel,
    Upload,
)
from tenants.access import share
from tenants.identity import directory
from tenants.isolation.scope import tenant_scope
from tenants.models import NamespaceState, Role, Tenant, User
from tests.support.snapshot import Snapshot, taken

#: For tests that need committed rows (threads, other processes); everything is emptied afterwards.
committed = pytest.mark.django_db(transaction=True, databases=["default", "owner"])

PASSWORD = "correct horse battery staple"
CANARY = "CANARY"
#: Everybody but dana, who is a platform admin.
PEOPLE = ("alice", "bob", "mia", "carol", "gina", "hugo", "charlie")

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
    """Make everybody and everything, the first time through the product's own verbs."""
    world_once().put_back()
    tenants = Tenant.objects.in_bulk(["team_alpha", "team_gamma"], field_name="slug")
    users = User.objects.in_bulk([*PEOPLE, "dana"], field_name="username")
    return World(alpha=tenants["team_alpha"], gamma=tenants["team_gamma"], **users)


@cache
def world_once() -> Snapshot:
    """Return the rows of everybody and everything, of which none is left behind.

    It is called before the first test, so that no test's settings are in them.
    """
    with transaction.atomic():
        try:
            return taken(_register_world)
        finally:
            transaction.set_rollback(True)


def _register_world() -> None:
    users = {name: make_user(name) for name in PEOPLE}
    users["dana"] = make_user("dana", is_staff=True, is_superuser=True)
    alpha = directory.create_tenant("team_alpha", "Alpha", admin=users["alice"])
    gamma = directory.create_tenant("team_gamma", f"Gamma {CANARY}", admin=users["hugo"])
    directory.add_member(alpha, users["bob"], Role.VIEWER)
    directory.add_member(alpha, users["carol"], Role.CONTRIBUTOR)
    directory.add_member(alpha, users["mia"], Role.MAINTAINER)
    directory.add_member(gamma, users["gina"], Role.CONTRIBUTOR)
    fill(alpha, users["alice"], "ALPHA")
    fill(gamma, users["hugo"], CANARY)


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


def fill_every_table(world: World) -> None:
    """Give both teams a row in each tenant-owned table; no team has a grant of the other."""
    outsiders = directory.create_tenant("team_omega", "Omega")
    for tenant, person in ((world.alpha, world.alice), (world.gamma, world.gina)):
        with tenant_scope(tenant, person):
            NamespaceState.objects.create(cluster="test", state="drift", mode="observe")
            for model in RegisteredModel.objects.all():
                share(model, with_user=world.charlie)
                share(model, with_tenant=outsiders)
                registry.star(model, True)
            for version in ModelVersion.objects.all():
                fill_with_files(version)


def fill_with_files(version: ModelVersion) -> None:
    """Give a version a file, an upload that has not ended and a download."""
    blob = Blob.objects.get_or_create(digest="0" * 64, defaults={"size": 1})[0]
    for owner in (version, None):
        path = "MLmodel" if owner else f"{version.pk}/MLmodel"
        ArtifactFile.objects.create(version=owner, path=path, blob=blob)
        Upload.objects.create(version=owner, path=path)
    DownloadCount.objects.create(version=version, day=timezone.now().date(), count=1)
