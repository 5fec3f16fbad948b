"""A client of a stock MLflow server: what moving models in and out needs of its REST API.

Nothing that the server answers is believed before it is looked at: sizes are bounded, types are
checked, a list that never ends is given up, and no redirect is followed, so that a token reaches
the server that it was meant for and no other.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import orjson
import urllib3
from urllib3.exceptions import (
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
    TimeoutError,
)

from models_registry.validators import IS_PROMPT
from tenants.dns import is_loopback
from tenants.documents import Malformed, Node, as_text
from tenants.text import printable, shown

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PROMPTS_ONLY = f"tag.`{IS_PROMPT}` = 'true'"
LOGGED_MODEL = re.compile(r"models:/+(m-[0-9a-zA-Z_-]+)")
UNQUOTABLE = re.compile(r"""['"`\\]""")
NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")

#: The largest answer, list and tree of files that are read; beyond, the server is not believed.
MAX_ANSWER_BYTES = 100 * 1024 * 1024
MAX_PAGES = 10_000
MODELS_PER_PAGE = 500
VERSIONS_PER_PAGE = 200
MAX_FILES = 100_000
MAX_FOLDER_DEPTH = 50
CHUNK_BYTES = 1024 * 1024

CONNECT_SECONDS = 10
READ_SECONDS = 60
MAX_RETRIES = 5
BACKOFF_SECONDS = 20
#: At most this many characters of a server's words are quoted in a message.
MAX_REASON_CHARS = 300
#: Statuses after which the same request may succeed a little later.
BUSY = (429, 502, 503, 504)

Text = Mapping[str, str]


class RemoteProblem(Exception):
    """What went wrong with the server, in a sentence for the operator."""


class ServerUnreachable(RemoteProblem):
    """The server does not answer, or refuses every request: the run ends here."""


class ServerRefused(RemoteProblem):
    """The server refused this one request; ``code`` is MLflow's name for the reason, or ''."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Whether the thing asked for is not there."""
        return self.code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}


class BadAnswer(RemoteProblem, Malformed):
    """The server answered something that no MLflow server answers."""


class _Answer(Node):
    """A value of what the server answered, and its path."""

    def malformed(self, message: str) -> BadAnswer:
        """Return the error that says what is wrong with this value."""
        place = as_text(self.path, "$")
        return BadAnswer(f"The server does not answer as MLflow does: {place}: {message}")


@dataclass(frozen=True)
class MlflowVersion:
    """A version as MLflow knows it; texts are '' where nothing is given."""

    number: int
    source: str = ""
    run_id: str = ""
    run_link: str = ""
    logged_model_id: str = ""
    description: str = ""
    status: str = "READY"
    status_message: str = ""
    stage: str = "None"
    tags: Text = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class MlflowModel:
    """A registered model as MLflow knows it; ``aliases`` are version numbers by name."""

    name: str
    description: str = ""
    tags: Text = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    versions: tuple[MlflowVersion, ...] = ()

    @property
    def is_prompt(self) -> bool:
        """Whether it is a prompt, which MLflow keeps among the models and leaves out of lists."""
        return self.tags.get(IS_PROMPT, "").lower() == "true"


@dataclass(frozen=True)
class MlflowRun:
    """A run, and where its files are."""

    id: str
    experiment_id: str
    artifact_uri: str


