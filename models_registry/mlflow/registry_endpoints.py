"""MLflow's REST API for the registry: translation only, the verbs are in registry.py.

Each function answers one endpoint: it reads the fields, asks one statement of ``response_sql`` or
calls a verb, and writes what MLflow writes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.http import HttpResponse

from models_registry import registry, validators
from models_registry.files import artifacts
from models_registry.mlflow import response_sql, search
from models_registry.mlflow.request_fields import Field, read, text
from models_registry.models import ModelVersion, RegisteredModel
from tenants import prepared
from tenants.api import Call, endpoint, json_response, writing
from tenants.errors import Forbidden, InvalidRequest, NotFound, Refusal
from tenants.isolation.credentials import OpenTeam, teams_of
from tenants.isolation.scope import Scope
from tenants.prepared import query_as, query_in_scope
from tenants.team_paths import team_path
from tenants.workspaces import same_team, workspace_name

MODELS = "2.0/mlflow/registered-models"
VERSIONS = "2.0/mlflow/model-versions"
WORKSPACES = "3.0/mlflow/workspaces"

NAME = text("name", required=True)
VERSION = text("version", required=True)
TAG = (text("key", required=True), text("value"))
#: A page has at most this many rows and about this many bytes, whatever was asked for.
MAX_PAGE_ROWS = 10_000
MAX_PAGE_BYTES = 16 * 1024 * 1024


# --- registered models ---------------------------------------------------------------------


@endpoint("POST", f"{MODELS}/create")
def create_model(call: Call) -> HttpResponse:
    """Register a model."""
    params = read(call.request, NAME, Field("tags", "pairs"), text("description"))
    name, tags = _name(params["name"]), _tags(params["tags"])
    with writing(call):
        return _model_response(
            registry.register_model(name, description=params["description"] or "", tags=tags)
        )


@endpoint("GET", f"{MODELS}/get")
def get_model(call: Call) -> HttpResponse:
    """Return a model."""
    name = _name(read(call.request, NAME)["name"])
    _, found = query_as(call.credential, response_sql.GET_MODEL, [name])
    if not found:
        raise _no_model(name)
    return _wrapped("registered_model", found[0][0])


@endpoint("GET", f"{MODELS}/search")
def search_models(call: Call) -> HttpResponse:
    """Return a page of the models that a filter lets through."""
    return _search(call, LISTED_MODELS)


@endpoint("POST", f"{MODELS}/rename")
def rename_model(call: Call) -> HttpResponse:
    """Give a model another name."""
    params = read(call.request, NAME, text("new_name", required=True))
    name, new_name = _name(params["name"]), _name(params["new_name"])
    with writing(call):
        return _model_response(registry.rename_model(_model(name), new_name))


@endpoint("PATCH", f"{MODELS}/update")
def update_model(call: Call) -> HttpResponse:
    """Change a model's description; one that is not given becomes empty, as with MLflow."""
    params = read(call.request, NAME, text("description"))
    name = _name(params["name"])
    with writing(call):
        description = params["description"] or ""
        return _model_response(registry.update_model(_model(name), description=description))


@endpoint("DELETE", f"{MODELS}/delete")
def delete_model(call: Call) -> HttpResponse:
    """Delete a model, archived or not: MLflow's clients know no archive."""
    name = _name(read(call.request, NAME)["name"])
    with writing(call):
        registry.delete_model(_model(name), in_use=True)
    return json_response({})


@endpoint("POST", f"{MODELS}/get-latest-versions")
@endpoint("GET", f"{MODELS}/get-latest-versions")
def get_latest_versions(call: Call) -> HttpResponse:
    """Return the newest version of each stage, or of the stages that are asked for."""
    params = read(call.request, NAME, Field("stages", "texts"))
    name = _name(params["name"])
    stages = [_stage(stage) for stage in params["stages"] or ModelVersion.Stage.values]
    _, found = query_as(call.credential, response_sql.GET_NEWEST, [stages, name])
    if not found:
        raise _no_model(name)
    return _wrapped("model_versions", found[0][0])


