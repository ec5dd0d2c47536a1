"""The methods' pages: Markdown files of the documentation, shown in the web as they are read in a repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

FOLDER = Path(settings.BASE_DIR) / "docs" / "methods"
SPECS = Path(settings.BASE_DIR) / "examples" / "methods"
SLUG = re.compile(r"[a-z0-9-]+\Z")


@dataclass(frozen=True)
class Page:
    """One method's page. `summary` is its first paragraph; `spec` a run that shows the method, as YAML."""

    slug: str
    title: str
    summary: str
    html: SafeString
    spec: str


def pages() -> list[Page]:
    """All pages, by title."""
    return sorted((found for file in FOLDER.glob("*.md") if (found := page(file.stem))), key=lambda p: p.title)


@cache
def page(slug: str) -> Page | None:
    """None: there is no such page."""
    file = FOLDER / f"{slug}.md"
    if not SLUG.match(slug) or not file.is_file():
        return None
    text = file.read_text()
    heading, _, body = text.partition("\n")
    paragraphs = [p.strip() for p in body.split("\n\n") if p.strip()]
    summary = _plain(paragraphs[0]) if paragraphs else ""
    return Page(slug, heading.lstrip("# ").strip(), summary, _render(body), (SPECS / f"{slug}.yaml").read_text())


def _render(body: str) -> SafeString:
    # Raw HTML stays text: a page can say no more than Markdown can.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    # What scrolls sideways can be reached by the keyboard.
    html = markdown.render(body).replace("<pre>", '<pre tabindex="0">').replace("<table>", '<table tabindex="0">')
    # Links between pages work in a repository and here.
    return mark_safe(re.sub(r'href="([a-z0-9-]+)\.md"', r'href="../\1/"', html))


def _plain(paragraph: str) -> str:
    return re.sub(r"[`*_]|\[|\]\([^)]*\)", "", paragraph).replace("\n", " ")
