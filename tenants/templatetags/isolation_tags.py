"""What the admin's page about all tenants' namespaces needs, which is in Django's language.

Our own pages are in Jinja2's; ``bulkhead.jinja`` lists what those call.
"""

from collections.abc import Mapping

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tenants.page_functions import when

register = template.Library()
register.filter("when", when)

BAR_WIDTH, BAR_HEIGHT = 600, 20


@register.simple_tag
def state_bar(totals: Mapping[str, int], labels: Mapping[str, str]) -> SafeString:
    """Draw how many tenants stand how as one bar, with a text for those who cannot see it."""
    shown = {state: count for state, count in totals.items() if count}
    every = sum(shown.values()) or 1
    parts, left = [], 0.0
    for state, count in shown.items():
        width = BAR_WIDTH * count / every
        parts.append((state, f"{left:.2f}", f"{width:.2f}", BAR_HEIGHT, labels[state], count))
        left += width
    return format_html(
        '<svg class="state-bar" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img">'
        "<title>Tenants by state: {}</title>{}</svg>",
        *(BAR_WIDTH, BAR_HEIGHT),
        ", ".join(f"{labels[state]} {count}" for state, count in shown.items()) or "none",
        format_html_join(
            "",
            '<rect class="{}" x="{}" y="0" width="{}" height="{}"><title>{}: {}</title></rect>',
            parts,
        ),
    )


@register.filter
def of(mapping: Mapping[str, str], key: str) -> str:
    """Return the word for a key."""
    return mapping[key]
