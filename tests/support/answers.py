"""Comparing answers: all that a client gets, but for tokens and how long ago things were."""

import io
import re
import zipfile
from typing import Any

CSRF_TOKEN = re.compile(r"\b[A-Za-z0-9]{64}\b")
AGO = re.compile(r"(<time [^>]*>)[^<]*")


def text_of(answer: Any) -> str:
    """Return the text of a page or a file, or of all that is in a zip, with the names there."""
    if answer.headers.get("Content-Type") != "application/zip":
        return str(answer.content.decode())
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return "\n".join(f"{name}\n{archive.read(name).decode()}" for name in archive.namelist())


def body(answer: Any, *said: str) -> str:
    """Return the page without tokens and distances, and with X for what the request itself said."""
    text = AGO.sub(r"\1", CSRF_TOKEN.sub("TOKEN", text_of(answer)))
    for word in said:
        text = text.replace(word, "X")
    return text


def headers(answer: Any) -> dict[str, str]:
    """Return the headers but for the time of day; beside them the cookies, with their flags."""
    found = {name: value for name, value in answer.headers.items() if name != "Expires"}
    for name, morsel in answer.cookies.items():
        flags = {flag: value for flag, value in morsel.items() if value and flag != "expires"}
        found[f"Set-Cookie: {name}"] = f"{bool(morsel.value)} {sorted(flags.items())}"
    return found


def whole(answer: Any, *said: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body: what must be equal where nothing may be told apart."""
    return answer.status_code, headers(answer), body(answer, *said)


def probability_of_less(some: list[float], others: list[float]) -> float:
    """Return how probably one of ``some`` is less than one of ``others`` (Mann-Whitney)."""
    ranked = sorted([(value, True) for value in some] + [(value, False) for value in others])
    others_below, less = 0, 0
    for _, is_one_of_some in reversed(ranked):
        if is_one_of_some:
            less += others_below
        else:
            others_below += 1
    return less / (len(some) * len(others))
