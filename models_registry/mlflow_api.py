"""MLflow's REST API for the registry: translation only, the verbs are in registry.py."""

from django.http import HttpResponse

from models_registry import artifacts
from models_registry.api import Call, endpoint, json_response


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
