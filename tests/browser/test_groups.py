"""Machine groups in a real browser: bars of each device on a run's page, and a plan beside the form."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.browser.test_new_experiment import open_form, project
from tests.browser.test_run_page import open_run
from tests.webs import Web
from trainhub.models import Member, Project, Run, RunState
from workers import events

__all__ = ["project"]  # the fixture

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

DEVICES = 2
HYBRID = {"problem": {"kind": "glyphs"}, "layout": {"kind": "hybrid", "shards": DEVICES}, "workers": 2, "delays": []}


def measured(leader: Member, first: int, count: int = 20) -> None:
    """What a group's leader reports of `count` steps: half a step's time is convolutions, a fifth waiting."""
    x = np.arange(first, first + count, dtype="<i8")
    seconds = dict.fromkeys(events.PHASES, 0.001) | {"conv_backward": 0.010, "push": 0.004}
    points = []
    for rank in range(DEVICES):
        values = {events.GROUP_PHASE.format(rank, name): value for name, value in seconds.items()}
        values |= {events.GROUP_BYTES.format(rank, kind): 1000.0 for kind in events.TRAFFIC}
        for key, value in values.items():
            y = np.full(count, value)
            t = x.astype("<f8").tobytes()
            points.append(events.Points(leader.worker or 0, key, x.tobytes(), t, y.tobytes()))
    factories.store(leader, events.Batch(sequence=first, points=points))


def test_each_device_has_its_phases_and_its_traffic(page: Page, web: Web) -> None:
    made: Run = factories.run(
        owner=factories.person("alice"), within=Project.objects.get(), spec=factories.spec(**HYBRID)
    )
    _, first, second, *_ = factories.gang(made, trainers=2)
    made.state = RunState.RUNNING
    made.save()
    open_run(page, web, made)
    expect(page.locator("#groups")).to_be_visible()
    expect(page.locator("#chart-phases")).to_have_attribute("data-points", "0")
    measured(first, 1)
    measured(second, 1)
    drawn = str(len(events.PHASES) * 2 * DEVICES)
    expect(page.locator("#chart-phases")).to_have_attribute("data-points", drawn, timeout=20_000)
    expect(page.locator("#chart-traffic")).to_have_attribute("data-points", str(len(events.TRAFFIC) * 2 * DEVICES))
    names = page.locator("#chart-phases .ytick text").all_text_contents()
    assert sorted(names) == ["group 0 · 0", "group 0 · 1", "group 1 · 0", "group 1 · 1"]
    expect(page.locator("#phases-key")).to_contain_text("softmax exchange")


def test_a_run_of_single_devices_has_no_place_for_groups(page: Page, web: Web) -> None:
    open_run(page, web, factories.run(owner=factories.person("alice"), within=Project.objects.get()))
    expect(page.locator("#groups")).to_be_hidden()


def test_the_form_says_which_layout_moves_less_and_tries_both_when_asked(page: Page, web: Web) -> None:
    open_form(page, web)
    expect(page.locator("#plan")).to_be_hidden()
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill(
        "name: groups\nproblem: {kind: glyphs, classes: 5000, examples: 2}\nworkers: 2\nbudget: {passes: 1}\n"
        "optimizer: {kind: sgd, learning_rate: 0.1}\nlayout: {kind: hybrid, shards: 2}\nbatch_size: 64\n"
    )
    said = page.locator("#plan-recommended")
    expect(page.locator("#plan-inequality")).to_contain_text("C > B·G: 5,000 classes > 32 · 2", timeout=30_000)
    expect(said).to_have_text("Recommended: hybrid. Hybrid moves less for the last layer.")
    page.locator("#plan-measure").click()
    expect(said).to_contain_text("its step takes", timeout=60_000)
    expect(page.locator("#plan-rows tr")).to_have_count(4)
