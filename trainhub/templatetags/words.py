"""Numbers in templates, each with its unit."""

from __future__ import annotations

import datetime as dt

from django import template
from django.utils import timezone

from trainhub import words

register = template.Library()
register.filter("duration", words.duration)
register.filter("bytes", words.size)
register.filter("cause", words.cause)
register.filter("spelt", words.spelt)


@register.filter
def ago(at: dt.datetime) -> str:
    """`12 s ago`, `3 h ago`."""
    seconds = max(0.0, (timezone.now() - at).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


@register.filter
def short(value: float | str) -> str:
    """A measured value with four digits that count."""
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


@register.filter
def spread(value: float) -> str:
    """A deviation: more digits than two would be made up."""
    return f"{value:.2g}"


@register.filter
def whole(value: int) -> str:
    return f"{value:,}"
