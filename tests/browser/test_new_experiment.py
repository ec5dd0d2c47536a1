"""The page of a new experiment in a real browser: what is typed there, what the server says to it, what is made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from tests import factories
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Dataset, DatasetKind, Experiment, Role, Run
from workers.spec import RunSpec

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

ADDRESS = "/experiments/new/"


@pytest.fixture(autouse=True)
def project(transactional_db: None) -> None:
    factories.project(alice=Role.ADMIN, vera=Role.VIEWER)


def open_form(page: Page, web: Web, query: str = "", name: str = "alice") -> None:
    token = make_sign_in_link(factories.person(name))
    page.goto(f"{web.address}/sign-in/{token}/?next={ADDRESS}{query.replace('&', '%26')}")
    wait_until_checked(page, 0)


def checks(page: Page) -> int:
    return int(page.locator("body").get_attribute("data-checked") or 0)


def wait_until_checked(page: Page, before: int) -> None:
    """Until the server has answered once more than `before` times."""
    expect(page.locator(f'body[data-checked="{before}"]')).to_have_count(0, timeout=20_000)
    expect(page.locator("body[data-checked]")).to_have_count(1, timeout=20_000)


def field(path: str) -> str:
    """The selector of the input of a dotted field."""
    return f"#f-{path.replace('.', '-')}"


def error_of(path: str) -> str:
    return f"{field(path)}-error"


def submitted(page: Page) -> Run:
    """The run whose page was opened by a submission."""
    page.wait_for_url("**/runs/*/")
    expect(page.locator("#run")).to_have_attribute("data-loaded", "yes", timeout=20_000)
    return Run.objects.get()


def spec_of(run: Run) -> RunSpec:
    return RunSpec.parse(run.spec)


def uploaded(name: str, kind: str, info: dict[str, Any]) -> Dataset:
    return Dataset.objects.create(
        project=factories.project(),
        owner=factories.person("alice"),
        name=name,
        kind=kind,
        format="npz",
        sha256="0" * 64,
        size_bytes=4_000_000,
        examples=6000,
        info=info,
        path=f"datasets/{name}",
    )


def yaml_of(page: Page) -> str:
    return page.locator("#yaml-text").input_value()


def test_a_run_is_started_by_the_form(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_label("Name", exact=True).fill("By the form")
    page.locator(field("optimizer.learning_rate")).fill("0.125")
    page.locator(field("workers.min")).fill("2")
    expect(page.locator("#words-trainers")).to_have_text("2 to 4 trainers")
    page.get_by_role("button", name="Start training").click()
    run = submitted(page)
    assert (run.name, spec_of(run).optimizer.learning_rate) == ("By the form", 0.125)
    assert (spec_of(run).workers.min, spec_of(run).workers.max) == (2, 4)


def test_a_run_is_started_by_a_preset(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_text("Start from", exact=True).click()
    page.get_by_role("button", name="Candidate model").click()
    expect(page.locator("#words-method")).to_contain_text("Candidate model")
    expect(page.get_by_label("Name", exact=True)).not_to_have_value("Digits, asynchronous")
    page.get_by_role("button", name="Start training").click()
    assert spec_of(submitted(page)).waiting.kind == "candidate"


def test_another_preset_takes_nothing_away_for_good(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_label("Name", exact=True).fill("Mine")
    page.get_by_text("Start from", exact=True).click()
    page.get_by_role("button", name="Candidate model").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Mine")


def test_a_run_is_started_by_yaml(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill(
        "name: By hand\nproblem: {kind: digits}\noptimizer: {kind: sgd, learning_rate: 0.1}\n"
        "workers: 3\nbudget: {updates: 50}\n"
    )
    expect(page.locator("#words-budget")).to_have_text("50 updates")
    page.get_by_role("button", name="Start training").click()
    run = submitted(page)
    assert (run.name, run.run_spec.workers.max) == ("By hand", 3)


def test_what_the_form_says_is_in_the_yaml_and_back(page: Page, web: Web) -> None:
    open_form(page, web)
    page.locator(field("batch_size")).fill("48")
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("#yaml-text")).to_have_value(re.compile(r"^batch_size: 48$", re.MULTILINE))
    page.locator("#yaml-text").fill(yaml_of(page).replace("batch_size: 48", "batch_size: 64\ngate: {kind: sync}"))
    page.get_by_role("tab", name="Form").click()
    expect(page.locator(field("batch_size"))).to_have_value("64")
    expect(page.locator(field("gate"))).to_have_value("sync")


def test_yaml_that_can_t_be_read_says_where_and_stays(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill("name: [x\nworkers: 3\n")
    page.get_by_role("link", name="line 2, column 8").click()
    expect(page.locator("#yaml-text")).to_be_focused()
    page.get_by_role("tab", name="Form").click()
    expect(page.locator("#stale")).to_contain_text("can't be read as a spec yet")
    page.get_by_role("tab", name="YAML").click()
    assert yaml_of(page) == "name: [x\nworkers: 3\n"
    page.get_by_role("tab", name="Form").click()
    page.get_by_role("button", name="drop the YAML’s changes").click()
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Digits, asynchronous")


def test_a_spec_file_is_read_into_the_yaml(page: Page, web: Web, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(factories.spec(name="From a file")))
    open_form(page, web)
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-file").set_input_files(file)
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("From a file")


def test_a_file_that_is_too_large_is_not_read(page: Page, web: Web, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("#" * (256 * 1024 + 1))
    open_form(page, web)
    page.get_by_role("tab", name="YAML").click()
    before = yaml_of(page)
    page.locator("#yaml-file").set_input_files(file)
    expect(page.locator("#yaml-file-error")).to_contain_text("large.yaml has 257 KiB")
    assert yaml_of(page) == before


def test_the_yaml_can_be_kept_as_a_file(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("#yaml-text")).not_to_have_value("")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "digits-asynchronous.yaml"
    assert RunSpec.parse_yaml(Path(download.value.path()).read_text()).name == "Digits, asynchronous"


def test_an_error_is_said_beside_its_field_and_goes_when_it_is_mended(page: Page, web: Web) -> None:
    open_form(page, web)
    size = page.locator(field("batch_size"))
    size.fill("many")
    expect(page.locator(error_of("batch_size"))).to_contain_text("must be a valid integer")
    expect(size).to_have_attribute("aria-invalid", "true")
    assert f"{field('batch_size')}-error"[1:] in (size.get_attribute("aria-describedby") or "")
    expect(page.locator("#part-optimization header .count")).to_have_text("1 error")
    size.fill("24")
    expect(page.locator(error_of("batch_size"))).to_be_hidden()
    assert size.get_attribute("aria-invalid") is None


def test_parts_that_don_t_fit_together_are_said_at_the_field(page: Page, web: Web) -> None:
    open_form(page, web)
    page.locator(field("workers.max")).fill("2")
    expect(page.locator("#f-workers-error")).to_contain_text("is above max (2)")
    page.locator(field("workers.min")).fill("2")
    page.locator(field("gate")).select_option("softsync")
    page.locator(field("gate.c")).fill("3")
    expect(page.locator(error_of("gate.c"))).to_contain_text("must be at most workers.max (2), got 3")


def test_an_error_in_a_folded_part_is_told_above_and_leads_there(page: Page, web: Web) -> None:
    open_form(page, web)
    page.locator("#more-faults summary").click()
    delay = page.locator(field("delays.1.mean_seconds"))
    delay.fill("90")
    expect(page.locator(error_of("delays.1.mean_seconds"))).to_be_visible()
    page.locator("#more-faults summary").click()
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#problems")).to_be_focused()
    expect(page.locator("#more-faults summary .count")).to_have_text("1 error")
    page.locator("#problems").get_by_role("link", name="delays.1.mean_seconds").click()
    expect(delay).to_be_focused()
    assert Run.objects.count() == 0


def test_only_the_fields_of_the_chosen_member_are_there_and_come_back(page: Page, web: Web) -> None:
    open_form(page, web)
    gate = page.locator(field("gate"))
    gate.select_option("softsync")
    page.locator(field("gate.c")).fill("2")
    gate.select_option("ssp")
    expect(page.locator(field("gate.c"))).to_have_count(0)
    expect(page.locator(field("gate.bound"))).to_be_visible()
    gate.select_option("softsync")
    expect(page.locator(field("gate.c"))).to_have_value("2")


def test_a_simulation_shows_its_own_parts_and_says_so(page: Page, web: Web) -> None:
    open_form(page, web)
    compute = page.locator(field("execution.compute"))
    expect(compute).to_have_count(0)
    page.locator(field("execution")).select_option("simulate")
    expect(compute).to_be_visible()
    expect(page.locator("#words-slots")).to_have_text("1")
    expect(page.get_by_role("button", name="Start simulation")).to_be_visible()
    page.locator(field("execution")).select_option("live")
    expect(compute).to_have_count(0)


def test_what_differs_from_its_default_can_be_reset(page: Page, web: Web) -> None:
    open_form(page, web)
    priority = page.locator(field("priority"))
    priority.fill("7")
    page.get_by_role("button", name="Reset Priority").click()
    expect(priority).to_have_value("")
    expect(priority).to_have_attribute("placeholder", "0")
    expect(page.get_by_role("button", name="Reset Priority")).to_be_hidden()


def test_delays_are_added_and_removed(page: Page, web: Web) -> None:
    open_form(page, web)
    page.locator("#more-faults summary").click()
    page.get_by_role("button", name="Add delay").click()
    page.locator(field("delays.2.factor")).fill("5")
    page.get_by_role("button", name="Remove delay 1").click()
    page.locator(field("delays.1.workers")).fill("0, 1")
    wait_until_checked(page, checks(page))
    page.get_by_role("button", name="Start training").click()
    first, second = spec_of(submitted(page)).delays
    assert (first.kind, second.kind, second.workers) == ("gamma", "factor", [0, 1])


def test_a_grid_with_seeds_makes_an_experiment_of_its_product(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_label("Repeat with seeds").fill("3")
    page.get_by_role("button", name="Add a field to vary").click()
    page.get_by_label("Field 1 to vary").fill("rate.kind")
    page.get_by_label("Values of field 1").fill("constant, {kind: adadelay, kappa: 0.5}")
    expect(page.locator(error_of("schedule"))).to_contain_text("rate.kind adadelay is a schedule of its own")
    page.locator(field("schedule")).select_option("constant")
    page.locator(field("schedule.warmup_passes")).fill("0")
    expect(page.get_by_role("button", name="Queue 6 runs")).to_be_visible()
    page.get_by_role("button", name="Queue 6 runs").click()
    expect(page.get_by_text("0 of 6 runs ended")).to_be_visible()
    made = Run.objects.order_by("number")
    assert {run.spec["rate"]["kind"] for run in made} == {"constant", "adadelay"}
    assert {run.spec["seed"] for run in made} == {7, 8, 9}


def test_a_grid_s_errors_are_said_beside_its_row(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_role("button", name="Add a field to vary").click()
    page.get_by_label("Field 1 to vary").fill("optimizer.learning_rate")
    page.get_by_label("Values of field 1").fill("0.1, -1")
    expect(page.locator("#grid-0-error")).to_contain_text("must be greater than 0")
    page.get_by_label("Repeat with seeds").fill("many")
    expect(page.locator("#seeds-error")).to_have_text("must be a whole number from 1 to 100")


def test_more_runs_than_may_be_are_refused_where_they_are_made(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_label("Repeat with seeds").fill("70")
    page.get_by_role("button", name="Add a field to vary").click()
    page.get_by_label("Field 1 to vary").fill("batch_size")
    page.get_by_label("Values of field 1").fill("8, 16, 32")
    expect(page.locator("#values-error")).to_contain_text("makes 210 runs; 200 at most")
    expect(page.locator("#grid header .count")).to_have_text("1 error")


def test_a_draft_survives_a_reload_until_it_is_discarded(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_label("Name", exact=True).fill("Not sent yet")
    page.locator(field("batch_size")).fill("wrong")
    page.get_by_label("or these seeds").fill("4, 5")
    page.reload()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Not sent yet")
    expect(page.locator(field("batch_size"))).to_have_value("wrong")
    expect(page.get_by_label("or these seeds")).to_have_value("4, 5")
    page.get_by_role("button", name="Discard draft").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Digits, asynchronous")
    page.reload()
    expect(page.get_by_label("or these seeds")).to_have_value("")


def test_a_double_click_makes_one_experiment(page: Page, web: Web) -> None:
    open_form(page, web)
    page.get_by_role("button", name="Start training").dblclick()
    submitted(page)
    assert Experiment.objects.count() == 1


def lose_the_first_answer(page: Page) -> list[str]:
    """Let the first submission arrive and its answer be lost. Returns the keys of all that come."""
    keys: list[str] = []

    def lose(route: Route, request: Request) -> None:
        keys.append(request.headers["idempotency-key"])
        response = route.fetch()
        if len(keys) == 1:
            route.abort("connectionreset")
        else:
            route.fulfill(response=response)

    page.route("**/api/v1/experiments", lose)
    return keys


def test_a_try_whose_answer_was_lost_does_not_start_twice(page: Page, web: Web) -> None:
    open_form(page, web)
    keys = lose_the_first_answer(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#submit-error")).to_contain_text("try again, it will not start twice")
    page.get_by_role("button", name="Start training").click()
    submitted(page)
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_another_draft_after_a_lost_answer_is_sent_only_when_it_is_meant(context: BrowserContext, web: Web) -> None:
    page = context.new_page()  # on which the browser may report the refusal
    open_form(page, web)
    lose_the_first_answer(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#submit-error")).to_contain_text("did not answer")
    page.get_by_label("Name", exact=True).fill("Another")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#submit-error")).to_contain_text("has arrived: it is in the list of runs")
    assert Run.objects.count() == 1
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#run")).to_have_attribute("data-loaded", "yes", timeout=20_000)
    assert list(Run.objects.order_by("pk").values_list("name", flat=True)) == ["Digits, asynchronous", "Another"]


def test_a_lost_server_loses_nothing_that_was_typed(page: Page, web: Web) -> None:
    open_form(page, web)
    page.route("**/api/v1/specs/check", lambda route: route.abort("connectionrefused"))
    page.locator(field("batch_size")).fill("12")
    expect(page.locator("#unchecked")).to_contain_text("What you typed is kept")
    page.unroute("**/api/v1/specs/check")
    expect(page.locator("#unchecked")).to_be_hidden(timeout=10_000)
    expect(page.locator(field("batch_size"))).to_have_value("12")


def test_a_clone_begins_with_its_run_s_spec(page: Page, web: Web) -> None:
    run = factories.run(owner=factories.person("alice"), within=factories.project())
    open_form(page, web, f"?clone={run.pk}")
    page.get_by_label("Name", exact=True).fill("A clone")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(f"**/runs/{run.pk + 1}/")
    expect(page.locator("#run")).to_have_attribute("data-loaded", "yes", timeout=20_000)
    assert Run.objects.get(name="A clone").spec == run.spec | {"name": "A clone"}


def test_a_checkpoint_that_is_not_there_is_said_at_its_field(page: Page, web: Web) -> None:
    run = factories.run(owner=factories.person("alice"), within=factories.project())
    open_form(page, web, f"?continue={run.pk}&version=40")
    expect(page.locator(field("start.version"))).to_have_value("40")
    expect(page.locator(error_of("start.run"))).to_contain_text(f"run {run.pk} has no checkpoint at version 40")
    factories.checkpoint(run, 40)
    page.locator(field("start.take")).select_option("all")
    expect(page.locator(error_of("start.run"))).to_be_hidden()


def test_data_sets_of_the_project_can_be_chosen(page: Page, web: Web) -> None:
    uploaded("shapes", DatasetKind.IMAGES, {"shape": [3, 32, 32], "classes": ["circle", "square", "triangle"]})
    uploaded("houses", DatasetKind.TABLE, {"features": ["rooms", "age"]})
    open_form(page, web)
    page.locator(field("problem")).select_option("images")
    page.locator(field("problem.dataset")).select_option("shapes")
    expect(page.locator(f"{field('problem.dataset')} option")).to_have_text(["choose…", "shapes"])
    expect(page.locator('[data-path="problem.dataset"]')).to_contain_text(
        "32 × 32 pixels, 3 channels, 3 classes, 6,000 examples"
    )
    expect(page.get_by_role("link", name="Upload a data set")).to_have_attribute("href", "/datasets/")


def test_the_page_does_not_scroll_sideways(page: Page, web: Web) -> None:
    open_form(page, web)
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    page.locator(field("execution")).select_option("simulate")
    page.get_by_role("button", name="Add a field to vary").click()
    for width in (390, 768, 1100, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_viewer_sees_what_to_do_instead(page: Page, web: Web) -> None:
    token = make_sign_in_link(factories.person("vera"))
    page.goto(f"{web.address}/sign-in/{token}/?next={ADDRESS}")
    expect(page.get_by_role("heading", name="You can’t start runs yet")).to_be_visible()


def test_wrong_drafts_open_parts_and_yaml_are_usable_by_all(page: Page, web: Web) -> None:
    open_form(page, web)
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    page.locator(field("batch_size")).fill("many")
    page.get_by_role("button", name="Add a field to vary").click()
    expect(page.locator(error_of("batch_size"))).to_be_visible()
    assert violations(page) == []
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill("name: [")
    expect(page.locator("#yaml-error")).to_be_visible()
    assert violations(page) == []


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA: the rule, and where."""
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
    found = Axe().run(page, options=rules).response["violations"]
    return [f"{each['id']} at {[node['target'] for node in each['nodes']]}" for each in found]
