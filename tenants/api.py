"""The door of the HTTP API: which endpoint is meant, whose token came along, for which team.

A request needs no session, no cookie and no page's middleware; ``ApiMiddleware`` answers it before
they run. Errors are written as MLflow's clients read them, and what belongs to another team gets
the answer of what does not exist.
"""

import base64
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from allauth.core.internal import ratelimit
from django.core.exceptions import (
    ObjectDoesNotExist,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError

from models_registry.errors import Conflict
from models_registry.files.artifacts import BrokenUpload
from models_registry.files.folder_store import OutOfSpace, StoreUnavailable
from models_registry.files.paths import workspace_name
from models_registry.files.request_body import NoLength
from models_registry.registry import NameTaken
from tenants import audit
from tenants.access import api
from tenants.audit import acting_from
from tenants.identity import tokens, workloads
from tenants.identity.signing_keys import KeysUnavailable
from tenants.isolation.credentials import (
    AnyCredential,
    BadToken,
    ContradictsToken,
    Credential,
    NotAMember,
    WhichTeam,
)
from tenants.isolation.scope import Scope, token_scope
from tenants.requests import client_ip
from tenants.team_paths import read_team_path, team_address

logger = logging.getLogger("bulkhead.api")

#: What the API answers: under the site itself or under a team's address, as its tracking URI.
ADDRESS = re.compile(
    r"(?:(?:ajax-)?api/(?P<rest>.*)|(?P<bare>model-versions/get-artifact))", re.DOTALL
)
TEAM = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
#: No slug is like this: it stands for a name that cannot be a team's.
NOBODYS = "-"
#: What a request says is repeated in a refusal, but not whatever its length.
MESSAGE_LENGTH = 2000
#: PostgreSQL's codes where two requests got in each other's way: a deadlock, a transaction that
#: came too late, a row that was deleted before another could refer to it.
COLLISIONS = {"40P01", "40001", "23503"}
TOOK_TOO_LONG = "57014"

#: MLflow's error codes and their statuses (mlflow.exceptions.ERROR_CODE_TO_HTTP_STATUS).
STATUSES = {
    "BAD_REQUEST": HTTPStatus.BAD_REQUEST,
    "INVALID_PARAMETER_VALUE": HTTPStatus.BAD_REQUEST,
    "RESOURCE_ALREADY_EXISTS": HTTPStatus.BAD_REQUEST,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "ENDPOINT_NOT_FOUND": HTTPStatus.NOT_FOUND,
    "RESOURCE_DOES_NOT_EXIST": HTTPStatus.NOT_FOUND,
    "RESOURCE_CONFLICT": HTTPStatus.CONFLICT,
    "REQUEST_LIMIT_EXCEEDED": HTTPStatus.TOO_MANY_REQUESTS,
    "INTERNAL_ERROR": HTTPStatus.INTERNAL_SERVER_ERROR,
    "NOT_IMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "TEMPORARILY_UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}


class ApiError(Exception):
    """A refusal with one of MLflow's error codes; ``status`` where it is not the code's own."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUSES[code]
        self.headers = headers or {}


def invalid(message: str) -> ApiError:
    """Return the refusal of what a request says."""
    return ApiError("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """Return the refusal for what is not there, or not the caller's to see."""
    return ApiError("RESOURCE_DOES_NOT_EXIST", message)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its token and team, and what follows the endpoint's address in its path."""

    request: HttpRequest
    credential: AnyCredential
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method at an address, and the function that answers.

    An address that ends in a slash takes whatever follows it. A public endpoint is asked for no
    token and must tell of no team.
    """

    method: str
    address: str
    function: Callable[[Call], HttpResponseBase]
    public: bool = False


Function = Callable[[Call], HttpResponseBase]

#: Every endpoint, by address and method; the tests walk it.
ENDPOINTS: dict[str, dict[str, Endpoint]] = {}


def endpoint(method: str, address: str, *, public: bool = False) -> Callable[[Function], Function]:
    """Let the function answer ``method`` at ``address``, such as ``2.0/mlflow/…``."""

    def register(function: Function) -> Function:
        ENDPOINTS.setdefault(address, {})[method] = Endpoint(method, address, function, public)
        return function

    return register


class ApiMiddleware:
    """Answer requests to the API here, before sessions, forms and pages are thought of."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        found = read_address(request.path_info)
        if found is None:
            return self.get_response(request)
        return answer(request, *found)


def read_address(path: str) -> tuple[str, str] | None:
    """Return the team that a path of the API names, or '', and the endpoint's address.

    None for a path of a page.
    """
    team, rest = read_team_path(path) or ("", path.removeprefix("/"))
    found = ADDRESS.fullmatch(rest)
    return (team, found["bare"] or found["rest"]) if found else None


@api
def api_view(request: HttpRequest, **parts: str) -> HttpResponseBase:
    """Answer where the middleware did not: for the URL resolver, which knows all addresses."""
    found = read_address(request.path_info)
    assert found is not None  # noqa: S101 - the URL patterns and ADDRESS say the same
    return answer(request, *found)


def answer(request: HttpRequest, team: str, address: str) -> HttpResponseBase:
    """Answer a request to ``address``; ``team`` is what its path names."""
    call = None
    try:
        request.get_host()
        found, rest = find(request.method or "", address)
        call = Call(request, PUBLIC if found.public else credential(request, team), rest)
        response = found.function(call)
    except Exception as error:
        response = _refuse(request, call, error)
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


PUBLIC = Credential("", b"")


def find(method: str, address: str) -> tuple[Endpoint, str]:
    """Return the endpoint, and what follows its address; raises ApiError."""
    methods = ENDPOINTS.get(address)
    rest = ""
    if methods is None:
        prefix = next((known for known in _prefixes() if address.startswith(known)), "")
        methods, rest = ENDPOINTS.get(prefix, {}), address[len(prefix) :]
    if not methods:
        raise ApiError("ENDPOINT_NOT_FOUND", "There is no such endpoint.")
    found = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
    if found is None:
        raise ApiError(
            "BAD_REQUEST",
            f"{method[:20]} is not answered here.",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            headers={"Allow": ", ".join(sorted(methods))},
        )
    return found, rest


def _prefixes() -> Iterator[str]:
    return (address for address in ENDPOINTS if address.endswith("/"))


# --- whose request it is -------------------------------------------------------------------


def credential(request: HttpRequest, team: str) -> AnyCredential:
    """Return the request's token and the team it names; raises BadToken for what is no token.

    A token that is not one of ours may be a pod's, which signs in with it: see
    ``tenants.identity.workloads``. The header names the team, or else the address; which teams the
    token opens is asked later.
    """
    named = request.headers.get("X-MLFLOW-WORKSPACE", "").strip() or team
    if named and not TEAM.fullmatch(named):
        named = NOBODYS
    token = _token(request.headers.get("Authorization", ""))
    found = tokens.credential(token, named)
    if found is not None:
        return found
    with acting_from(client_ip(request)):
        return workloads.sign_in(token, named)


def _token(header: str) -> str:
    """Return the token of an Authorization header: Bearer, or Basic with it as the password."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # no Base64, or no text in it
        return ""


@contextmanager
def writing(call: Call) -> Iterator[Scope]:
    """Act as the token's holder; what the block writes is one transaction."""
    with acting_from(client_ip(call.request)), token_scope(call.credential) as scope:
        yield scope


# --- answers -------------------------------------------------------------------------------


def json_response(value: Any, status: int = HTTPStatus.OK) -> HttpResponse:
    """Answer with JSON; ``bytes`` are JSON already."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return HttpResponse(body, headers=headers, status=status)


def _refuse(request: HttpRequest, call: Call | None, error: Exception) -> HttpResponse:
    """Answer an error; what nobody expected is logged and says nothing but its number."""
    if isinstance(error, PermissionDenied) and call is not None:
        _record_denial(call, error)
    refusal = _translated(request, call, error)
    if refusal is None:
        logger.exception("%s", getattr(request, "id", ""), exc_info=error)
        number = getattr(request, "id", "")
        refusal = ApiError("INTERNAL_ERROR", f"Something broke here; its number is {number}.")
    body = {"error_code": refusal.code, "message": refusal.message[:MESSAGE_LENGTH]}
    response = json_response(body, refusal.status)
    for name, value in refusal.headers.items():
        response[name] = value
    return response


def _translated(request: HttpRequest, call: Call | None, error: Exception) -> ApiError | None:
    match error:
        case ApiError():
            return error
        case BadToken():
            if call is not None:
                workloads.forget(call.credential)
            return _bad_token(request)
        case KeysUnavailable():
            return ApiError(
                "TEMPORARILY_UNAVAILABLE",
                "The keys that this token is signed with cannot be read now; try again.",
            )
        case NotAMember():
            return missing(f"Workspace '{_named_team(request)}' not found")
        case ContradictsToken(slug=slug):
            return ApiError(
                "PERMISSION_DENIED",
                f"This token opens the workspace '{workspace_name(slug)}' alone, "
                "and the request names another.",
            )
        case WhichTeam(slugs=slugs):
            return invalid(
                f"This token opens several workspaces: {', '.join(map(workspace_name, slugs))}. "
                "Choose one: set MLFLOW_WORKSPACE (the header X-MLFLOW-WORKSPACE), or end the "
                f"tracking URI in {team_address(slugs[0], site='')}."
            )
        case NameTaken():
            return ApiError("RESOURCE_ALREADY_EXISTS", _words(error))
        case ValidationError():
            return invalid(_words(error))
        case PermissionDenied():
            return ApiError("PERMISSION_DENIED", str(error) or "You may not do this.")
        case Conflict():
            return ApiError("RESOURCE_CONFLICT", str(error))
        case RequestDataTooBig():
            return ApiError(
                "BAD_REQUEST", "The body is too large.", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            )
        case NoLength():
            return ApiError("BAD_REQUEST", str(error), status=HTTPStatus.LENGTH_REQUIRED)
        case BrokenUpload():
            return ApiError("BAD_REQUEST", str(error))
        case OutOfSpace():
            return ApiError(
                "RESOURCE_EXHAUSTED",
                "The store of files is full, and nothing was kept of this one. Delete files that "
                "nobody needs and let your operator run `manage.py collect_garbage`, or give the "
                "store more space; then send it again.",
                status=HTTPStatus.INSUFFICIENT_STORAGE,
            )
        case StoreUnavailable():
            logger.error("%s %s", getattr(request, "id", ""), error)
            return ApiError("TEMPORARILY_UNAVAILABLE", "The store of files does not answer.")
        case SuspiciousOperation() | UnreadablePostError():
            return ApiError("BAD_REQUEST", "The request cannot be read.")
        case ObjectDoesNotExist():
            return missing("What the request names was deleted meanwhile.")
        case OperationalError() | IntegrityError() if _sqlstate(error) in COLLISIONS:
            return ApiError("RESOURCE_CONFLICT", "Somebody changed the same meanwhile; try again.")
        case OperationalError() if _sqlstate(error) == TOOK_TOO_LONG:
            return invalid("This takes too long here; ask for less, or by a simpler pattern.")
        case OperationalError() | InterfaceError():
            connection.close()
            logger.error("%s %s", getattr(request, "id", ""), error)
            return ApiError("TEMPORARILY_UNAVAILABLE", "The database does not answer; try again.")
    return None


def _sqlstate(error: Exception) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def _bad_token(request: HttpRequest) -> ApiError:
    """Refuse a token; who guesses is slowed down, and nobody with a good one is."""
    if _guesses_too_often(request):
        return ApiError(
            "REQUEST_LIMIT_EXCEEDED",
            "Too many requests without a valid token came from this address; wait a minute.",
            headers={"Retry-After": "60"},
        )
    return ApiError(
        "UNAUTHENTICATED",
        "No valid token came with this request. Set MLFLOW_TRACKING_TOKEN to one that you made on "
        "your team's page “Tokens”; it may have expired or been revoked.",
        headers={"WWW-Authenticate": 'Bearer realm="Bulkhead", Basic realm="Bulkhead"'},
    )


def _guesses_too_often(request: HttpRequest) -> bool:
    """Count a refused token for the caller's address; without one, or a count, nobody is slowed."""
    try:
        return not ratelimit.consume(
            request, app="allauth.account", action="bad_token", limit_get=True
        )
    except (PermissionDenied, DatabaseError):
        return False


def _record_denial(call: Call, error: Exception) -> None:
    """Write the refusal in the team's log, since the refused transaction is gone."""
    changes = {"said": str(error)[:200], "at": call.request.path_info[:200].replace("\0", "")}
    try:
        with writing(call):
            audit.record("access.denied", changes=changes)
    except (BadToken, NotAMember, ContradictsToken, WhichTeam, DatabaseError):
        logger.warning("%s: a refusal was not recorded", getattr(call.request, "id", ""))


def _words(error: ValidationError) -> str:
    return " ".join(error.messages)


def _named_team(request: HttpRequest) -> str:
    named = request.headers.get("X-MLFLOW-WORKSPACE", "").strip()
    found = read_address(request.path_info)
    return named or (found[0] if found else "")
