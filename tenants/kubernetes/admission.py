"""The admission webhook: an API server asks whether a workload may be stored, and gets an answer.

It asks about workloads that name a model, in tenants' namespaces; ``webhook`` renders what tells it
to. The address exists on the private listener of ``manage.py serve_admission`` only. The tenant is
the one whose namespace the request names: what an object says of its own namespace, its labels, and
who sends it decide nothing. See
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/

Whoever makes the object, a person or Kubernetes' own controllers, it is judged in the same way: the
pod of a recalled version is not made again, though its Deployment is there. Of an update only what
it adds is judged: what names a recalled version already must still be scaled down, and lose the
finalizers that keep it from being deleted. The pods that it would make are judged by themselves.

A review that is malformed, or for which the database does not answer in time, gets an HTTP error:
under ``failurePolicy: Fail`` the API server then denies the request.
"""

import logging
from http import HTTPStatus

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from tenants.access import public
from tenants.documents import Malformed, Node, get, text_of
from tenants.isolation.credentials import NobodysNamespace
from tenants.isolation.scope import namespace_scope
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.workloads import Problem, Reference, Verdicts, problems_with, references_of
from tenants.text import is_storable

logger = logging.getLogger("bulkhead.admission")

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
#: Milliseconds for one SQL statement: less than the API server waits (``webhook.TIMEOUT_SECONDS``).
MAX_STATEMENT_MILLISECONDS = 2000
#: At most this many problems are named in one answer.
MAX_NAMED_PROBLEMS = 10

UNKNOWN_NAMESPACE = "This namespace belongs to no team here."
SUSPENDED = "The team of this namespace is suspended: nothing new runs in it."


@public
@csrf_exempt
@require_POST
def admission(request: HttpRequest) -> HttpResponse:
    """Answer an AdmissionReview: 400 for another body, 503 where the database does not answer."""
    try:
        return HttpResponse(orjson.dumps(answer(request.body)), content_type="application/json")
    except RequestDataTooBig:
        words = f"An AdmissionReview has {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes at most."
        return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
    except (Malformed, UnreadablePostError) as error:
        return _refusal(HTTPStatus.BAD_REQUEST, str(error))
    except DatabaseFailure as error:
        # The error's text is not logged: it may repeat values of a query.
        logger.error("The database did not answer: %s", type(error).__name__)
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The registry's database does not answer.")


def _refusal(status: HTTPStatus, words: str) -> HttpResponse:
    return HttpResponse(f"{words}\n", status=status, content_type="text/plain; charset=utf-8")


def answer(body: bytes) -> Object:
    """Return the AdmissionReview that answers the one in ``body``; raises Malformed."""
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("This is not JSON.") from None
    if (get(sent, "apiVersion"), get(sent, "kind")) != (API_VERSION, KIND):
        raise Malformed(f"This is no {KIND} of {API_VERSION}.")
    request = Node(sent).field("request")
    uid = request.field("uid")
    if not uid.text():
        raise uid.malformed("expected a uid")
    try:
        response = {"uid": uid.text(), **respond(request)}
    except RecursionError:
        raise Malformed("Its object is nested too deeply.") from None
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def respond(request: Node) -> Object:
    """Return whether the request is allowed, and the words for it; raises Malformed."""
    operation = request.field("operation")
    if operation.value in ("DELETE", "CONNECT"):
        return {"allowed": True}
    if operation.value not in ("CREATE", "UPDATE"):
        raise operation.malformed("expected CREATE, UPDATE, DELETE or CONNECT")
    obj = _object(request)
    references = whole = references_of(obj)
    if operation.value == "UPDATE":
        before = {reference.named for reference in references_of(request.field("oldObject").value)}
        references = [reference for reference in references if reference.named not in before]
        if not references:
            return {"allowed": True}
    verdicts: Verdicts = {}
    response = _response(text_of(get(request.value, "namespace")), references, verdicts)
    aliases = [verdict.alias for verdict in verdicts.values() if verdict.alias]
    if response["allowed"] and (warnings := _warnings(aliases, whole, str(obj["kind"]))):
        response["warnings"] = warnings
    return response


def _warnings(aliases: list[str], whole: list[Reference], kind: str) -> list[str]:
    """Return the warnings that kubectl shows to whoever applies an allowed object."""
    warnings = [f"@{alias} may move: pods made later follow it." for alias in aliases[:1]]
    if kind != "Pod" and not any("template" in reference.path for reference in whole):
        # The webhook is only asked about annotated objects, so not about these pods.
        warnings.append(f"The pods of this {kind} name no model: annotate their template too.")
    return warnings


def _object(request: Node) -> Object:
    """Return the object under review; raises Malformed unless its kind is the request's."""
    kind, found = get(request.value, "kind", "kind"), request.field("object")
    if not isinstance(found.value, dict) or not kind or found.value.get("kind") != kind:
        raise found.malformed("expected an object of the request's kind")
    return found.value


def _response(namespace: str, references: list[Reference], verdicts: Verdicts) -> Object:
    """Return whether the namespace's team may use the models; adds the verdict on each."""
    if not is_storable(namespace):  # no namespace has such a name
        return _denied(UNKNOWN_NAMESPACE)
    try:
        with namespace_scope(namespace, MAX_STATEMENT_MILLISECONDS) as scope:
            if scope.suspended:
                return _denied(SUSPENDED)
            problems = problems_with(references, verdicts)
    except NobodysNamespace:
        return _denied(UNKNOWN_NAMESPACE)
    if problems:
        return _denied(_in_words(problems))
    return {"allowed": True}


def _denied(words: str) -> Object:
    status = {"code": int(HTTPStatus.FORBIDDEN), "reason": "Forbidden", "message": words}
    return {"allowed": False, "status": status}


def _in_words(problems: list[Problem]) -> str:
    said = [str(problem) for problem in problems[:MAX_NAMED_PROBLEMS]]
    more = len(problems) - len(said)
    return " ".join([*said, f"And {more} more."] if more else said)
