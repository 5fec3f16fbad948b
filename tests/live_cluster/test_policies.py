"""Our admission policies, decided by the API server's own plugin: it compiles and matches them.

The rows are those of ``tests/support/policy_requests.py``; ``tests/kubernetes`` evaluates them
without the plugin.
"""

from copy import deepcopy

import pytest

from tenants.kubernetes.bundle.objects import Object
from tests.live_cluster.plugin import decide
from tests.support.policy_requests import (
    ALLOWED,
    BINDINGS,
    GAMMA,
    NAMESPACES,
    POLICIES,
    REFUSED,
    asks,
    binding,
    group,
    pod,
)

ROWS = {**ALLOWED, **{row: request for row, (_, request) in REFUSED.items()}}
#: A request that is refused for sure, by one policy and by another.
STRAY, EVERYBODY = asks(pod(GAMMA)), asks(binding(group("system:authenticated")))
STRAY_IS_OF = POLICIES[0]["metadata"]["name"]
REFUSALS = [request for _, request in REFUSED.values()]
RESOURCES = [
    (policy["metadata"]["name"], resource)
    for policy in POLICIES
    for rule in policy["spec"]["matchConstraints"]["resourceRules"]
    for resource in rule["resources"]
]
RULES = [
    (policy["metadata"]["name"], number)
    for policy in POLICIES
    for number in range(len(policy["spec"]["validations"]))
]


def answers(policies: list[Object], canary: Object, rows: list[Object]) -> list[str]:
    """Return what the plugin says of each row."""
    return decide(policies, BINDINGS, list(NAMESPACES.values()), rows, canary)


@pytest.fixture(scope="module")
def decided() -> dict[str, str]:
    """What the plugin says of every row, by the row's name."""
    assert len(ROWS) == len(ALLOWED) + len(REFUSED)
    return dict(zip(ROWS, answers(POLICIES, STRAY, list(ROWS.values())), strict=True))


@pytest.mark.parametrize("row", ALLOWED)
def test_what_stays_inside_its_tenant_is_let_in(row: str, decided: dict[str, str]) -> None:
    assert decided[row] == ""


@pytest.mark.parametrize("row", REFUSED)
def test_what_leaves_its_tenant_is_refused(row: str, decided: dict[str, str]) -> None:
    """L32; the refusal is a rule's, and not that the rule could not be evaluated."""
    policy, _ = REFUSED[row]
    assert f"'{policy}'" in decided[row]
    assert "denied request" in decided[row]
    assert "expression" not in decided[row]
    assert "failed" not in decided[row]


def without(name: str) -> tuple[list[Object], Object, Object]:
    """Return the policies and the one of that name, to be changed, and what the others refuse."""
    changed = deepcopy(POLICIES)
    policy = next(one for one in changed if one["metadata"]["name"] == name)
    return changed, policy, EVERYBODY if name == STRAY_IS_OF else STRAY


@pytest.mark.parametrize(("name", "resource"), RESOURCES)
def test_each_resource_is_needed(name: str, resource: str) -> None:
    """Without it, something is let in that must not be."""
    changed, policy, canary = without(name)
    for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
        rule["resources"] = [one for one in rule["resources"] if one != resource] or ["none"]
    assert "" in answers(changed, canary, REFUSALS)


@pytest.mark.parametrize(("name", "number"), RULES)
def test_each_rule_is_needed(name: str, number: int) -> None:
    """Without it, something is let in that must not be."""
    changed, policy, canary = without(name)
    policy["spec"]["validations"][number]["expression"] = "true"
    assert "" in answers(changed, canary, REFUSALS)
