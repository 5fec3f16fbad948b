"""The control plane itself: without it the other tests would prove nothing."""

from tests.live_cluster.cluster import LiveCluster


def test_it_is_real_and_asks_for_rights(live: LiveCluster) -> None:
    version = live.call("admin", "GET", "/version").body["gitVersion"]
    assert version.startswith("v1.")
    assert live.may("admin", "create", "pods", "default")
    assert not live.may("charlie", "list", "pods", "default")
    assert live.call("charlie", "GET", "/api/v1/namespaces").status == 403
