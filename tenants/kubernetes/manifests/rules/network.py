"""Rules about the network: policies, Services and their endpoints, and addresses of Services."""

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings

from tenants.dns import is_label
from tenants.documents import Path, get, mappings_of, strings_in, text_of
from tenants.kubernetes.bundle.objects import NAMESPACE_NAME
from tenants.kubernetes.manifests.reader import Manifest, listed
from tenants.kubernetes.manifests.rules.catalogue import Violation, Violations
from tenants.text import shown

#: Blocks from which clusters give addresses to pods and nodes.
INTERNAL_BLOCKS = tuple(
    ip_network(block)
    for block in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        # The last block is IPv4 written as IPv6.
        *("127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128", "::ffff:0:0/96"),
    )
)
#: At most this many `except` entries of an ipBlock are evaluated; with more, the block counts as
#: open. Each takes time, and aliases repeat them.
MAX_EXCEPTED_BLOCKS = 200
#: The part of a Service's DNS name that follows its namespace.
SERVICE_SUFFIX = re.compile(r"\.svc(?![a-z0-9-])")
#: The characters of a Service's name.
NAME_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789-"
#: Name and namespace of the Service of the API server, which every pod may call.
API_SERVER = ("kubernetes", "default")


def _platform() -> frozenset[str]:
    """Return the platform's namespaces, with which every tenant may talk."""
    here = settings.KUBERNETES
    return frozenset({here.registry_namespace, here.gateway_namespace, here.dns_namespace})


#: The API groups and kinds that ``policy`` checks.
POLICIES = (("networking.k8s.io", "NetworkPolicy"), ("extensions", "NetworkPolicy"))


def policy(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield peers that are neither in the tenant's namespaces nor in the platform's."""
    allowed = (home or frozenset()) | _platform()
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for path, rule in mappings_of(manifest.get("spec", way), ("spec", way)):
            if not rule.get(peers):
                words = "lets in everybody" if way == "ingress" else "lets pods reach everything"
                yield Violation("BH401", path, f"{words}: a rule without `{peers}` has no bounds")
            for place, peer in mappings_of(rule.get(peers), (*path, peers)):
                yield from _peer(peer, place, allowed)


def _peer(peer: dict[str, Any], path: Path, allowed: frozenset[str]) -> Violations:
    selector = peer.get("namespaceSelector")
    if selector is not None:
        chosen = _chosen(selector)
        if not any(namespaces <= allowed for namespaces in chosen):
            which = f": {listed(frozenset.union(*chosen) - allowed)}" if chosen else ""
            words = f"opens the network to other namespaces{which}"
            yield Violation("BH401", (*path, "namespaceSelector"), words)
    block = peer.get("ipBlock")
    if block is not None and _may_be_pods(block):
        cidr = shown(get(block, "cidr") or "")
        yield Violation("BH402", (*path, "ipBlock"), f"opens the network to the addresses {cidr}")


def _chosen(selector: Any) -> list[frozenset[str]]:
    """Return the namespaces that each condition of a selector names."""
    by_label = get(selector, "matchLabels", NAMESPACE_NAME)
    found = [frozenset({by_label})] if isinstance(by_label, str) else []
    for _, condition in mappings_of(get(selector, "matchExpressions"), ()):
        values = condition.get("values")
        if (
            condition.get("key") == NAMESPACE_NAME
            and condition.get("operator") == "In"
            and isinstance(values, list)
        ):
            found.append(frozenset(map(str, values)))
    return found


def _may_be_pods(block: Any) -> bool:
    """Tell whether an ipBlock, without its exceptions, holds addresses of pods or nodes."""
    excepted = get(block, "except") or []
    if not isinstance(excepted, list) or len(excepted) > MAX_EXCEPTED_BLOCKS:
        return True
    try:
        whole: Any = ip_network(text_of(get(block, "cidr")), strict=False)
        without: list[Any] = [ip_network(str(part), strict=False) for part in excepted]
    except ValueError:
        return True
    for inner in INTERNAL_BLOCKS:
        if inner.version != whole.version or not inner.overlaps(whole):
            continue
        shared = inner if inner.subnet_of(whole) else whole
        if not any(part.version == shared.version and shared.subnet_of(part) for part in without):
            return True
    return False


def endpoints(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield internal addresses of hand-written endpoints, past selector and policies."""
    lists = [("endpoints", "addresses")] if manifest.group else []
    lists += [] if manifest.group else [("subsets", "addresses"), ("subsets", "notReadyAddresses")]
    for outer, inner in lists:
        for path, part in mappings_of(manifest.get(outer), (outer,)):
            listed_there = part.get(inner)
            for place, item in enumerate(listed_there if isinstance(listed_there, list) else ()):
                address = text_of(get(item, "ip") if isinstance(item, dict) else item)
                if _is_internal(address):
                    words = f"leads to the address {shown(address)}"
                    yield Violation("BH402", (*path, inner, place), words)


def _is_internal(address: str) -> bool:
    """Tell whether an address may be a pod's or a node's; one that cannot be read may."""
    try:
        found = ip_address(address)
    except ValueError:
        return True
    return any(found in block for block in INTERNAL_BLOCKS if block.version == found.version)


def service(manifest: Manifest, home: frozenset[str] | None) -> Violations:
    """Yield a Service that is reached from outside, or stands for one of another namespace."""
    kind = manifest.get("spec", "type")
    if kind in ("LoadBalancer", "NodePort"):
        yield Violation("BH403", ("spec", "type"), f"is of type {kind}, which the quota refuses")
    if manifest.get("spec", "externalIPs"):
        yield Violation("BH403", ("spec", "externalIPs"), "takes addresses outside the cluster")
    if kind == "ExternalName":
        yield Violation(
            "BH403", ("spec", "type"), "is of type ExternalName, which the cluster refuses"
        )
    if kind == "ExternalName" and home is not None:
        path = ("spec", "externalName")
        for name, namespace in _services_in(text_of(manifest.get(*path))):
            if namespace not in home | _platform():
                words = f"stands for {shown(name)} in namespace {shown(namespace)}"
                yield Violation("BH303", path, words)


def addresses(path: Path, container: dict[str, Any], home: frozenset[str]) -> Violations:
    """Yield DNS names of other tenants' Services in a container's texts."""
    allowed = home | _platform()
    for place, text in strings_in(container, path):
        for name, namespace in dict.fromkeys(_services_in(text)):
            if namespace not in allowed and (name, namespace) != API_SERVER:
                words = f"names an address in namespace {shown(namespace)}"
                yield Violation("BH305", place, f"{words}, which is not its tenant's")


def _services_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and namespace of the Services whose DNS names are in a text."""
    if ".svc" not in (text := text.lower()):
        return
    for found in SERVICE_SUFFIX.finditer(text):
        before = text[max(0, found.start() - 127) : found.start()]
        rest, _, namespace = before.rpartition(".")
        name = rest[len(rest.rstrip(NAME_CHARS)) :]
        if name and is_label(namespace):
            yield name, namespace
