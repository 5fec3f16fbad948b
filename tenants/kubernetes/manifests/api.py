"""The manifest check for CI: a build sends what it would apply, and gets what is wrong with it."""

from http import HTTPStatus

import orjson
from django.http import HttpResponse

from tenants.api import Call, endpoint, json_response
from tenants.documents import get
from tenants.errors import InvalidRequest
from tenants.isolation.scope import token_scope
from tenants.kubernetes.manifests import reports
from tenants.kubernetes.manifests.reader import SENT_LIMITS, TooLarge
from tenants.models import Tenant

#: Content types of manifests as they are; as JSON they are the text of a field.
YAML_TYPES = {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"}
JSON_TYPE = "application/json"
FILE = "manifests"
#: At most this many findings are listed in an answer.
MAX_LISTED_FINDINGS = 1_000


class ManifestsTooLarge(InvalidRequest):
    """The manifests exceed a limit of the check."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnknownMediaType(InvalidRequest):
    """The manifests' content type is none that is read here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@endpoint("POST", reports.ENDPOINT)
def check_manifests(call: Call) -> HttpResponse:
    """Check manifests for the token's team: 200 with the report, whatever was found.

    The body is YAML or JSON text, or ``{"manifests": "…"}``; ``?format=sarif`` asks for SARIF.
    Nothing of it is kept. Raises InvalidRequest for a body that is not read, or too large.
    """
    write = WRITERS.get(call.request.GET.get("format", "json"))
    if write is None:
        raise InvalidRequest(f"The formats are {' and '.join(WRITERS)}.")
    content = _content(call)
    with token_scope(call.credential) as scope:
        tenant = Tenant.objects.get(pk=scope.tenant_id)
        report = reports.run([(FILE, content)], SENT_LIMITS, tenant)
    for problem in report.unreadable:
        place = problem.place
        refusal = ManifestsTooLarge if isinstance(problem, TooLarge) else InvalidRequest
        raise refusal(f"Line {place.line}, column {place.column}: {problem.message}")
    return write(report)


def _content(call: Call) -> bytes:
    """Return the manifests' text; raises InvalidRequest where they come as something else."""
    kind = call.request.content_type
    if kind in YAML_TYPES:
        return call.request.body
    if kind != JSON_TYPE:
        raise UnknownMediaType(
            f"Send the manifests as {' or '.join(sorted({*YAML_TYPES, JSON_TYPE}))}."
        )
    try:
        body = orjson.loads(call.request.body)
    except orjson.JSONDecodeError:
        body = None
    text = get(body, "manifests")
    if not isinstance(text, str):
        raise InvalidRequest('Send {"manifests": "…"}, or the manifests alone as application/yaml.')
    return text.encode()


def _as_json(report: reports.ManifestReport) -> HttpResponse:
    return json_response(reports.as_json(report, MAX_LISTED_FINDINGS))


def _as_sarif(report: reports.ManifestReport) -> HttpResponse:
    answer = json_response(reports.as_sarif(report, MAX_LISTED_FINDINGS))
    answer["Content-Type"] = "application/sarif+json"
    return answer


WRITERS = {"json": _as_json, "sarif": _as_sarif}
