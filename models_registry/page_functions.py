"""What the registry's pages call: charts, cards, chips, and code to copy."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from models_registry import queries, snippets
from models_registry.cards import Card, render
from models_registry.models import Alias, ModelVersion, RegisteredModel
from models_registry.queries import ALIAS_KINDS, Usage

WIDTH, HEIGHT = 360, 120
LEFT, RIGHT, TOP, BOTTOM = 8, 56, 12, 22


def alias_kind(name: str) -> str:
    """Return the colour class of an alias; the word itself says what it is."""
    return ALIAS_KINDS.get(name.lower(), "")


def ranked(aliases: Iterable[Alias]) -> list[Alias]:
    """Sort aliases: what serves customers first."""
    return queries.ranked(aliases)


def number(value: Any) -> str:
    """Write a metric with up to five digits that matter."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.5g}"
    return str(value)


#: Decimal units, as disks and quotas are sold; Django's own filter counts in 1024.
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def as_size(count: int) -> str:
    """Write a number of bytes with up to three digits and a decimal unit: 1 MB is 1000 KB."""
    value, power = float(count), 0
    while value >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    digits = 1 if power and value < 99.95 else 0
    return f"{value:.{digits}f} {UNITS[power]}"


def as_card(text: str) -> Card:
    """Render a model card."""
    return render(text)


def harmless(card: Card) -> SafeString:
    """Return the card's HTML, which nh3 has cleaned."""
    return mark_safe(card.html)  # noqa: S308  # cleaned by models_registry.cards.render


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


SPARK_WIDTH, SPARK_HEIGHT = 240, 40


def sparkline(usage: Usage) -> SafeString:
    """Draw downloads a day as SVG, with a text for those who cannot see it."""
    counts, top = usage.counts, max(usage.counts) or 1
    step = SPARK_WIDTH / (len(counts) - 1)
    line = " ".join(
        f"{at * step:.1f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 6) * count / top:.1f}"
        for at, count in enumerate(counts)
    )
    return format_html(
        '<svg class="chart spark" viewBox="0 0 {width} {height}"'
        ' preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<polygon class="area" points="0,{height} {line} {width},{height}"/>'
        '<polyline class="line" points="{line}"/></svg>',
        width=SPARK_WIDTH,
        height=SPARK_HEIGHT,
        line=line,
        label=_usage_in_words(usage),
    )


def _usage_in_words(usage: Usage) -> str:
    days, top = len(usage.counts), max(usage.counts)
    if not top:
        return f"Not fetched in the last {days} days"
    ago = days - 1 - max(at for at, count in enumerate(usage.counts) if count == top)
    when = usage.last_day - timedelta(days=ago)
    return f"Downloads a day in the last {days} days: at most {top}, on {when:%Y-%m-%d}"


def code_for(
    request: HttpRequest,
    team: str,
    model: RegisteredModel,
    version: ModelVersion,
    alias: str = "",
    path: str = "",
) -> list[snippets.Snippet]:
    """Return code that uses the version, by ``alias`` if one is given."""
    uri = snippets.tracking_uri(request, team)
    return snippets.for_version(uri, model.name, version.number, alias, path)


def first_code(request: HttpRequest, team: str) -> dict[str, str]:
    """Return the code of a team's first steps with MLflow's client."""
    uri = snippets.tracking_uri(request, team)
    return {
        "environment": snippets.environment(uri),
        "register": snippets.register(uri, "my-model"),
    }


def reference(model: RegisteredModel, version: ModelVersion, alias: str = "") -> str:
    """Return MLflow's address of the version, or of what the alias points at."""
    return snippets.reference(model.name, version.number, alias)


def _in_words(name: str, points: Sequence[tuple[int, float]]) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return (
        f"{name} across versions: {number(start)} in version {first}, "
        f"{number(end)} in version {last}; lowest {number(min(value for _, value in points))}, "
        f"highest {number(max(value for _, value in points))}"
    )
