"""Each rendered object against the schemas of Kubernetes, strictly: no field that it has not.

On the oldest release whose policies Bulkhead uses, and on the newest that the schemas know. They
know fields and types only; what holds of their values is in ``test_bundle``.
"""

from copy import deepcopy
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from kubernetes_validate.utils import (  # type: ignore[import-untyped]
    SchemaNotFoundError,
    VersionNotSupportedError,
)

from tenants.kubernetes.bundle import cluster_wide
from tenants.kubernetes.bundle.objects import render
from tenants.kubernetes.bundle.webhook import render_webhook
from tests.support.bundles import BY_USERS, HERE, SUSPENDED, TEAM
from tests.support.certificates import Authority

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
RELEASES = (OLDEST, NEWEST)

OBJECTS: dict[str, dict[str, Any]] = {
    f"{what}: {obj['kind']} {obj['metadata']['name']}": obj
    for what, objects in (
        ("groups", render(TEAM, HERE)),
        ("users", render(TEAM, BY_USERS)),
        ("suspended", render(SUSPENDED, HERE)),
        ("once", cluster_wide.render(HERE)),
        ("controller", cluster_wide.controller(HERE)),
    )
    for obj in objects
}


def check(obj: dict[str, Any], release: str) -> None:
    """Raise what is wrong with it; a schema that is missing is wrong as well."""
    used = kubernetes_validate.validate(obj, release, strict=True)
    assert used == ".".join(release.split(".")[:2])


def test_the_releases_are_the_ones_that_we_claim() -> None:
    assert HERE.pod_security == f"v{OLDEST}"
    assert tuple(map(int, NEWEST.split(".")[:2])) >= (1, 37)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OBJECTS)
def test_each_object_is_one_that_kubernetes_has(name: str, release: str) -> None:
    check(OBJECTS[name], release)


@pytest.mark.parametrize("release", RELEASES)
def test_the_webhooks_configuration_is_one_too(release: str, tmp_path: Any) -> None:
    pem = Authority(tmp_path).file.read_bytes()
    check(render_webhook(HERE, ca_bundle=pem), release)
    check(render_webhook(HERE, ca_bundle=pem, url="https://bulkhead.example.com/"), release)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OBJECTS)
def test_a_field_that_there_is_not_is_found(name: str, release: str) -> None:
    """Also deep inside: otherwise the tests above would say nothing."""
    inside = deepcopy(OBJECTS[name])
    inside["metadata"]["label"] = {}
    outside = OBJECTS[name] | {"specs": {}}
    for wrong in (inside, outside):
        with pytest.raises(kubernetes_validate.ValidationError):
            check(wrong, release)


def test_a_missing_schema_is_a_failure() -> None:
    with pytest.raises(SchemaNotFoundError):
        check({"apiVersion": "v1", "kind": "Tenant", "metadata": {"name": "a"}}, OLDEST)
    with pytest.raises(VersionNotSupportedError):
        check(render(TEAM, HERE)[0], "1.99")
