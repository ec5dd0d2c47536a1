"""What people do from end to end, in a real browser, on a whole `manage.py up` that really trains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.stacks import Up, new_base, up
from workers.problems.digits import read_digits

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(150)]

SLOTS = 6
SOON_MS = 40_000
BRIEF: dict[str, Any] = {
    "name": "a brief run",
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "workers": 2,
    "rate": {"kind": "staleness-inverse"},
    "budget": {"passes": 2},
}
LONG = BRIEF | {
    "name": "a long run",
    "budget": {"seconds": 600},
    "delays": [{"kind": "gamma", "mean_seconds": 0.05}],
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Up]:
    folder = new_base()
    try:
        with up(folder / "home", slots=SLOTS) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def signed_in(stack: Up, browser: Browser) -> Any:
    """The cookies of the first admin, who came in by the link that `up` printed."""
    link = re.search(r"http://\S+/sign-in/\S+", stack.said())
    assert link is not None
    context = browser.new_context()
    context.new_page().goto(link.group())
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def context(browser: Browser, signed_in: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 2000}, storage_state=signed_in)
    yield context
    context.close()


@pytest.fixture
def here(stack: Up) -> str:
    return f"http://127.0.0.1:{stack.port}"


def submit(page: Page, here: str, spec: dict[str, Any]) -> str:
    """Queue a spec by the form's YAML tab; returns the address of its run."""
    page.goto(f"{here}/experiments/new/")
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill(yaml.safe_dump(spec))
    return send(page)


def send(page: Page) -> str:
    page.locator("#submit").click()
    page.wait_for_url("**/runs/*/")
    return page.url


def reaches(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_text(state, timeout=SOON_MS)


def figure(page: Page, name: str) -> float:
    return float(page.locator(f"#figure-{name}").inner_text().replace(",", ""))


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the run").click()
    reaches(page, "cancelled")


def test_a_run_is_submitted_watched_paused_resumed_and_cancelled(page: Page, here: str) -> None:
    submit(page, here, LONG)
    reaches(page, "running")
    expect(page.locator("#chart-loss[data-points]")).not_to_have_attribute("data-points", "0", timeout=SOON_MS)
    page.get_by_role("button", name="Pause").click()
    reaches(page, "paused")
    paused_at = figure(page, "version")
    page.get_by_role("button", name="Resume").click()
    reaches(page, "running")
    expect(page.locator("#timeline")).to_contain_text("Resumed by admin")
    cancel(page)
    assert figure(page, "version") >= paused_at > 0


def test_a_run_is_made_by_a_preset_and_the_form_cloned_continued_and_compared(page: Page, here: str) -> None:
    page.goto(f"{here}/runs/")
    page.get_by_role("link", name="New experiment").click()
    page.locator("#start-from summary").click()
    page.locator("#preset-cards button").filter(has_text="context").first.click()
    page.get_by_label("Name", exact=True).fill("by the form")
    page.locator("#f-budget-passes").fill("0")
    expect(page.locator("#f-budget-passes-error")).to_have_text("must be greater than 0, got 0")
    page.locator("#f-budget-passes").fill("1")
    expect(page.locator("#f-budget-passes-error")).to_be_hidden()
    first = send(page)
    reaches(page, "completed")

    page.get_by_role("link", name="Clone").click()
    page.get_by_label("Name", exact=True).fill("a clone")
    page.locator("#f-seed").fill("5")
    second = send(page)
    reaches(page, "completed")

    page.get_by_role("link", name="Continue from checkpoint").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("a clone continued")
    third = send(page)
    reaches(page, "completed")
    expect(page.locator("#timeline")).to_contain_text("starts with the weights of a checkpoint")

    page.goto(f"{here}/runs/")
    for address in (first, second, third):
        page.locator(f"input[name=run][value='{number(address)}']").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".parameters")).to_contain_text("seed")
    expect(page.locator(".parameters")).to_contain_text("start.kind")
    expect(page.locator("#chart-loss .main-svg").first).to_be_visible(timeout=SOON_MS)


def number(address: str) -> str:
    return address.rstrip("/").rpartition("/")[2]


def test_data_are_uploaded_and_trained_on(page: Page, here: str, tmp_path: Path) -> None:
    images, labels = read_digits()
    file = tmp_path / "pixels.npz"
    np.savez(file, x=(images[:, 0] * 255).astype(np.uint8), y=labels)
    page.goto(f"{here}/datasets/")
    page.locator("#file").set_input_files(file)
    page.locator("#name").fill("pixels of digits")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#name-error")).to_contain_text("letters, digits, dots")
    page.locator("#name").fill("pixels")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets/*/", timeout=SOON_MS)
    expect(page.locator("main")).to_contain_text("1,797")
    page.get_by_role("link", name="Train on it").click()
    page.locator("#f-problem-model").select_option("cnn")
    page.locator("#f-problem-model-width").fill("8")
    page.locator("#f-optimizer-learning_rate").fill("0.1")
    page.locator("#f-budget-passes").fill("4")
    send(page)
    reaches(page, "completed")
    assert figure(page, "metric-accuracy") > 0.8


def test_a_drained_node_lets_runs_wait_until_it_is_back(page: Page, here: str) -> None:
    page.goto(f"{here}/nodes/")
    page.get_by_role("button", name="Drain…").click()
    page.locator("#confirm button[value=yes]").click()
    expect(page.locator(".machine")).to_contain_text("Drained: it gets no new members", timeout=SOON_MS)
    run = submit(page, here, BRIEF)
    expect(page.locator("#notice")).to_contain_text("needs 3 slots, but all nodes together have 0", timeout=SOON_MS)
    page.goto(f"{here}/nodes/")
    expect(page.locator("#queue")).to_contain_text("a brief run")
    page.get_by_role("button", name="Take back into use").click()
    page.locator("#confirm button[value=yes]").click()
    expect(page.get_by_role("button", name="Drain…")).to_be_visible(timeout=SOON_MS)
    page.goto(run)
    reaches(page, "completed")


def test_an_admin_kills_a_run(page: Page, here: str) -> None:
    run = submit(page, here, LONG)
    reaches(page, "running")
    page.goto(f"{here}/admin/trainhub/run/")
    page.locator(f"input[name=_selected_action][value='{number(run)}']").check()
    page.locator("select[name=action]").first.select_option("kill")
    page.get_by_role("button", name="Run", exact=True).first.click()
    expect(page.get_by_text("Kill these runs?")).to_be_visible()
    page.get_by_role("button", name="Kill (1)").click()
    page.goto(f"{here}/admin/trainhub/auditentry/")
    expect(page.locator("main, #main")).to_contain_text(f"asked to kill: run {number(run)}")
    page.goto(run)
    reaches(page, "cancelled")


def test_the_command_line_follows_a_run_to_its_end(page: Page, here: str, stack: Up, tmp_path: Path) -> None:
    page.goto(f"{here}/tokens/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make").click()
    expect(page.locator("#made")).to_be_visible()
    secret = page.locator("#secret").inner_text()
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(BRIEF))
    done = subprocess.run(
        [Path(sys.executable).with_name("trainhub"), "submit", str(file), "--follow"],
        env=os.environ | {"TRAINHUB_URL": here, "TRAINHUB_TOKEN": secret},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout + done.stderr
