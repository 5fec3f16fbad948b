"""Every address of Bulkhead; each view declares who may call it (see tenants.access)."""

from allauth.account import views as account
from django.contrib import admin
from django.urls import include, path

from bulkhead.health import health
from tenants.access import public

handler500 = "bulkhead.errors.server_error"

urlpatterns = [
    path("healthz", health, name="health"),
    path("sign-in/", public(account.LoginView.as_view()), name="account_login"),
    path("sign-out/", public(account.LogoutView.as_view()), name="account_logout"),
    path("inactive/", public(account.AccountInactiveView.as_view()), name="account_inactive"),
    path("admin/", admin.site.urls),
    path("", include("models_registry.urls")),
    path("", include("tenants.urls")),
]
