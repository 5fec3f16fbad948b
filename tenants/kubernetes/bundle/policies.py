"""Three ValidatingAdmissionPolicies by which the API server itself keeps tenants apart.

They hold whatever Bulkhead is doing at that moment, for everybody: nobody is exempt, and what
cannot be evaluated is refused. Whoever may not make pods can still make others make them, and
write objects through their subresources, so each way that takes a whole object is matched.

A workload that was let in before the policies came may stay as it is: to refuse a kubelet's report,
or that a finalizer goes, would break a cluster and make nothing safer. A role binding may not.

The expressions keep to plain CEL, without Kubernetes' libraries and optional types, so that they
can be evaluated without a cluster. ``has`` stands before each field that may be missing.
"""

import json
from collections.abc import Iterable, Sequence

from tenants.clusters import Installation
from tenants.kubernetes import names
from tenants.kubernetes.bundle.objects import Object

API = "admissionregistration.k8s.io/v1"
NAMESPACE, LABEL_GUARD, SUBJECTS = (
    f"{names.PREFIX}-tenant-{name}" for name in ("namespace", "label-guard", "subjects")
)
WORKLOADS = ("deployments", "statefulsets", "daemonsets", "replicasets")
#: How the user name of a service account begins, and the group of all accounts of a namespace.
ACCOUNT, ACCOUNTS = "system:serviceaccount:", "system:serviceaccounts:"

#: The CEL variables of the new object (``it``) and of the one that it replaces (``was``). They are
#: ``dyn``, since the API server would otherwise warn of each field that some matched kind lacks.
IT, WAS = "variables.it", "variables.was"


def policies(installation: Installation, writers: Sequence[str]) -> list[Object]:
    """Return the three policies, each with the binding that makes it hold.

    ``writers`` are the user names, as the cluster has them, that may make tenants' namespaces.
    """
    return [
        *_tenant_namespace(installation),
        *_label_guard(installation, writers),
        *_subjects(installation),
    ]


def _tenant_namespace(installation: Installation) -> list[Object]:
    """Return the policy by which workloads and their pods carry their own tenant's label only."""
    label = installation.label("tenant")
    rules = [
        _rule(
            "",
            *("pods", "pods/status", "pods/ephemeralcontainers", "pods/resize"),
            # The API server copies the labels of a pod's Binding to the pod.
            *("pods/binding", "bindings"),
            *("podtemplates", "services"),
            *_with_status("replicationcontrollers", "persistentvolumeclaims"),
        ),
        _rule("apps", *_with_status(*WORKLOADS)),
        _rule("batch", *_with_status("jobs", "cronjobs")),
    ]
    variables = {
        "tenant": _tenant(installation),
        "it": "dyn(object)",
        "was": "dyn(oldObject)",
        "pods": _pods(IT),
        "podsBefore": _if_updated(_pods(WAS)),
        # One entry for each place of the label: a list of its value, or an empty list.
        "needed": _each("variables.pods", label),
        "neededBefore": _each("variables.podsBefore", label),
        "claimed": _each(_labelled(IT), label),
        "claimedBefore": _if_updated(_each(_labelled(WAS), label)),
        "addresses": _addresses(IT),
        "addressesBefore": _if_updated(_addresses(WAS)),
    }
    validations = [
        _validation(
            "variables.needed == variables.neededBefore ||\n"
            "variables.needed.all(held, held == [variables.tenant])",
            f"each pod and each pod template in this namespace has the label {label} of its tenant",
            names_tenant=True,
        ),
        _validation(
            "variables.claimed == variables.claimedBefore ||\n"
            "variables.claimed.all(held, held == [] || held == [variables.tenant])",
            f"nothing in this namespace has a label {label} other than that of its tenant",
            names_tenant=True,
        ),
        # externalIPs: a Service could take over an address, and with it another tenant's traffic.
        # externalName: a gateway that resolves it would reach one tenant's pods by another's route.
        _validation(
            "variables.addresses == variables.addressesBefore || variables.addresses == []",
            "a service in a tenant's namespace has no externalIPs and no externalName",
        ),
        # Pods of these priority classes evict the pods of all tenants from their nodes.
        _validation(
            "request.operation != 'CREATE' || request.kind.kind != 'Pod' ||\n"
            f"!({_has(IT, 'spec', 'priorityClassName')}) ||\n"
            f"!{IT}.spec.priorityClassName.startsWith('system-')",
            "a pod in a tenant's namespace has no priority class of the cluster's own",
        ),
    ]
    return _policy(NAMESPACE, rules, variables, validations, selector=label)


