"""Signing in and out: allauth's, without sign-up, and written down."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from tenants import audit
from tenants.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by platform admins; nobody signs up."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Refuse sign-up."""
        return False

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        """Refuse a robot even with the right password: it uses tokens."""
        if user.robot_of_id is not None:
            answer: HttpResponse = self.respond_user_inactive(request, user)
            return answer
        found: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return found

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Count failures by account and address, so that nobody locks out another's account."""
        key: str = super()._get_login_attempts_cache_key(request, **credentials)
        return f"{key}:{self.get_client_ip(request)}"


@receiver(user_logged_in)
def record_sign_in(user: User, **kwargs: Any) -> None:
    """Write that somebody signed in."""
    audit.record_account("sign_in", user)


@receiver(user_logged_out)
def record_sign_out(user: User | None, **kwargs: Any) -> None:
    """Write that somebody signed out."""
    if user is not None:
        audit.record_account("sign_out", user)


@receiver(user_login_failed)
def record_failed_sign_in(**kwargs: Any) -> None:
    """Write that a sign-in failed, without the user name: people type passwords there."""
    audit.record_account("sign_in_failed", None)
