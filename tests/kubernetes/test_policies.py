"""What the admission policies let in and refuse: each hole that a policy like them had, as a row.

The last level of tests asks Kubernetes' own plugin; this one needs no cluster.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import pytest

from tenants.kubernetes.bundle.cluster_wide import registry_user, render
from tenants.kubernetes.bundle.policies import LABEL_GUARD, NAMESPACE, SUBJECTS
from tests.support.policy_evaluator import Object, refusals
from tests.support.policy_requests import (
    ALLOWED,
    ALPHA,
    BINDINGS,
    GAMMA,
    HERE,
    MINE,
    NAMESPACES,
    POLICIES,
    REFUSED,
    REGISTRY,
    TENANT,
    TENANT_ID,
    asks,
    binding,
    but,
    group,
    namespace,
    of_kind,
    pod,
)


def answer(request: Object, policies: list[Object] = POLICIES) -> list[str]:
    return refusals(policies, BINDINGS, NAMESPACES, request)


@pytest.mark.parametrize("row", ALLOWED)
def test_what_stays_inside_its_tenant_is_let_in(row: str) -> None:
    assert answer(ALLOWED[row]) == []


@pytest.mark.parametrize("row", REFUSED)
def test_what_leaves_its_tenant_is_refused_by_a_rule(row: str) -> None:
    """L32. An expression that fails would refuse as well, but for the wrong reason."""
    policy, request = REFUSED[row]
    said = answer(request)
    assert {text.partition(": ")[0] for text in said} == {policy}
    assert not any("error" in text for text in said)


def test_a_refusal_names_no_tenant_but_the_namespaces_own() -> None:
    """Who is refused may know which label is needed here, and never which others there are."""
    for row, (_, request) in REFUSED.items():
        if request["namespace"] == MINE:
            assert GAMMA not in " ".join(answer(request)), row
    assert f"{TENANT} of its tenant: {ALPHA}" in " ".join(answer(asks(pod(GAMMA))))


# --- Each part is needed ---


def without(resource: str) -> list[Object]:
    changed = deepcopy(POLICIES)
    for policy in changed:
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
            rule["resources"] = [name for name in rule["resources"] if name != resource]
    return changed


ALL_RESOURCES = sorted(
    {
        name
        for policy in POLICIES
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for name in rule["resources"]
    }
)


@pytest.mark.parametrize("resource", ALL_RESOURCES)
def test_each_resource_is_needed(resource: str) -> None:
    changed = without(resource)
    let_in = [
        row
        for row, (_, request) in REFUSED.items()
        if resource == "/".join(filter(None, (request["resource"], request["subresource"])))
        and answer(request, changed) == []
    ]
    assert let_in


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("policy", range(len(POLICIES)))
def test_each_operation_is_needed(policy: int, operation: str) -> None:
    changed = deepcopy(POLICIES)
    for rule in changed[policy]["spec"]["matchConstraints"]["resourceRules"]:
        rule["operations"].remove(operation)
    name = POLICIES[policy]["metadata"]["name"]
    of_policy = [request for by, request in REFUSED.values() if by == name]
    assert any(answer(request, changed) == [] for request in of_policy)


def test_only_the_guard_of_labels_looks_at_all_namespaces() -> None:
    selectors = {
        policy["metadata"]["name"]: policy["spec"]["matchConstraints"].get("namespaceSelector")
        for policy in POLICIES
    }
    exists = {"matchExpressions": [{"key": TENANT, "operator": "Exists"}]}
    assert selectors == {NAMESPACE: exists, LABEL_GUARD: None, SUBJECTS: exists}


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (policy["metadata"]["name"], place)
        for policy in POLICIES
        for place, _ in enumerate(policy["spec"]["validations"])
    ],
)
def test_each_rule_is_needed(policy: str, rule: int) -> None:
    changed = deepcopy([made for made in POLICIES if made["metadata"]["name"] == policy])
    changed[0]["spec"]["validations"][rule]["expression"] = "true"
    assert differs(changed, policy)


def test_what_cannot_be_evaluated_is_refused_and_so_is_every_refusal_kept() -> None:
    for policy in POLICIES:
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert all(rule["reason"] == "Forbidden" for rule in policy["spec"]["validations"])
    assert {obj["spec"]["policyName"] for obj in BINDINGS} == {NAMESPACE, LABEL_GUARD, SUBJECTS}
    for obj in BINDINGS:
        assert obj["spec"] == {
            "policyName": obj["metadata"]["name"],
            "validationActions": ["Deny", "Audit"],
        }


#: Pieces of expressions, and what each would be if it were forgotten.
FORGOTTEN = (
    (NAMESPACE, "variables.needed == variables.neededBefore ||", ""),
    (NAMESPACE, "variables.claimed == variables.claimedBefore ||", ""),
    (NAMESPACE, "held == [] ||", ""),
    (NAMESPACE, "held == [] || held == [variables.tenant]", "held == []"),
    (NAMESPACE, "variables.addresses == variables.addressesBefore ||", ""),
    (NAMESPACE, "|| variables.addresses == []", ""),
    (NAMESPACE, "has(variables.it.spec.externalIPs) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.externalName) ?", "false ?"),
    (NAMESPACE, "request.operation != 'CREATE' ||", ""),
    (NAMESPACE, "request.operation != 'CREATE' || request.kind.kind != 'Pod' ||", ""),
    (NAMESPACE, "!(has(variables.it.spec) && has(variables.it.spec.priorityClassName)) ||", ""),
    (NAMESPACE, "request.kind.kind == 'Pod' ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.template) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.jobTemplate.spec.template) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.jobTemplate) ?", "false ?"),
    (NAMESPACE, "has(variables.it.spec.volumeClaimTemplates) ?", "false ?"),
    (NAMESPACE, "has(variables.it.template) ?", "false ?"),
    (NAMESPACE, "has(part.metadata) &&", "true &&"),
    (NAMESPACE, "has(part.metadata.labels) &&", "true &&"),
    (NAMESPACE, f"'{TENANT}' in part.metadata.labels", "true"),
    (NAMESPACE, "has(variables.it.spec) &&", "true &&"),
    (NAMESPACE, "has(variables.was.spec) &&", "true &&"),
    (LABEL_GUARD, "request.operation != 'UPDATE' || variables.held", "variables.held"),
    (LABEL_GUARD, "request.operation != 'CREATE' || variables.held", "variables.held"),
    (LABEL_GUARD, "variables.held == [[], []] ||", ""),
    (LABEL_GUARD, "has(object.metadata.labels) &&", "true &&"),
    (LABEL_GUARD, "has(oldObject.metadata.labels) &&", "true &&"),
    (LABEL_GUARD, f"'{TENANT}' in object.metadata.labels", "false"),
    (LABEL_GUARD, f"'{TENANT_ID}' in object.metadata.labels", "false"),
    (SUBJECTS, "has(variables.it.subjects) ?", "true ?"),
    (SUBJECTS, "subject.kind in ['ServiceAccount', 'User', 'Group'] &&", ""),
    (SUBJECTS, "has(subject.namespace) &&", ""),
    (SUBJECTS, "subject.namespace == variables.namespace", "true"),
    (SUBJECTS, "||\n  subject.name.startsWith(variables.account)", ""),
    (SUBJECTS, "|| subject.name == variables.accounts", ""),
    (SUBJECTS, "+ variables.namespace + ':'", "+ variables.namespace"),
    (SUBJECTS, "+ variables.tenant + ':'", "+ variables.tenant"),
    (SUBJECTS, "||\n  subject.name.startsWith(variables.group)", ""),
)


def differs(changed: list[Object], name: str) -> bool:
    """Tell whether a row's answer is another than the table's, or an error."""
    refused = (request for by, request in REFUSED.values() if by == name)
    return any(
        not (said := answer(request, changed)) or any("error" in text for text in said)
        for request in refused
    ) or any(answer(request, changed) for request in ALLOWED.values())


@pytest.mark.parametrize(("name", "piece", "instead"), FORGOTTEN)
def test_each_piece_of_an_expression_is_needed(name: str, piece: str, instead: str) -> None:
    """Without it, a row is let in that must not be, or the reverse, or it cannot be evaluated."""
    changed = deepcopy([policy for policy in POLICIES if policy["metadata"]["name"] == name])
    [policy] = changed
    found = 0
    for part in (*policy["spec"]["variables"], *policy["spec"]["validations"]):
        found += part["expression"].count(piece)
        part["expression"] = part["expression"].replace(piece, instead)
    assert found
    assert differs(changed, name) or any(map(unasked, expressions(changed)))


# --- Expressions ---


def expressions(policies: list[Object] = POLICIES) -> Iterator[str]:
    for policy in policies:
        for part in (*policy["spec"]["variables"], *policy["spec"]["validations"]):
            yield part["expression"]
            yield from filter(None, [part.get("messageExpression")])


def unasked(expression: str) -> list[str]:
    """Return the fields that are asked for although what holds them was not asked for before.

    In Kubernetes that is an error where it is missing; cel-python says that they are not there.
    """
    asked: set[str] = set()
    early = []
    for path in re.findall(r"has\(([\w.]+)\)", expression):
        holder = path.rpartition(".")[0]
        if holder not in asked and not re.fullmatch(r"(variables\.)?\w+", holder):
            early.append(path)
        asked.add(path)
    return early


def test_each_field_is_asked_for_from_the_outside_in() -> None:
    assert not any(map(unasked, expressions()))
    assert unasked("has(object.spec) && has(object.spec.a.b)") == ["object.spec.a.b"]
    assert unasked("has(object.spec.a)") == ["object.spec.a"]
    assert unasked("has(object.spec) && has(object.spec.a)") == []


def test_expressions_keep_to_what_all_evaluators_have() -> None:
    """No optional types, and of functions only CEL's own."""
    for text in expressions():
        plain = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
        assert ".?" not in plain and "[?" not in plain
        called = set(re.findall(r"(\w+)\(", plain))
        assert called <= {"has", "dyn", "map", "all", "startsWith"}, text


