"""The API's reference, in a browser: it reads well on any screen, and by any means."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import BrowserContext, Page, expect

from tests import factories
from tests.web.conftest import client_of
from tests.webs import Web
from trainhub.models import Role

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def reference(web: Web, context: BrowserContext, page: Page) -> Page:
    factories.project(vera=Role.VIEWER)
    cookie = client_of("vera").cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": web.address}])
    page.goto(f"{web.address}/api/v1/docs")
    return page


@pytest.mark.parametrize("width", [390, 768, 1440, 1920])
def test_it_fits_the_screen(reference: Page, width: int) -> None:
    reference.set_viewport_size({"width": width, "height": 900})
    assert reference.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_breaks_no_rule_of_accessibility(reference: Page, theme: str) -> None:
    reference.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    found = Axe().run(reference, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
    assert found.response["violations"] == []


def test_a_problem_s_address_leads_to_its_code(reference: Page, web: Web) -> None:
    reference.goto(f"{web.address}/api/v1/docs#key-reused")
    assert "another submission" in reference.locator("#key-reused + dd").inner_text()
    expect(reference.locator("#key-reused")).to_be_in_viewport()