def _label_guard(installation: Installation, writers: Sequence[str]) -> list[Object]:
    """Return the policy by which a namespace's tenant labels are set once, by the registry only."""
    labels = [installation.label(name) for name in ("tenant", "tenant-id")]
    rules = [_rule("", "namespaces", "namespaces/status", "namespaces/finalize")]
    variables = {
        "held": _list((_held("object", label) for label in labels), ",\n"),
        "heldBefore": _if_updated(_list((_held("oldObject", label) for label in labels), ",\n")),
    }
    named = " and ".join(labels)
    validations = [
        _validation(
            "request.operation != 'UPDATE' || variables.held == variables.heldBefore",
            f"the labels {named} stay as they were when the namespace was made",
        ),
        _validation(
            "request.operation != 'CREATE' || variables.held == [[], []] ||\n"
            f"request.userInfo.username in {_list(map(_text, writers))}",
            f"only the model registry makes namespaces with the labels {named}",
        ),
    ]
    return _policy(LABEL_GUARD, rules, variables, validations)


def _subjects(installation: Installation) -> list[Object]:
    """Return the policy by which a tenant's roles are bound to nobody from outside the tenant."""
    ours = installation.group_prefix + f"{names.PREFIX}:"
    variables = {
        "tenant": _tenant(installation),
        "namespace": "namespaceObject.metadata.name",
        "it": "dyn(object)",
        "subjects": f"has({IT}.subjects) ? {IT}.subjects : []",
        "account": f"{_text(ACCOUNT)} + variables.namespace + ':'",
        "accounts": f"{_text(ACCOUNTS)} + variables.namespace",
        "group": f"{_text(ours)} + variables.tenant + ':'",
    }
    validations = [
        _validation(
            "variables.subjects.all(subject,\n"
            "  subject.kind in ['ServiceAccount', 'User', 'Group'] &&\n"
            "  (subject.kind != 'ServiceAccount' ||\n"
            "    has(subject.namespace) && subject.namespace == variables.namespace))",
            "a role in a tenant's namespace is for that namespace's own service accounts",
        ),
        _validation(
            "variables.subjects.all(subject, subject.kind != 'User' ||\n"
            "  !subject.name.startsWith('system:') ||\n"
            "  subject.name.startsWith(variables.account))",
            "a role in a tenant's namespace is for no user of the cluster's own, and for no "
            "service account of another namespace",
        ),
        _validation(
            "variables.subjects.all(subject, subject.kind != 'Group' ||\n"
            "  !subject.name.startsWith('system:') || subject.name == variables.accounts)",
            "a role in a tenant's namespace is for no group of the cluster's own, and for no "
            "service accounts of another namespace",
        ),
        _validation(
            "variables.subjects.all(subject, subject.kind != 'Group' ||\n"
            f"  !subject.name.startsWith({_text(ours)}) ||\n"
            "  subject.name.startsWith(variables.group))",
            "a role in a tenant's namespace is for no group of another tenant",
        ),
    ]
    rules = [_rule("rbac.authorization.k8s.io", "rolebindings")]
    return _policy(SUBJECTS, rules, variables, validations, selector=installation.label("tenant"))


# --- Expressions ---


def _text(value: str) -> str:
    """Return a CEL string literal."""
    return json.dumps(value) if "'" in value or "\\" in value else f"'{value}'"


