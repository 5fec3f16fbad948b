"""What a request proves who it is with, which tenants that opens, and why it may open none."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from tenants.isolation import statements
from tenants.workspaces import workspace_name


class NoTenant(Exception):
    """Tenant-owned rows were asked for, and nobody is acting for a tenant."""


class NotAMember(Exception):
    """The person is no member of that tenant, or there is no such tenant; nobody may tell which."""


class NobodysNamespace(Exception):
    """The namespace belongs to no tenant."""


class BadToken(Exception):
    """The token opens nothing: wrong, expired, revoked, or its holder is out; nobody may tell."""


class ContradictsToken(Exception):
    """The token opens one tenant only, and the request names another; ``slug`` is the token's."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        super().__init__(slug)


class WhichTeam(Exception):
    """The token opens several tenants, ``slugs``, and the request names none."""

    def __init__(self, slugs: list[str]) -> None:
        self.slugs = slugs
        super().__init__(", ".join(slugs))


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as a request carries it, and the tenant that the request names ('' for none).

    ``prefix`` finds the token's row, ``digest`` proves that it is the one; ``team`` is a slug, in
    which `_` and `-` are equal.
    """

    prefix: str
    digest: bytes
    team: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadCredential:
    """A pod that its cluster vouches for, and the tenant that the request names ('' for none).

    The database decides whether the pod's service account may sign in. ``digest`` is the SHA-256
    of the pod's token; ``token_id`` is what the audit log calls the token, ``token_name`` is its
    ``jti`` ('' where it has none). ``team`` is a slug, or the namespace, which MLflow's clients in
    a cluster send as the workspace.
    """

    cluster: str
    namespace: str
    service_account: str
    uid: str
    pod: str
    pod_uid: str
    digest: bytes
    token_id: str
    token_name: str
    expires_at: datetime
    team: str = ""


AnyCredential = Credential | WorkloadCredential


def as_values(credential: AnyCredential) -> dict[str, Any]:
    """Return the credential as values of the statements in ``tenants.isolation.statements``."""
    team = workspace_name(credential.team)
    if isinstance(credential, Credential):
        return {"prefix": credential.prefix, "digest": credential.digest, "team": team}
    return {
        "cluster": credential.cluster,
        "namespace": credential.namespace,
        "service_account": credential.service_account,
        "uid": credential.uid,
        "token_id": credential.token_id,
        "team": team,
    }


def proof_of(credential: AnyCredential) -> statements.Proof:
    """Return the SQL that proves this kind of credential."""
    return statements.TOKEN if isinstance(credential, Credential) else statements.WORKLOAD


@dataclass(frozen=True, slots=True)
class OpenTeam:
    """A tenant that a credential opens, and whether it opens only that one."""

    slug: str
    name: str
    description: str
    alone: bool


def teams_of(credential: AnyCredential) -> list[OpenTeam]:
    """Return the tenants that the credential opens, whichever the request names.

    Raises BadToken where there is none.
    """
    # psycopg is asked directly, and so Django does not notice a connection that is gone.
    connection.close_if_health_check_failed()
    rows = statements.run(proof_of(credential).list_tenants, as_values(credential)).fetchall()
    if not rows:
        raise BadToken
    return [OpenTeam(**row) for row in rows]


def refusal_of(credential: AnyCredential) -> Exception:
    """Return why the credential did not open one tenant: WhichTeam, ContradictsToken, NotAMember.

    Raises BadToken where it opens none at all.
    """
    teams = teams_of(credential)
    if not credential.team:
        return WhichTeam([team.slug for team in teams])
    return ContradictsToken(teams[0].slug) if teams[0].alone else NotAMember()
