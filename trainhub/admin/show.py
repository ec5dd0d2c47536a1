"""How the admin shows states, times, links and shares."""

from __future__ import annotations

import datetime as dt

from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trainhub import words

NOTHING = format_html('<span class="th-nothing">{}</span>', "–")
"""Where there is nothing to tell. A narrow page leaves such cells of a list out."""


def state(value: str, word: str = "") -> SafeString:
    """A state as a word with a mark in its colour, as on all other pages."""
    return format_html('<span class="th-state th-{}">{}</span>', value, word or value)


def age(at: dt.datetime | None, *, now: dt.datetime | None = None) -> SafeString | str:
    """How long ago, with the moment itself to hover over."""
    if at is None:
        return NOTHING
    seconds = ((now or timezone.now()) - at).total_seconds()
    return _time(at, f"{words.duration(seconds)} ago" if seconds >= 0 else f"in {words.duration(-seconds)}")


def age_alone(at: dt.datetime | None) -> SafeString | str:
    """The same without "ago", for a column that is headed "age"."""
    if at is None:
        return NOTHING
    return _time(at, words.duration(max(0.0, (timezone.now() - at).total_seconds())))


def moment(at: dt.datetime | None) -> SafeString | str:
    return NOTHING if at is None else _time(at, f"{at:%Y-%m-%d %H:%M:%S} UTC")


def _time(at: dt.datetime, text: str) -> SafeString:
    whole = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), whole, text)


def link(to: Model | None, text: str = "") -> SafeString | str:
    """To the page of a row, here in the admin."""
    if to is None:
        return NOTHING
    meta = to._meta
    address = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[to.pk])
    return format_html('<a class="th-link" href="{}">{}</a>', address, text or str(to))


def out(to: Model, text: str) -> SafeString:
    """To the page of a row that everybody has."""
    return format_html('<a class="th-link" href="{}">{}</a>', to.get_absolute_url(), text)  # type: ignore[attr-defined]


def share(fraction: float | None, what: str) -> SafeString | str:
    """A bar and its percentage."""
    if fraction is None:
        return NOTHING
    percent = int(fraction * 100)
    return format_html(
        '<span class="th-share"><progress max="100" value="{0}" aria-label="{1}"></progress> {0} %</span>',
        percent,
        what,
    )


def text(value: str, most: int = 120) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"


def block(value: str) -> SafeString:
    """Several lines as they are."""
    return format_html('<pre class="th-block" tabindex="0">{}</pre>', value)
