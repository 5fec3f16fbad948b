"""Every endpoint of the API: who may call it, and a call that succeeds.

``test_api_matrix`` fails when an endpoint of the product is missing here.
"""

from dataclasses import dataclass, field
from typing import Any

from tenants.models import Role
from tests.support.api import MODELS, VERSIONS

REGISTRY = "2.0/mlflow"


WORKSPACES = "3.0/mlflow/workspaces"


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


FRAUD, FIRST = {"name": "fraud"}, {"name": "fraud", "version": "1"}

MEMBERS = {
    "bob": Role.VIEWER,
    "carol": Role.CONTRIBUTOR,
    "mia": Role.MAINTAINER,
    "alice": Role.ADMIN,
}


@dataclass(frozen=True)
class Row:
    """What is sent, after which the call succeeds, and the role that it takes; None: nobody's."""

    fields: dict[str, Any] = field(default_factory=dict)
    role: Role | None = Role.VIEWER
    #: What follows an address that takes more.
    rest: str = ""
    #: Whether something is changed, so that a reading token and a suspended team are refused.
    writes: bool = False
    #: Whether no token is asked for.
    public: bool = False
    #: The status of the success.
    status: int = 200
    #: Whether it is about the token's teams, and not about one of them.
    of_no_team: bool = False


def reads(**fields: Any) -> Row:
    """Return the row of what viewers may do."""
    return Row(fields)


def writes(role: Role, **fields: Any) -> Row:
    """Return the row of what takes a role."""
    return Row(fields, role, writes=True)


NOBODYS = Row(role=None, of_no_team=True)
TABLE: dict[tuple[str, str], Row] = {
    ("POST", f"{REGISTRY}/{MODELS}/create"): writes(Role.CONTRIBUTOR, name="new"),
    ("GET", f"{REGISTRY}/{MODELS}/get"): reads(**FRAUD),
    ("GET", f"{REGISTRY}/{MODELS}/search"): reads(),
    ("POST", f"{REGISTRY}/{MODELS}/rename"): writes(Role.CONTRIBUTOR, **FRAUD, new_name="new"),
    ("PATCH", f"{REGISTRY}/{MODELS}/update"): writes(Role.CONTRIBUTOR, **FRAUD, description="x"),
    ("DELETE", f"{REGISTRY}/{MODELS}/delete"): writes(Role.MAINTAINER, **FRAUD),
    ("POST", f"{REGISTRY}/{MODELS}/get-latest-versions"): reads(**FRAUD),
    ("GET", f"{REGISTRY}/{MODELS}/get-latest-versions"): reads(**FRAUD),
    ("POST", f"{REGISTRY}/{MODELS}/set-tag"): writes(Role.CONTRIBUTOR, **FRAUD, key="k"),
    ("DELETE", f"{REGISTRY}/{MODELS}/delete-tag"): writes(Role.CONTRIBUTOR, **FRAUD, key="ALPHA"),
    ("POST", f"{REGISTRY}/{MODELS}/alias"): writes(Role.CONTRIBUTOR, **FIRST, alias="new"),
    ("DELETE", f"{REGISTRY}/{MODELS}/alias"): writes(Role.CONTRIBUTOR, **FRAUD, alias="champion"),
    ("GET", f"{REGISTRY}/{MODELS}/alias"): reads(**FRAUD, alias="champion"),
    ("POST", f"{REGISTRY}/{VERSIONS}/create"): writes(Role.CONTRIBUTOR, **FRAUD, source="s3://b"),
    ("GET", f"{REGISTRY}/{VERSIONS}/get"): reads(**FIRST),
    ("GET", f"{REGISTRY}/{VERSIONS}/search"): reads(),
    ("PATCH", f"{REGISTRY}/{VERSIONS}/update"): writes(Role.CONTRIBUTOR, **FIRST),
    ("DELETE", f"{REGISTRY}/{VERSIONS}/delete"): writes(Role.MAINTAINER, **FIRST),
    ("GET", f"{REGISTRY}/{VERSIONS}/get-download-uri"): reads(**FIRST),
    ("POST", f"{REGISTRY}/{VERSIONS}/transition-stage"): writes(
        Role.CONTRIBUTOR, **FIRST, stage="Staging"
    ),
    ("POST", f"{REGISTRY}/{VERSIONS}/set-tag"): writes(Role.CONTRIBUTOR, **FIRST, key="k"),
    ("DELETE", f"{REGISTRY}/{VERSIONS}/delete-tag"): writes(Role.CONTRIBUTOR, **FIRST, key="word"),
    ("POST", "2.0/bulkhead/manifests/check"): reads(manifests="{apiVersion: v1, kind: Pod}"),
    ("GET", "3.0/mlflow/server-info"): Row(public=True, of_no_team=True),
    ("GET", WORKSPACES): Row(of_no_team=True),
    ("GET", f"{WORKSPACES}/"): Row(rest="team-alpha", of_no_team=True),
    ("POST", WORKSPACES): NOBODYS,
    ("PATCH", f"{WORKSPACES}/"): Row(role=None, rest="team-alpha", of_no_team=True),
    ("DELETE", f"{WORKSPACES}/"): Row(role=None, rest="team-alpha", of_no_team=True),
}
# Here nobody has files, and the store is a folder, which takes nothing from clients directly; with
# files and with a bucket the endpoints are tried in test_artifact_api.
ARTIFACTS = "2.0/mlflow-artifacts"
TABLE |= {
    ("GET", "model-versions/get-artifact"): Row({**FIRST, "path": "MLmodel"}, status=404),
    ("GET", f"{ARTIFACTS}/artifacts"): reads(),
    ("GET", f"{ARTIFACTS}/artifacts/"): Row(rest="folder/file", status=404),
    ("PUT", f"{ARTIFACTS}/artifacts/"): Row(role=Role.CONTRIBUTOR, rest="folder/file", writes=True),
    ("DELETE", f"{ARTIFACTS}/artifacts/"): Row(
        role=Role.CONTRIBUTOR, rest="folder/file", writes=True, status=404
    ),
}
DIRECTLY = Row(rest="folder/file", status=501)
for verb in ("create", "complete", "abort"):
    TABLE[("POST", f"{ARTIFACTS}/mpu/{verb}/")] = DIRECTLY
TABLE[("GET", f"{ARTIFACTS}/presigned/")] = DIRECTLY


def place(address: str, rest: str = "") -> str:
    """Return an endpoint's address as the client takes it."""
    return f"{address}{rest}" if address[0].isdigit() else f"/{address}{rest}"
