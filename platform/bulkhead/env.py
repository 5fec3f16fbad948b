"""Typed reading of environment variables: a missing or malformed one stops the start by name."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str | None = None) -> str:
    """Return the variable ``name``, or the default; raises ImproperlyConfigured without either."""
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set.")
    return value


def flag(name: str, default: bool) -> bool:
    """Return ``name`` as a truth value: 1/true/yes/on or 0/false/no/off.

    Raises ImproperlyConfigured for anything else.
    """
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false.")


def integer(name: str, default: int, *, minimum: int = 0) -> int:
    """Return ``name`` as a whole number of at least ``minimum``; raises ImproperlyConfigured."""
    value = os.environ.get(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from None
    if number < minimum:
        raise ImproperlyConfigured(f"{name}={number} is less than {minimum}.")
    return number


def words(name: str, default: str) -> list[str]:
    """Return ``name`` as a list, split at commas."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def secret(name: str) -> str | None:
    """Return the secret ``name``, or the content of the file that ``NAME_FILE`` names.

    Orchestrators mount secrets as files. Raises ImproperlyConfigured if both are set, since one
    would be ignored, and for an empty or unreadable one.
    """
    value, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value is not None and path is not None:
        raise ImproperlyConfigured(f"Both {name} and {name}_FILE are set; set one of them.")
    if value == "":
        raise ImproperlyConfigured(f"{name} is empty.")
    if path is None:
        return value
    try:
        value = Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: {error.strerror}: {path}") from error
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE: {path} is empty.")
    return value