def _list(expressions: Iterable[str], between: str = ", ") -> str:
    return f"[{between.join(expressions)}]"


def _tenant(installation: Installation) -> str:
    return f"namespaceObject.metadata.labels[{_text(installation.label('tenant'))}]"


def _if_updated(expression: str) -> str:
    """Return CEL for the expression on an update, and for an empty list otherwise."""
    return f"request.operation != 'UPDATE' ? [] :\n({expression})"


def _has(start: str, *fields: str) -> str:
    """Return CEL that tells whether a field and all its parents are set."""
    paths = [".".join((start, *fields[: place + 1])) for place in range(len(fields))]
    return " && ".join(f"has({path})" for path in paths)


def _held(part: str, label: str) -> str:
    """Return CEL for a list of a part's value of a label: one value, or none."""
    name = _text(label)
    there = f"{_has(part, 'metadata', 'labels')} && {name} in {part}.metadata.labels"
    return f"{there} ?\n  [{part}.metadata.labels[{name}]] : []"


def _each(parts: str, label: str) -> str:
    """Return CEL for the list of what ``_held`` gives for each part."""
    return f"{parts}.map(part,\n  {_held('part', label)})"


def _pods(it: str) -> str:
    """Return CEL for a list of the pod or the pod template in the object: one, or none."""
    job = ("spec", "jobTemplate", "spec", "template")
    return (
        f"request.kind.kind == 'Pod' ? [{it}] :\n"
        f"{_has(it, 'spec', 'template')} ? [{it}.spec.template] :\n"
        f"{_has(it, *job)} ?\n  [{it}.{'.'.join(job)}] :\n"
        f"{_has(it, 'template')} ? [{it}.template] : []"
    )


def _labelled(it: str) -> str:
    """Return CEL for a list of the object and its templates with labels, other than pods'."""
    claims = f"{it}.spec.volumeClaimTemplates"
    return (
        f"([{it}] +\n"
        f"({_has(it, 'spec', 'jobTemplate')} ? [{it}.spec.jobTemplate] : []) +\n"
        f"({_has(it, 'spec', 'volumeClaimTemplates')} ? {claims} : []))"
    )


def _addresses(it: str) -> str:
    """Return CEL for the list of a Service's externalIPs and externalName."""
    ips, name = f"{it}.spec.externalIPs", f"{it}.spec.externalName"
    there = f"request.kind.kind == 'Service' && {_has(it, 'spec')}"
    return f"!({there}) ? [] :\n((has({ips}) ? {ips} : []) + (has({name}) ? [{name}] : []))"


# --- Objects ---


def _with_status(*resources: str) -> list[str]:
    return [name for resource in resources for name in (resource, f"{resource}/status")]


def _rule(group: str, *resources: str) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources),
        "scope": "*",
    }


def _validation(expression: str, message: str, *, names_tenant: bool = False) -> Object:
    """Return a validation; with ``names_tenant`` its message ends with the tenant's name."""
    made: Object = {"expression": expression, "message": message}
    if names_tenant:
        made["messageExpression"] = f"{_text(message + ': ')} + variables.tenant"
    return made | {"reason": "Forbidden"}


def _policy(
    name: str,
    rules: list[Object],
    variables: dict[str, str],
    validations: list[Object],
    *,
    selector: str | None = None,
) -> list[Object]:
    """Return a policy and its binding; it holds in namespaces with the label ``selector``."""
    constraints: Object = {"matchPolicy": "Equivalent", "resourceRules": rules}
    if selector is not None:
        constraints["namespaceSelector"] = {
            "matchExpressions": [{"key": selector, "operator": "Exists"}]
        }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": constraints,
        "variables": [{"name": key, "expression": text} for key, text in variables.items()],
        "validations": validations,
    }
    binding = {"policyName": name, "validationActions": ["Deny", "Audit"]}
    return [
        {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": body}
        for kind, body in (
            ("ValidatingAdmissionPolicy", spec),
            ("ValidatingAdmissionPolicyBinding", binding),
        )
    ]
