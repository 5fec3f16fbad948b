"""What any view or middleware asks of a request: who sends it, by which method, and its form."""

from contextlib import suppress
from ipaddress import ip_address

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, UnreadablePostError
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

#: The types of bodies that are read as forms.
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

#: For a view that shows a form and takes it.
require_get_or_post = require_http_methods(["GET", "HEAD", "POST"])


def client_ip(request: HttpRequest) -> str | None:
    """Return the caller's address; X-Forwarded-For counts only behind BULKHEAD_TRUSTED_PROXIES."""
    if not settings.ALLAUTH_TRUSTED_PROXY_COUNT:
        return _as_address(request.META.get("REMOTE_ADDR", ""))
    try:
        return get_adapter().get_client_ip(request)
    except PermissionDenied:
        return None


def _as_address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:  # a Unix socket has none
        return None


def is_here(request: HttpRequest, address: str) -> bool:
    """Tell whether ``address`` leads to this site, so that a request may be sent on to it."""
    return url_has_allowed_host_and_scheme(address, {request.get_host()}, request.is_secure())


def read_form(request: HttpRequest) -> bool:
    """Read the form in the request's body, if there is one; False if it is too large to be read.

    Django would read it later, when CsrfViewMiddleware looks for its token: inside whatever
    transaction is open by then. A body that is no form is left to the view.
    """
    if request.method != "POST" or request.content_type not in FORMS:
        return True
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return False
    with suppress(UnreadablePostError):  # it broke off; what is missing is refused later
        _ = request.POST
    return True