@endpoint("POST", f"{MODELS}/set-tag")
def set_model_tag(call: Call) -> HttpResponse:
    """Set one tag of a model."""
    params = read(call.request, NAME, *TAG)
    name, tags = _name(params["name"]), _tags({params["key"]: params["value"] or ""})
    with writing(call):
        for key, value in tags.items():
            registry.set_tag(_model(name), key, value)
    return json_response({})


@endpoint("DELETE", f"{MODELS}/delete-tag")
def delete_model_tag(call: Call) -> HttpResponse:
    """Delete one tag of a model; one that is not there is no error."""
    params = read(call.request, NAME, TAG[0])
    name = _name(params["name"])
    with writing(call):
        registry.delete_tag(_model(name), params["key"])
    return json_response({})


@endpoint("POST", f"{MODELS}/alias")
def set_alias(call: Call) -> HttpResponse:
    """Point an alias at a version."""
    params = read(call.request, NAME, text("alias", required=True), VERSION)
    name, alias, number = _name(params["name"]), _alias(params["alias"]), _number(params["version"])
    with writing(call):
        registry.set_alias(_version(name, number).model, alias, number)
    return json_response({})


@endpoint("DELETE", f"{MODELS}/alias")
def delete_alias(call: Call) -> HttpResponse:
    """Delete an alias; one that is not there is no error."""
    params = read(call.request, NAME, text("alias", required=True))
    name = _name(params["name"])
    with writing(call):
        registry.delete_alias(_model(name), params["alias"])
    return json_response({})


@endpoint("GET", f"{MODELS}/alias")
def get_version_by_alias(call: Call) -> HttpResponse:
    """Return the version that an alias points at; ``latest`` is the highest version."""
    params = read(call.request, NAME, text("alias", required=True))
    name, alias = _name(params["name"]), params["alias"]
    if alias.lower() == "latest":
        _, found = query_as(call.credential, response_sql.GET_HIGHEST, [name])
        nothing: Refusal = NotFound(f"Latest version not found for model {name}.")
    else:
        _, found = query_as(
            call.credential, response_sql.GET_BY_ALIAS, [_alias_characters(alias), name]
        )
        nothing = InvalidRequest(f"Registered model alias {alias} not found.")
    if not found:
        raise _no_model(name)
    if found[0][0] is None:
        raise nothing
    return _wrapped("model_version", found[0][0])


# --- versions ------------------------------------------------------------------------------


@endpoint("POST", f"{VERSIONS}/create")
def create_version(call: Call) -> HttpResponse:
    """Add a version."""
    params = read(
        call.request,
        NAME,
        text("source", required=True),
        text("run_id"),
        Field("tags", "pairs"),
        text("run_link"),
        text("description"),
        text("model_id"),
    )
    name, tags = _name(params["name"]), _tags(params["tags"])
    _check_source(params["source"], params["run_id"] or "", tags)
    with writing(call):
        version = registry.add_version(
            _model(name),
            source=params["source"],
            run_id=params["run_id"] or "",
            run_link=params["run_link"] or "",
            logged_model_id=params["model_id"] or "",
            description=params["description"] or "",
            tags=tags,
        )
        return _version_response(version)


@endpoint("GET", f"{VERSIONS}/get")
def get_version(call: Call) -> HttpResponse:
    """Return a version."""
    name, number = _name_and_number(read(call.request, NAME, VERSION))
    _, found = query_as(call.credential, response_sql.GET_VERSION, [name, number])
    if not found:
        raise _no_version(name, number)
    return _wrapped("model_version", found[0][0])


@endpoint("GET", f"{VERSIONS}/search")
def search_versions(call: Call) -> HttpResponse:
    """Return a page of the versions that a filter lets through."""
    return _search(call, LISTED_VERSIONS)


