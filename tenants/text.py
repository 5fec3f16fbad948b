"""Text of unknown origin made harmless for a terminal, a log, a database and a page.

Names and messages come from requests, manifests, clusters and other servers. Printed as they are,
a control character could rewrite what a terminal shows, a line break could forge a line of the log
and a direction mark could turn a sentence around. Which function to use:

- ``shown`` for a name or value that a message quotes: escaped, so that two names stay two, and
  short;
- ``printable`` for the same where each character counts, such as a name that is listed;
- ``clean`` for prose to be kept or shown, such as a server's message: no escapes, and not too long;
- ``shortened`` for text that is harmless already and may only be too long;
- ``is_storable`` to ask before a query, for text that need not be stored.

HTML is escaped by the templates, not here.
"""

#: At most this many characters of a name are quoted in a message.
MAX_SHOWN_CHARS = 100
#: At most this many characters of another system's message are kept.
MAX_CLEAN_CHARS = 1_000


def printable(text: str) -> str:
    r"""Return the whole text in one line, with escapes such as ``\x1b`` for what is not visible."""
    return "".join(map(_escaped, text))


def shown(value: object, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return the value as ``printable`` does; after ``max_chars`` characters it ends in “…”.

    No escape is cut in two.
    """
    text, kept = str(value), ""
    for char in text[:max_chars]:
        piece = _escaped(char)
        if len(kept) + len(piece) > max_chars:
            return f"{kept}…"
        kept += piece
    return kept if len(text) <= max_chars else f"{kept}…"


def clean(value: object, max_chars: int = MAX_CLEAN_CHARS) -> str:
    """Return the value in one line of at most ``max_chars``, with spaces for what is not visible.

    Cleaning it again changes nothing.
    """
    line = "".join(char if char.isprintable() else " " for char in str(value))
    return shortened(line, max_chars)


def shortened(text: str, max_chars: int) -> str:
    """Return at most ``max_chars`` characters of the text; the last is “…” where some are left out.

    Line breaks and control characters stay.
    """
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL takes the text: no NUL character and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()