class MlflowServer:
    """A stock MLflow server at ``url``, spoken to with a token, a user name and password, or none.

    Raises RemoteProblem for an address that is none. Credentials go over https, or to this very
    machine, unless ``allow_http``. ``backoff`` seconds, doubled each time, lie between tries.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        username: str = "",
        password: str = "",
        allow_http: bool = False,
        backoff: float = 0.5,
    ) -> None:
        self._parts = _address(url)
        self._secrets = [secret for secret in (token, password) if secret]
        if self._secrets and not allow_http and not self._is_private:
            raise RemoteProblem(
                f"{self.url} is not https: everybody on the way could read the token or password. "
                "Use https, or --allow-http if you trust the network."
            )
        self._headers = {"User-Agent": "bulkhead", "Accept": "*/*"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif username:
            basic = urllib3.make_headers(basic_auth=f"{username}:{password}")
            self._headers["Authorization"] = basic["authorization"]
            self._secrets.append(basic["authorization"].removeprefix("Basic "))
        self._backoff = backoff
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        )

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._parts.geturl().rstrip("/")

    @property
    def _is_private(self) -> bool:
        return self._parts.scheme == "https" or is_loopback(self._parts.hostname or "")

    # --- models and versions ---------------------------------------------------------------

    def models(self) -> list[MlflowModel]:
        """Return all models and prompts, without their versions, in the order of their names."""
        found: dict[str, MlflowModel] = {}
        for condition in ([], [("filter", PROMPTS_ONLY)]):
            query = [*condition, ("max_results", MODELS_PER_PAGE), ("order_by", "name ASC")]
            for record in self._pages("registered-models/search", "registered_models", query):
                model = _model(record)
                found.setdefault(model.name, model)
        return sorted(found.values(), key=lambda model: model.name)

    def versions(self, model: MlflowModel) -> tuple[MlflowVersion, ...]:
        """Return the model's versions in the order of their numbers."""
        found: dict[int, MlflowVersion] = {}
        for condition in ["", f" AND {PROMPTS_ONLY}"] if model.is_prompt else [""]:
            query = [
                ("filter", _named(model.name) + condition),
                ("max_results", VERSIONS_PER_PAGE),
                ("order_by", "version_number ASC"),
            ]
            for record in self._pages("model-versions/search", "model_versions", query):
                # A name that cannot be quoted is searched for with wildcards.
                if _text(record.field("name")) == model.name:
                    version = _version(record)
                    found.setdefault(version.number, version)
        return tuple(found[number] for number in sorted(found))

    def create_model(self, name: str, description: str, tags: Text) -> None:
        """Register a model."""
        fields = {"name": name, "description": description, "tags": _pairs(tags)}
        self._write("POST", "registered-models/create", fields, repeatable=False)

    def describe_model(self, name: str, description: str) -> None:
        """Set the model's description."""
        self._write("PATCH", "registered-models/update", {"name": name, "description": description})

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Set one tag of a model."""
        fields = {"name": name, "key": key, "value": value}
        self._write("POST", "registered-models/set-tag", fields)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        fields = {"name": name, "alias": alias, "version": str(number)}
        self._write("POST", "registered-models/alias", fields)

    def create_version(self, name: str, version: MlflowVersion, tags: Text) -> int:
        """Add a version with ``tags`` instead of its own, and return the number that it got."""
        fields = {
            "name": name,
            "source": version.source,
            "run_id": version.run_id,
            "run_link": version.run_link,
            "description": version.description,
            "tags": _pairs(tags),
        }
        logged = LOGGED_MODEL.match(version.source)
        if logged:
            fields["model_id"] = logged.group(1)
        fields = {key: value for key, value in fields.items() if value}
        answer = self._write("POST", "model-versions/create", fields, repeatable=False)
        return _version(answer.field("model_version")).number

    def describe_version(self, name: str, number: int, description: str) -> None:
        """Set a version's description."""
        fields = {"name": name, "version": str(number), "description": description}
        self._write("PATCH", "model-versions/update", fields)

    def tag_version(self, name: str, number: int, key: str, value: str) -> None:
        """Set one tag of a version."""
        fields = {"name": name, "version": str(number), "key": key, "value": value}
        self._write("POST", "model-versions/set-tag", fields)

    def set_stage(self, name: str, number: int, stage: str) -> None:
        """Set a version's stage; those of other versions stay."""
        fields = {
            "name": name,
            "version": str(number),
            "stage": stage,
            "archive_existing_versions": False,
        }
        self._write("POST", "model-versions/transition-stage", fields)

    def delete_version(self, name: str, number: int) -> None:
        """Delete a version; the server never gives its number again."""
        self._write("DELETE", "model-versions/delete", {"name": name, "version": str(number)})

    # --- runs and experiments --------------------------------------------------------------

    def run(self, run_id: str) -> MlflowRun:
        """Return a run by its id."""
        return _run(self._read("runs/get", [("run_id", run_id)]).field("run"))

    def experiment_name(self, experiment_id: str) -> str:
        """Return an experiment's name."""
        answer = self._read("experiments/get", [("experiment_id", experiment_id)])
        return _text(answer.field("experiment").field("name"))

    def experiment(self, name: str, artifact_location: str) -> str:
        """Return the id of the experiment of that name, which is made if need be."""
        try:
            answer = self._read("experiments/get-by-name", [("experiment_name", name)])
        except ServerRefused as problem:
            if not problem.is_missing:
                raise
            fields = {"name": name, "artifact_location": artifact_location}
            answer = self._write("POST", "experiments/create", fields, repeatable=False)
            return _text(answer.field("experiment_id"))
        return _text(answer.field("experiment").field("experiment_id"))

    def run_tagged(self, experiment_id: str, name: str, tag: tuple[str, str]) -> MlflowRun:
        """Return the experiment's run with that tag, which is made, named and ended if need be."""
        key, value = tag
        search = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{key}` = '{value}'",
            "max_results": 1,
        }
        for record in _records(self._write("POST", "runs/search", search).field("runs")):
            return _run(record)
        now = int(datetime.now(UTC).timestamp() * 1000)
        made = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": now,
            "tags": _pairs({key: value}),
        }
        run = _run(self._write("POST", "runs/create", made, repeatable=False).field("run"))
        ended = {"run_id": run.id, "status": "FINISHED", "end_time": now}
        self._write("POST", "runs/update", ended)
        return run

    # --- files, through the server's artifact proxy ----------------------------------------

    def absolute(self, source: str) -> str:
        """Return a version's source so that it names this server, wherever it is read."""
        parts = _split(source)
        if parts.scheme != "mlflow-artifacts" or parts.netloc:
            return source
        if self._parts.path.strip("/"):
            # An mlflow-artifacts URI cannot hold the path under which the server is served.
            return f"{self.url}{ARTIFACTS}/{parts.path.lstrip('/')}"
        return f"mlflow-artifacts://{self._parts.netloc}/{parts.path.lstrip('/')}"

    def relative(self, source: str) -> str:
        """Return a source as this server itself writes it; the reverse of ``absolute``."""
        path = self.proxied(source)
        return source if path is None else f"mlflow-artifacts:/{path}"

    def proxied(self, uri: str) -> str | None:
        """Return the path that ``uri`` has in this server's artifact proxy; None if it has none."""
        parts = _split(uri)
        if parts.scheme == "mlflow-artifacts" and parts.netloc in {"", self._parts.netloc}:
            return parts.path.strip("/")
        proxy = f"{self.url}{ARTIFACTS}/"
        return uri[len(proxy) :].strip("/") if uri.startswith(proxy) else None

    def files_uri(self, name: str, number: int) -> str:
        """Return where a version's files are, with runs and logged models looked up."""
        query = [("name", name), ("version", str(number))]
        uri = _text(self._read("model-versions/get-download-uri", query).field("artifact_uri"))
        if logged := LOGGED_MODEL.match(uri):
            answer = self._read(f"logged-models/{quote(logged.group(1), safe='')}", [])
            return _text(answer.field("model").field("info").field("artifact_uri"))
        if uri.startswith("runs:/"):
            run_id, _, path = uri.removeprefix("runs:/").strip("/").partition("/")
            return f"{self.run(run_id).artifact_uri.rstrip('/')}/{path}"
        return uri

    def files(self, folder: str) -> dict[str, int]:
        """Return the sizes in bytes of all files below a folder of the proxy, by relative path."""
        found: dict[str, int] = {}
        folders = [("", 0)]
        entries = 0
        while folders:
            below, depth = folders.pop()
            query = [("path", f"{folder}/{below}".strip("/"))]
            answer = self._json(self._send("GET", ARTIFACTS, query=query))
            for record in _records(answer.field("files")):
                entries += 1
                if entries > MAX_FILES or depth > MAX_FOLDER_DEPTH:
                    raise BadAnswer(f"{self.url}: its folder of files never ends.")
                path = f"{below}/{_file_name(record)}".lstrip("/")
                if record.field("is_dir").value is True:
                    folders.append((path, depth + 1))
                else:
                    # MLflow omits the size of an empty file.
                    size = record.field("file_size")
                    found[path] = _number(size, least=0) if "file_size" in record.value else 0
        return found

    def download(self, path: str) -> Iterator[bytes]:
        """Return the bytes of a file of the proxy, piece by piece."""
        response = self._send("GET", f"{ARTIFACTS}/{quote(path)}")
        try:
            yield from response.stream(CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise RemoteProblem(f"{self.url} broke off: {self._clean(str(error))}") from None
        finally:
            response.close()

    def upload(self, path: str, chunks: Iterable[bytes], size: int) -> None:
        """Put a file of ``size`` bytes into the proxy."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        target = f"{ARTIFACTS}/{quote(path)}"
        response = self._send("PUT", target, body=chunks, headers=headers, repeatable=False)
        response.drain_conn()

    # --- talking ---------------------------------------------------------------------------

    def _pages(self, path: str, key: str, query: Sequence[tuple[str, Any]]) -> Iterator[Node]:
        seen = {""}
        token = ""
        while True:
            page = [("page_token", token)] if token else []
            answer = self._read(path, [*query, *page])
            records = _records(answer.field(key))
            yield from records
            token = _text(answer.field("next_page_token"))
            if not token:
                return
            if token in seen or not records or len(seen) > MAX_PAGES:
                raise BadAnswer(f"{self.url}: its list of {key} never ends.")
            seen.add(token)

    def _read(self, path: str, query: Sequence[tuple[str, Any]]) -> Node:
        return self._json(self._send("GET", f"{API}/{path}", query=query))

    def _write(
        self, method: str, path: str, fields: Mapping[str, Any], *, repeatable: bool = True
    ) -> Node:
        body = orjson.dumps(fields)
        headers = {"Content-Type": "application/json"}
        response = self._send(
            method, f"{API}/{path}", body=body, headers=headers, repeatable=repeatable
        )
        return self._json(response)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, Any]] = (),
        body: bytes | Iterable[bytes] | None = None,
        headers: Text | None = None,
        repeatable: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request, its body unread; what is not ``repeatable`` is sent once.

        Even that is sent again where the server did not take it: no connection, or "too busy".
        """
        try:
            response = self._pool.request(
                method,
                f"{self.url}{path}",
                fields=list(query) or None,
                body=body,
                headers={**self._headers, **(headers or {})},
                retries=self._patience(repeatable, once=not isinstance(body, bytes | None)),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise ServerUnreachable(f"{self.url} does not answer: {self._reason(error)}.") from None
        if response.status != 200:
            raise self._refusal(response)
        return response

    def _patience(self, repeatable: bool, *, once: bool) -> urllib3.Retry:
        return urllib3.Retry(
            total=MAX_RETRIES,
            redirect=False,
            read=MAX_RETRIES if repeatable else 0,
            other=0,
            # A streamed body cannot be sent a second time.
            status=0 if once else MAX_RETRIES,
            status_forcelist=(*BUSY, 500) if repeatable else (429,),
            allowed_methods=None,
            backoff_factor=self._backoff,
            backoff_max=BACKOFF_SECONDS,
            retry_after_max=BACKOFF_SECONDS,
            raise_on_status=False,
        )

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            body = response.read(MAX_ANSWER_BYTES + 1, decode_content=False)
        except HTTPError as error:
            raise ServerUnreachable(f"{self.url} broke off: {self._reason(error)}.") from None
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise BadAnswer(f"{self.url} answers more than {MAX_ANSWER_BYTES:,} bytes at once.")
        response.release_conn()
        return body

    def _json(self, response: urllib3.BaseHTTPResponse) -> Node:
        body = self._body(response)
        if not body:
            return _Answer({})
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise BadAnswer(f"{self.url} answers no JSON object: is it an MLflow server?")
        return _Answer(answer)

    def _refusal(self, response: urllib3.BaseHTTPResponse) -> RemoteProblem:
        status = response.status
        if 300 <= status < 400:
            location = _split(response.headers.get("Location", ""))
            where = self._clean(f"{location.scheme}://{location.netloc.rpartition('@')[2]}")
            response.close()
            return ServerUnreachable(
                f"{self.url} redirects to {where}; no redirect is followed. If that is the "
                "server, give its address with --url."
            )
        code, message = self._said(self._body(response))
        if status == 401:
            return ServerUnreachable(
                f"{self.url} asks who you are (401): give --token, or --username with a password, "
                "or others than these."
            )
        if status in BUSY:
            return ServerUnreachable(f"{self.url} is not available ({status}): {message}")
        if status == 404 and not code:
            return ServerRefused(f"{self.url} knows no such address (404): is it an MLflow server?")
        return ServerRefused(f"{self.url} refuses ({status}): {message}", code)

    def _said(self, body: bytes) -> tuple[str, str]:
        """Return MLflow's error code and message; of another body its beginning."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if isinstance(answer, dict):
            code, message = answer.get("error_code"), answer.get("message", answer.get("detail"))
            return (code if isinstance(code, str) else ""), self._clean(str(message))
        return "", self._clean(body[:2000].decode(errors="replace"))

    def _reason(self, error: HTTPError) -> str:
        cause: Any = error.reason if isinstance(error, MaxRetryError) else error
        if isinstance(cause, NameResolutionError):
            return "nobody knows that name"
        if isinstance(cause, SSLError):
            return (
                f"no trusted TLS connection: {self._clean(str(cause))}. SSL_CERT_FILE can name the "
                "certificate of an authority of your own"
            )
        if isinstance(cause, TimeoutError) and not isinstance(cause, NewConnectionError):
            return "it takes too long"
        return self._clean(str(cause).rpartition(": ")[2])

    def _clean(self, text: str) -> str:
        """Return a server's words in one short line, without what was to stay secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return shown(" ".join(text.split()), MAX_REASON_CHARS)


# --- addresses -----------------------------------------------------------------------------


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:  # brackets without an IPv6 address in them
        return urlsplit("")


def _address(url: str) -> SplitResult:
    parts = _split(url if "://" in url else f"https://{url}")
    try:
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable or parts.query or parts.fragment or not url.isprintable():
        raise RemoteProblem(
            f"{printable(url)} is no address of a server, such as https://mlflow.example.com."
        )
    if parts.username is not None:
        raise RemoteProblem("Give the user name with --username, not in the address.")
    return parts


def _named(name: str) -> str:
    """Return the condition that finds a model by name; it may find others besides."""
    # MLflow's filters cannot escape these characters; "_" matches any one character.
    pattern = UNQUOTABLE.sub("_", name)
    return f"name = '{name}'" if pattern == name else f"name LIKE '{pattern}'"


def _pairs(tags: Text) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


# --- reading what the server answers -------------------------------------------------------


def _records(node: Node) -> list[Node]:
    """Return the objects of a list; none where the server leaves the list out."""
    records = [] if node.value is None else node.items()
    for record in records:
        if not isinstance(record.value, dict):
            raise record.malformed("expected an object")
    return records


def _text(node: Node) -> str:
    """Return a text; '' where the server leaves it out."""
    return "" if node.value is None else node.text()


def _number(node: Node, *, least: int) -> int:
    """Return a whole number, which MLflow writes as a number or as text."""
    value = node.value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**62:
        raise node.malformed("expected a whole number")
    return value


def _version_number(record: Node) -> int:
    node = record.field("version")
    number = _number(node, least=1)
    if number >= 2**31:
        raise node.malformed("expected a version number")
    return number


def _time(node: Node) -> datetime | None:
    """Return a time that is given in milliseconds since 1970; None where it is left out."""
    if node.value is None:
        return None
    try:
        return datetime.fromtimestamp(_number(node, least=0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise node.malformed("expected a time") from None


def _mapping(node: Node, name: str, read: Callable[[Node], Any]) -> dict[str, Any]:
    return {_text(item.field(name)): read(item) for item in _records(node)}


def _tags(record: Node) -> dict[str, str]:
    return _mapping(record.field("tags"), "key", lambda item: _text(item.field("value")))


def _model(record: Node) -> MlflowModel:
    return MlflowModel(
        name=_text(record.field("name")),
        description=_text(record.field("description")),
        tags=_tags(record),
        aliases=_mapping(record.field("aliases"), "alias", _version_number),
        created_at=_time(record.field("creation_timestamp")),
        updated_at=_time(record.field("last_updated_timestamp")),
    )


def _version(record: Node) -> MlflowVersion:
    source = _text(record.field("source"))
    logged = LOGGED_MODEL.fullmatch(source)
    return MlflowVersion(
        number=_version_number(record),
        source=source,
        run_id=_text(record.field("run_id")),
        run_link=_text(record.field("run_link")),
        logged_model_id=_text(record.field("model_id")) or (logged.group(1) if logged else ""),
        description=_text(record.field("description")),
        # PENDING_REGISTRATION, FAILED_REGISTRATION or READY
        status=_text(record.field("status")).partition("_")[0] or "READY",
        status_message=_text(record.field("status_message")),
        stage=_text(record.field("current_stage")) or "None",
        tags=_tags(record),
        created_at=_time(record.field("creation_timestamp")),
        updated_at=_time(record.field("last_updated_timestamp")),
    )


def _run(record: Node) -> MlflowRun:
    info = record.field("info")
    return MlflowRun(
        _text(info.field("run_id")),
        _text(info.field("experiment_id")),
        _text(info.field("artifact_uri")),
    )


def _file_name(record: Node) -> str:
    name = _text(record.field("path"))
    if name in {"", ".", ".."} or NO_FILE_NAME.search(name):
        raise BadAnswer(f"The server names a file “{printable(name)}”, which is no file's name.")
    return name
