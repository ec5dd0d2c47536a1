"""Every page under axe-core's rules for WCAG 2.2 A and AA: light and dark, wide and narrow, empty and busy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests import factories
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Role, Run, RunState

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
# Thousands of drawn points, which Plotly marks as one picture each, take axe minutes.
PLACE = {"exclude": [[".plot"]]}
LOOKS = [("light", 1440), ("dark", 390)]
# Pages that everybody has, and those of one thing: what fills the address. The reference of the API and the admin have
# tests of their own.
PAGES: dict[str, Callable[[Run], str]] = {
    "runs": lambda run: "/runs/",
    "run": lambda run: f"/runs/{run.pk}/",
    "experiment": lambda run: f"/experiments/{run.experiment_id}/",
    "new": lambda run: "/experiments/new/",
    "clone": lambda run: f"/experiments/new/?clone={run.pk}",
    "compare": lambda run: f"/compare/?run={run.pk}&run={run.pk + 1}",
    "nodes": lambda run: "/nodes/",
    "datasets": lambda run: "/datasets/",
    "tokens": lambda run: "/tokens/",
    "methods": lambda run: "/methods/",
    "method": lambda run: "/methods/balanced/",
}


@pytest.fixture
def run(transactional_db: None) -> Run:
    """A run of alice's in the midst of its training, with others of every state around it."""
    project = factories.project(alice=Role.ADMIN)
    alice = factories.person("alice", is_staff=True, is_superuser=True)
    training = factories.Training(updates=1200)
    run, _ = factories.trained_run(owner=alice, within=project, training=training)
    for state in RunState:
        other = factories.run(owner=alice, within=project, state=state)
        factories.evaluated(other, 7, accuracy=0.9, loss=0.2)
    return run


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical: the rule, and the first place."""
    found = Axe().run(page, context=PLACE, options=RULES).response["violations"]
    return [
        f"{each['id']}: {each['help']} at {[node['target'] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_no_page_has_a_serious_violation(browser: Browser, web: Web, run: Run, theme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{web.address}/sign-in/{make_sign_in_link(run.experiment.owner)}/")
    found = {}
    for name, address in PAGES.items():
        answer = page.goto(f"{web.address}{address(run)}", wait_until="load")
        assert answer is not None
        assert answer.status == 200, f"{name}: {answer.status}"
        page.wait_for_timeout(300)  # what scripts draw comes after the load
        found[name] = serious(page)
    context.close()
    assert {name: each for name, each in found.items() if each} == {}


def test_a_violation_would_be_seen(page: Page, web: Web, transactional_db: None) -> None:
    page.goto(f"{web.address}/sign-in/")
    assert serious(page) == []
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')")
    assert any(each.startswith("image-alt") for each in serious(page))
