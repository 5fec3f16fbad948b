"""Addresses of the registry. A model may have any name, so no page stands beside it."""

from django.urls import path

from models_registry import file_views, views
from tenants.api import api_view
from tenants.team_paths import TEAM

MODEL = f"{TEAM}models/<str:name>/"
VERSION = f"{MODEL}versions/<int:number>/"
SHARED = f"{TEAM}shared/<uuid:pk>/"

urlpatterns = [
    path("api/<path:rest>", api_view, name="api"),
    path("ajax-api/<path:rest>", api_view, name="ajax_api"),
    path("model-versions/get-artifact", api_view, name="get_artifact"),
    path(f"{TEAM}api/<path:rest>", api_view, name="team_api"),
    path(f"{TEAM}ajax-api/<path:rest>", api_view, name="team_ajax_api"),
    path(f"{TEAM}model-versions/get-artifact", api_view, name="team_get_artifact"),
    path(TEAM, views.team_home, name="team_home"),
    path(f"{TEAM}models/", views.model_list, name="models"),
    path(f"{TEAM}register/", views.register_model, name="register_model"),
    path(f"{TEAM}shared/", views.shared_models, name="shared_models"),
    path(SHARED, views.shared_model, name="shared_model"),
    path(f"{SHARED}versions/<int:number>/", views.shared_version, name="shared_version"),
    path(MODEL, views.model_page, name="model"),
    path(f"{MODEL}edit/", views.edit_model, name="edit_model"),
    path(f"{MODEL}archive/", views.archive_model, name="archive_model"),
    path(f"{MODEL}restore/", views.restore_model, name="restore_model"),
    path(f"{MODEL}delete/", views.delete_model, name="delete_model"),
    path(f"{MODEL}star/", views.star_model, name="star_model"),
    path(f"{MODEL}access/", views.model_access, name="model_access"),
    path(f"{MODEL}share/", views.share_model, name="share_model"),
    path(f"{MODEL}unshare/", views.unshare_model, name="unshare_model"),
    path(f"{MODEL}history/", views.model_history, name="model_history"),
    path(f"{MODEL}compare/", views.compare, name="compare"),
    path(f"{MODEL}aliases/", views.set_alias, name="set_alias"),
    path(f"{MODEL}aliases/delete/", views.delete_alias, name="delete_alias"),
    path(f"{MODEL}versions/", views.version_list, name="versions"),
    path(f"{MODEL}add-version/", views.add_version, name="add_version"),
    path(VERSION, views.version_page, name="version"),
    path(f"{VERSION}edit/", views.edit_version, name="edit_version"),
    path(f"{VERSION}delete/", views.delete_version, name="delete_version"),
    path(f"{VERSION}recall/", views.recall_version, name="recall_version"),
    path(f"{VERSION}withdraw-recall/", views.withdraw_recall, name="withdraw_recall"),
    path(f"{VERSION}files/", file_views.files, name="files"),
    path(f"{VERSION}files/<path:path>", file_views.file, name="file"),
    path(f"{VERSION}download/<path:path>", file_views.download, name="download"),
    path(f"{VERSION}upload/", file_views.upload, name="upload"),
    path(f"{VERSION}upload/<path:path>", file_views.upload_file, name="upload_file"),
    path(f"{VERSION}remove-files/", file_views.remove_files, name="remove_files"),
    path(f"{VERSION}finish/", file_views.finish_version, name="finish_version"),
]