# --- Other installations ---


def test_labels_groups_and_writers_are_the_installations_own() -> None:
    argo = "system:serviceaccount:argocd:argocd-application-controller"
    other = replace(
        HERE, prefix="ml.example.com", group_prefix="oidc:", registry_namespace="models"
    )
    policies = [obj for obj in render(other, [argo]) if obj["kind"] == "ValidatingAdmissionPolicy"]
    assert not any(HERE.prefix in text for text in expressions(policies))
    mine = "ml.example.com/tenant"
    places = {MINE: namespace(MINE, None)}
    places[MINE]["metadata"]["labels"][mine] = ALPHA

    def said(request: Object) -> list[str]:
        return refusals(policies, BINDINGS, places, request)

    new = but(namespace("bh-new", None), labels={mine: "new"})
    assert said(asks(new, by=argo)) == []
    assert said(asks(new, by=REGISTRY))
    assert said(asks(new, by=registry_user(other)))
    assert said(asks(binding(group("oidc:bh:team_alpha:viewer")))) == []
    assert said(asks(binding(group("oidc:bh:team_gamma:viewer"))))
    assert said(asks(pod(ALPHA)))
    assert said(asks(but(pod(), labels={mine: ALPHA}))) == []


def test_the_registrys_own_account_makes_namespaces_unless_others_are_named() -> None:
    assert registry_user(HERE) == "system:serviceaccount:bulkhead:bulkhead"
    moved = replace(HERE, registry_namespace="models")
    assert any(
        "['system:serviceaccount:models:bulkhead']" in text
        for text in expressions(of_kind("ValidatingAdmissionPolicy", moved))
    )