@endpoint("PATCH", f"{VERSIONS}/update")
def update_version(call: Call) -> HttpResponse:
    """Change a version's description; one that is not given becomes empty."""
    params = read(call.request, NAME, VERSION, text("description"))
    name, number = _name_and_number(params)
    with writing(call):
        description = params["description"] or ""
        version = registry.update_version(_version(name, number), description=description)
        return _version_response(version)


@endpoint("DELETE", f"{VERSIONS}/delete")
def delete_version(call: Call) -> HttpResponse:
    """Delete a version and the aliases that point at it, as MLflow does."""
    name, number = _name_and_number(read(call.request, NAME, VERSION))
    with writing(call):
        registry.delete_version(_version(name, number), with_aliases=True)
    return json_response({})


@endpoint("GET", f"{VERSIONS}/get-download-uri")
def get_download_uri(call: Call) -> HttpResponse:
    """Return where the version's files are: here, or where its source says."""
    name, number = _name_and_number(read(call.request, NAME, VERSION))
    with writing(call) as scope:
        version = _version(name, number)
        if version.files.exists():
            uri = _files_address(call, scope, version)
        else:
            uri = version.location or version.source
        registry.count_download(version)
    return json_response({"artifact_uri": uri})


@endpoint("POST", f"{VERSIONS}/transition-stage")
def transition_stage(call: Call) -> HttpResponse:
    """Move a version to a stage."""
    params = read(
        call.request,
        NAME,
        VERSION,
        text("stage", required=True),
        Field("archive_existing_versions", "boolean"),
    )
    name, number = _name_and_number(params)
    stage, archive = _stage(params["stage"]), bool(params["archive_existing_versions"])
    if archive and stage not in ACTIVE_STAGES:
        raise InvalidRequest(
            "Model version transition cannot archive existing model versions because "
            f"'{params['stage']}' is not an Active stage. Valid stages are {list(ACTIVE_STAGES)}"
        )
    with writing(call):
        version = _version(name, number)
        return _version_response(registry.set_stage(version, stage, archive_existing=archive))


@endpoint("POST", f"{VERSIONS}/set-tag")
def set_version_tag(call: Call) -> HttpResponse:
    """Set one tag of a version."""
    params = read(call.request, NAME, VERSION, *TAG)
    name, number = _name_and_number(params)
    tags = _tags({params["key"]: params["value"] or ""})
    with writing(call):
        for key, value in tags.items():
            registry.set_tag(_version(name, number), key, value)
    return json_response({})


@endpoint("DELETE", f"{VERSIONS}/delete-tag")
def delete_version_tag(call: Call) -> HttpResponse:
    """Delete one tag of a version; one that is not there is no error."""
    params = read(call.request, NAME, VERSION, TAG[0])
    name, number = _name_and_number(params)
    with writing(call):
        registry.delete_tag(_version(name, number), params["key"])
    return json_response({})


# --- the server and its workspaces ---------------------------------------------------------


@endpoint("GET", "3.0/mlflow/server-info", public=True)
def server_info(call: Call) -> HttpResponse:
    """Say what a client may use; it asks before it has a token, so nothing here tells of a team."""
    return json_response(
        {
            "store_type": "SqlStore",
            "workspaces_enabled": True,
            "trace_archival_enabled": False,
            "multipart_uploads_enabled": artifacts.sends_directly(),
            "multipart_downloads_enabled": artifacts.sends_directly(),
            "presigned_upload_run_id_supported": False,
            "presigned_upload_model_id_supported": False,
            "features_enabled": {"gateway": False},
        }
    )


@endpoint("GET", WORKSPACES)
def list_workspaces(call: Call) -> HttpResponse:
    """Return the teams that the token opens, and no others."""
    return json_response({"workspaces": list(map(_workspace, teams_of(call.credential)))})


@endpoint("GET", f"{WORKSPACES}/")
def get_workspace(call: Call) -> HttpResponse:
    """Return one of the teams that the token opens."""
    own = getattr(call.credential, "namespace", None)  # MLflow's client in a pod names its team so
    for team in teams_of(call.credential):
        if same_team(call.rest, team.slug) or call.rest == own:
            return json_response({"workspace": _workspace(team)})
    raise NotFound(f"Workspace '{call.rest}' not found")


