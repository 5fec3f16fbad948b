"""Addresses of people and teams."""

from django.urls import path

from tenants import views
from tenants.kubernetes.manifests import views as manifests
from tenants.kubernetes.pages import identities
from tenants.kubernetes.pages import views as kubernetes
from tenants.team_paths import TEAM

BUNDLE = f"{TEAM}isolation/"
ROBOTS = f"{TEAM}admin/robots/"
ROBOT = f"{ROBOTS}<str:name>/"
IDENTITIES = f"{TEAM}admin/identities/"
IDENTITY = f"{IDENTITIES}<uuid:identity>/"

urlpatterns = [
    path("", views.home, name="home"),
    path("theme/", views.theme, name="theme"),
    path(f"{TEAM}activity/", views.activity, name="activity"),
    path(f"{TEAM}admin/members/", views.members, name="members"),
    path(f"{TEAM}check/", manifests.check_manifests, name="check_manifests"),
    path(BUNDLE, kubernetes.isolation, name="isolation"),
    path(f"{BUNDLE}bundle.yaml", kubernetes.bundle_yaml, name="bundle_yaml"),
    path(f"{BUNDLE}kustomize.zip", kubernetes.bundle_kustomize, name="bundle_kustomize"),
    path(f"{BUNDLE}argocd.zip", kubernetes.bundle_argocd, name="bundle_argocd"),
    path(f"{TEAM}tokens/", views.my_tokens, name="tokens"),
    path(f"{TEAM}tokens/<uuid:token>/revoke/", views.revoke_token, name="revoke_token"),
    path(ROBOTS, views.robots_page, name="robots"),
    path(f"{ROBOT}rotate/", views.rotate_robot, name="rotate_robot"),
    path(f"{ROBOT}remove/", views.remove_robot, name="remove_robot"),
    path(IDENTITIES, identities.identities_page, name="identities"),
    path(f"{IDENTITY}role/", identities.identity_role, name="identity_role"),
    path(f"{IDENTITY}trust/", identities.trust_identity, name="trust_identity"),
    path(f"{IDENTITY}remove/", identities.remove_identity, name="remove_identity"),
]
