"""The rules of the manifest check with their severities, and what one of them says of an object."""

from collections.abc import Iterator
from dataclasses import dataclass

from tenants.documents import Path
from tenants.kubernetes.bundle.objects import NAMESPACE_NAME

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class ManifestRule:
    """A rule; its id and name never change, and ``help`` says what to do instead."""

    id: str
    name: str
    help: str
    severity: str = ERROR


RULES: dict[str, ManifestRule] = {
    rule.id: rule
    for rule in (
        ManifestRule(
            "BH100",
            "no-object",
            "A document is one Kubernetes object: a mapping with apiVersion and kind.",
        ),
        ManifestRule(
            "BH101",
            "wrong-namespace",
            "Everything of a tenant's lies in the tenant's own namespace; name that one.",
        ),
        ManifestRule(
            "BH102",
            "undeclared-namespace",
            "A namespace belongs to a tenant only if a Namespace object here declares it; add that "
            "object, name a namespace that is declared, or check with --tenant.",
        ),
        ManifestRule(
            "BH103",
            "no-namespace",
            "What names no namespace lands wherever the context of whoever applies it points; "
            "name the tenant's.",
        ),
        ManifestRule(
            "BH104",
            "tenant-label",
            "The tenant's label is the one of the namespace's tenant; the cluster refuses another.",
        ),
        ManifestRule(
            "BH105",
            "cluster-wide-object",
            "What belongs to the whole cluster is for its admins to make, not for a tenant.",
        ),
        ManifestRule(
            "BH106",
            "cluster-wide-binding",
            "A ClusterRoleBinding grants its role in every tenant's namespace; use a RoleBinding "
            "in the tenant's own.",
        ),
        ManifestRule(
            "BH107",
            "other-namespace-object",
            "A tenant has one namespace, which is made for it; leave other Namespace objects out.",
        ),
        ManifestRule(
            "BH108",
            "pod-security",
            "Tenants' namespaces hold the Pod Security standard restricted; leave the label so.",
        ),
        ManifestRule(
            "BH109",
            "unlabelled-pod",
            "The cluster lets only pods into a tenant's namespace that carry the tenant's label; "
            "add it to the pod, or to the pod template's metadata.",
            WARNING,
        ),
        ManifestRule(
            "BH110",
            "kustomization",
            "A kustomization changes what other files say; check what `kubectl kustomize` prints.",
            WARNING,
        ),
        ManifestRule(
            "BH111",
            "no-quota",
            "A tenant without a ResourceQuota can take the whole cluster; declare one.",
            WARNING,
        ),
        ManifestRule(
            "BH201",
            "shared-service-account",
            "A service account belongs to one namespace and is bound there only; give each tenant "
            "one of its own.",
        ),
        ManifestRule(
            "BH202",
            "service-account-name",
            "A pod runs as a service account of its own namespace, which it names alone.",
        ),
        ManifestRule(
            "BH203",
            "wide-subject",
            "This group has members of all tenants; bind the tenant's own groups or people.",
        ),
        ManifestRule("BH204", "other-group", "Bind this tenant's own groups."),
        ManifestRule(
            "BH205",
            "cluster-admin",
            "cluster-admin undoes every limit of the namespace; bind one of the tenant roles.",
        ),
        ManifestRule(
            "BH206",
            "broad-role",
            "Kubernetes' own edit reads secrets and runs as any service account, its admin binds "
            "roles; bind one of the tenant roles.",
            WARNING,
        ),
        ManifestRule(
            "BH301",
            "other-namespace-reference",
            "Refer to what is in the tenant's own namespace.",
        ),
        ManifestRule(
            "BH302",
            "other-tenants-object",
            "A pod finds what is in its own namespace only; declare it there.",
        ),
        ManifestRule(
            "BH303",
            "external-name",
            "A Service must not stand for one in another namespace.",
        ),
        ManifestRule(
            "BH304",
            "copied-object",
            "Nothing is copied from or to another namespace; declare it where it is used.",
        ),
        ManifestRule(
            "BH305",
            "other-namespace-address",
            "Network policies keep tenants apart, so this address will not answer.",
            WARNING,
        ),
        ManifestRule(
            "BH401",
            "open-network-policy",
            "Choose peers in the tenant's own namespace, or by the label "
            f"{NAMESPACE_NAME} one of the platform's.",
        ),
        ManifestRule(
            "BH402",
            "address-block",
            "Other tenants' pods may have addresses in this block; exclude the cluster's.",
            WARNING,
        ),
        ManifestRule(
            "BH403",
            "exposed-service",
            "Only the gateway is reached from outside, and no Service leads there; "
            "use one of type ClusterIP.",
        ),
        ManifestRule(
            "BH501", "host-path", "A pod must not see its node's files; use a volume claim."
        ),
        ManifestRule("BH502", "host-namespace", "A pod has its own network, processes and memory."),
        ManifestRule(
            "BH503", "host-port", "A container must not take a port of its node; use a Service."
        ),
        ManifestRule(
            "BH504", "privileged", "A privileged container owns its node and all pods on it."
        ),
        ManifestRule("BH505", "capability", "No capability but NET_BIND_SERVICE may be added."),
        ManifestRule(
            "BH506", "proc-mount", "Leave procMount out: /proc is masked for good reasons."
        ),
        ManifestRule(
            "BH507",
            "privilege-escalation",
            "Set allowPrivilegeEscalation: false; the standard restricted refuses the pod without.",
            WARNING,
        ),
        ManifestRule(
            "BH508",
            "mounted-token",
            "Set automountServiceAccountToken: false unless the pod speaks with the API server.",
            WARNING,
        ),
        ManifestRule(
            "BH509",
            "no-limits",
            "Give each container requests and limits of cpu and memory, or one tenant's pod takes "
            "what the others need.",
        ),
        ManifestRule(
            "BH510", "node-choice", "Which node and which priority a pod gets is the cluster's."
        ),
        ManifestRule("BH601", "model", "Name a model and a version that the tenant can use."),
    )
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule's id, the path to the violation, and the message after the object's name."""

    rule: str
    path: Path
    words: str


Violations = Iterator[Violation]
