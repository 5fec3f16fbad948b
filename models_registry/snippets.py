"""Code to copy: how a program, a shell or another machine gets at a model of the acting team.

Each text is quoted for the language it is in, so that any name gives code that means that name.
"""

import json
import posixpath
from dataclasses import dataclass
from shlex import quote

from django.conf import settings
from django.http import HttpRequest

from models_registry.files import sources
from tenants.team_paths import team_address

TOKEN = "<your token>"  # noqa: S105 - what people put theirs in place of
BEARER = '--header "Authorization: Bearer $MLFLOW_TRACKING_TOKEN"'


@dataclass(frozen=True)
class Snippet:
    """A piece of code under its title; ``key`` is its id on a page."""

    key: str
    title: str
    text: str


def tracking_uri(request: HttpRequest, team: str) -> str:
    """Return the address of the team for MLflow's clients, as the caller reaches this site."""
    host = request.get_host()
    here = settings.SITE_URL if host == settings.SITE.netloc else f"{request.scheme}://{host}"
    return team_address(team, here)


def for_version(uri: str, name: str, number: int, alias: str = "", path: str = "") -> list[Snippet]:
    """Return how to use a version: by ``alias`` if one is given, which follows it where it moves.

    ``path`` is a file of the version that the example fetches.
    """
    return [
        Snippet("python", "Python", _load(uri, name, number, alias)),
        Snippet("shell", "Shell", environment(uri)),
        Snippet("curl", "curl", _curl(uri, name, number, alias, path)),
        Snippet("register", "Register the next version", register(uri, name)),
    ]


def reference(name: str, number: int, alias: str = "") -> str:
    """Return MLflow's address of the version, or of what the alias points at."""
    return sources.model_uri(name, number, alias)


def environment(uri: str) -> str:
    """Return the variables that MLflow's clients read."""
    return f"export MLFLOW_TRACKING_URI={quote(uri)}\nexport MLFLOW_TRACKING_TOKEN={quote(TOKEN)}\n"


def register(uri: str, name: str) -> str:
    """Return how a program uploads a model that it has trained, and registers it."""
    return f"""\
from uuid import uuid4

import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

mlflow.set_tracking_uri({_python(uri)})
mlflow.sklearn.save_model(model, "model")  # or the flavor of your framework
files = f"mlflow-artifacts:/uploads/{{uuid4()}}"
get_artifact_repository(files).log_artifacts("model")
mlflow.register_model(files, {_python(name)})
"""


def _load(uri: str, name: str, number: int, alias: str) -> str:
    start = f"import mlflow\n\nmlflow.set_tracking_uri({_python(uri)})\n"
    address = sources.model_uri(name, number, alias)
    if sources.is_unambiguous(address):
        return f"{start}model = mlflow.pyfunc.load_model({_python(address)})\n"
    # MLflow's client would take the address for another model or version.
    by_alias = f"get_model_version_by_alias({_python(name)}, {_python(alias)})"
    version = f"client.{by_alias}.version" if alias else _python(str(number))
    return (
        f"{start}client = mlflow.MlflowClient()\n"
        f"version = {version}\n"
        f"files = client.get_model_version_download_uri({_python(name)}, version)\n"
        "model = mlflow.pyfunc.load_model(files)\n"
    )


def _curl(uri: str, name: str, number: int, alias: str, path: str) -> str:
    if alias:
        asked = (f"name={name}", f"alias={alias}")
        where = "api/2.0/mlflow/registered-models/alias"
    else:
        asked = (f"name={name}", f"version={number}")
        where = "api/2.0/mlflow/model-versions/get"
    about = f"curl --get {BEARER} \\\n{_data(*asked)}  {quote(f'{uri}/{where}')}\n"
    if not path:
        return about
    file = _data(f"name={name}", f"version={number}", f"path={path}")
    saved = quote(f"./{posixpath.basename(path)}")
    return (
        f"{about}\ncurl --get --fail --location --output {saved} {BEARER} \\\n{file}"
        f"  {quote(f'{uri}/model-versions/get-artifact')}\n"
    )


def _data(*parts: str) -> str:
    return "".join(f"  --data-urlencode {quote(part)} \\\n" for part in parts)


def _python(text: str) -> str:
    """Write a text as Python does, in double quotes: JSON's escapes are all Python's."""
    return json.dumps(text, ensure_ascii=False)