@endpoint("POST", WORKSPACES)
@endpoint("PATCH", f"{WORKSPACES}/")
@endpoint("DELETE", f"{WORKSPACES}/")
def change_workspace(call: Call) -> HttpResponse:
    """Refuse: a team is made and changed on the platform's pages, not by a token."""
    teams_of(call.credential)
    raise Forbidden("Workspaces are teams here; platform admins make and change them.")


def _workspace(team: OpenTeam) -> dict[str, str]:
    return {"name": workspace_name(team.slug), "description": team.description or team.name}


# --- searching -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Searchable:
    """What can be searched: its name, how a filter is read, its row as JSON, and the page sizes."""

    what: str
    parse: Callable[[str, Sequence[str]], search.Search]
    body: str
    rows: str
    usual: int
    most: int
    least: int


LISTED_MODELS = Searchable(
    "registered_models",
    search.models_search,
    response_sql.MODEL,
    response_sql.OWN_MODELS,
    usual=100,
    most=1000,
    least=0,
)
LISTED_VERSIONS = Searchable(
    "model_versions",
    search.versions_search,
    response_sql.LISTED_VERSION,
    response_sql.OWN_VERSIONS,
    usual=MAX_PAGE_ROWS,
    most=200_000,
    least=1,
)


def _search(call: Call, listing: Searchable) -> HttpResponse:
    params = read(
        call.request,
        text("filter"),
        Field("max_results", "raw"),
        Field("order_by", "texts"),
        text("page_token"),
    )
    chosen, order = params["filter"] or "", params["order_by"] or []
    query = repr((listing.what, chosen, order))
    try:
        wanted = listing.parse(chosen, order)
        asked = search.page_size(params["max_results"], listing.usual, listing.most, listing.least)
        size = min(asked, MAX_PAGE_ROWS)
        token = search.read_token(params["page_token"], query) if params["page_token"] else None
    except search.InvalidSearch as error:
        raise InvalidRequest(str(error)) from None
    after, position = wanted.after(token.position) if token else ("true", ())
    statement = response_sql.page(listing.body, listing.rows, wanted, after)
    values = [*wanted.params, *position, size + 1, MAX_PAGE_BYTES]
    scope, found = query_as(
        call.credential, statement, values, searching=True, prepare=wanted.is_common
    )
    if token is not None and token.tenant_id != scope.tenant_id:
        raise InvalidRequest(search.INVALID_TOKEN)
    return _page(listing.what, found, size, scope, query)


def _page(
    what: str, found: Sequence[tuple[str, str]], size: int, scope: Scope, query: str
) -> HttpResponse:
    """Answer the first ``size`` rows, and a token for what comes after them."""
    shown = found[:size]
    if not shown:
        return json_response({})
    rows = ",".join(body for body, _ in shown).encode()
    more = b""
    if len(found) > size or len(rows) >= MAX_PAGE_BYTES:
        position = orjson.loads(shown[-1][1])
        token = search.write_token(scope.tenant_id, query, position)
        more = b', "next_page_token": "%s"' % token.encode()
    return json_response(b'{"%s": [%s]%s}' % (what.encode(), rows, more))


# --- what a request names ------------------------------------------------------------------

ACTIVE_STAGES = ("Staging", "Production")
#: Sources that MLflow's clients send for a prompt, whose text is in a tag.
PROMPT_SOURCES = ("dummy-source", "prompt-template")


def _name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest("Missing value for required parameter 'name'.")
    try:
        validators.validate_model_name(name)
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages)) from None
    return name


def _name_and_number(params: Mapping[str, Any]) -> tuple[str, int]:
    return _name(params["name"]), _number(params["version"])


def _number(version: str) -> int:
    """Return the version's number; 0, which no version has, for one that is too large."""
    digits = version.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise InvalidRequest(f"Parameter 'version' must be an integer, got '{version}'.")
    return int(version) if len(digits) < 10 else 0


