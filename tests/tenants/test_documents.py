"""A document of others is read with the place of each value, whatever stands in it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.documents import (
    Malformed,
    Node,
    Path,
    as_text,
    dict_of,
    get,
    list_of,
    mappings_of,
    strings_in,
    text_of,
)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("spec", "containers", 0, "image"), ".spec.containers[0].image"),
        (("labels", "app.kubernetes.io/name"), '.labels["app.kubernetes.io/name"]'),
        (("a-b", "c_d", "0"), ".a-b.c_d.0"),
        (("", "modèle"), '[""]["modèle"]'),
        (('a"b', "\x1b[2J\n\u202e"), r'["a\"b"]["\u001b[2J\n\u202e"]'),
        (("x" * 101,), f'["{"x" * 100}…"]'),
    ],
)
def test_a_place_is_written_as_people_write_it(path: Path, text: str) -> None:
    assert as_text(path) == text
    assert as_text(path, "$") == f"${text}"


@given(st.lists(st.text() | st.integers(0)).map(tuple))
def test_a_place_is_one_line_that_does_nothing_to_a_terminal(path: Path) -> None:
    assert as_text(path).isprintable()


KEYS = st.text(max_size=100)


@given(st.lists(KEYS | st.integers(0)).map(tuple), st.lists(KEYS | st.integers(0)).map(tuple))
def test_two_different_places_have_different_texts(one: Path, other: Path) -> None:
    assert (as_text(one) == as_text(other)) == (one == other)


DOCUMENT: dict[str, Any] = {"a": [{"b": "text"}, 5, None, ["deep"]], "c": True}


def test_what_may_be_missing_is_asked_for_without_fear() -> None:
    assert get(DOCUMENT, "a", 0, "b") == "text"
    assert get(DOCUMENT, "a", 9) is get(DOCUMENT, "c", "d") is get(DOCUMENT, "x", "y") is None
    assert (text_of("x"), text_of(5), text_of(None)) == ("x", "", "")
    assert (dict_of({"x": 1}), dict_of([]), dict_of(None)) == ({"x": 1}, {}, {})
    assert (list_of([1]), list_of({}), list_of(None)) == ([1], [], [])
    assert list(mappings_of(DOCUMENT["a"], ("a",))) == [(("a", 0), {"b": "text"})]
    assert list(mappings_of("no list", ())) == []
    assert list(strings_in(DOCUMENT)) == [(("a", 0, "b"), "text"), (("a", 3, 0), "deep")]


def test_what_must_have_a_shape_is_read_with_its_place() -> None:
    [first, number, *_] = Node(DOCUMENT).fields(("a", "c"))["a"].items()
    assert first.field("b").text() == "text"
    assert first.fields() == {"b": Node("text", ("a", 0, "b"))}
    assert first.field("x") == Node(None, ("a", 0, "x"))
    assert number.path == ("a", 1)


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda node: node.text(), "$: expected text"),
        (lambda node: node.items(), "$: expected a list"),
        (lambda node: node.field("c").fields(), "$.c: expected an object"),
        (lambda node: node.field("c").field("d"), "$.c: expected an object"),
        (lambda node: node.field("x").text(), "$.x: expected text"),
        (lambda node: node.field("a").items()[1].text(), "$.a[1]: expected text"),
        (lambda node: node.fields(["a", "b"]), "$.c: unknown key; those known here are a, b"),
    ],
)
def test_another_shape_is_refused_with_its_place(read: Any, problem: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(Node(DOCUMENT))
    assert str(refused.value) == problem
