"""What the registry's templates need: charts, cards and chips."""

from collections.abc import Iterable, Sequence
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from models_registry import queries
from models_registry.cards import Card, render
from models_registry.models import Alias
from models_registry.queries import ALIAS_KINDS

register = template.Library()

WIDTH, HEIGHT = 360, 120
LEFT, RIGHT, TOP, BOTTOM = 8, 56, 12, 22


@register.filter
def alias_kind(name: str) -> str:
    """Return the colour class of an alias; the word itself says what it is."""
    return ALIAS_KINDS.get(name.lower(), "")


@register.filter
def ranked(aliases: Iterable[Alias]) -> list[Alias]:
    """Sort aliases: what serves customers first."""
    return queries.ranked(aliases)


@register.filter
def number(value: Any) -> str:
    """Write a metric with up to five digits that matter."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.5g}"
    return str(value)


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    """Return ``mapping[key]``, or '' where it is missing."""
    return mapping.get(key, "")


@register.filter
def as_card(text: str) -> Card:
    """Render a model card."""
    return render(text)


@register.filter
def harmless(card: Card) -> SafeString:
    """Return the card's HTML, which nh3 has cleaned."""
    return mark_safe(card.html)  # noqa: S308  # cleaned by models_registry.cards.render


@register.simple_tag
def line_chart(name: str, points: Sequence[tuple[int, float]]) -> SafeString:
    """Draw one metric across versions as SVG, with a text for those who cannot see it."""
    numbers, values = [point[0] for point in points], [point[1] for point in points]
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    across = (numbers[-1] - numbers[0]) or 1

    def place(version: int, value: float) -> tuple[str, str]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (version - numbers[0]) / across
        share = (value - low) / span if high != low else 0.5
        return f"{x:.1f}", f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share:.1f}"

    places = [place(*point) for point in points]
    line = " ".join(f"{x},{y}" for x, y in places)
    base = HEIGHT - BOTTOM
    dots = format_html_join(
        "",
        '<circle class="dot" cx="{}" cy="{}" r="{}"><title>version {}: {}</title></circle>',
        [
            (x, y, 4 if index == len(points) - 1 else 2.5, version, number(value))
            for index, ((x, y), (version, value)) in enumerate(zip(places, points, strict=True))
        ],
    )
    return format_html(
        '<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        '<line class="axis" x1="{left}" y1="{base}" x2="{right}" y2="{base}"/>'
        '<polygon class="area" points="{first_x},{base} {line} {last_x},{base}"/>'
        '<polyline class="line" points="{line}"/>{dots}'
        '<text x="{left}" y="{below}">v{first}</text>'
        '<text x="{last_x}" y="{below}" text-anchor="end">v{last}</text>'
        '<text class="last" x="{beside}" y="{last_y}" dy="4">{value}</text></svg>',
        width=WIDTH,
        height=HEIGHT,
        label=_in_words(name, points),
        left=LEFT,
        right=WIDTH - RIGHT,
        base=base,
        line=line,
        first_x=places[0][0],
        last_x=places[-1][0],
        last_y=places[-1][1],
        beside=WIDTH - RIGHT + 8,
        below=HEIGHT - 6,
        dots=dots,
        first=numbers[0],
        last=numbers[-1],
        value=number(values[-1]),
    )


def _in_words(name: str, points: Sequence[tuple[int, float]]) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return (
        f"{name} across versions: {number(start)} in version {first}, "
        f"{number(end)} in version {last}; lowest {number(min(value for _, value in points))}, "
        f"highest {number(max(value for _, value in points))}"
    )
