"""Each wall holds alone on every endpoint of the API, the other one being down.

Without the second wall, the statement that opens a scope makes a mistake besides: it gives the
database the settings of another tenant. What the application asks for must not come from them.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_registry.models import ArtifactFile, Blob, ModelVersion, RegisteredModel
from tenants.api import ENDPOINTS
from tenants.identity import workloads
from tenants.isolation.credentials import WorkloadCredential
from tenants.isolation.scope import tenant_scope, token_scope
from tenants.models import Role
from tenants.prepared import query_as
from tests.support.api import MODELS, Api, kept, make_token
from tests.support.api_endpoints import ARTIFACTS, TABLE, Row, place
from tests.support.issuers import use_clusters
from tests.support.people import CANARY, World, committed, make_world
from tests.support.sql import NAMES_OF_MODELS
from tests.support.walls import open_wrongly, without_conditions, without_row_security

THEIRS, NOBODYS = f"{CANARY} own", "NOBODY own"


@pytest.fixture
def full(transactional_db: None) -> World:
    """Two teams that have a model of one name; gamma has files where alpha has none."""
    world = make_world()
    with tenant_scope(world.gamma, world.hugo):
        blob = Blob.objects.create(digest="0" * 64, size=1)
        version = ModelVersion.objects.get(model__name="fraud", number=1)
        ArtifactFile.objects.create(version=version, path="MLmodel", blob=blob)
        ArtifactFile.objects.create(version=None, path="folder/file", blob=blob)
    cache.clear()
    return world


def calls(api: Api) -> Iterator[tuple[str, Row, Any]]:
    """Call each endpoint that the table knows, in its order, which deletes no model too early."""
    last = [key for key in TABLE if key[0] == "DELETE"]
    for method, address in [*(key for key in TABLE if key not in last), *last]:
        row = TABLE[method, address]
        answer = api.send(method, place(address, row.rest), row.fields)
        yield f"{method} {address}", row, answer


def ask_for_theirs(api: Api) -> None:
    """Name another tenant's model wherever an endpoint takes a name: it is not there."""
    asked = 0
    for (method, address), row in TABLE.items():
        if "name" not in row.fields or row.fields["name"] == "new":
            continue
        answers = [
            api.send(method, place(address), row.fields | {"name": name})
            for name in (THEIRS, NOBODYS)
        ]
        texts = [answer.content.decode().replace(THEIRS, NOBODYS) for answer in answers]
        assert answers[0].status_code == answers[1].status_code == 404, (method, address)
        assert texts[0] == texts[1], (method, address)
        asked += 1
    assert asked > 15


def test_the_table_has_every_endpoint() -> None:
    assert set(TABLE) == {
        (method, address) for address, methods in ENDPOINTS.items() for method in methods
    }


@committed
def test_the_first_wall_holds_alone_on_every_endpoint(
    full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L31: without row security, and with another tenant's settings in the database."""
    api, theirs = Api(make_token(full.alice)), kept(full.gamma)
    open_wrongly(monkeypatch, full.gamma)
    with without_row_security():
        ask_for_theirs(api)
        assert api.get(f"{ARTIFACTS}/artifacts").content == b"{}"
        for call, row, answer in calls(api):
            assert CANARY not in answer.content.decode() + str(answer.headers), call
            if not row.writes and row.role is not None:
                assert answer.status_code == row.status, call
        assert b"ALPHA own" in api.get(f"{MODELS}/search").content
    assert kept(full.gamma) == theirs


@committed
def test_the_second_wall_holds_alone_on_every_endpoint(
    full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L31: with managers that filter nothing, and statements that ask for another tenant."""
    api, theirs = Api(make_token(full.alice)), kept(full.gamma)
    without_conditions(monkeypatch, full.gamma)
    for call, row, answer in calls(api):
        assert CANARY not in answer.content.decode() + str(answer.headers), call
        # A write that cannot read what it wrote is an error, and undone.
        assert answer.status_code < 500 or row.writes or row.status == 501, call
    assert kept(full.gamma) == theirs


@committed
@pytest.mark.parametrize("endpoint", [f"{MODELS}/search", f"{MODELS}/get?name=fraud"])
def test_without_both_walls_the_other_tenant_is_seen(
    full: World, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """What the two tests above look for is there to be found."""
    without_conditions(monkeypatch, full.gamma)
    with without_row_security():
        answer = Api(make_token(full.alice)).get(endpoint)
    assert answer.status_code == 200
    assert CANARY in answer.content.decode()


@committed
def test_a_pod_keeps_to_its_tenant_by_either_wall(
    full: World, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    """L31: the same for the other kind of credential."""
    use_clusters(settings, tmp_path)
    identity = workloads.create(full.alpha, "one", "model-server", Role.VIEWER)
    identity.uid = "uid"
    identity.save()
    pod = WorkloadCredential(
        cluster="one",
        namespace=full.alpha.namespace,
        service_account="model-server",
        uid="uid",
        pod="pod",
        pod_uid="pod",
        digest=b"",
        token_id="id",
        token_name="",
        expires_at=timezone.now() + timedelta(hours=1),
    )
    alphas = ["ALPHA own", "fraud"]
    with monkeypatch.context() as patch, without_row_security():
        open_wrongly(patch, full.gamma)
        assert query_as(pod, NAMES_OF_MODELS, [])[1] == [(alphas,)]
        with token_scope(pod):
            assert sorted(model.name for model in RegisteredModel.objects.all()) == alphas
    without_conditions(monkeypatch, full.gamma)
    assert query_as(pod, NAMES_OF_MODELS, [])[1] == [(None,)]
    with token_scope(pod):
        assert sorted(model.name for model in RegisteredModel.objects.all()) == alphas
