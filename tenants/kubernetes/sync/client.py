"""A cluster's API server in a few typed verbs that take and give plain objects.

``ClusterApi`` is all that Bulkhead asks of a cluster. ``OfficialClient`` does it with Kubernetes'
own Python client, which is imported when the first one is made: only commands that talk to a
cluster pay the third of a second that it takes. Of that client only the configuration, the proof of
who asks and the connections are used, since the rest of it hides the warnings of an answer.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from tenants.clusters import Cluster
from tenants.documents import get, mappings_of
from tenants.kubernetes.bundle.objects import RBAC, Object
from tenants.kubernetes.names import FIELD_MANAGER

JSON = "application/json"
APPLY = "application/apply-patch+yaml"

#: Seconds to connect, and seconds until the next bytes of an answer arrive.
TIMEOUT_SECONDS = (5.0, 30.0)
#: Seconds before each retry of a call that failed for a reason that may pass.
RETRY_SECONDS = (0.5, 1.0, 2.0)
#: At most this many seconds of a server's Retry-After are waited.
MAX_RETRY_SECONDS = 10.0
#: At most this many seconds for one answer and for all pages of a list, however slow the server.
MAX_ANSWER_SECONDS, MAX_LIST_SECONDS = 120.0, 300.0
#: At most this many bytes of one answer and of all pages of a list; 250 pods take about 5 MB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
PAGE_OBJECTS = 250

#: The resource name of each apiVersion and kind in URLs, and whether it is namespaced.
RESOURCES = {
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("v1", "ResourceQuota"): ("resourcequotas", True),
    ("v1", "LimitRange"): ("limitranges", True),
    ("v1", "Pod"): ("pods", True),
    (f"{RBAC}/v1", "Role"): ("roles", True),
    (f"{RBAC}/v1", "RoleBinding"): ("rolebindings", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("networkpolicies", True),
    ("apps/v1", "Deployment"): ("deployments", True),
    ("apps/v1", "StatefulSet"): ("statefulsets", True),
    ("apps/v1", "DaemonSet"): ("daemonsets", True),
    ("batch/v1", "Job"): ("jobs", True),
    ("batch/v1", "CronJob"): ("cronjobs", True),
    ("batch/v1beta1", "CronJob"): ("cronjobs", True),
    (f"{RBAC}/v1", "ClusterRole"): ("clusterroles", False),
    (f"{RBAC}/v1", "ClusterRoleBinding"): ("clusterrolebindings", False),
    ("scheduling.k8s.io/v1", "PriorityClass"): ("priorityclasses", False),
}

#: Parts of messages with status 5xx whose cause is the request itself: retrying is of no use.
PERMANENT_ERRORS = (
    "failed to create typed patch object",
    "unable to convert",
    "unsupported role reference kind",
)
NOT_KUBERNETES = "What answers there is no API server of Kubernetes."
CONFLICT_WITH = re.compile(r'conflict with ("(?:[^"\\]|\\.)*")')
WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


class ClusterError(Exception):
    """A cluster did not do what was asked; the text, which teams read, says why.

    ``detail`` is for who runs Bulkhead: addresses and files.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class NoAccess(ClusterError):
    """How to reach the cluster is not configured, or wrongly."""


class AnswerTooLarge(ClusterError):
    """An answer has more than MAX_ANSWER_BYTES."""


class ClusterUnreachable(ClusterError):
    """No answer came, after several attempts."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a refusal: a field, and for a conflict its manager."""

    field: str
    message: str
    manager: str = ""
    reason: str = ""


class ClusterApiError(ClusterError):
    """The API server refused; ``reason`` is Kubernetes' own word, such as Conflict."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        causes: tuple[Cause, ...] = (),
        wait: float = 0,
    ) -> None:
        super().__init__(message or f"The API server answered {status}.")
        self.status = status
        self.reason = reason
        self.causes = causes
        self.wait = wait

    @property
    def may_pass(self) -> bool:
        """Whether the same call could succeed later."""
        if self.status >= 500:
            return not any(text in self.message for text in PERMANENT_ERRORS)
        return self.status == 429

    @property
    def conflicts(self) -> tuple[Cause, ...]:
        """The fields that somebody else manages, which an apply without force does not take."""
        return tuple(cause for cause in self.causes if cause.manager)

    @property
    def is_of_all(self) -> bool:
        """Whether every other call in the namespace would fail for the same reason."""
        return self.status == 401 or any(
            cause.reason == "NamespaceTerminating" for cause in self.causes
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An object as the server has it now, the server's warnings, and whether it was created."""

    object: Object
    warnings: tuple[str, ...] = ()
    created: bool = False
    #: The size of the answer in bytes.
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectListing:
    """Objects of a kind; ``complete`` tells whether these are all."""

    items: tuple[Object, ...]
    complete: bool = True


