"""Model cards: Markdown with front matter, rendered and made harmless.

A card is written by people and read by others, so nothing in it may run, load or send anything:
what Markdown makes of it is sanitised by nh3 with a short list of what may stay, and images on
other servers, which would tell their owner who looks at the card, are named and not loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.front_matter import front_matter_plugin

from models_registry.files import plain_yaml

TAGS = {
    *("a", "blockquote", "br", "code", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "li"),
    *("ol", "p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
CLASSES = {
    "span": {"blocked-image"},
    "td": {"align-left", "align-center", "align-right"},
    "th": {"align-left", "align-center", "align-right"},
}
MAX_FRONT_MATTER_CHARS = 20_000
MAX_FRONT_MATTER_DEPTH = 8


@dataclass(frozen=True)
class Card:
    """A rendered card: ``facts`` from its front matter (name, text), and its harmless HTML.

    ``problem`` says what is wrong with the front matter; the text is shown all the same.
    """

    facts: list[tuple[str, str]]
    html: str
    problem: str = ""


def render(text: str) -> Card:
    """Render a card's Markdown."""
    renderer = _renderer()
    tokens = renderer.parse(text)
    front = next((token.content for token in tokens if token.type == "front_matter"), "")
    dirty = renderer.renderer.render(tokens, renderer.options, {})
    clean = nh3.clean(
        dirty,
        tags=TAGS,
        attributes=ATTRIBUTES,
        allowed_classes=CLASSES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    facts, problem = _facts(front)
    return Card(facts, clean, problem)


@cache
def _renderer() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.use(front_matter_plugin)
    markdown.add_render_rule("image", _image)
    for part in ("th_open", "td_open"):
        markdown.add_render_rule(part, _aligned)
    for part in ("heading_open", "heading_close"):
        markdown.add_render_rule(part, _shifted)
    return markdown


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Name an image instead of loading it: its server would learn who reads the card."""
    words = tokens[index].content or "image"
    return f'<span class="blocked-image">Image not loaded: {nh3.clean_text(words)}</span>'


def _aligned(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Write a column's alignment as a class; as a style the page's policy would drop it."""
    token = tokens[index]
    style = str(token.attrs.pop("style", ""))
    if style:
        token.attrs["class"] = f"align-{style.removeprefix('text-align:').strip()}"
    return renderer.renderToken(tokens, index, options, env)


def _shifted(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Lower headings by one: the page's own title is the first."""
    token = tokens[index]
    token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    return renderer.renderToken(tokens, index, options, env)


def _facts(front: str) -> tuple[list[tuple[str, str]], str]:
    if not front.strip():
        return [], ""
    if len(front) > MAX_FRONT_MATTER_CHARS:
        return [], f"The front matter is longer than {MAX_FRONT_MATTER_CHARS:,} characters."
    try:
        data = plain_yaml.read(
            front, "The front matter", depth=MAX_FRONT_MATTER_DEPTH, first_line=2
        )
    except plain_yaml.BadYaml as problem:
        return [], str(problem)
    if not isinstance(data, dict):
        return [], "The front matter is not a list of names with values."
    return [(str(key), _as_text(value)) for key, value in data.items() if value], ""


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_as_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_as_text(item)}" for key, item in value.items())
    return str(value)
