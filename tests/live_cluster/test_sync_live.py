"""The syncs of tests/kubernetes on a real API server; with BULKHEAD_RECORD, recorded for them.

Bulkhead has the rights that it is given and no others; whoever meddles runs the cluster.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tenants.identity import directory
from tenants.kubernetes.sync.client import OfficialClient
from tenants.kubernetes.sync.sync import sync_tenant
from tenants.models import NamespaceState
from tests.kubernetes.test_sync import *  # noqa: F403
from tests.kubernetes.test_sync_command import *  # noqa: F403
from tests.live_cluster.cluster import CONTROLLER, LiveCluster
from tests.support.kubernetes_stage import (
    ADMIN,
    LIMITED,
    NOBODY,
    REGISTRY,
    Exchange,
    Stage,
    by_state,
    played,
    team_for,
)
from tests.support.people import committed
from tests.support.threads import at_once


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, db: None, tmp_path: Path, live: LiveCluster
) -> Iterator[Stage]:
    """Return a team of the test's own and the real cluster."""
    name = request.node.originalname
    with played(name, team_for(name), tmp_path, partial(ask, live)) as stage:
        yield stage


def ask(live: LiveCluster, exchange: Exchange) -> None:
    """Complete the exchange with what the real server answers."""
    tokens = {REGISTRY: live.tokens[CONTROLLER], NOBODY: NOBODY}
    token = tokens.get(exchange.user, live.tokens[ADMIN])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": exchange.content}
    if exchange.user == LIMITED:
        headers["Impersonate-User"] = LIMITED
    answer = live.http.request(
        exchange.method,
        f"{live.address}{exchange.path}?{urlencode(exchange.query)}",
        body=None if exchange.body is None else json.dumps(exchange.body),
        headers=headers,
    )
    exchange.status, exchange.answer = answer.status, answer.json()
    exchange.warning = answer.headers.get("Warning")


@committed
def test_syncs_of_one_team_at_once_do_no_harm(live: LiveCluster) -> None:
    where, tenant = live.known_as(CONTROLLER), directory.create_tenant("at_once")
    api, admin = OfficialClient(where), OfficialClient(live.known_as(ADMIN))
    sync = partial(sync_tenant, tenant, api, where, "enforce")
    policy = ("networking.k8s.io/v1", "NetworkPolicy")
    for _ in range(3):
        states = at_once(sync, sync, sync)
        assert {state.state for state in states} == {NamespaceState.State.IN_SYNC}
        assert len({state.pk for state in states}) == 1
        assert by_state(sync()) == {}
        deny = admin.get(*policy, "bh-default-deny", tenant.namespace).object
        deny["spec"]["ingress"] = [{}]
        admin.replace(deny, manager="kubectl-edit")
        admin.delete(admin.get(*policy, "bh-allow-dns", tenant.namespace).object)
