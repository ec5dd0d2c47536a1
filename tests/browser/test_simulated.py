"""Pages of simulated runs and of their experiment, in a real browser, on what a simulation really reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.browser.test_run_page import open_run, points, tell, wait_for
from tests.webs import Web
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Role, Run, RunState
from workers.assignment import Assignment, Outcome
from workers.assignment import Role as MemberRole
from workers.process import Child, StopSignal
from workers.reporting import Reporter
from workers.simulator.child import run as play
from workers.spool_reader import SpoolReader

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

CHARTS = ("loss", "metric-accuracy", "staleness", "distribution", "learning-rate", "mean-delay", "updates", "bn-mean")
SIMULATED: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "workers": 8,
    "budget": {"passes": 2},
    "execution": {"kind": "simulate", "slow": [{"kind": "straggler", "factor": 4}]},
}


@pytest.fixture
def study(transactional_db: None) -> list[Run]:
    project = factories.project(alice=Role.ADMIN)
    labels = [{"rate": "staleness-inverse", "seed": seed} for seed in range(3)]
    return factories.study(owner=factories.person("alice"), within=project, labels=labels, **SIMULATED)


def simulate(run: Run, folder: Path) -> None:
    """Simulate the run here, and store what it reports as its supervisor would."""
    [simulation] = factories.gang(run, trainers=0)
    simulation.role = MemberRole.SIMULATION
    simulation.save()
    tell(run, state=RunState.STARTING)
    reporter = Reporter(folder)
    child = Child(assignment(run, folder), run.run_spec, reporter, StopSignal())
    assert play(child).outcome == Outcome.COMPLETED
    reporter.close()
    for batch, _, _ in SpoolReader(folder).read():
        factories.store(simulation, batch)


def assignment(run: Run, folder: Path) -> Assignment:
    return Assignment(
        run=run.pk,
        attempt=1,
        epoch=1,
        member=1,
        role=MemberRole.SIMULATION,
        worker=-1,
        work_dir=str(folder),
        checkpoint_dir=str(folder / "checkpoints"),
        endpoint="",
        spec=run.run_spec.canonical(),
        shm_prefix="",
        run_key=b"",
    )


def test_a_simulated_run_s_page_shows_its_charts_on_the_virtual_clock(
    page: Page, web: Web, study: list[Run], tmp_path: Path
) -> None:
    simulate(study[0], tmp_path)
    open_run(page, web, study[0])
    for chart in CHARTS:
        wait_for(page, chart, lambda now: now > 0)
    expect(page.locator("#chart-time")).to_be_hidden()
    expect(page.locator(".about")).to_contain_text("8 simulated trainers")
    expect(page.locator("#figure-virtual")).to_have_text("13 s")  # 90 gradients by seven of 1 s and one of 4 s
    expect(page.locator("#members")).to_contain_text("simulation")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel…")).to_be_visible()
    assert points(page, "time") == 0


def test_an_experiment_counts_and_fills_while_one_looks(page: Page, web: Web, study: list[Run]) -> None:
    token = make_sign_in_link(factories.person("alice"))
    page.goto(f"{web.address}/sign-in/{token}/?next={study[0].experiment.get_absolute_url()}")
    expect(page.get_by_role("status")).to_contain_text("0 of 3 runs ended")
    for run, accuracy in zip(study, (0.95, 0.96, 0.97), strict=True):
        factories.ended(run, accuracy)
    expect(page.get_by_role("status")).to_contain_text("3 of 3 runs ended", timeout=10_000)
    expect(page.locator(".mean")).to_contain_text("0.96 ± 0.01")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name=f"run {study[1].pk}").click()
    expect(page.locator(".crumb")).to_contain_text("rates and gates")
    expect(page.locator(".about")).to_contain_text("2 of 3 in its experiment: rate staleness-inverse, seed 1")
