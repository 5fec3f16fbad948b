"""What a version's source points at, and whether the acting team has it.

A source that points into Bulkhead is looked up in the acting team, whatever it says, and the files
there become the version's own. Another team's files, versions and models are what is not there.
Everything else (``s3://…``, ``runs:/…`` of a tracking server elsewhere) is kept as text.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http.request import split_domain_port, validate_host

from models_registry.files import artifacts
from models_registry.files.paths import parse_path
from models_registry.models import ModelVersion
from models_registry.validators import IS_PROMPT
from tenants.isolation.scope import current_scope
from tenants.team_paths import read_team_path
from tenants.workspaces import same_team

ARTIFACTS = re.compile(
    r"(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts(?:/(?P<path>.*))?", re.DOTALL
)
USUAL_PORTS = {"http": "80", "https": "443"}
#: A logged model of another tracking server; with a version or an alias it is a registered model.
LOGGED_MODEL = re.compile(r"models:/+m-[^/@]*")
#: Characters at which MLflow's client ends an address, or which it removes from one.
DROPPED = frozenset("?\n\r\t")
#: Words that may stand in an address in place of a version's number.
STAGE_WORDS = frozenset({"latest", *(stage.lower() for stage in ModelVersion.Stage.values)})
#: A path that still changes when it is percent-decoded this many times is refused.
MAX_DECODINGS = 5


@dataclass(frozen=True)
class Source:
    """A source as it is kept, and what it points at here.

    ``folder`` is one of the team's upload area (with ``version``: of that version's files); None
    for what is elsewhere. ``origin`` is the version that is copied, all of it or a part;
    ``location`` is where a copied version's own files are, if elsewhere, and ``lineage`` the run
    and the logged model that it was made from.
    """

    text: str
    folder: str | None = None
    version: ModelVersion | None = None
    origin: ModelVersion | None = None
    location: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)


def resolve(text: str, *, run_id: str = "", logged_model_id: str = "") -> Source:
    """Return what ``text`` points at; raises ValidationError for what the team does not have."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        raise _bad(text, "it is not a valid address") from None
    if parts.scheme == "models" and not LOGGED_MODEL.fullmatch(text):
        return _of_version(text, {"run_id": run_id, "logged_model_id": logged_model_id})
    path = _path_here(parts.scheme, host, parts.path, text)
    if path is None:
        return Source(text)
    return _of_folder(text, path, elsewhere=bool(run_id or logged_model_id) and not host)


def _path_here(scheme: str, host: str, path: str, text: str) -> str | None:
    """Return the path among the team's files; None if the address is another server's."""
    if scheme == "mlflow-artifacts":
        return None if host and not _is_here(scheme, host) else _decoded(path, text)
    if scheme not in {"http", "https"} or not _is_here(scheme, host):
        return None
    path = _decoded(path, text)
    named, rest = read_team_path(f"/{path}") or ("", path)
    found = ARTIFACTS.fullmatch(rest)
    if found is None:
        return None
    if named and not same_team(named, current_scope().slug):
        raise _nothing(text)
    return found["path"] or ""


def _is_here(scheme: str, host: str) -> bool:
    """Tell whether clients know this site by ``host``: its name, and a port if it has one.

    Where any host is allowed (``*``), a name says nothing about whose it is.
    """
    site = settings.SITE
    name, port = split_domain_port(host)
    known = [allowed for allowed in settings.ALLOWED_HOSTS if allowed != "*"]
    same_port = port in ("", USUAL_PORTS.get(scheme)) if not site.port else port == str(site.port)
    return host == site.netloc.lower() or (same_port and validate_host(name, known))


def _decoded(path: str, text: str) -> str:
    """Return the path without percent signs; refuses one that leaves its folder at any decoding."""
    for _ in range(MAX_DECODINGS):
        if ".." in path.replace("\\", "/").split("/") or "\x00" in path:
            raise _bad(text, "it must not lead out of its folder")
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    else:
        raise _bad(text, "it is encoded too often")
    return posixpath.normpath(path.strip("/")) if path.strip("/") else ""


def _of_folder(text: str, path: str, *, elsewhere: bool) -> Source:
    where = parse_path(path)
    if where.is_of(current_scope().slug):
        if where.version_id is not None:
            return _of_version_files(text, where.version_id, where.path)
        _check_is_whole(where.path)
        if where.path and _has_files(None, where.path):
            return Source(text, where.path)
    if elsewhere:  # the files of a run or logged model of another tracking server are there
        return Source(text)
    raise _nothing(text)


def _of_version_files(text: str, pk: UUID, path: str) -> Source:
    version = ModelVersion.objects.filter(pk=pk, status=ModelVersion.Status.READY).first()
    if version is None or not _has_files(version, path):
        raise _nothing(text)
    return Source(text, path, version, origin=version)


