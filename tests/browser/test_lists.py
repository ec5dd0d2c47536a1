"""The list of runs in a real browser: what comes in leaves alone what somebody is doing."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from tests import factories
from tests.browser.opening import WIDTHS, open_as, widest
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Project, Role, Run, RunState

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


@pytest.fixture
def project(transactional_db: None) -> Project:
    return factories.project(alice=Role.ADMIN, bob=Role.MEMBER)


@pytest.fixture
def alice(project: Project) -> User:
    return factories.person("alice")


@pytest.fixture
def runs(project: Project, alice: User) -> list[Run]:
    return [factories.run(owner=alice, within=project, name=f"run of {word}") for word in ("apples", "pears", "plums")]


def choose(page: Page, run: Run) -> None:
    page.locator(f'#row-{run.pk} input[name="run"]').check()


def test_a_refresh_changes_what_differs_and_nothing_else(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", "/runs/")
    choose(page, runs[1])
    page.evaluate("(id) => { document.getElementById(id).kept = 'yes'; }", f"row-{runs[1].pk}")
    page.evaluate("(id) => getSelection().selectAllChildren(document.querySelector(id))", f"#row-{runs[0].pk} .name a")
    focused = "document.activeElement.closest('tr')?.id"
    assert page.evaluate(focused) == f"row-{runs[1].pk}"
    Run.objects.filter(pk=runs[1].pk).update(state=RunState.COMPLETED, fraction=1.0)
    new = factories.run(owner=runs[0].experiment.owner, within=runs[0].experiment.project, name="run of figs")
    expect(page.locator(f"#row-{runs[1].pk} .state")).to_have_text("completed")
    expect(page.locator("#runs tbody tr").first).to_have_id(f"row-{new.pk}")
    expect(page.locator(f'#row-{runs[1].pk} input[name="run"]')).to_be_checked()
    assert page.evaluate(focused) == f"row-{runs[1].pk}"
    assert page.evaluate("(id) => document.getElementById(id).kept", f"row-{runs[1].pk}") == "yes"
    assert page.evaluate("getSelection().toString()") == "run of apples"


def test_filters_work_as_one_types_and_the_address_keeps_them(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", "/runs/")
    search = page.get_by_role("searchbox")
    search.press_sequentially("plu")
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    expect(search).to_be_focused()
    expect(page).to_have_url(f"{web.address}/runs/?search=plu")
    page.get_by_label("failed").check()
    expect(page.locator("#runs")).to_contain_text("No run matches these filters")
    expect(page).to_have_url(f"{web.address}/runs/?search=plu&state=failed")
    page.reload()
    expect(search).to_have_value("plu")
    expect(page.get_by_label("failed")).to_be_checked()
    page.get_by_role("link", name="Show all runs").click()
    expect(page.locator("#runs tbody tr")).to_have_count(3)


def test_chosen_runs_stay_chosen_behind_filters_and_are_compared(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", "/runs/")
    choose(page, runs[0])
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.get_by_role("searchbox").fill("plums")
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    choose(page, runs[2])
    expect(page.locator("#chosen")).to_contain_text("2 runs chosen")
    compare.click()
    expect(page.locator("h1")).to_have_text("2 runs compared")
    assert set(page.url.partition("?")[2].split("&")) == {f"run={runs[0].pk}", f"run={runs[2].pk}"}


def test_runs_are_chosen_over_several_pages(page: Page, web: Web, project: Project, alice: User) -> None:
    runs = [factories.run(owner=alice, within=project) for _ in range(51)]
    open_as(page, web, "alice", "/runs/")
    choose(page, runs[50])
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    expect(page).to_have_url(f"{web.address}/runs/?page=2")
    choose(page, runs[0])
    expect(page.locator("#chosen")).to_contain_text("2 runs chosen")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#chosen")).to_be_hidden()
    expect(page.locator(f'#row-{runs[0].pk} input[name="run"]')).not_to_be_checked()


def test_a_run_s_page_leads_to_the_list_with_the_run_chosen(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", runs[1].get_absolute_url())
    page.get_by_role("link", name="Compare").click()
    expect(page.locator(f'#row-{runs[1].pk} input[name="run"]')).to_be_checked()
    expect(page.locator("#chosen")).to_contain_text("choose another one")


def test_filters_and_choices_work_without_javascript(browser: Browser, web: Web, runs: list[Run]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{web.address}/sign-in/{make_sign_in_link(factories.person('alice'))}/")
    page.get_by_role("searchbox").fill("pears")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    page.goto(f"{web.address}/runs/")
    choose(page, runs[0])
    choose(page, runs[1])
    page.get_by_role("button", name="Compare the chosen runs").click()
    expect(page.locator("h1")).to_have_text("2 runs compared")
    context.close()


def test_a_failed_run_is_queued_again(page: Page, web: Web, runs: list[Run]) -> None:
    Run.objects.filter(pk=runs[0].pk).update(state=RunState.FAILED, cause="oom")
    open_as(page, web, "alice", runs[0].get_absolute_url())
    page.get_by_role("button", name="Queue again").click()
    expect(page.locator("#state")).to_have_text("queued")
    runs[0].refresh_from_db()
    assert (runs[0].state, runs[0].cause) == (RunState.QUEUED, "")


def test_a_run_is_cloned_and_gone_on_with_from_each_of_its_checkpoints(page: Page, web: Web, runs: list[Run]) -> None:
    for version in (40, 80):
        factories.checkpoint(runs[0], version)
    open_as(page, web, "alice", runs[0].get_absolute_url())
    new = "/experiments/new/"
    clone, newest = page.get_by_role("link", name="Clone"), page.get_by_role("link", name="Continue from checkpoint")
    expect(clone).to_have_attribute("href", f"{new}?clone={runs[0].pk}")
    expect(newest).to_have_attribute("href", f"{new}?continue={runs[0].pk}&version=80")
    older = page.get_by_role("link", name="Continue from version 40")
    expect(older).to_have_attribute("href", f"{new}?continue={runs[0].pk}&version=40")


def test_the_list_is_not_wider_than_any_screen(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", "/runs/")
    choose(page, runs[0])
    assert all(wide <= width for width, wide in widest(page).items())
    assert WIDTHS[0] == 390


def test_the_menu_opens_and_closes_by_keyboard(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", "/runs/")
    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Tokens")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Tokens")).to_be_hidden()
    expect(page.locator(".menu summary")).to_be_focused()
