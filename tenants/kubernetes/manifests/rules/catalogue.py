"""What a tenant's manifests may not say: the rules, and what looks for each in one object.

``home`` is always the namespaces of the object's tenant. Of others the same words are said, whether
they are another tenant's or nobody's.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings

from tenants.dns import is_label
from tenants.kubernetes import names, quantities, workloads
from tenants.kubernetes.bundle.objects import NAMESPACE_NAME
from tenants.kubernetes.manifests.reader import Manifest, get, strings_in, text_of
from tenants.kubernetes.workloads import Path, containers_of, templates_of
from tenants.text import shown

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with an id and a name that stay; ``help`` says what to do instead."""

    id: str
    name: str
    help: str
    severity: str = ERROR


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(
            "BH100",
            "no-object",
            "A document is one Kubernetes object: a mapping with apiVersion and kind.",
        ),
        Rule(
            "BH101",
            "wrong-namespace",
            "Everything of a tenant's lies in the tenant's own namespace; name that one.",
        ),
        Rule(
            "BH102",
            "undeclared-namespace",
            "A namespace belongs to a tenant only if a Namespace object here declares it; add that "
            "object, name a namespace that is declared, or check with --tenant.",
        ),
        Rule(
            "BH103",
            "no-namespace",
            "What names no namespace lands wherever the context of whoever applies it points; "
            "name the tenant's.",
        ),
        Rule(
            "BH104",
            "tenant-label",
            "The tenant's label is the one of the namespace's tenant; the cluster refuses another.",
        ),
        Rule(
            "BH105",
            "cluster-wide-object",
            "What belongs to the whole cluster is for its admins to make, not for a tenant.",
        ),
        Rule(
            "BH106",
            "cluster-wide-binding",
            "A ClusterRoleBinding grants its role in every tenant's namespace; use a RoleBinding "
            "in the tenant's own.",
        ),
        Rule(
            "BH107",
            "other-namespace-object",
            "A tenant has one namespace, which is made for it; leave other Namespace objects out.",
        ),
        Rule(
            "BH108",
            "pod-security",
            "Tenants' namespaces hold the Pod Security standard restricted; leave the label so.",
        ),
        Rule(
            "BH109",
            "unlabelled-pod",
            "The cluster lets only pods into a tenant's namespace that carry the tenant's label; "
            "add it to the pod, or to the pod template's metadata.",
            WARNING,
        ),
        Rule(
            "BH110",
            "kustomization",
            "A kustomization changes what other files say; check what `kubectl kustomize` prints.",
            WARNING,
        ),
        Rule(
            "BH111",
            "no-quota",
            "A tenant without a ResourceQuota can take the whole cluster; declare one.",
            WARNING,
        ),
        Rule(
            "BH201",
            "shared-service-account",
            "A service account belongs to one namespace and is bound there only; give each tenant "
            "one of its own.",
        ),
        Rule(
            "BH202",
            "service-account-name",
            "A pod runs as a service account of its own namespace, which it names alone.",
        ),
        Rule(
            "BH203",
            "wide-subject",
            "This group has members of all tenants; bind the tenant's own groups or people.",
        ),
        Rule("BH204", "other-group", "Bind this tenant's own groups."),
        Rule(
            "BH205",
            "cluster-admin",
            "cluster-admin undoes every limit of the namespace; bind one of the tenant roles.",
        ),
        Rule(
            "BH206",
            "broad-role",
            "Kubernetes' own edit reads secrets and runs as any service account, its admin binds "
            "roles; bind one of the tenant roles.",
            WARNING,
        ),
        Rule(
            "BH301",
            "other-namespace-reference",
            "Refer to what is in the tenant's own namespace.",
        ),
        Rule(
            "BH302",
            "other-tenants-object",
            "A pod finds what is in its own namespace only; declare it there.",
        ),
        Rule(
            "BH303",
            "external-name",
            "A Service must not stand for one in another namespace.",
        ),
        Rule(
            "BH304",
            "copied-object",
            "Nothing is copied from or to another namespace; declare it where it is used.",
        ),
        Rule(
            "BH305",
            "other-namespace-address",
            "Network policies keep tenants apart, so this address will not answer.",
            WARNING,
        ),
        Rule(
            "BH401",
            "open-network-policy",
            "Choose peers in the tenant's own namespace, or by the label "
            f"{NAMESPACE_NAME} one of the platform's.",
        ),
        Rule(
            "BH402",
            "address-block",
            "Other tenants' pods may have addresses in this block; exclude the cluster's.",
            WARNING,
        ),
        Rule(
            "BH403",
            "exposed-service",
            "Only the gateway is reached from outside, and no Service leads there; "
            "use one of type ClusterIP.",
        ),
        Rule("BH501", "host-path", "A pod must not see its node's files; use a volume claim."),
        Rule("BH502", "host-namespace", "A pod has its own network, processes and memory."),
        Rule("BH503", "host-port", "A container must not take a port of its node; use a Service."),
        Rule("BH504", "privileged", "A privileged container owns its node and all pods on it."),
        Rule("BH505", "capability", "No capability but NET_BIND_SERVICE may be added."),
        Rule("BH506", "proc-mount", "Leave procMount out: /proc is masked for good reasons."),
        Rule(
            "BH507",
            "privilege-escalation",
            "Set allowPrivilegeEscalation: false; the standard restricted refuses the pod without.",
            WARNING,
        ),
        Rule(
            "BH508",
            "mounted-token",
            "Set automountServiceAccountToken: false unless the pod speaks with the API server.",
            WARNING,
        ),
        Rule(
            "BH509",
            "no-limits",
            "Give each container requests and limits of cpu and memory, or one tenant's pod takes "
            "what the others need.",
        ),
        Rule("BH510", "node-choice", "Which node and which priority a pod gets is the cluster's."),
        Rule("BH601", "model", "Name a model and a version that the tenant can use."),
    )
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule's id, the way to what it is about, and what is said of the object."""

    rule: str
    path: Path
    words: str


