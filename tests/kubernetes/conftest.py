"""The last level: a real API server; run as a command of its own: ``make test-kubernetes``."""

from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import (
    CONTROLLER,
    ETCD,
    MANAGER,
    SERVER,
    LiveCluster,
    programs,
    running,
)

#: Who has a token for the cluster, and the groups that its identity provider would say.
USERS: dict[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    CONTROLLER: ("system:serviceaccounts", "system:serviceaccounts:bulkhead"),
    "alice": ("bh:team_alpha:admin",),
    "carol": ("bh:team_alpha:editor",),
    "bob": ("bh:team_alpha:viewer",),
    "gina": ("bh:team_gamma:editor",),
    "hugo": ("bh:team_gamma:admin",),
    "charlie": (),
}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """A control plane in which nothing has been installed."""
    if programs() is None:
        names = f"{SERVER}, {MANAGER} and {ETCD}"
        pytest.fail(f"These tests need a real API server: name the programs in {names}.")
    with running(tmp_path_factory.mktemp("cluster"), USERS) as cluster:
        yield cluster
