"""Model cards are written by people and read by others: nothing in one may run, load or send."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry.cards import ATTRIBUTES, CLASSES, TAGS, render

ALLOWED_SCHEMES = ("http:", "https:", "mailto:")

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<iframe src='https://evil.example'></iframe>",
    "<style>body { display: none }</style>",
    "<link rel=stylesheet href='https://evil.example/a.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href='https://evil.example/'>",
    "<form action='https://evil.example'><input name=password></form>",
    "<button hx-post='/sign-out/' hx-trigger='load'>x</button>",
    "<p data-hx-get='/t/team_gamma/' data-hx-trigger='load' style='color:red' id='main'>x</p>",
    "<a href='javascript:alert(1)'>x</a>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></math>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](&#x6A;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)",
    '![" onerror="alert(1)](x "\\" onload=\\"alert(1)")',
    "[x]: javascript:alert(1)\n\n[x]",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "| a |\n| :-: |\n| <script>alert(1)</script> |",
    "`</code><script>alert(1)</script>`",
    "# <img src=x onerror=alert(1)>",
)


class Elements(HTMLParser):
    """The elements of a page: (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the element."""
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def harmful(html: str) -> list[str]:
    """Return what in ``html`` is not on the list of what may stay."""
    found = []
    for tag, attributes in Elements(html).found:
        if tag not in TAGS:
            found.append(tag)
        for name, value in attributes.items():
            allowed = ATTRIBUTES.get(tag, set()) | ({"rel"} if tag == "a" else set())
            if name == "class":
                known = set(value.split()) <= CLASSES.get(tag, set())
            elif name == "href":
                scheme = value.partition(":")[0] + ":" if ":" in value.split("/")[0] else ""
                known = not scheme or scheme.lower() in ALLOWED_SCHEMES
            else:
                known = name in allowed
            if not known:
                found.append(f"{tag} {name}={value}")
    return found


def test_the_watch_for_harm_sees_harm() -> None:
    assert harmful("<script>1</script>") == ["script"]
    assert harmful('<p onclick="x">') == ["p onclick=x"]
    assert harmful('<a href="javascript:x">') == ["a href=javascript:x"]
    assert harmful('<td class="shell">') == ["td class=shell"]
    assert not harmful('<a href="https://a.example/" rel="nofollow">')


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_card_runs_loads_or_sends(text: str) -> None:
    for card in (text, f"> {text}", f"- {text}", f"| a |\n| - |\n| {text} |"):
        html = render(card).html
        assert not harmful(html), html


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(HOSTILE),
            st.text(max_size=20),
            st.sampled_from(list("<>[]()!`*_|\\\"'#&;:/-\n ")),
        ),
        max_size=12,
    ).map("".join)
)
def test_nor_does_any_mix_of_such_texts(text: str) -> None:
    assert not harmful(render(text).html)


def test_a_link_tells_its_target_nothing_and_gives_it_no_hold_on_the_page() -> None:
    ((tag, attributes),) = [
        element for element in Elements(render("[x](https://a.example)").html).found if element[1]
    ]
    assert (tag, attributes["href"]) == ("a", "https://a.example")
    assert set(attributes["rel"].split()) == {"nofollow", "noopener", "noreferrer"}


def test_an_image_is_named_and_not_loaded() -> None:
    html = render("![Confusion matrix](https://a.example/matrix.png)").html
    assert "Confusion matrix" in html
    assert "a.example" not in html


def test_headings_stand_below_the_pages_own() -> None:
    html = render("# One\n\n## Two\n\n###### Six").html
    assert [tag for tag, _ in Elements(html).found] == ["h2", "h3", "h6"]


def test_tables_keep_their_alignment_without_a_style() -> None:
    html = render("| a | b | c |\n| :- | :-: | -: |\n| 1 | 2 | 3 |").html
    classes = [attributes["class"] for tag, attributes in Elements(html).found if tag == "td"]
    assert classes == ["align-left", "align-center", "align-right"]
    assert "style" not in html


def test_raw_html_stays_as_text_that_people_can_read() -> None:
    assert "&lt;b&gt;bold&lt;/b&gt;" in render("<b>bold</b>").html


# --- front matter --------------------------------------------------------------------------


def test_front_matter_becomes_facts_and_leaves_the_text() -> None:
    card = render("---\nlicense: mit\ntags:\n- a\n- b\nnested:\n  x: 1\nempty:\n---\n# Card")
    assert card.facts == [("license", "mit"), ("tags", "a, b"), ("nested", "x: 1")]
    assert "license" not in card.html
    assert card.problem == ""


@pytest.mark.parametrize(
    "front",
    [
        "a: [1, 2",
        "- only\n- a list",
        "just words",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system x",
        "? [1, 2]\n: x",
        "x: \t- y",
        "a: &a [x]\nb: *a",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 3000 + "}" * 3000,
        "a: " + "x" * 30_000,
        "a: \x07",
    ],
)
def test_front_matter_that_is_wrong_is_named_and_the_text_still_shown(front: str) -> None:
    card = render(f"---\n{front}\n---\nThe text")
    assert card.problem
    assert card.facts == []
    assert "The text" in card.html


@pytest.mark.parametrize(
    "value", ["2024-01-02", "2024-13-45", "yes", "no", "1_000", "0x1F", "~x", "12:30:00", "1e3"]
)
def test_a_fact_is_shown_as_it_was_written(value: str) -> None:
    assert render(f"---\nfact: {value}\n---\n").facts == [("fact", value)]


def test_yaml_tags_in_front_matter_construct_no_object(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for tag in ("!!python/object/apply:pathlib.Path.touch", "!!python/name:os.system", "!x"):
        assert render(f"---\na: {tag} [{made}]\n---\n").facts == [("a", str(made))]
    assert not made.exists()


def test_a_card_without_front_matter_has_no_facts_and_no_problem() -> None:
    for text in ("", "# Card", "---\n", "text\n\n---\n\nmore", "---\n---\n# Card"):
        card = render(text)
        assert (card.facts, card.problem) == ([], "")
