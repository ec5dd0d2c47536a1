"""The run page in a real browser, fed by real rows and real hints."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from functools import partial
from itertools import islice

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests import factories
from tests.webs import Web
from trainhub.actions import announce
from trainhub.actions.access import make_sign_in_link
from trainhub.live import hints
from trainhub.models import Member, Role, Run, RunState

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

ALWAYS = ("loss", "metric-accuracy", "staleness", "learning-rate", "updates", "distribution", "time")
CHARTS = (*ALWAYS, "bn-mean", "bn-variance")
VERSIONED = ("loss", "metric-accuracy", "staleness", "learning-rate", "updates", "bn-mean", "bn-variance")


@pytest.fixture
def run(transactional_db: None) -> Run:
    project = factories.project(alice=Role.ADMIN, vera=Role.VIEWER)
    return factories.run(owner=factories.person("alice"), within=project)


def open_run(page: Page, web: Web, run: Run, name: str = "alice") -> None:
    token = make_sign_in_link(factories.person(name))
    page.goto(f"{web.address}/sign-in/{token}/?next={run.get_absolute_url()}")
    expect(page.locator("#run")).to_have_attribute("data-loaded", "yes", timeout=20_000)


def points(page: Page, chart: str) -> int:
    return int(page.locator(f"#chart-{chart}").get_attribute("data-points") or 0)


def wait_for(page: Page, chart: str, wanted: Callable[[int], bool]) -> None:
    """Until a chart has as many points as wanted. Each is drawn twice: thin, and in the smoothed course."""
    deadline = time.monotonic() + 20
    while not wanted(points(page, chart)):
        assert time.monotonic() < deadline, f"{chart} has {points(page, chart)} points"
        page.wait_for_timeout(50)  # not wait_for_function: it evaluates text, which our policy forbids


def wait_until_drawn_to(page: Page, chart: str, version: int) -> None:
    """Charts are drawn a few times a second, so the newest points come a moment after the first of them."""
    deadline = time.monotonic() + 20
    reach = "(id) => document.getElementById(id)._fullLayout.xaxis.range[1]"
    while (drawn := page.evaluate(reach, f"chart-{chart}")) <= version:
        assert time.monotonic() < deadline, f"{chart} is drawn up to version {drawn}"
        page.wait_for_timeout(50)


def tell(run: Run, **changes: object) -> None:
    """Change a run as an action does, and announce it."""
    for name, value in changes.items():
        setattr(run, name, value)
    run.save()
    announce.run_changed(run.pk)


def start(run: Run) -> Member:
    server = factories.gang(run)[0]
    tell(run, state=RunState.RUNNING)
    return server


def test_every_chart_gains_points_while_the_run_goes_on_and_the_state_ends_it(page: Page, web: Web, run: Run) -> None:
    open_run(page, web, run)
    expect(page.locator("#state")).to_have_text("queued")
    assert [points(page, chart) for chart in ALWAYS] == [0] * len(ALWAYS)
    server = start(run)
    expect(page.locator("#state")).to_have_text("running")
    batches = factories.Training(updates=1200).batches(timezone.now(), of=100)

    before = dict.fromkeys(CHARTS, 0)
    for _ in range(2):
        for batch in islice(batches, 5):
            factories.store(server, batch)
        for chart in CHARTS:
            if before[chart] and chart in {"distribution", "time"}:
                continue  # bars grow higher, not more
            wait_for(page, chart, partial(operator.lt, before[chart]))
            before[chart] = points(page, chart)

    run.refresh_from_db()
    for chart in VERSIONED:
        wait_until_drawn_to(page, chart, 950)
    expect(page.locator("#figure-version")).to_have_text(f"{run.version:,}")
    factories.checkpoint(run, run.version, final=True)
    tell(run, state=RunState.COMPLETED, fraction=1.0, ended_at=timezone.now())
    expect(page.locator("#state")).to_have_text("completed")
    expect(page.locator("#checkpoints tr")).to_have_count(1)
    expect(page.locator("#actions button:visible")).to_have_count(0)


def test_the_charts_of_a_method_gain_points_in_the_places_kept_for_them(page: Page, web: Web, run: Run) -> None:
    gate, served = {"kind": "softsync", "c": 2, "waiting": True}, {"kind": "server"}
    run.spec |= {"gate": gate, "rate": {"kind": "balanced"}, "batch_norm": served}
    server = start(run)
    open_run(page, web, run)
    expect(page.locator("#mean-delay-words")).to_have_text("dashed: N/c = 4/2 = 2 versions")
    expect(page.locator("#barrier")).to_have_text("Barrier wait: 0, by construction")
    expect(page.locator(".about")).to_contain_text("Softsync of 2, SGD with momentum, balanced rate")
    charts = ("mean-delay", "scale", "scale-sum", "bn-shift", "bn-log-ratio")
    before = dict.fromkeys(charts, 0)
    batches = factories.Training(updates=400, group=2).batches(timezone.now(), of=100)
    for _ in range(2):
        for batch in islice(batches, 2):
            factories.store(server, batch)
        for chart in charts:
            wait_for(page, chart, partial(operator.lt, before[chart]))
            before[chart] = points(page, chart)
    dashed = page.evaluate("document.getElementById('chart-mean-delay').layout.shapes.at(-1)")
    assert (dashed["y0"], dashed["y1"]) == (2, 2)


def test_the_other_layer_s_distances_follow_the_selector(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    for batch in factories.Training(updates=200).batches(timezone.now(), of=100):
        factories.store(server, batch)
    open_run(page, web, run)
    wait_for(page, "bn-shift", partial(operator.lt, 0))
    with page.expect_response(lambda answer: "bn2%2Flog_variance_ratio" in answer.url):
        page.locator("#layer").select_option("bn2")
    wait_for(page, "bn-log-ratio", partial(operator.lt, 0))


def test_a_context_is_a_line_over_the_staleness_that_was_met(page: Page, web: Web, run: Run) -> None:
    run.spec |= {"rate": {"kind": "window"}}
    server = start(run)
    open_run(page, web, run)
    expect(page.locator("#context-key")).to_be_visible()
    for batch in factories.Training(updates=400, window=16).batches(timezone.now(), of=100):
        factories.store(server, batch)
    wait_for(page, "staleness", partial(operator.eq, 3 * 400))  # dots, a line and the light behind it
    modes = page.evaluate("document.getElementById('chart-staleness').data.map((trace) => trace.mode)")
    assert modes == ["markers"] * 4 + ["lines"] * 8


def test_a_run_shows_no_chart_that_its_method_does_not_need(page: Page, web: Web, run: Run) -> None:
    run.spec |= {"rate": {"kind": "constant"}}
    start(run)
    open_run(page, web, run)
    expect(page.locator("#chart-scale")).to_have_count(0)
    for absent in ("#chart-scale-sum", "#context-key", "#dropped", "#barrier"):
        expect(page.locator(absent)).not_to_be_visible()


def test_where_gradients_are_dropped_the_line_is_not_claimed(page: Page, web: Web, run: Run) -> None:
    run.spec |= {"gate": {"kind": "backup", "extra": 1}}
    start(run)
    open_run(page, web, run)
    expect(page.locator("#mean-delay-words")).to_have_text("dashed: N/c = 4/3 ≈ 1.33 versions, not claimed here")
    expect(page.locator("#figure-dropped")).to_have_text("0")


def test_a_series_that_nobody_promised_gets_its_place_when_it_comes(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    open_run(page, web, run)
    expect(page.locator("#dropped")).not_to_be_visible()
    for batch in factories.Training(updates=200, group=2, dropped=True).batches(timezone.now(), of=100):
        factories.store(server, batch)
    expect(page.locator("#figure-dropped")).to_have_text("4")
    expect(page.locator("#chart-scale-sum")).to_be_visible()
    page.reload()
    expect(page.locator("#figure-dropped")).to_have_text("4")


def test_a_page_opened_late_shows_the_same_as_one_that_was_there(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    for batch in factories.Training(updates=400).batches(timezone.now(), of=100):
        factories.store(server, batch)
    open_run(page, web, run)
    expect(page.locator("#members tr")).to_have_count(5)
    expect(page.locator("#members")).to_contain_text("parameter server")
    wait_for(page, "staleness", lambda now: now == 2 * 400)
    assert page.locator("#layer option").all_inner_texts() == ["bn1", "bn2"]


def test_what_hints_did_not_tell_is_asked_for(page: Page, web: Web, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(run)
    batches = factories.Training(updates=800).batches(timezone.now(), of=100)
    factories.store(server, next(batches))
    open_run(page, web, run)
    with monkeypatch.context() as silent:
        silent.setattr(hints, "publish", lambda *_: None)
        for batch in islice(batches, 6):
            factories.store(server, batch)
    factories.store(server, next(batches))
    wait_for(page, "staleness", lambda now: now == 2 * 800)


def test_a_page_goes_on_when_the_web_process_was_killed(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    batches = factories.Training(updates=800).batches(timezone.now(), of=100)
    factories.store(server, next(batches))
    open_run(page, web, run)
    web.kill()
    expect(page.locator("#link")).to_have_text("reconnecting")
    for batch in batches:
        factories.store(server, batch)
    web.start()
    wait_for(page, "staleness", lambda now: now == 2 * 800)
    expect(page.locator("#link")).to_have_text("live")


def test_killing_asks_first_and_then_does_it(page: Page, web: Web, run: Run) -> None:
    start(run)
    open_run(page, web, run)
    page.get_by_role("button", name="Kill…").click()
    page.get_by_role("button", name="Keep it running").click()
    run.refresh_from_db()
    assert run.wish == ""
    page.get_by_role("button", name="Kill…").click()
    page.get_by_role("button", name="Kill the run").click()
    expect(page.locator("#state")).to_have_text("killing")
    run.refresh_from_db()
    assert run.wish == "kill"


def test_who_may_only_look_has_no_buttons(page: Page, web: Web, run: Run) -> None:
    open_run(page, web, run, "vera")
    expect(page.locator("#actions")).to_have_count(0)


def test_a_failure_tells_its_cause(page: Page, web: Web, run: Run) -> None:
    start(run)
    open_run(page, web, run)
    tell(run, state=RunState.FAILED, cause="non-finite", detail="trainer 2 sent 50 losses that were no numbers")
    expect(page.locator("#notice")).to_contain_text("Failed: non finite")
    expect(page.locator("#notice")).to_contain_text("trainer 2 sent 50 losses")


def test_nothing_is_wider_than_any_screen(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    for batch in factories.Training(updates=200).batches(timezone.now(), of=100):
        factories.store(server, batch)
    factories.checkpoint(run, 200)
    open_run(page, web, run)
    for width in (390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_streaming_moves_nothing(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    batches = factories.Training(updates=800).batches(timezone.now(), of=100)
    factories.store(server, next(batches))
    open_run(page, web, run)
    wait_for(page, "bn-mean", lambda now: now > 0)
    places = "[...document.querySelectorAll('.plot, h2')].map((e) => Math.round(e.getBoundingClientRect().top))"
    before = page.evaluate(places)
    for batch in batches:
        factories.store(server, batch)
    expect(page.locator("#figure-version")).to_have_text("800")
    assert page.evaluate(places) == before


def test_zooming_asks_for_the_stretch_anew(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    for batch in factories.Training(updates=400).batches(timezone.now(), of=100):
        factories.store(server, batch)
    open_run(page, web, run)
    wait_for(page, "staleness", partial(operator.eq, 2 * 400))
    with page.expect_response(lambda answer: "first=101" in answer.url and "last=150" in answer.url):
        page.evaluate("Plotly.relayout('chart-staleness', {'xaxis.range[0]': 101, 'xaxis.range[1]': 150})")
    wait_for(page, "staleness", partial(operator.eq, 2 * 50))
    page.evaluate("Plotly.relayout('chart-staleness', {'xaxis.autorange': true})")
    wait_for(page, "staleness", partial(operator.eq, 2 * 400))


def test_the_theme_is_kept(page: Page, web: Web, run: Run) -> None:
    open_run(page, web, run)
    toggle = page.locator("[data-theme-toggle]")
    assert toggle.inner_text() == "Theme: auto"
    toggle.click()
    toggle.click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert toggle.inner_text() == "Theme: dark"


def test_a_hidden_trainer_leaves_every_chart(page: Page, web: Web, run: Run) -> None:
    server = start(run)
    for batch in factories.Training(updates=400).batches(timezone.now(), of=100):
        factories.store(server, batch)
    open_run(page, web, run)
    wait_for(page, "staleness", lambda now: now == 2 * 400)
    page.get_by_role("button", name="trainer 3").click()
    wait_for(page, "staleness", lambda now: now < 2 * 400)
    page.get_by_role("button", name="trainer 3").click()
    wait_for(page, "staleness", lambda now: now == 2 * 400)
