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
import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.front_matter import front_matter_plugin

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
FRONT_MATTER_LENGTH = 20_000
FRONT_MATTER_DEPTH = 8


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
    if len(front) > FRONT_MATTER_LENGTH:
        return [], f"The front matter is longer than {FRONT_MATTER_LENGTH:,} characters."
    try:
        if problem := _costly(front):
            return [], problem
        # It reads every value as text: `no` stays no, and 12:30:00 does not become 45000.
        data = yaml.load(front, Loader=yaml.BaseLoader)  # noqa: S506  # it makes texts only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return [], f"The front matter is not valid YAML: {_reason(error)}."
    if not isinstance(data, dict):
        return [], "The front matter is not a list of names with values."
    return [(str(key), _as_text(value)) for key, value in data.items() if value], ""


def _costly(front: str) -> str:
    """Say what would make reading the YAML cost minutes or gigabytes; no card needs any of it.

    The events come while the text is read, so what is nested too deeply is not read to its end.
    """
    depth = 0
    for event in yaml.parse(front, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.AliasEvent):
            return "The front matter uses YAML aliases; write the values out."
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > FRONT_MATTER_DEPTH:
            return f"The front matter is nested more than {FRONT_MATTER_DEPTH} levels deep."
    return ""


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return "it could not be read"
    return f"{getattr(error, 'problem', None) or 'error'} in line {mark.line + 2}"


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_as_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_as_text(item)}" for key, item in value.items())
    return str(value)
