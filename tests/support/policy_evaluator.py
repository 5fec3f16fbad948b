"""Evaluates ValidatingAdmissionPolicies without a cluster: matching is ours, CEL is cel-python's.

What it cannot show: Kubernetes' own CEL libraries and optional types (our expressions use neither),
``matchPolicy: Equivalent``, costs, and types of fields, which only the API server checks. In one
thing cel-python is more lenient: ``has(a.b.c)`` is false where ``b`` is missing, and an error in
Kubernetes, so a test of its own looks at the order of those.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

Object = dict[str, Any]


@cache
def _environment() -> celpy.Environment:
    """Return cel-python's environment, which would raise the whole process' limit of recursion."""
    limit = sys.getrecursionlimit()
    made = celpy.Environment()
    sys.setrecursionlimit(limit)
    return made


@cache
def _program(expression: str) -> celpy.Runner:
    return _environment().program(_environment().compile(expression))


def evaluate(expression: str, known: Mapping[str, Any]) -> Any:
    """Return an expression's value; raises CELEvalError."""
    return _program(expression).evaluate(dict(known))


def refusals(
    policies: Sequence[Object],
    bindings: Sequence[Object],
    namespaces: Mapping[str, Object],
    request: Object,
) -> list[str]:
    """Return what the policies say against a request; with an error, as a policy fails by it.

    A request has operation, user, groups, group, version, kind, resource, subresource, namespace,
    name, object and oldObject.
    """
    enforced = {
        binding["spec"]["policyName"]
        for binding in bindings
        if "Deny" in binding["spec"]["validationActions"]
    }
    said: list[str] = []
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        if name in enforced and matches(spec["matchConstraints"], request, namespaces):
            said += (f"{name}: {text}" for text in _judge(spec, request, namespaces))
    return said


def matches(constraints: Object, request: Object, namespaces: Mapping[str, Object]) -> bool:
    """Tell whether a policy is asked about a request."""
    return any(_covers(rule, request) for rule in constraints["resourceRules"]) and _selects(
        constraints.get("namespaceSelector", {}), request, namespaces
    )


def _covers(rule: Object, request: Object) -> bool:
    part = request["subresource"]
    asked = {
        "apiGroups": {request["group"], "*"},
        "apiVersions": {request["version"], "*"},
        "operations": {request["operation"], "*"},
        "resources": {f"{request['resource']}/{part}" if part else request["resource"]},
    }
    assert not any("*" in name for name in rule["resources"]), "the matcher knows no such pattern"
    assert rule["scope"] == "*"
    return all(not wanted.isdisjoint(rule[what]) for what, wanted in asked.items())


def _selects(selector: Object, request: Object, namespaces: Mapping[str, Object]) -> bool:
    if request["namespace"]:
        chosen = namespaces[request["namespace"]]
    elif request["kind"] == "Namespace":
        chosen = request["object"]
    else:
        return True
    labels = chosen["metadata"].get("labels", {})
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "Exists", "the matcher knows no other operator"
        if wanted["key"] not in labels:
            return False
    assert set(selector) <= {"matchExpressions"}
    return True


def _judge(spec: Object, request: Object, namespaces: Mapping[str, Object]) -> Iterable[str]:
    known = _known(request, namespaces)
    variables = known["variables"] = celpy.celtypes.MapType()
    for variable in spec["variables"]:
        try:
            value = evaluate(variable["expression"], known)
        except CELEvalError:
            # As in Kubernetes, an error only where the variable is asked for: there it is missing.
            continue
        variables[celpy.celtypes.StringType(variable["name"])] = value
    for validation in spec["validations"]:
        try:
            if evaluate(validation["expression"], known):
                continue
        except CELEvalError as error:
            assert spec["failurePolicy"] in {"Fail", "Ignore"}
            if spec["failurePolicy"] == "Fail":
                yield f"error: {error}"
            continue
        told = validation.get("messageExpression")
        yield str(evaluate(told, known)) if told else validation["message"]


def _known(request: Object, namespaces: Mapping[str, Object]) -> dict[str, Any]:
    here = namespaces.get(request["namespace"])
    kind = {key: request[key] for key in ("group", "version", "kind")}
    resource = {key: request[key] for key in ("group", "version", "resource")}
    asked = {
        "kind": kind,
        "resource": resource,
        "subResource": request["subresource"],
        "requestKind": kind,
        "requestResource": resource,
        "name": request["name"],
        "namespace": request["namespace"],
        "operation": request["operation"],
        "userInfo": {"username": request["user"], "groups": request["groups"]},
    }
    return {
        "object": json_to_cel(request["object"]),
        "oldObject": json_to_cel(request["oldObject"]),
        "request": json_to_cel(asked),
        "namespaceObject": json_to_cel(here),
    }
