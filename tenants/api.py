"""The door of the HTTP API: which endpoint is meant, whose token came along, for which team.

A request needs no session, no cookie and no page's middleware; ``ApiMiddleware`` answers it before
they run. Errors are written as MLflow's clients read them, and what belongs to another team gets
the answer of what does not exist.
"""

import base64
import logging
import re
from collections.abc import Callable, Iterable, Iterator
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

from tenants import audit
from tenants.access import api
from tenants.audit import acting_from
from tenants.errors import (
    BadRequest,
    BodyTooLarge,
    Broken,
    ConcurrentChange,
    DatabaseUnavailable,
    Forbidden,
    InvalidRequest,
    NotFound,
    Refusal,
    TooSlow,
)
from tenants.identity import tokens, workloads
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
from tenants.workspaces import workspace_name

logger = logging.getLogger("bulkhead.api")

#: The API's paths, below the site or below a team's address, which is the team's tracking URI.
ADDRESS = re.compile(
    r"(?:(?:ajax-)?api/(?P<rest>.*)|(?P<bare>model-versions/get-artifact))", re.DOTALL
)
SLUG = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
#: A slug that no team has. A name that cannot be a slug is replaced by it, so the look-up finds no
#: team.
NO_SLUG = "-"
#: At most this many characters of a refusal's words are sent: they may quote the request.
MAX_MESSAGE_CHARS = 2000
#: PostgreSQL's codes for a conflict of two transactions: deadlock_detected, serialization_failure,
#: foreign_key_violation (a row was deleted before another could refer to it).
COLLISIONS = {"40P01", "40001", "23503"}
TOOK_TOO_LONG = "57014"


class EndpointNotFound(Refusal):
    """Nothing is answered at this address."""

    error_code = "ENDPOINT_NOT_FOUND"
    text = "There is no such endpoint."


class MethodNotAllowed(Refusal):
    """The address is answered, but not this method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        super().__init__(f"{method[:20]} is not answered here.")
        self.headers = {"Allow": ", ".join(sorted(allowed))}


class Unauthenticated(Refusal):
    """The request has no token that opens anything."""

    error_code = "UNAUTHENTICATED"
    text = (
        "No valid token came with this request. Set MLFLOW_TRACKING_TOKEN to one that you made on "
        "your team's page “Tokens”; it may have expired or been revoked."
    )
    headers = {"WWW-Authenticate": 'Bearer realm="Bulkhead", Basic realm="Bulkhead"'}


class TooManyGuesses(Refusal):
    """From the caller's address came too many requests without a valid token."""

    error_code = "REQUEST_LIMIT_EXCEEDED"
    text = "Too many requests without a valid token came from this address; wait a minute."
    headers = {"Retry-After": "60"}


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
    """Return the endpoint, and what follows its address.

    Raises EndpointNotFound and MethodNotAllowed.
    """
    methods = ENDPOINTS.get(address)
    rest = ""
    if methods is None:
        prefix = next((known for known in _prefixes() if address.startswith(known)), "")
        methods, rest = ENDPOINTS.get(prefix, {}), address[len(prefix) :]
    if not methods:
        raise EndpointNotFound
    found = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
    if found is None:
        raise MethodNotAllowed(method, methods)
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
    if named and not SLUG.fullmatch(named):
        named = NO_SLUG
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
    except ValueError:  # not Base64, or not UTF-8
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
    refusal = error if isinstance(error, Refusal) else _translated(request, call, error)
    number = getattr(request, "id", "")
    if refusal is None:
        logger.exception("%s", number, exc_info=error)
        refusal = Broken(f"Something broke here; its number is {number}.")
    if refusal.is_logged:
        logger.error("%s %s", number, refusal)
    body = {"error_code": refusal.error_code, "message": refusal.words[:MAX_MESSAGE_CHARS]}
    response = json_response(body, refusal.status)
    for name, value in refusal.headers.items():
        response[name] = value
    return response


def _translated(request: HttpRequest, call: Call | None, error: Exception) -> Refusal | None:
    """Return how an error is answered that is no Refusal itself; None for an unexpected one."""
    match error:
        case BadToken():
            if call is not None:
                workloads.forget(call.credential)
            # Limits who guesses tokens, and never requests with a valid one.
            return TooManyGuesses() if _guesses_too_often(request) else Unauthenticated()
        case NotAMember():
            return NotFound(f"Workspace '{_named_team(request)}' not found")
        case ContradictsToken(slug=slug):
            return Forbidden(
                f"This token opens the workspace '{workspace_name(slug)}' alone, "
                "and the request names another."
            )
        case WhichTeam(slugs=slugs):
            return InvalidRequest(
                f"This token opens several workspaces: {', '.join(map(workspace_name, slugs))}. "
                "Choose one: set MLFLOW_WORKSPACE (the header X-MLFLOW-WORKSPACE), or end the "
                f"tracking URI in {team_address(slugs[0], site='')}."
            )
        case ValidationError():
            return InvalidRequest(" ".join(error.messages))
        case PermissionDenied():
            return Forbidden(str(error) or "You may not do this.")
        case RequestDataTooBig():
            return BodyTooLarge()
        case SuspiciousOperation() | UnreadablePostError():
            return BadRequest("The request cannot be read.")
        case ObjectDoesNotExist():
            return NotFound("What the request names was deleted meanwhile.")
        case OperationalError() | IntegrityError() if _sqlstate(error) in COLLISIONS:
            return ConcurrentChange()
        case OperationalError() if _sqlstate(error) == TOOK_TOO_LONG:
            return TooSlow()
        case OperationalError() | InterfaceError():
            connection.close()
            return DatabaseUnavailable(str(error))
    return None


def _sqlstate(error: Exception) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


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


def _named_team(request: HttpRequest) -> str:
    named = request.headers.get("X-MLFLOW-WORKSPACE", "").strip()
    found = read_address(request.path_info)
    return named or (found[0] if found else "")
