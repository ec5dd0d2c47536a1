"""Opening a page as somebody."""

from __future__ import annotations

from playwright.sync_api import Page

from tests import factories
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link

WIDTHS = (390, 768, 1280, 1920)


def open_as(page: Page, web: Web, name: str, path: str) -> None:
    """Sign that person in, and go there."""
    token = make_sign_in_link(factories.person(name))
    page.goto(f"{web.address}/sign-in/{token}/")
    page.goto(f"{web.address}{path}")


def widest(page: Page) -> dict[int, int]:
    """Width of a screen → how wide the page is on it."""
    found = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found[width] = page.evaluate("document.documentElement.scrollWidth")
    return found
