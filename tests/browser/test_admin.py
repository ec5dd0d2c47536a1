"""The admin in a real browser. The page fixture fails on console errors: what its policy forbids would show there."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link
from trainhub.models import AuditEntry, Role, Run, RunState, Wish

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


@pytest.fixture
def root(transactional_db: None) -> User:
    return factories.person("root", is_staff=True, is_superuser=True)


@pytest.fixture
def running(root: User) -> Run:
    project = factories.project(alice=Role.ADMIN)
    run = factories.run(owner=factories.person("alice"), within=project, state=RunState.RUNNING)
    factories.gang(run)
    return run


def enter(page: Page, web: Web, user: User, to: str = "/admin/") -> None:
    page.goto(f"{web.address}/sign-in/{make_sign_in_link(user)}/?next={to}")


def test_an_admin_kills_a_run_through_the_question(page: Page, web: Web, root: User, running: Run) -> None:
    enter(page, web, root, "/admin/trainhub/run/")
    page.locator("input[name=_selected_action]").check()
    page.get_by_label("Select action to run").select_option("kill")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("heading", name="Kill these runs?")).to_be_visible()
    running.refresh_from_db()
    assert running.wish == Wish.NONE
    page.get_by_role("button", name="Kill (1)").click()
    expect(page.get_by_text("Killed, or asked to be")).to_be_visible()
    running.refresh_from_db()
    assert running.wish == Wish.KILL
    assert AuditEntry.objects.filter(username="root", action="kill", subject_id=running.pk).count() == 1


def test_a_runs_own_page_has_its_buttons(page: Page, web: Web, root: User, running: Run) -> None:
    enter(page, web, root, f"/admin/trainhub/run/{running.pk}/change/")
    expect(page.get_by_role("heading", name="Members")).to_be_visible()
    page.get_by_role("link", name="Cancel", exact=True).click()
    expect(page.get_by_role("heading", name="Cancel these runs?")).to_be_visible()
    page.get_by_role("link", name="No, go back").click()
    running.refresh_from_db()
    assert running.wish == Wish.NONE


def test_the_board_follows_what_happens_until_it_is_paused(page: Page, web: Web, root: User, running: Run) -> None:
    page.clock.install()
    enter(page, web, root)
    running_row = page.get_by_role("row", name="running")
    expect(running_row).to_contain_text("1")
    Run.objects.filter(pk=running.pk).update(state=RunState.PAUSED)
    page.clock.run_for(5_500)
    expect(running_row).to_contain_text("0")
    page.get_by_role("button", name="Pause updating").click()
    expect(page.get_by_role("status")).to_contain_text("these numbers stand still")
    Run.objects.filter(pk=running.pk).update(state=RunState.RUNNING)
    page.clock.run_for(20_000)
    expect(running_row).to_contain_text("0")
    page.get_by_role("button", name="Go on updating").click()
    page.clock.run_for(5_500)
    expect(running_row).to_contain_text("1")


@pytest.mark.parametrize("path", ["trainhub/run/", "trainhub/node/", "auth/user/", "trainhub/auditentry/", ""])
@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_its_window(
    page: Page, web: Web, root: User, running: Run, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    enter(page, web, root, f"/admin/{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    "path", ["", "trainhub/run/", "trainhub/run/{}/change/", "trainhub/run/{}/step/kill/", "queue/"]
)
def test_pages_are_read_by_keyboard_and_screen_reader(
    page: Page, web: Web, root: User, running: Run, path: str
) -> None:
    enter(page, web, root, f"/admin/{path.format(running.pk)}")
    expect(page.get_by_role("main")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}] == []


def test_filters_open_by_keyboard(page: Page, web: Web, root: User, running: Run) -> None:
    enter(page, web, root, "/admin/trainhub/run/")
    page.get_by_role("button", name="Filters").press("Enter")
    expect(page.get_by_role("link", name="simulated", exact=True)).to_be_visible()


def test_the_choice_of_colours_is_the_same_in_the_admin_and_outside(page: Page, web: Web, root: User) -> None:
    enter(page, web, root, "/runs/")
    toggle = page.get_by_role("button", name="Theme")
    for _ in range(2):
        toggle.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(f"{web.address}/admin/")
    expect(page.locator("html")).to_have_class("dark")
