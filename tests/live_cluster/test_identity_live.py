"""Tokens as a real API server signs them for pods, checked by the keys that it publishes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from tenants.identity.pod_tokens import verify
from tenants.isolation.credentials import BadToken, WorkloadCredential
from tenants.kubernetes.bundle.objects import Team
from tests.live_cluster.cluster import CONTROLLER, ISSUER, LiveCluster
from tests.support.bundles import HERE

Teams = tuple[Team, Team]


@pytest.fixture
def known(live: LiveCluster, settings: Settings) -> Iterator[None]:
    """Let Bulkhead know the cluster's issuer, and its keys by the address of the API server."""
    secret = live.folder / "token-of-bulkhead"
    secret.write_text(live.tokens[CONTROLLER])
    cluster = replace(
        live.known_as(CONTROLLER),
        issuer=ISSUER,
        keys=f"{live.address}/openid/v1/jwks",
        ca=str(live.authority.file),
        token=str(secret),
    )
    settings.KUBERNETES = replace(HERE, clusters=(cluster,))
    yield


def a_pod(live: LiveCluster, namespace: str, name: str, account: str = "model-server") -> str:
    """Make a pod of that service account and return its uid."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {HERE.label("tenant"): "team_alpha"}},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "server", "image": "server"}],
        },
    }
    made = live.call("admin", "POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert made.status == 201, made
    return str(made.body["metadata"]["uid"])


def token(live: LiveCluster, namespace: str, *, account: str = "model-server", **spec: Any) -> str:
    """Return a token as the kubelet asks for one when it fills a projected volume."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["bulkhead"], "expirationSeconds": 3600, **spec},
    }
    answer = live.call("admin", "POST", path, body)
    assert answer.status == 201, answer
    return str(answer.body["status"]["token"])


def of_pod(name: str, uid: str) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def test_a_pods_token_says_who_it_is(live: LiveCluster, two_teams: Teams, known: None) -> None:
    alpha = two_teams[0].namespace
    uid = a_pod(live, alpha, "signs-in")
    found = verify(token(live, alpha, boundObjectRef=of_pod("signs-in", uid)), "team_alpha")
    assert isinstance(found, WorkloadCredential)
    path = f"/api/v1/namespaces/{alpha}/serviceaccounts/model-server"
    account = live.call("admin", "GET", path).body["metadata"]
    assert (found.namespace, found.service_account, found.uid) == (
        alpha,
        "model-server",
        account["uid"],
    )
    assert (found.pod, found.pod_uid, found.cluster) == ("signs-in", uid, "live")


def test_a_token_for_somebody_else_is_none(
    live: LiveCluster, two_teams: Teams, known: None
) -> None:
    alpha = two_teams[0].namespace
    uid = a_pod(live, alpha, "other")
    pod = of_pod("other", uid)
    specs: tuple[dict[str, Any], ...] = (
        {"audiences": ["https://kubernetes.default.svc"], "boundObjectRef": pod},
        {"audiences": ["bulkhead2"], "boundObjectRef": pod},
        {},  # of no pod: somebody may have stored it
    )
    for spec in specs:
        with pytest.raises(BadToken):
            verify(token(live, alpha, **spec))


def test_an_account_made_anew_is_another_one(
    live: LiveCluster, two_teams: Teams, known: None
) -> None:
    gamma = two_teams[1].namespace
    path = f"/api/v1/namespaces/{gamma}/serviceaccounts"
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "again"},
        "automountServiceAccountToken": False,
    }
    uids = []
    for name in ("first", "second"):
        assert live.call("admin", "POST", path, account).status == 201
        uid = a_pod(live, gamma, name, "again")
        signed = token(live, gamma, account="again", boundObjectRef=of_pod(name, uid))
        uids.append(verify(signed).uid)
        assert live.call("admin", "DELETE", f"{path}/again").status == 200
    assert uids[0] != uids[1]


def test_only_accounts_of_the_cluster_read_its_keys(live: LiveCluster) -> None:
    """So Bulkhead shows a token there, and needs no other right for it."""
    assert live.call(CONTROLLER, "GET", "/openid/v1/jwks").status == 200
    assert live.call("charlie", "GET", "/openid/v1/jwks").status == 403
