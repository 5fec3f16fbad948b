"""The rules for names and values: MLflow's, so that what one face takes the other takes too."""

import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from django.core.exceptions import ValidationError

MAX_NAME_CHARS = 256
MAX_KEY_CHARS = 250
MAX_TAG_VALUE_CHARS = 100_000
#: Names and values of all tags, or of all parameters, of one row together.
MAX_TEXTS_CHARS = 1_000_000
MAX_PARAM_VALUE_CHARS = 6000
MAX_DESCRIPTION_CHARS = 5000
# Rendering takes quadratic time at worst: about a second for a hostile card of this length.
MAX_CARD_CHARS = 30_000
MAX_SOURCE_CHARS = 500
MAX_STATUS_MESSAGE_CHARS = 500
MAX_RUN_ID_CHARS = 32
MAX_LOGGED_MODEL_ID_CHARS = 64
#: A recall's reason, and a scanner's note.
MAX_NOTE_CHARS = 500
#: The texts of a version, by field.
MAX_VERSION_CHARS = {
    "source": MAX_SOURCE_CHARS,
    "run_id": MAX_RUN_ID_CHARS,
    "run_link": MAX_SOURCE_CHARS,
    "logged_model_id": MAX_LOGGED_MODEL_ID_CHARS,
    "description": MAX_DESCRIPTION_CHARS,
    "status_message": MAX_STATUS_MESSAGE_CHARS,
}
MAX_PATH_CHARS = 1000
# PostgreSQL indexes at most 2,704 bytes, and a character of a path may have four.
MAX_PATH_BYTES = 2000
MAX_SEGMENT_BYTES = 255
MAX_ALIAS_CHARS = 255
MAX_ENTRIES = 1000

#: The tag by which MLflow marks a model or a version as a prompt.
IS_PROMPT = "mlflow.prompt.is_prompt"

ALIAS = re.compile(r"[\w\-]+", re.ASCII)
VERSION_LIKE = re.compile(r"[vV]\d+")
KEY = re.compile(r"[/\w.\- :]+")


def validate_text(value: str, length: int, what: str) -> None:
    """Refuse what PostgreSQL cannot store, and more than ``length`` characters."""
    if len(value) > length:
        raise ValidationError(
            f"{what} has {len(value):,} characters; at most {length:,} are allowed."
        )
    if "\x00" in value:
        raise ValidationError(f"{what} holds a NUL character, which cannot be stored.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{what} is not valid Unicode text.") from None


def _escapes(path: str) -> bool:
    return path != posixpath.normpath(path) or path == "." or path.startswith(("..", "/"))


def validate_path(path: str) -> None:
    """Allow the path of a file inside its version or upload area, such as ``model/MLmodel``.

    Only one spelling of each path is allowed, since two would be two files to us and one to the
    file system that they are downloaded to. So what is not in Unicode's form NFC is refused; it is
    not converted either: the file would come back under another name than its model says.
    """
    validate_text(path, MAX_PATH_CHARS, "The path")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValidationError(f"The path has more than {MAX_PATH_BYTES:,} bytes.")
    if not unicodedata.is_normalized("NFC", path):
        raise ValidationError(
            f"Invalid path: '{path}'. Its accents are characters of their own: use the form NFC."
        )
    _validate_segments(path.split("/"), path)
    # The path must stay in its folder also for software that decodes it again or cuts at `;`.
    read = path
    while (decoded := unquote(read)) != read:
        read = decoded
    if read.count("/") != path.count("/"):
        raise _bad_path(path)
    _validate_segments([segment.partition(";")[0] for segment in read.split("/")], path)


def _validate_segments(segments: list[str], path: str) -> None:
    for segment in segments:
        if segment in {"", ".", ".."} or "\\" in segment:
            raise _bad_path(path)
        if any(unicodedata.category(letter) == "Cc" for letter in segment):
            raise ValidationError("The path holds a control character.")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise ValidationError(
                f"A name in the path has more than {MAX_SEGMENT_BYTES} bytes: "
                "no file system takes it."
            )


