"""Lucide's icons, each drawn once: a list of models shows the same star fifty times."""

from functools import lru_cache

from django import template
from django.utils.safestring import SafeString, mark_safe
from lucide.templatetags.lucide import _render_icon

register = template.Library()


@register.simple_tag
def lucide(name: str, *, size: int = 24, **attributes: str) -> SafeString:
    """Draw an icon, with ``attributes`` on its SVG element."""
    return _drawn(name, size, tuple(attributes.items()))


@lru_cache(maxsize=256)
def _drawn(name: str, size: int, attributes: tuple[tuple[str, str], ...]) -> SafeString:
    return mark_safe(_render_icon(name, size, **dict(attributes)))  # noqa: S308  # the package's own files
