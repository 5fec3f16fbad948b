"""Kubernetes' own admission plugin for ValidatingAdmissionPolicies, asked about requests."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

PROGRAM = "KUBE_POLICIES"


def decide(
    policies: Sequence[dict[str, Any]],
    bindings: Sequence[dict[str, Any]],
    namespaces: Sequence[dict[str, Any]],
    requests: Sequence[dict[str, Any]],
    canary: dict[str, Any],
) -> list[str]:
    """Return for each request "" where it is allowed, and the refusal where it is not.

    A request has operation, user, groups, group, version, kind, resource, subresource, namespace,
    name, object and oldObject. The plugin compiles policies in the background, so the ``canary`` is
    asked until it is refused.
    """
    program = shutil.which(os.environ.get(PROGRAM, ""))
    if program is None:
        pytest.fail(f"These tests need the plugin that build.sh makes: name it in {PROGRAM}.")
    asked = {
        "policies": policies,
        "bindings": bindings,
        "namespaces": namespaces,
        "requests": requests,
        "canary": canary,
    }
    done = subprocess.run(
        [program], input=json.dumps(asked), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers
