"""The rules that apply to objects of one kind alone."""

from collections.abc import Callable

from tenants.kubernetes.manifests.reader import Manifest
from tenants.kubernetes.manifests.rules import access, network, pods
from tenants.kubernetes.manifests.rules.catalogue import Violations


def nothing(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield nothing: the kind has no rules of its own."""
    yield from ()


#: The rules of each kind that has some of its own, by API group and kind.
BY_KIND: dict[tuple[str, str], Callable[[Manifest, frozenset[str] | None], Violations]] = {
    ("", "Service"): network.service,
    ("", "Endpoints"): network.endpoints,
    ("discovery.k8s.io", "EndpointSlice"): network.endpoints,
    ("", "ServiceAccount"): access.mounted_token,
    ("", "PersistentVolume"): pods.node_volume,
    **dict.fromkeys(network.POLICIES, network.policy),
}