def _check_is_whole(path: str) -> None:
    """Refuse what is being uploaded, or of which an upload broke off."""
    unfinished = artifacts.unfinished_under(path)
    if unfinished is not None:
        raise ValidationError(
            {
                "source": f"The upload of “{unfinished.path}” has not ended: wait for it, or upload"
                " the file again if it broke off."
            }
        )


def _has_files(version: ModelVersion | None, folder: str) -> bool:
    if artifacts.file_at(version, folder) is not None:
        return True
    return bool(artifacts.files_under(version, folder))


def _of_version(text: str, given: Mapping[str, str]) -> Source:
    meant = parse_model_uri(text)
    if meant is None:
        raise _bad(text, "it names no version of a model of this registry")
    versions = ModelVersion.objects.filter(model__name=meant.name).order_by("-number")
    if meant.alias:
        versions = versions.filter(aliases__name=meant.alias)
    elif meant.number is not None:
        versions = versions.filter(number=meant.number)
    elif meant.stage:
        versions = versions.filter(stage=meant.stage)
    version = versions.select_related("model").first()
    if version is None or version.tags.get(IS_PROMPT) == "true":
        raise _nothing(text)
    lineage = {"run_id": version.run_id, "logged_model_id": version.logged_model_id}
    for name, value in given.items():
        if value and value != lineage[name]:
            raise _bad(text, "the run_id and model_id must be those of the version that it names")
    kept = model_uri(version.model.name, version.number)
    if version.files.exists():
        return Source(kept, "", version, origin=version, lineage=lineage)
    where = version.location or version.source
    return Source(kept, origin=version, location=where, lineage=lineage)


def _nothing(text: str) -> ValidationError:
    return ValidationError(
        {
            "source": f"Invalid model version source: '{text}'. There is nothing there in this "
            "workspace: upload the files first, or correct the address."
        },
        code="nothing_there",
    )


def _bad(text: str, why: str) -> ValidationError:
    return ValidationError({"source": f"Invalid model version source: '{text}'; {why}."})


# --- models:/ addresses --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VersionReference:
    """A version by its model's name and by its number, an alias or a stage; by none: the newest.

    Where several are in a stage, the newest of them is meant.
    """

    name: str
    number: int | None = None
    alias: str = ""
    stage: str = ""


def parse_model_uri(text: str) -> VersionReference | None:
    """Return what ``models:/name/3``, ``…/latest``, ``…/Production``, ``models:/name@alias`` name.

    As with MLflow nothing in it is percent-encoded, and a name may hold an ``@``. None for an
    address that names no version.
    """
    name, separator, which = text.partition(":")[2].removeprefix("/").partition("/")
    if not separator:
        name, _, which = name.rpartition("@")
    if not name or not which or "/" in which:
        return None
    if not separator:
        return VersionReference(name, alias=which)
    if is_number(which):
        return VersionReference(name, number=int(which))
    return VersionReference(name, stage="" if which.lower() == "latest" else which.title())


def parse_loaded_uri(address: str) -> VersionReference | None:
    """Return the version that MLflow's client loads from ``address``; None for none.

    The address may go on with the path of a file in the version, unless there is a `#` in it.
    """
    whole = address.partition(":")[2].lstrip("/").rstrip("/")
    name, slash, rest = whole.partition("/")
    which = rest.partition("/")[0]
    if not slash or ("@" in name and which and "#" not in name):
        return parse_model_uri(f"models:/{name}")
    return parse_model_uri(f"models:/{whole if '#' in name else f'{name}/{which}'}")


def is_number(text: str) -> bool:
    """Tell whether ``text`` can be a version's number."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def model_uri(name: str, number: int, alias: str = "") -> str:
    """Return MLflow's address of the version, or of what the alias points at."""
    return f"models:/{name}@{alias}" if alias else f"models:/{name}/{number}"


def is_unambiguous(address: str) -> bool:
    """Tell whether MLflow's client reads ``address`` as ``parse_model_uri`` does.

    The client reads it by Python's ``urlparse``, which drops line ends and tabs and ends the path
    at a `?`. Before that it splits off the path of a file in the version, and there a `#` ends the
    path too: one behind the name is lost, and without one an `@` in the name begins an alias.
    """
    name, slash, rest = address.partition(":")[2].lstrip("/").rstrip("/").partition("/")
    if DROPPED & set(address) or "#" in rest:
        return False
    which = rest.partition("/")[0]
    looks_like_alias = "@" in name and "#" not in name and bool(slash)
    return not (looks_like_alias and (is_number(which) or which.lower() in STAGE_WORDS))