class ClusterApi(Protocol):
    """What Bulkhead asks of a cluster; each verb raises ClusterError."""

    def version(self) -> str:
        """Return the cluster's version, such as v1.36.2."""

    def get(self, version: str, kind: str, name: str, namespace: str = "") -> Answer:
        """Return one object; ClusterApiError with status 404 where there is none."""

    def list(
        self, version: str, kind: str, namespace: str = "", *, max_objects: int = 10_000
    ) -> ObjectListing:
        """Return the objects of a kind, in a namespace or in all; not all if they are too many."""

    def create(self, obj: Object) -> Answer:
        """Make an object; ClusterApiError with status 409 where its name is taken."""

    def apply(
        self, obj: Object, *, force: bool, dry_run: bool = False, manager: str = FIELD_MANAGER
    ) -> Answer:
        """Apply the object server-side; fields that others manage are taken with ``force`` only."""

    def replace(self, obj: Object, *, manager: str = FIELD_MANAGER) -> Answer:
        """Put the object in place of the one whose resourceVersion it has; else status 409."""

    def delete(self, obj: Object) -> None:
        """Delete exactly the object of that uid and resourceVersion; else status 409."""


class OfficialClient:
    """A cluster's API server, called through Kubernetes' own client; a ``ClusterApi``.

    Calls have a timeout and follow no redirect, since that would show the token elsewhere. One that
    may work later is made again, after each of ``pauses``.
    """

    def __init__(self, cluster: Cluster, pauses: tuple[float, ...] | None = None) -> None:
        """Read the access to the cluster; raises NoAccess."""
        self.pauses = RETRY_SECONDS if pauses is None else pauses
        self._client: Any = import_module("kubernetes.client").ApiClient(_configuration(cluster))
        self._client.user_agent = "bulkhead"

    def version(self) -> str:
        """Return the cluster's version."""
        return str(self._call("GET", "/version").object.get("gitVersion", ""))

    def get(self, version: str, kind: str, name: str, namespace: str = "") -> Answer:
        """Return one object."""
        return _one(self._call("GET", _address(version, kind, namespace, name)))

    def list(
        self, version: str, kind: str, namespace: str = "", *, max_objects: int = 10_000
    ) -> ObjectListing:
        """Return the objects of a kind, page by page until there are ``max_objects``.

        Whoever writes objects decides how large they are, so what all of them take is bounded too:
        in bytes and in time. Pages that are too large are asked for in smaller ones.
        """
        items: list[Object] = []
        size, limit, more = 0, PAGE_OBJECTS, ""
        deadline = time.monotonic() + MAX_LIST_SECONDS
        while True:
            query = {"limit": str(limit), **({"continue": more} if more else {})}
            try:
                page = self._call("GET", _address(version, kind, namespace), query)
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(limit // 8, 1)
                continue
            found, more = _page(page.object)
            # The items of a list have no apiVersion and kind; a single object has.
            items += ({"apiVersion": version, "kind": kind, **item} for item in found)
            size += page.size
            ends = not (more and found) or size > MAX_ANSWER_BYTES or time.monotonic() > deadline
            if ends or len(items) >= max_objects:
                return ObjectListing(
                    tuple(items[:max_objects]), complete=not more and len(items) <= max_objects
                )

    def create(self, obj: Object) -> Answer:
        """Make an object that must not be there."""
        address = _address_of(obj).rpartition("/")[0]
        return _one(self._call("POST", address, {"fieldManager": FIELD_MANAGER}, obj))

    def apply(
        self, obj: Object, *, force: bool, dry_run: bool = False, manager: str = FIELD_MANAGER
    ) -> Answer:
        """Apply the object server-side."""
        query = {
            "fieldManager": manager,
            "force": "true" if force else "false",
            "fieldValidation": "Strict",
            **({"dryRun": "All"} if dry_run else {}),
        }
        return _one(self._call("PATCH", _address_of(obj), query, obj, APPLY))

    def replace(self, obj: Object, *, manager: str = FIELD_MANAGER) -> Answer:
        """Put the object in place of the one whose resourceVersion it has."""
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return _one(self._call("PUT", _address_of(obj), query, obj))

    def delete(self, obj: Object) -> None:
        """Delete exactly that object; raises ValueError for one without a uid."""
        metadata = obj["metadata"]
        exact = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
        if "uid" not in exact:
            raise ValueError("An object without a uid could be another one by now.")
        self._call("DELETE", _address_of(obj), {}, {"preconditions": exact})

    def _call(
        self,
        method: str,
        address: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = JSON,
    ) -> Answer:
        where = f"{address}?{urlencode(query)}" if query else address
        for pause in self.pauses:
            try:
                return self._once(method, where, body, content)
            except ClusterApiError as error:
                if not error.may_pass:
                    raise
                pause = max(pause, error.wait)
            except ClusterUnreachable:
                pass
            time.sleep(pause)
        return self._once(method, where, body, content)

    def _once(self, method: str, where: str, body: Object | None, content: str) -> Answer:
        client = self._client
        headers = {"Accept": JSON, "Content-Type": content, "User-Agent": client.user_agent}
        try:
            client.update_params_for_auth(headers, [], ["BearerToken"], where, method, body)
            answer = client.rest_client.request(
                method,
                client.configuration.host.rstrip("/") + where,
                headers=headers,
                body=body,
                _request_timeout=TIMEOUT_SECONDS,
            ).response
            data = _body(answer)
        except Exception as error:
            raise _unreachable(error, client.configuration.host) from error
        if data is None:
            answer.close()
            raise AnswerTooLarge("The API server's answer is too large.", where)
        answer.release_conn()
        return _read(answer, data)


def _body(answer: Any) -> bytes | None:
    """Return an answer's bytes, None for too many; raises TimeoutError if they come too slowly."""
    parts: list[bytes] = []
    size, deadline = 0, time.monotonic() + MAX_ANSWER_SECONDS
    # Each read is in time if a byte arrives, so a slow server needs a deadline for the whole.
    while part := answer.read1(CHUNK_BYTES, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _one(answer: Answer) -> Answer:
    """Return an answer that is an object; raises ClusterError for another."""
    if not _is_object(answer.object):
        raise ClusterError(NOT_KUBERNETES)
    return answer


def _page(answer: Object) -> tuple[list[Object], str]:
    """Return the objects of a page of a list and the token of the next; raises ClusterError."""
    metadata, items = answer.get("metadata"), answer.get("items") or []
    if not (isinstance(metadata, dict) and isinstance(items, list) and all(map(_is_object, items))):
        raise ClusterError(NOT_KUBERNETES)
    return items, str(metadata.get("continue") or "")


def _is_object(value: Any) -> bool:
    return isinstance(get(value, "metadata", "name"), str)


def _configuration(cluster: Cluster) -> Any:
    """Return the official client's configuration for the cluster; raises NoAccess."""
    made = import_module("kubernetes.client").Configuration()
    config: Any = import_module("kubernetes.config")
    try:
        if not cluster.kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=made)
        else:
            config.load_kube_config(
                config_file=cluster.kubeconfig or None,
                context=cluster.context or None,
                client_configuration=made,
                persist_config=False,
            )
    except Exception as error:  # a kubeconfig's content can make the library raise anything
        detail = f"{cluster.name}: {error}"
        raise NoAccess("Bulkhead has no working access to this cluster.", detail) from error
    made.retries = False
    return made


def _address_of(obj: Object) -> str:
    metadata = obj["metadata"]
    return _address(obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"])


def _address(version: str, kind: str, namespace: str, name: str = "") -> str:
    plural, namespaced = RESOURCES[version, kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespaced and namespace else ""
    return f"{root}{inside}/{plural}" + (f"/{quote(name, safe='')}" if name else "")


def _unreachable(error: Exception, host: str) -> ClusterUnreachable:
    """Return why no answer came; the address is in the detail only, which teams do not read."""
    reasons = {
        "ConnectTimeoutError": "no connection in time",
        "ReadTimeoutError": "no answer in time",
        "TimeoutError": "no answer in time",
        "NameResolutionError": "its name is not known",
        "NewConnectionError": "the connection was refused",
        "SSLError": "its certificate is not trusted",
        "ApiException": "its certificate is not trusted",
        "ProtocolError": "the connection broke off",
    }
    reason = reasons.get(type(error).__name__, "the call could not be made")
    return ClusterUnreachable(f"The cluster does not answer: {reason}.", f"{host}: {error!r}")


def _read(answer: Any, data: bytes) -> Answer:
    """Return what a response holds; raises ClusterApiError for a refusal."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    except RecursionError:  # managedFields are as deep as whoever wrote the object likes
        raise ClusterError("An object there is nested too deeply to be read.") from None
    if not isinstance(body, dict):
        body = {}
        if 200 <= answer.status < 300:
            raise ClusterError(NOT_KUBERNETES)
    if not 200 <= answer.status < 300:
        raise _error(answer.status, body, answer.headers)
    found = (WARNING.findall(header) for header in answer.headers.getlist("Warning"))
    warnings = tuple(re.sub(r"\\(.)", r"\1", text) for texts in found for text in texts)
    return Answer(body, warnings, created=answer.status == 201, size=len(data))


def _error(status: int, body: Object, headers: Mapping[str, str]) -> ClusterApiError:
    causes = mappings_of(get(body, "details", "causes"), ("details", "causes"))
    found = tuple(_cause(cause) for _, cause in causes)
    after = headers.get("Retry-After", "")
    wait = min(float(after), MAX_RETRY_SECONDS) if after.isdecimal() else 0
    message = str(body.get("message") or "")
    if status == 401:
        message = "The cluster does not accept what Bulkhead signs in with."
    if 300 <= status < 400:
        message = "The cluster's address leads elsewhere; redirects are not followed."
    return ClusterApiError(status, str(body.get("reason") or ""), message, found, wait)


def _cause(cause: Mapping[str, Any]) -> Cause:
    message, reason = str(cause.get("message") or ""), str(cause.get("reason") or "")
    found = CONFLICT_WITH.match(message) if reason == "FieldManagerConflict" else None
    manager = re.sub(r"\\(.)", r"\1", found[1][1:-1]) if found else ""
    return Cause(str(cause.get("field") or ""), message, manager, reason)
