"""A client of the API for the tests: it speaks MLflow's wire protocol over Django's test client.

It is small on purpose and checks nothing: what comes back is the whole answer, to be judged by the
test.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
from django.test import Client
from django.utils import timezone

from tenants.identity import tokens
from tenants.isolation.scope import tenant_scope
from tenants.models import ApiToken, AuditEvent, Tenant, User, tenant_owned_models
from tests.support.sql import column

MODELS = "registered-models"
VERSIONS = "model-versions"


def make_token(user: User, scope: str = "write", tenant: Tenant | None = None, **row: Any) -> str:
    """Make a token as the verbs do, with what a test needs different."""
    secret = tokens.new_secret(scope)
    row.setdefault("expires_at", timezone.now() + timedelta(days=1))
    ApiToken.objects.create(
        user=user,
        tenant=tenant,
        scope=scope,
        name="test",
        prefix=secret[: tokens.PREFIX_CHARS],
        digest=tokens.digest(secret),
        **row,
    )
    return secret


@dataclass(frozen=True)
class Api:
    """A client with a token: ``team`` goes into the header, ``prefix`` into the address.

    ``headers`` are sent with each request.
    """

    token: str = ""
    team: str = ""
    prefix: str = ""
    kind: str = "api"
    headers: dict[str, str] = field(default_factory=dict)

    def but(self, **fields: Any) -> "Api":
        """Return the same client with something different."""
        return replace(self, **fields)

    def address(self, endpoint: str) -> str:
        """Return the path of an endpoint: ``registered-models/get``, or with its version."""
        team = f"/t/{self.prefix}" if self.prefix else ""
        if endpoint.startswith("/"):
            return f"{team}{endpoint}"
        numbered = endpoint if endpoint[:1].isdigit() else f"2.0/mlflow/{endpoint}"
        return f"{team}/{self.kind}/{numbered}"

    def send(self, method: str, endpoint: str, fields: dict[str, Any] | None = None) -> Any:
        """Send the fields in the query string of a GET, and in a JSON body of anything else."""
        if method in ("GET", "HEAD"):
            query = f"?{urlencode(fields, doseq=True)}" if fields else ""
            return self.raw(method, f"{endpoint}{query}")
        return self.raw(method, endpoint, orjson.dumps(fields or {}))

    def raw(
        self,
        method: str,
        endpoint: str,
        body: bytes = b"",
        content_type: str = "application/json",
        **environ: Any,
    ) -> Any:
        """Send whatever is given; ``environ`` goes into the WSGI environment."""
        headers = dict(self.headers)
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if self.team:
            headers.setdefault("X-MLFLOW-WORKSPACE", self.team)
        return Client().generic(
            method,
            self.address(endpoint),
            body,
            headers=headers,
            **{"CONTENT_TYPE": content_type} | environ,  # sent with an empty body too
        )

    def get(self, endpoint: str, **fields: Any) -> Any:
        """GET with the fields in the query string."""
        return self.send("GET", endpoint, fields)

    def post(self, endpoint: str, **fields: Any) -> Any:
        """POST the fields as JSON."""
        return self.send("POST", endpoint, fields)

    def patch(self, endpoint: str, **fields: Any) -> Any:
        """PATCH with the fields as JSON."""
        return self.send("PATCH", endpoint, fields)

    def delete(self, endpoint: str, **fields: Any) -> Any:
        """DELETE, with the fields as JSON in the body."""
        return self.send("DELETE", endpoint, fields)


def said(answer: Any) -> Any:
    """Return the JSON of a success; fails where it is none."""
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/json"
    return orjson.loads(answer.content)


def refused(answer: Any, status: int, code: str) -> str:
    """Return the message of a refusal; fails where it is another one."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/json"
    body = orjson.loads(answer.content)
    assert set(body) == {"error_code", "message"}
    assert body["error_code"] == code, body
    message: str = body["message"]
    return message


def kept(*tenants: Tenant) -> list[str]:
    """Return all that the tenants have, as text; but for their logs, in which refusals are."""
    found = []
    for tenant in tenants:
        with tenant_scope(tenant):
            for model in tenant_owned_models():
                if model is not AuditEvent:
                    table = model._meta.db_table
                    own = f"SELECT t::text FROM {table} t WHERE tenant_id = %s ORDER BY t"
                    found += column(own, tenant.pk)
    return found