def _bad_path(path: str) -> ValidationError:
    return ValidationError(
        f"Invalid path: '{path}'. Give a relative one without '..', '.', '//', '\\' and anything "
        "that becomes one of them when it is decoded again."
    )


def validate_model_name(name: str) -> None:
    """Allow any text without `/` and `:` of 1 to 256 characters that is no path like `..`."""
    validate_text(name, MAX_NAME_CHARS, "The name")
    if not name.strip():
        raise ValidationError("The name is empty.")
    if "/" in name or ":" in name:
        raise ValidationError(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if _escapes(name):
        raise ValidationError(f"Invalid model name '{name}'. Names cannot be paths such as '..'.")


def validate_alias_name(name: str) -> None:
    """Allow letters, digits, `_` and `-`; not `latest` and nothing like `v1`."""
    if not name:
        raise ValidationError("The alias is empty.")
    validate_text(name, MAX_ALIAS_CHARS, "The alias")
    if not ALIAS.fullmatch(name):
        raise ValidationError(
            f"Invalid alias name: '{name}'. Names may only contain alphanumerics, "
            "underscores (_), and dashes (-)."
        )
    if name.lower() == "latest":
        raise ValidationError("'latest' alias name (case insensitive) is reserved.")
    if VERSION_LIKE.fullmatch(name):
        raise ValidationError(f"Version alias name '{name}' is reserved.")


def validate_key(key: str, what: str) -> None:
    """Allow letters, digits and ``/ _ . - : space`` in the key of a tag, parameter or metric."""
    validate_text(key, MAX_KEY_CHARS, f"The {what} name")
    if not KEY.fullmatch(key) or not key.strip():
        raise ValidationError(
            f"Invalid {what} name: '{key}'. Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colons (:) and slashes (/)."
        )
    if _escapes(key):
        raise ValidationError(f"Invalid {what} name: '{key}'. Names cannot be paths such as '..'.")


def validate_texts(values: Mapping[str, str], what: str, length: int) -> None:
    """Check the names and values of tags or parameters."""
    _validate_entries(values, what)
    for key, value in values.items():
        validate_key(key, what)
        if not isinstance(value, str):
            raise ValidationError(f"The {what} '{key}' is not text.")
        validate_text(value, length, f"The {what} '{key}'")
    total = sum(len(key) + len(value) for key, value in values.items())
    if total > MAX_TEXTS_CHARS:
        raise ValidationError(
            f"The {what}s have {total:,} characters; together at most {MAX_TEXTS_CHARS:,} are "
            "allowed."
        )


def validate_tags(tags: Mapping[str, str]) -> None:
    """Check the names and values of tags."""
    validate_texts(tags, "tag", MAX_TAG_VALUE_CHARS)


def validate_params(params: Mapping[str, str]) -> None:
    """Check the names and values of parameters."""
    validate_texts(params, "parameter", MAX_PARAM_VALUE_CHARS)


def validate_metrics(metrics: Mapping[str, float]) -> None:
    """Check the names of metrics, and that each is a finite number."""
    _validate_entries(metrics, "metric")
    for key, value in metrics.items():
        validate_key(key, "metric")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError(f"The metric '{key}' is not a number.")
        # isfinite() raises OverflowError for an integer beyond the largest float.
        if abs(value) > 1e308 or not math.isfinite(value):
            raise ValidationError(f"The metric '{key}' is not a finite number.")


def _validate_entries(values: Any, what: str) -> None:
    if not isinstance(values, Mapping):
        raise ValidationError(f"Give the {what}s as names with values.")
    if len(values) > MAX_ENTRIES:
        raise ValidationError(f"{len(values):,} {what}s are too many; {MAX_ENTRIES:,} are allowed.")
