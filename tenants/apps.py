"""The app that knows who people are and which rows they may touch."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class TenantsConfig(AppConfig):
    """Tenants, people, scopes and both walls."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, the sign-in events and the endpoint that checks manifests."""
        from tenants import checks  # noqa: F401  # imported for what it registers
        from tenants.identity import sign_in  # noqa: F401  # imported for its signal receivers
        from tenants.kubernetes.manifests import api  # noqa: F401  # imported for its endpoint


class AdminConfig(DjangoAdminConfig):
    """The Django admin with our site."""

    default_site = "tenants.admin_site.PlatformAdminSite"
