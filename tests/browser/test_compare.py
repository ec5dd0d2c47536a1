"""The comparison in a real browser: every run has its line in every chart."""

from __future__ import annotations

import time

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.browser.opening import open_as, widest
from tests.webs import Web
from trainhub.models import Event, Member, Project, Role, Run, RunState
from workers import events

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CHARTS = ("metric-0", "test-loss", "loss", "staleness")


@pytest.fixture
def project(transactional_db: None) -> Project:
    return factories.project(alice=Role.ADMIN)


@pytest.fixture
def runs(project: Project) -> list[Run]:
    """Two seeds and another rate, each with a clock that reads twice as many seconds as there are versions."""
    return [trained(project, 0, "balanced"), trained(project, 1, "balanced"), trained(project, 0, "constant")]


def trained(project: Project, seed: int, rate: str) -> Run:
    training = factories.Training(updates=800, seed=seed, slow={})
    spec = factories.spec(name=f"{rate} rate", rate={"kind": rate}, seed=seed, delays=[])
    owner = factories.person("alice")
    run, members = factories.trained_run(
        owner=owner, within=project, training=training, part=1.0, spec=spec, state=RunState.COMPLETED
    )
    tell_the_time(members[0], 800)
    return run


def tell_the_time(server: Member, versions: int) -> None:
    x = np.arange(1, versions + 1, 10)
    as_bytes = x.astype("<i8").tobytes(), x.astype("<f8").tobytes(), (2.0 * x).astype("<f8").tobytes()
    points = events.Points(-1, events.ELAPSED_SECONDS, *as_bytes)
    factories.store(server, events.Batch(sequence=10_000_000, points=[points], progress=None))


def address(runs: list[Run]) -> str:
    return "/compare/?" + "&".join(f"run={run.pk}" for run in runs)


def lines(page: Page, chart: str) -> int:
    drawn = page.evaluate("(id) => document.getElementById(id).data?.length ?? 0", f"chart-{chart}")
    return int(drawn)


def wait_for_lines(page: Page, chart: str, wanted: int) -> None:
    deadline = time.monotonic() + 20
    while (drawn := lines(page, chart)) != wanted:
        assert time.monotonic() < deadline, f"{chart} has {drawn} lines"
        page.wait_for_timeout(50)


def test_every_run_has_a_line_of_its_own_in_every_chart(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", address(runs))
    for chart in CHARTS:
        wait_for_lines(page, chart, 3)
    styles = page.evaluate(
        "document.getElementById('chart-loss').data.map((trace) => [trace.line.color, trace.line.dash])"
    )
    assert len({color for color, _ in styles}) == len({dash for _, dash in styles}) == 3
    legend = page.locator("#workers .chip")
    expect(legend).to_have_count(3)
    expect(legend.first).to_have_text("balanced rate · seed 0")


def test_a_hidden_run_leaves_every_chart(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", address(runs))
    wait_for_lines(page, "loss", 3)
    page.get_by_role("button", name="constant rate").click()
    for chart in CHARTS:
        wait_for_lines(page, chart, 2)


def test_charts_go_over_versions_or_seconds(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", address(runs))
    wait_for_lines(page, "test-loss", 3)
    last = "document.getElementById('chart-test-loss').data[0].x.at(-1)"
    versions = page.evaluate(last)
    page.get_by_label("seconds", exact=True).check(force=True)
    expect(page.locator("#chart-test-loss .xtitle")).to_have_text("seconds of training")
    assert page.evaluate(last) == pytest.approx(2 * versions)
    expect(page.get_by_label("virtual seconds")).to_be_hidden()


def test_a_simulated_run_has_a_clock_of_its_own(page: Page, web: Web, project: Project, runs: list[Run]) -> None:
    Run.objects.filter(pk=runs[0].pk).update(spec=runs[0].spec | {"execution": {"kind": "simulate"}})
    Event.objects.filter(run=runs[0], kind="training").update(data={"started_at": 0.0})
    open_as(page, web, "alice", address(runs))
    wait_for_lines(page, "test-loss", 3)
    page.get_by_label("virtual seconds").check(force=True)
    wait_for_lines(page, "test-loss", 1)
    expect(page.locator("#undrawn")).to_have_text("2 runs are not simulated and have no virtual clock")


def test_results_stand_by_seeds_and_equal_fields_are_folded(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", address(runs))
    expect(page.locator("#results .mean")).to_contain_text("Mean ± sd of 2 seeds")
    expect(page.locator(".parameters tbody th").first).to_have_text("rate.kind")
    expect(page.get_by_text("batch_size", exact=True)).to_be_hidden()
    page.get_by_text("fields are the same in all").click()
    expect(page.get_by_text("batch_size", exact=True)).to_be_visible()


def test_results_of_a_run_that_goes_on_come_by_themselves(page: Page, web: Web, runs: list[Run]) -> None:
    Run.objects.filter(pk=runs[0].pk).update(state=RunState.RUNNING, ended_at=None)
    open_as(page, web, "alice", address(runs))
    expect(page.locator("#results")).to_contain_text("1 run has not completed")
    Run.objects.filter(pk=runs[0].pk).update(state=RunState.COMPLETED)
    expect(page.locator("#results .mean")).to_have_count(1)
    expect(page.locator("#results")).to_contain_text("Mean ± sd of 2 seeds", timeout=15_000)
    expect(page.locator("#results .mark svg")).to_have_count(3)


def test_the_comparison_is_not_wider_than_any_screen(page: Page, web: Web, runs: list[Run]) -> None:
    open_as(page, web, "alice", address(runs))
    wait_for_lines(page, "loss", 3)
    assert all(wide <= width for width, wide in widest(page).items())
