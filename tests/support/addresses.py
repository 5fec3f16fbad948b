"""Every address of the product, with what a POST there needs to do its work.

``test_access_matrix`` fails when a URL of the product is missing here.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.http import HttpResponse
from django.test import Client

#: How each method is sent; PUT, PATCH and DELETE are nobody's here, and must stay so.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


NOTHING = UUID(int=0)


@dataclass(frozen=True)
class Target:
    """What the addresses point at: a team, its models, a model shared with it, keys to it."""

    team: str
    model: str = "fraud"
    archived: str = "ALPHA own"
    shared: UUID = NOTHING
    other_team: UUID = NOTHING
    person: int = 0
    token: UUID = NOTHING
    robot: str = "nothing"
    identity: UUID = NOTHING
    #: The version that takes files.
    pending: int = 3


#: What is posted: a form's fields, or the bytes of a file.
Sent = dict[str, Any] | bytes


def team_addresses(target: Target) -> dict[str, tuple[str, Sent]]:
    """Return for each URL's name the path and what to post there."""
    team = f"/t/{target.team}/"
    model = f"{team}models/{quote(target.model, safe='')}/"
    pending = f"{model}versions/{target.pending}/"
    archived = f"{team}models/{quote(target.archived, safe='')}/"
    shared = f"{team}shared/{target.shared}/"
    robot = f"{team}admin/robots/{target.robot}/"
    identity = f"{team}admin/identities/{target.identity}/"
    account = {"cluster": "one", "service_account": "new", "role": "viewer"}
    secret = {"scope": "read", "days": "30", "once": "sent once"}
    return {
        "team_home": (team, {}),
        "models": (f"{team}models/", {}),
        "register_model": (f"{team}register/", {"name": "new"}),
        "shared_models": (f"{team}shared/", {}),
        "shared_model": (shared, {}),
        "shared_version": (f"{shared}versions/1/", {}),
        "model": (model, {}),
        "edit_model": (f"{model}edit/", {"description": "new"}),
        "archive_model": (f"{model}archive/", {}),
        "restore_model": (f"{archived}restore/", {}),
        "delete_model": (f"{archived}delete/", {"name": target.archived}),
        "star_model": (f"{model}star/", {"on": "1"}),
        "model_access": (f"{model}access/", {}),
        "share_model": (f"{model}share/", {"address": target.other_team}),
        "unshare_model": (f"{model}unshare/", {"team": target.other_team}),
        "model_history": (f"{model}history/", {}),
        "compare": (f"{model}compare/?v=1&v=2", {}),
        "set_alias": (f"{model}aliases/", {"alias": "new", "version": 2}),
        "delete_alias": (f"{model}aliases/delete/", {"alias": "champion", "expected": 1}),
        "versions": (f"{model}versions/", {}),
        "add_version": (f"{model}add-version/", {"source": "s3://new"}),
        "version": (f"{model}versions/1/", {}),
        "edit_version": (f"{model}versions/1/edit/", {"status": "READY", "description": "new"}),
        "delete_version": (f"{model}versions/2/delete/", {"confirm": "yes"}),
        "recall_version": (f"{model}versions/2/recall/", {"reason": "It is wrong."}),
        "withdraw_recall": (f"{model}versions/2/withdraw-recall/", {}),
        "files": (f"{model}versions/1/files/", {}),
        "file": (f"{model}versions/1/files/MLmodel", {}),
        "download": (f"{model}versions/1/download/MLmodel", {}),
        "upload": (f"{pending}upload/", {}),
        "upload_file": (f"{pending}upload/data/new.bin", b"some bytes"),
        "remove_files": (f"{pending}remove-files/", {"path": "notes.txt"}),
        "finish_version": (f"{pending}finish/", {}),
        "activity": (f"{team}activity/", {}),
        "isolation": (f"{team}isolation/", {}),
        "check_manifests": (f"{team}check/", {"manifests": "{apiVersion: v1, kind: Pod}"}),
        "bundle_yaml": (f"{team}isolation/bundle.yaml", {}),
        "bundle_kustomize": (f"{team}isolation/kustomize.zip", {}),
        "bundle_argocd": (f"{team}isolation/argocd.zip?repository=https://git.example.org/r", {}),
        "members": (f"{team}admin/members/", {"user": target.person, "role": "contributor"}),
        "tokens": (f"{team}tokens/", {"name": "new", "team": "this", **secret}),
        "revoke_token": (f"{team}tokens/{target.token}/revoke/", {}),
        "robots": (f"{team}admin/robots/", {"name": "new", "role": "viewer", **secret}),
        "rotate_robot": (f"{robot}rotate/", secret),
        "remove_robot": (f"{robot}remove/", {}),
        "identities": (f"{team}admin/identities/", account),
        "identity_role": (f"{identity}role/", {"role": "contributor"}),
        "trust_identity": (f"{identity}trust/", {"uid": "another"}),
        "remove_identity": (f"{identity}remove/", {}),
    }


#: Addresses that belong to no team.
PLATFORM: dict[str, tuple[str, dict[str, Any]]] = {
    "home": ("/", {}),
    "theme": ("/theme/", {"theme": "dark"}),
    "health": ("/healthz", {}),
    "account_login": ("/sign-in/", {"login": "nobody", "password": "wrong"}),
    "account_logout": ("/sign-out/", {}),
    "account_inactive": ("/inactive/", {}),
}

#: Addresses of private listeners, which the site does not have.
PRIVATE: dict[str, str] = {"kubernetes_admission": "/kubernetes/admission"}

#: The API's addresses, each with an endpoint at it: a session opens none of them, a token does.
API: dict[str, str] = {
    f"{team}{kind}": f"{prefix}{path}"
    for team, prefix in (("", ""), ("team_", "/t/team_alpha"))
    for kind, path in (
        ("api", "/api/2.0/mlflow/registered-models/get?name=fraud"),
        ("ajax_api", "/ajax-api/2.0/mlflow/registered-models/get?name=fraud"),
        ("get_artifact", "/model-versions/get-artifact?name=fraud&version=1&path=MLmodel"),
    )
}


def call(browser: Client, method: str, path: str, data: Sent | None = None) -> Any:
    """Send a request; only a POST carries data."""
    if method == "POST" and isinstance(data, bytes):
        answer = browser.post(path, data, content_type="application/octet-stream")
    elif method == "POST":
        answer = browser.post(path, data or {})
    else:
        answer = browser.generic(method, path)
    return arrived(answer)


def arrived(answer: Any) -> Any:
    """Return the answer with all its bytes, where they come one after the other."""
    if not answer.streaming:
        return answer
    whole = HttpResponse(b"".join(answer), status=answer.status_code, headers=answer.headers)
    whole.cookies = answer.cookies
    return whole