Hits = Iterator[Hit]
#: The specs of pods, each with the way to it.
Specs = Sequence[tuple[Path, Any]]


#: So many names are listed in a message.
NAMES = 5


def listed(found: Iterable[str]) -> str:
    """Return the first names in their order, and how many more there are."""
    ordered = sorted(found)
    more = f" and {len(ordered) - NAMES:,} more" if len(ordered) > NAMES else ""
    return f"{', '.join(map(shown, ordered[:NAMES]))}{more}" or "none"


def nothing(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    """Yield nothing: the kind has no rules of its own."""
    yield from ()


def _platform() -> frozenset[str]:
    """Return the namespaces that every tenant may speak with."""
    here = settings.KUBERNETES
    return frozenset({here.registry_namespace, here.gateway_namespace, here.dns_namespace})


def _is_on(value: Any) -> bool:
    """Tell whether a switch is on; the cluster refuses what is neither, and so do we."""
    return value is not None and value is not False


def _dicts(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the mappings of a list, with the way to each."""
    for place, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield (*path, place), item


def as_text(path: Path) -> str:
    """Return a path as people write it: ``.spec.containers[0].image``."""
    parts = []
    for key in path:
        plain = isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key)
        parts.append(
            f".{key}" if plain else f"[{key if isinstance(key, int) else repr(shown(key))}]"
        )
    return "".join(parts)


# --- access ----------------------------------------------------------------------------------

BINDINGS = ("RoleBinding", "ClusterRoleBinding")
#: How Kubernetes names a service account as a user, and all of a namespace as a group.
ACCOUNT = re.compile(r"system:serviceaccount:([^:]*):(.*)", re.DOTALL)
ACCOUNTS_OF = "system:serviceaccounts:"


def subjects_of(manifest: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield whom a RoleBinding names, with the way to each."""
    if manifest.kind == "RoleBinding":
        yield from _dicts(manifest.get("subjects"), ("subjects",))


def account_of(subject: Any) -> tuple[str, str] | None:
    """Return the namespace and name of the service account that a subject names, in either way."""
    name = text_of(get(subject, "name"))
    if get(subject, "kind") == "ServiceAccount":
        namespace = text_of(get(subject, "namespace"))
        return (namespace, name) if namespace else None
    found = ACCOUNT.fullmatch(name) if get(subject, "kind") == "User" else None
    return (found[1], found[2]) if found else None


def bound_accounts(manifest: Manifest) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yield the service accounts that a RoleBinding names, with the way to each."""
    for path, subject in subjects_of(manifest):
        if (account := account_of(subject)) is not None:
            yield path, account


def group(name: str, path: Path, home: frozenset[str], teams: list[str]) -> Hits:
    """Yield what is wrong with a group, or with a user that stands for many."""
    if name.startswith(ACCOUNTS_OF):
        namespace = name.removeprefix(ACCOUNTS_OF)
        if namespace not in home:
            words = f"binds all service accounts of namespace {shown(namespace)}"
            yield Hit("BH201", path, words)
    elif name.startswith("system:"):
        yield Hit("BH203", path, f"binds {shown(name)}, which is not the tenant's own")
    else:
        start = f"{settings.KUBERNETES.group_prefix}{names.PREFIX}:"
        team = name.removeprefix(start).rpartition(":")[0]
        if name.startswith(start) and teams and team not in teams:
            words = f"binds the group {shown(name)}, and the groups of its tenant begin with "
            yield Hit("BH204", path, f"{words}{start}{teams[0]}:")


def binding(manifest: Manifest) -> Hits:
    """Yield a binding of all namespaces, and a role that no tenant is given."""
    if manifest.kind not in BINDINGS:
        return
    if manifest.kind == "ClusterRoleBinding":
        role = shown(manifest.get("roleRef", "name") or "a role")
        yield Hit("BH106", ("kind",), f"binds {role} in all namespaces, those of all tenants")
    name, path = manifest.get("roleRef", "name"), ("roleRef", "name")
    if manifest.get("roleRef", "kind") != "ClusterRole":
        return
    if name == "cluster-admin":
        yield Hit("BH205", path, "gives the role cluster-admin")
    elif name in ("admin", "edit"):
        yield Hit("BH206", path, f"gives Kubernetes' own role {name}")


def account_of_pod(spec: Any, path: Path) -> Hits:
    """Yield a service account that no pod of this namespace can have."""
    for key in ("serviceAccountName", "serviceAccount"):
        name = text_of(get(spec, key))
        if "/" in name or ":" in name:
            words = f"runs as {shown(name)}: a pod names a service account of its own namespace"
            yield Hit("BH202", (*path, key), words)


def _token(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    if manifest.get("automountServiceAccountToken") is True:
        path = ("automountServiceAccountToken",)
        yield Hit("BH508", path, "gives its token to each pod that runs as it")


def pod_security(manifest: Manifest) -> Hits:
    """Yield the standards of a Namespace that are not the strictest, or not the latest of it."""
    for mode in ("enforce", "audit", "warn"):
        label = f"pod-security.kubernetes.io/{mode}"
        path = ("metadata", "labels", label)
        standard = manifest.get(*path)
        if standard is not None and standard != "restricted":
            yield Hit(
                "BH108", path, f"asks for the Pod Security standard {shown(standard)} ({mode})"
            )
        path = ("metadata", "labels", f"{label}-version")
        release = manifest.get(*path)
        if release is not None and _is_older(text_of(release), settings.KUBERNETES.pod_security):
            words = f"asks for the Pod Security standard of release {shown(release)} ({mode})"
            yield Hit("BH108", path, words)


def _is_older(release: str, than: str) -> bool:
    """Tell whether a release's standard asks for less; what is no release is older than any."""
    found, known = (re.fullmatch(r"v1\.([0-9]{1,4})", text) for text in (release, than))
    return release != "latest" and not (found and known and int(found[1]) >= int(known[1]))


# --- references ------------------------------------------------------------------------------

#: Kinds that pods use by name.
USED_KINDS = ("ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount")
#: Mappings whose keys are whatever people choose.
OPAQUE = frozenset({"annotations", "labels", "matchLabels", "nodeSelector"})
#: Annotations by which common controllers copy an object, from `namespace/name` or to namespaces.
COPIED_FROM = (
    "replicator.v1.mittwald.de/replicate-from",
    "reflector.v1.k8s.emberstack.com/reflects",
)
COPIED_TO = (
    "replicator.v1.mittwald.de/replicate-to",
    "replicator.v1.mittwald.de/replication-allowed-namespaces",
    "reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces",
    "reflector.v1.k8s.emberstack.com/reflection-auto-namespaces",
    "kubed.appscode.com/sync",
)
#: Annotations by which an Ingress uses a secret, which may be `namespace/name`.
SECRET_OF = tuple(
    f"nginx.ingress.kubernetes.io/{key}"
    for key in ("auth-secret", "auth-tls-secret", "proxy-ssl-secret")
)


def references(manifest: Manifest, home: frozenset[str]) -> Hits:
    """Yield whatever names a namespace that is not the tenant's, in objects of any kind."""
    if manifest.kind in ("ConfigMap", "Secret") and not manifest.group:
        return  # they hold texts
    allowed = home
    if manifest.group == "gateway.networking.k8s.io":
        allowed |= {settings.KUBERNETES.gateway_namespace}
    skipped = {"metadata", "subjects"} if manifest.kind in BINDINGS else {"metadata"}
    for key, value in manifest.value.items():
        if key not in skipped and isinstance(value, dict | list):
            for path, namespace, what in _namespaces_in(value, (key,)):
                if namespace not in allowed:
                    words = f"refers to {what}namespace {shown(namespace)}"
                    yield Hit("BH301", path, f"{words}, which is not its tenant's")
            # Of a NetworkPolicy more is said.
            if BY_KIND.get((manifest.group, manifest.kind)) is not _network_policy:
                for path in _everywhere_in(value, (key,)):
                    yield Hit("BH301", path, "takes in namespaces that are not its tenant's")
    yield from _secrets_of_ingress(manifest, home)


def _secrets_of_ingress(manifest: Manifest, home: frozenset[str]) -> Hits:
    for key in SECRET_OF:
        path = ("metadata", "annotations", key)
        namespace, slash, name = text_of(manifest.get(*path)).partition("/")
        if slash and namespace not in home:
            words = f"refers to Secret {shown(name)} in namespace {shown(namespace)}"
            yield Hit("BH301", path, f"{words}, which is not its tenant's")


def _namespaces_in(value: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each namespace that is named inside a value: the way to it, it, and what is in it."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, dict | list):
                yield from _namespaces_in(item, (*path, place))
        return
    for key, inner in value.items():
        if isinstance(inner, str):
            if inner and key.lower().endswith("namespace"):
                yield (*path, key), inner, _what(value)
        elif isinstance(inner, list) and (
            key == "matchNames" or key.lower().endswith("namespaces")
        ):
            for place, item in enumerate(inner):
                if isinstance(item, str) and item:
                    yield (*path, key, place), item, ""
                elif isinstance(item, dict | list):
                    yield from _namespaces_in(item, (*path, key, place))
        elif isinstance(inner, dict | list) and key not in OPAQUE:
            yield from _namespaces_in(inner, (*path, key))


def _everywhere_in(value: Any, path: Path) -> Iterator[Path]:
    """Yield the way to whatever chooses namespaces inside a value, and chooses all of them."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _everywhere_in(item, (*path, place))
        return
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        selects = key.lower().endswith("namespaceselector")
        chooses = selects or key.lower().endswith("namespaces")
        if chooses and isinstance(inner, dict) and _is_everywhere(inner, selects):
            yield (*path, key)
        elif key not in OPAQUE:
            yield from _everywhere_in(inner, (*path, key))


def _is_everywhere(choice: dict[str, Any], selects: bool) -> bool:
    """Tell whether all namespaces are meant; by Kubernetes' custom an empty selector means them."""
    if not choice:
        return selects
    return choice.get("any") is True or choice.get("from") in ("All", "Selector")


def _what(reference: dict[str, Any]) -> str:
    words = [shown(word) for key in ("kind", "name") if (word := text_of(reference.get(key)))]
    return f"{' '.join(words)} in " if words else ""


def copies(manifest: Manifest, home: frozenset[str]) -> Hits:
    """Yield what lets an object be copied from or to other namespaces."""
    annotations = manifest.get("metadata", "annotations")
    for key in COPIED_FROM:
        source = text_of(get(annotations, key))
        if source and source.partition("/")[0] not in home:
            words = f"is a copy of {shown(source)}, which is not its tenant's"
            yield Hit("BH304", ("metadata", "annotations", key), words)
    for key in COPIED_TO:
        said = get(annotations, key)
        if said is not None and not {part.strip() for part in str(said).split(",")} <= home:
            words = f"lets itself be copied into other namespaces ({key})"
            yield Hit("BH304", ("metadata", "annotations", key), words)


def used(manifest: Manifest, specs: Specs) -> Iterator[tuple[str, str, Path]]:
    """Yield kind and name of what the object uses in its namespace, and where it says so."""
    for path, spec in specs:
        yield from _used_by_pod(spec, path)
    if manifest.kind == "ServiceAccount":
        for key in ("secrets", "imagePullSecrets"):
            yield from _named("Secret", manifest.value, (), (key, "*", "name"))
    elif manifest.kind == "Ingress":
        yield from _named("Secret", manifest.value, (), ("spec", "tls", "*", "secretName"))


#: Where a pod's spec names objects of its namespace; `*` is each item of a list.
USES: tuple[tuple[str, Path], ...] = (
    ("ServiceAccount", ("serviceAccountName",)),
    ("ServiceAccount", ("serviceAccount",)),
    ("Secret", ("imagePullSecrets", "*", "name")),
    ("ConfigMap", ("volumes", "*", "configMap", "name")),
    ("Secret", ("volumes", "*", "secret", "secretName")),
    ("PersistentVolumeClaim", ("volumes", "*", "persistentVolumeClaim", "claimName")),
    ("ConfigMap", ("volumes", "*", "projected", "sources", "*", "configMap", "name")),
    ("Secret", ("volumes", "*", "projected", "sources", "*", "secret", "name")),
    ("Secret", ("volumes", "*", "csi", "nodePublishSecretRef", "name")),
)
USED_BY_CONTAINER: tuple[tuple[str, Path], ...] = (
    ("ConfigMap", ("envFrom", "*", "configMapRef", "name")),
    ("Secret", ("envFrom", "*", "secretRef", "name")),
    ("ConfigMap", ("env", "*", "valueFrom", "configMapKeyRef", "name")),
    ("Secret", ("env", "*", "valueFrom", "secretKeyRef", "name")),
)


def _used_by_pod(spec: Any, path: Path) -> Iterator[tuple[str, str, Path]]:
    for kind, way in USES:
        yield from _named(kind, spec, path, way)
    for place, container in containers_of(spec, path):
        for kind, way in USED_BY_CONTAINER:
            yield from _named(kind, container, place, way)


def _named(kind: str, value: Any, path: Path, way: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the names that stand at the end of a way, in each item of each list on it."""
    for number, key in enumerate(way):
        if key == "*":
            for place, item in _dicts(value, path):
                yield from _named(kind, item, place, way[number + 1 :])
            return
        value, path = get(value, key), (*path, key)
    if isinstance(value, str) and value:
        yield kind, value, path


# --- the network -----------------------------------------------------------------------------

#: Addresses that clusters give to pods and nodes.
INTERNAL = tuple(
    ip_network(block)
    for block in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        # The last are the same of IPv4, written as IPv6.
        *("127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128", "::ffff:0:0/96"),
    )
)


#: So many blocks that are left out are read: each costs some time, and aliases repeat them.
MOST_EXCEPTED = 200


def _network_policy(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    """Yield peers outside the tenant's namespace that are not the platform's."""
    allowed = (home or frozenset()) | _platform()
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for path, rule in _dicts(manifest.get("spec", way), ("spec", way)):
            if not rule.get(peers):
                words = "lets in everybody" if way == "ingress" else "lets pods reach everything"
                yield Hit("BH401", path, f"{words}: a rule without `{peers}` has no bounds")
            for place, peer in _dicts(rule.get(peers), (*path, peers)):
                yield from _peer(peer, place, allowed)


def _peer(peer: dict[str, Any], path: Path, allowed: frozenset[str]) -> Hits:
    selector = peer.get("namespaceSelector")
    if selector is not None:
        chosen = _chosen(selector)
        if not any(namespaces <= allowed for namespaces in chosen):
            which = f": {listed(frozenset.union(*chosen) - allowed)}" if chosen else ""
            words = f"opens the network to other namespaces{which}"
            yield Hit("BH401", (*path, "namespaceSelector"), words)
    block = peer.get("ipBlock")
    if block is not None and _may_be_pods(block):
        cidr = shown(get(block, "cidr") or "")
        yield Hit("BH402", (*path, "ipBlock"), f"opens the network to the addresses {cidr}")


def _chosen(selector: Any) -> list[frozenset[str]]:
    """Return the namespaces to which a selector is bound by name, once for each condition."""
    by_label = get(selector, "matchLabels", NAMESPACE_NAME)
    found = [frozenset({by_label})] if isinstance(by_label, str) else []
    for _, condition in _dicts(get(selector, "matchExpressions"), ()):
        values = condition.get("values")
        if (
            condition.get("key") == NAMESPACE_NAME
            and condition.get("operator") == "In"
            and isinstance(values, list)
        ):
            found.append(frozenset(map(str, values)))
    return found


def _may_be_pods(block: Any) -> bool:
    """Tell whether a block of addresses holds such as clusters give to pods."""
    excepted = get(block, "except") or []
    if not isinstance(excepted, list) or len(excepted) > MOST_EXCEPTED:
        return True
    try:
        whole: Any = ip_network(text_of(get(block, "cidr")), strict=False)
        without: list[Any] = [ip_network(str(part), strict=False) for part in excepted]
    except ValueError:
        return True
    for inner in INTERNAL:
        if inner.version != whole.version or not inner.overlaps(whole):
            continue
        shared = inner if inner.subnet_of(whole) else whole
        if not any(part.version == shared.version and shared.subnet_of(part) for part in without):
            return True
    return False


def _endpoints(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    """Yield addresses to which a Service leads whatever its selector says, and past policies."""
    lists = [("endpoints", "addresses")] if manifest.group else []
    lists += [] if manifest.group else [("subsets", "addresses"), ("subsets", "notReadyAddresses")]
    for outer, inner in lists:
        for path, part in _dicts(manifest.get(outer), (outer,)):
            listed_there = part.get(inner)
            for place, item in enumerate(listed_there if isinstance(listed_there, list) else ()):
                address = text_of(get(item, "ip") if isinstance(item, dict) else item)
                if _is_internal(address):
                    words = f"leads to the address {shown(address)}"
                    yield Hit("BH402", (*path, inner, place), words)


def _is_internal(address: str) -> bool:
    """Tell whether an address may be a pod's or a node's; what is none may be anything."""
    try:
        found = ip_address(address)
    except ValueError:
        return True
    return any(found in block for block in INTERNAL if block.version == found.version)


def _service(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    """Yield a Service that is open to outside, or that stands for one of another namespace."""
    kind = manifest.get("spec", "type")
    if kind in ("LoadBalancer", "NodePort"):
        yield Hit("BH403", ("spec", "type"), f"is of type {kind}, which the quota refuses")
    if manifest.get("spec", "externalIPs"):
        yield Hit("BH403", ("spec", "externalIPs"), "takes addresses outside the cluster")
    if kind == "ExternalName":
        yield Hit("BH403", ("spec", "type"), "is of type ExternalName, which the cluster refuses")
    if kind == "ExternalName" and home is not None:
        path = ("spec", "externalName")
        for service, namespace in _services_in(text_of(manifest.get(*path))):
            if namespace not in home | _platform():
                words = f"stands for {shown(service)} in namespace {shown(namespace)}"
                yield Hit("BH303", path, words)


def addresses(path: Path, container: dict[str, Any], home: frozenset[str]) -> Hits:
    """Yield addresses of Services that are not the tenant's."""
    allowed = home | _platform()
    for place, text in strings_in(container, path):
        for service, namespace in dict.fromkeys(_services_in(text)):
            if namespace not in allowed and (service, namespace) != API_SERVER:
                words = f"names an address in namespace {shown(namespace)}"
                yield Hit("BH305", place, f"{words}, which is not its tenant's")


#: What ends the cluster's name of a Service; the namespace stands before it.
SERVICES = re.compile(r"\.svc(?![a-z0-9-])")
IN_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789-"
API_SERVER = ("kubernetes", "default")


def _services_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and namespace of the Services whose addresses are in a text."""
    if ".svc" not in (text := text.lower()):
        return
    for found in SERVICES.finditer(text):
        before = text[max(0, found.start() - 127) : found.start()]
        rest, _, namespace = before.rpartition(".")
        service = rest[len(rest.rstrip(IN_NAMES)) :]
        if service and is_label(namespace):
            yield service, namespace


# --- pods ------------------------------------------------------------------------------------

SWITCHES = {
    "hostNetwork": "uses its node's network",
    "hostPID": "sees the processes of its node",
    "hostIPC": "shares memory with its node",
}
#: What a container needs, and how it is called.
NEEDED = tuple((kind, what) for kind in ("requests", "limits") for what in ("cpu", "memory"))


#: What the parts of an object of another maker's kind are not.
ASIDE = frozenset({"metadata", "status"})


def is_foreign(manifest: Manifest) -> bool:
    """Tell whether the kind is not Kubernetes' own, whatever it is called: Job is Volcano's too."""
    return "." in manifest.group


def pod_specs(manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """Yield the specs of the pods that the object is or makes; of other makers' kinds too."""
    if is_foreign(manifest):
        for path, part in _parts(manifest):
            if any(_is_container(one) for _, one in containers_of(part, ())):
                yield path, part
    else:
        for path, template in templates_of(manifest.value):
            yield (*path, "spec"), get(template, "spec")


def _is_container(value: dict[str, Any]) -> bool:
    return "image" in value or "name" in value


def _parts(manifest: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each mapping in an object, with the way to it, but for what stands in containers."""
    for key, value in manifest.value.items():
        if key not in ASIDE:
            yield from _mappings_in(value, (key,))


def _mappings_in(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _mappings_in(item, (*path, place))
    elif isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            if key not in workloads.CONTAINERS or not isinstance(inner, list):
                yield from _mappings_in(inner, (*path, key))


def parts_of_pods(manifest: Manifest) -> Hits:
    """Yield what another maker's kind takes of a node in places of its own, as workflows have."""
    if not is_foreign(manifest):
        return
    for path, part in _parts(manifest):
        for key, words in SWITCHES.items():
            if part.get(key) is True:
                yield Hit("BH502", (*path, key), f"{words} ({key})")
        yield from volumes(part, path)
        if get(part, "securityContext", "privileged") is True:
            where = (*path, "securityContext", "privileged")
            yield Hit("BH504", where, "has a privileged container")


def other_templates(manifest: Manifest) -> Iterator[Path]:
    """Yield the ways to what gets labels of its own beside pods: jobs, and claims of volumes."""
    if manifest.kind == "CronJob":
        yield ("spec", "jobTemplate")
    elif manifest.kind == "StatefulSet":
        claims = ("spec", "volumeClaimTemplates")
        yield from (path for path, _ in _dicts(manifest.get(*claims), claims))


def models_in(manifest: Manifest) -> Iterator[workloads.Reference]:
    """Yield the models that the object names: for its pods, and what may be handed to pods.

    A ConfigMap holds texts of all sorts, so there only a value that is nothing else is one.
    """
    yield from workloads.references_of(manifest.value)
    if is_foreign(manifest):
        for key, value in manifest.value.items():
            if key not in ASIDE:
                yield from workloads.references_in(value, (key,))
    elif manifest.kind in ("ConfigMap", "Secret"):
        for part in ("data", "stringData"):
            for path, text in strings_in(manifest.get(part), (part,)):
                if workloads.MODEL_URI.fullmatch(text.strip()):
                    yield workloads.Reference(path, "", uri=text.strip())


def node(spec: Any, path: Path) -> Hits:
    """Yield what a pod takes of its node."""
    for key, words in SWITCHES.items():
        if _is_on(get(spec, key)):
            yield Hit("BH502", (*path, key), f"{words} ({key})")
    if _is_on(get(spec, "securityContext", "windowsOptions", "hostProcess")):
        where = (*path, "securityContext", "windowsOptions", "hostProcess")
        yield Hit("BH504", where, "runs as a process of its node (hostProcess)")
    if get(spec, "nodeName"):
        yield Hit("BH510", (*path, "nodeName"), "chooses its node by itself (nodeName)")
    priority = text_of(get(spec, "priorityClassName"))
    if priority.startswith("system-"):
        words = f"takes the cluster's own priority {shown(priority)}"
        yield Hit("BH510", (*path, "priorityClassName"), words)
    if get(spec, "automountServiceAccountToken") is not False:
        where = (*path, "automountServiceAccountToken")
        words = "gets its service account's token: automountServiceAccountToken is not false"
        yield Hit("BH508", where, words)


def volumes(spec: Any, path: Path) -> Hits:
    """Yield the volumes that are paths of the node."""
    for place, volume in _dicts(get(spec, "volumes"), (*path, "volumes")):
        if "hostPath" in volume:
            words = f"mounts {shown(get(volume, 'hostPath', 'path') or 'a path')} of its node"
            yield Hit("BH501", (*place, "hostPath"), f"{words} (hostPath)")


def tolerations(spec: Any, path: Path, labels: dict[str, list[str]]) -> Hits:
    """Yield what lets a pod onto nodes that are kept for others."""
    for place, toleration in _dicts(get(spec, "tolerations"), (*path, "tolerations")):
        key, value = text_of(toleration.get("key")), toleration.get("value")
        if not key:
            yield Hit("BH510", place, "tolerates every taint")
        elif key.startswith("node-role.kubernetes.io/"):
            yield Hit("BH510", place, f"goes to nodes of the cluster's own ({shown(key)})")
        elif key in labels and value not in labels[key]:
            yield Hit("BH510", place, f"goes to nodes of other tenants ({shown(key)})")


def container(path: Path, spec: dict[str, Any]) -> Hits:
    """Yield what a container may not."""
    who = f"container {shown(spec.get('name') or 'without a name')}"
    for place, port in _dicts(spec.get("ports"), (*path, "ports")):
        if port.get("hostPort"):
            words = f"takes port {shown(port['hostPort'])} of its node for {who}"
            yield Hit("BH503", (*place, "hostPort"), words)
    context, where = spec.get("securityContext"), (*path, "securityContext")
    if _is_on(get(context, "privileged")):
        yield Hit("BH504", (*where, "privileged"), f"has the privileged {who}")
    if _is_on(get(context, "windowsOptions", "hostProcess")):
        place = (*where, "windowsOptions", "hostProcess")
        yield Hit("BH504", place, f"runs {who} as a process of its node (hostProcess)")
    if get(context, "procMount") not in (None, "Default"):
        yield Hit("BH506", (*where, "procMount"), f"unmasks /proc in {who} (procMount)")
    if get(context, "allowPrivilegeEscalation") is not False:
        words = f"lets {who} gain privileges: allowPrivilegeEscalation is not false"
        yield Hit("BH507", (*where, "allowPrivilegeEscalation"), words)
    added = get(context, "capabilities", "add")
    for number, name in enumerate(added if isinstance(added, list) else ()):
        if name != "NET_BIND_SERVICE":
            words = f"gives {who} the capability {shown(name)}"
            yield Hit("BH505", (*where, "capabilities", "add", number), words)


def limits(spec: Any, path: Path, container: dict[str, Any]) -> Hits:
    """Yield what a container does not limit; where only a limit is given, it is requested too."""
    own, of_pod = container.get("resources"), get(spec, "resources")
    missing = [
        f"{what} {kind[:-1]}"
        for kind, what in NEEDED
        if not any(
            _amount(get(resources, given, what))
            for resources in (own, of_pod)
            for given in {kind, "limits"}
        )
    ]
    if missing:
        who = shown(container.get("name") or "without a name")
        words = f"has container {who} with no {', no '.join(missing)}"
        yield Hit("BH509", (*path, "resources"), words)


def _amount(value: Any) -> bool:
    """Tell whether a quantity limits anything; a limit of 0 does not."""
    try:
        return quantities.parse(str(value)) > 0
    except ValueError:
        return False


def _volume(manifest: Manifest, home: frozenset[str] | None) -> Hits:
    """Yield a volume that is a path of a node."""
    if manifest.get("spec", "hostPath") is not None:
        yield Hit("BH501", ("spec", "hostPath"), "is a path of a node (hostPath)")


#: What is asked of some kinds alone, by API group and kind.
BY_KIND: dict[tuple[str, str], Callable[[Manifest, frozenset[str] | None], Hits]] = {
    ("", "Service"): _service,
    ("", "Endpoints"): _endpoints,
    ("discovery.k8s.io", "EndpointSlice"): _endpoints,
    ("", "ServiceAccount"): _token,
    ("", "PersistentVolume"): _volume,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("extensions", "NetworkPolicy"): _network_policy,
}