def _alias(alias: str) -> str:
    try:
        validators.validate_alias_name(alias)
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages)) from None
    return alias


def _alias_characters(alias: str) -> str:
    """Refuse what no alias can be; a reserved one is only not there."""
    if validators.ALIAS.fullmatch(alias) and len(alias) <= validators.MAX_ALIAS_CHARS:
        return alias
    return _alias(alias)


def _stage(stage: str) -> str:
    for known in ModelVersion.Stage.values:
        if known.lower() == stage.lower():
            return known
    raise InvalidRequest(
        f"Invalid Model Version stage: {stage}. Value must be one of "
        f"{', '.join(ModelVersion.Stage.values)}."
    )


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """Return the tags if they can be kept; the lengths are refused in MLflow's words."""
    for key, value in (tags or {}).items():
        if len(key) > validators.MAX_KEY_CHARS:
            raise InvalidRequest(
                f"'key' exceeds the maximum length of {validators.MAX_KEY_CHARS} characters"
            )
        if len(value) > validators.MAX_TAG_VALUE_CHARS:
            raise InvalidRequest(
                f"'value' exceeds the maximum length of {validators.MAX_TAG_VALUE_CHARS} characters"
            )
    try:
        validators.validate_tags(tags or {})
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages)) from None
    return dict(tags or {})


def _check_source(source: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Refuse what MLflow's own server refuses: paths of the client's machine, and foreign runs."""
    if tags.get(validators.IS_PROMPT, "").lower() == "true":
        if source not in PROMPT_SOURCES:
            raise InvalidRequest(
                f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder."
            )
        return
    scheme = source.partition(":")[0] if ":" in source else ""
    if len(scheme) < 2 or scheme.lower() == "file":  # a single letter is a Windows drive
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. To use a local path as a model version "
            "source, the run_id request parameter has to be specified and the local path has to be "
            "contained within the artifact directory of the run specified by the run_id."
        )
    if scheme == "runs" and source.removeprefix("runs:").strip("/").partition("/")[0] != run_id:
        raise InvalidRequest(
            f"Invalid model version source: '{source}'. The run_id request parameter must be the "
            "run that the source names."
        )


def _no_model(name: str) -> NotFound:
    return NotFound(f"Registered Model with name={name} not found")


def _no_version(name: str, number: int) -> NotFound:
    return NotFound(f"Model Version (name={name}, version={number}) not found")


def _model(name: str) -> RegisteredModel:
    model = prepared.find(RegisteredModel, name=name)
    if model is None:
        raise _no_model(name)
    return model


def _version(name: str, number: int) -> ModelVersion:
    versions = ModelVersion.objects.select_related("model")
    version = versions.filter(model__name=name, number=number).first()
    if version is None:
        raise _no_version(name, number)
    return version


# --- answers -------------------------------------------------------------------------------


def _wrapped(what: str, body: str | None) -> HttpResponse:
    return json_response(f'{{"{what}": {body}}}'.encode() if body else {})


def _model_response(model: RegisteredModel) -> HttpResponse:
    """Answer with a model that is locked, by the name that it has now."""
    return _wrapped("registered_model", _text(response_sql.GET_MODEL, [model.name]))


def _version_response(version: ModelVersion) -> HttpResponse:
    """Answer with a version whose model is locked, by the name that it has now."""
    values = [version.model.name, version.number]
    return _wrapped("model_version", _text(response_sql.GET_VERSION, values))


def _text(statement: str, values: Sequence[Any]) -> str:
    """Return what a statement says in the scope that is open."""
    body: str = query_in_scope(statement, values)[0][0]
    return body


def _files_address(call: Call, scope: Scope, version: ModelVersion) -> str:
    """Return the whole address of a version's files.

    A relative ``mlflow-artifacts:/…`` would be asked of the client's tracking server, which may
    be another one than this registry.
    """
    path = team_path(scope.slug, f"api/2.0/mlflow-artifacts/artifacts/versions/{version.pk}")
    return call.request.build_absolute_uri(path)
