"""Text of unknown origin does nothing to a terminal, a log, a database or a page."""

import pytest
from django.db import DataError, connection
from hypothesis import given
from hypothesis import strategies as st

from tenants.text import (
    MAX_CLEAN_CHARS,
    MAX_SHOWN_CHARS,
    clean,
    is_storable,
    printable,
    shortened,
    shown,
)

#: Colours, a forged line of the log, a turned direction, a half of a surrogate pair, a NUL.
HOSTILE = "a\x1b[2J\nb\u202ec\ud800d\x00\x85\u2028\u00a0é漢"

#: Also surrogates, which JSON and YAML can bring.
texts = st.text(st.characters())


def test_a_printable_text_shows_each_character_as_itself_or_as_an_escape() -> None:
    assert printable(HOSTILE) == r"a\x1b[2J\nb\u202ec\ud800d\x00\x85\u2028\xa0é漢"


def test_a_clean_text_has_a_space_for_each_character_that_is_not_visible() -> None:
    assert clean(HOSTILE) == "a [2J b c d    é漢"


def test_two_names_that_differ_only_in_what_is_not_visible_stay_two() -> None:
    assert shown("a\u200bb") != shown("a\u200cb") != shown("ab")


@given(texts)
def test_nothing_that_is_shown_does_anything_to_a_terminal(text: str) -> None:
    for harmless in (printable(text), shown(text), clean(text)):
        assert harmless.isprintable()
        assert is_storable(harmless)


@given(texts)
def test_a_text_without_control_characters_is_shown_as_it_is(text: str) -> None:
    visible = "".join(filter(str.isprintable, text))[:MAX_SHOWN_CHARS]
    assert printable(visible) == shown(visible) == clean(visible) == visible


@given(texts)
def test_cleaning_again_changes_nothing(text: str) -> None:
    cleaned = clean(text * 3, 20)
    assert clean(cleaned, 20) == cleaned
    assert len(cleaned) <= 20
    assert len(clean(text * 3)) <= MAX_CLEAN_CHARS


@given(texts, st.integers(1, 12))
def test_a_shown_value_is_short_and_no_escape_in_it_is_cut(text: str, most: int) -> None:
    found = shown(text, most)
    assert len(found) <= most + 1
    beginnings = [printable(text[:length]) for length in range(len(text) + 1)]
    assert found in (beginnings[-1], *(f"{beginning}…" for beginning in beginnings))


def test_a_long_name_ends_in_an_ellipsis() -> None:
    assert shown("x" * MAX_SHOWN_CHARS) == "x" * MAX_SHOWN_CHARS
    assert shown("x" * 5_000) == "x" * MAX_SHOWN_CHARS + "…"
    assert shown("\x1b" * 5_000) == r"\x1b" * (MAX_SHOWN_CHARS // 4) + "…"
    assert shown("abc\x1b", 5) == "abc…"
    assert shown(12) == "12"


def test_a_shortened_text_keeps_its_line_breaks() -> None:
    assert shortened("a\nb", 3) == "a\nb"
    assert shortened("a\nbc", 3) == "a\n…"


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", "é漢\U0010ffff", "\ud7ff\ue000", HOSTILE, "\ud800", "a\x00b"])
def test_a_text_is_storable_if_postgresql_takes_it(text: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::text", [text])
            taken = cursor.fetchone() == (text,)
    except (DataError, UnicodeEncodeError):
        taken = False
    assert is_storable(text) == taken
