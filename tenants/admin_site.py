"""The Django admin's site: for platform admins, signed in the same throttled way as everybody."""

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.decorators import method_decorator

from tenants.access import is_platform_admin


class PlatformAdminSite(AdminSite):
    """Django's admin without its own sign-in page, which nothing throttles."""

    site_header = site_title = "Bulkhead platform"
    index_title = "Platform"
    login = method_decorator(secure_admin_login)(AdminSite.login)

    def has_permission(self, request: HttpRequest) -> bool:
        """Let platform admins in."""
        return is_platform_admin(request.user)
