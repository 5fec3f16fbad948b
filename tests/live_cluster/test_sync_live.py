"""Syncs of one team at the same time, on a real API server."""

from functools import partial

from tenants.identity import directory
from tenants.kubernetes.sync.client import OfficialClient
from tenants.kubernetes.sync.sync import sync_tenant
from tenants.models import NamespaceState
from tests.live_cluster.cluster import CONTROLLER, LiveCluster
from tests.support.kubernetes_stage import (
    ADMIN,
    by_state,
)
from tests.support.people import committed
from tests.support.threads import at_once


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
