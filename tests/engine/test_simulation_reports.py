"""What a queued simulation reports: all of a small one, a bounded share of a large one, on the virtual clock."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.test_simulator import ledger
from workers import events
from workers.events import Batch
from workers.reporting import Reporter
from workers.simulator import reports
from workers.simulator.reports import Reports, spread
from workers.spool_reader import SpoolReader

STARTED_AT = 1_000_000.0
ALL_AT_ONCE = {"compute": {"kind": "constant", "mean_seconds": 1.0}}

Series = dict[int, list[tuple[int, float, float]]]


def report(folder: Path, workers: int, updates: int, execution: dict[str, Any] | None = None, **more: Any) -> Batch:
    """Run to the end; everything that was reported of it."""
    simulation, reporter = ledger(workers, updates, execution, **more), Reporter(folder)
    observer = simulation.observer = Reports(simulation, reporter, started_at=STARTED_AT)
    simulation.run()
    observer.rate()
    reporter.close()
    batches = [batch for batch, _, _ in SpoolReader(folder).read()]
    return Batch(1, [p for b in batches for p in b.points], [e for b in batches for e in b.events])


def series(batch: Batch, key: str) -> Series:
    """Worker → (x, t, y) of one series."""
    found: Series = defaultdict(list)
    for p in batch.points:
        if p.key == key:
            x, t, y = (np.frombuffer(raw, kind) for raw, kind in ((p.x, "<i8"), (p.t, "<f8"), (p.y, "<f8")))
            found[p.worker] += zip(x.tolist(), t.tolist(), y.tolist(), strict=True)
    return found


def kinds(batch: Batch) -> list[str]:
    return [e.kind for e in batch.events]


@pytest.mark.parametrize(("count", "most"), [(3, 64), (64, 64), (65, 64), (1000, 64), (1000, 16)])
def test_chosen_trainers_are_as_many_as_may_be_from_the_first_to_the_last(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert {min(chosen), max(chosen)} == {0, count - 1}


def test_every_gradient_of_a_small_run_is_told_at_its_virtual_time(tmp_path: Path) -> None:
    told = series(report(tmp_path, 4, 200, {"push_seconds": 0.5}), events.STALENESS)
    rows = sorted(row for rows in told.values() for row in rows)
    assert [x for x, _, _ in rows] == list(range(1, 201))
    times = [t - STARTED_AT for _, t, _ in rows]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(200 / 4 * 1.5, rel=0.05)  # each push takes about 1 s, and half a second to arrive


def test_the_mean_delay_counts_every_gradient_even_where_few_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "FULL_GRADIENTS", 100)
    batch = report(tmp_path, 4, 1000)
    told = sum(len(rows) for rows in series(batch, events.LOSS).values())
    # 100 * (1 + 1/2 + 1/3 + ... + 1/10) = 293
    assert told == pytest.approx(293, abs=15)
    assert kinds(batch).count("series-thinned") == 1
    assert series(batch, events.MEAN_DELAY)[-1][-1][2] == pytest.approx(4, rel=0.01)


def test_beyond_the_shown_trainers_the_run_has_means_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "SHOWN_TRAINERS", 4)
    batch = report(tmp_path, 40, 2000, ALL_AT_ONCE)
    assert set(series(batch, events.STALENESS)) == {-1, 0, 13, 26, 39}
    # One after another: once all have read anew, everybody's gradient meets those of the 39 others.
    assert {y for _, _, y in series(batch, events.STALENESS)[-1][4:]} == {39.0}
    assert batch.events[0].message.startswith("4 of 40 trainers, evenly chosen")


def test_trainers_that_finish_at_the_same_instant_have_a_speed(tmp_path: Path) -> None:
    speeds = series(report(tmp_path, 50, 500, ALL_AT_ONCE), events.UPDATES_PER_SECOND)[-1]
    assert len({x for x, _, _ in speeds}) == len(speeds)
    assert speeds[-1][2] == pytest.approx(50, rel=0.6)


def test_series_rise_where_a_gate_makes_one_version_of_many_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "SHOWN_TRAINERS", 4)
    batch = report(tmp_path, 60, 100, gate={"kind": "softsync", "c": 30, "waiting": True})
    for key in {p.key for p in batch.points}:
        for worker, rows in series(batch, key).items():
            xs = [x for x, _, _ in rows]
            assert xs == sorted(set(xs)), (key, worker)
    assert len(series(batch, events.SCALE_SUM)[-1]) > 90


def test_crashes_are_told_up_to_a_number(tmp_path: Path) -> None:
    crashes = {"faults": [{"kind": "random-crashes", "mean_up_seconds": 2, "down_seconds": 1}]}
    batch = report(tmp_path, 8, 1000, crashes)
    assert kinds(batch).count("left") + kinds(batch).count("joined") == reports.MOST_INCIDENTS
    assert kinds(batch).count("events-capped") == 1
    assert "virtual s" in next(e.message for e in batch.events if e.kind == "left")


def test_a_window_s_forecast_is_told_as_a_live_trainer_s_is(tmp_path: Path) -> None:
    batch = report(tmp_path, 4, 200, rate={"kind": "window"})
    contexts = series(batch, events.CONTEXT)
    assert set(contexts) == {0, 1, 2, 3}
    assert contexts[0][-1][2] == pytest.approx(3, abs=0.5)  # four equal trainers: three come in between


def test_dropped_gradients_are_counted(tmp_path: Path) -> None:
    batch = report(tmp_path, 8, 200, {"slow": [{"kind": "half", "factor": 4}]}, gate={"kind": "backup", "extra": 2})
    counts = [y for _, _, y in series(batch, events.DROPPED)[-1]]
    assert counts == sorted(counts)
    assert counts[-1] > 100


def test_trainers_that_step_by_themselves_tell_of_it(tmp_path: Path) -> None:
    latency = {"push_seconds": 1.0, "pull_seconds": 1.0}
    batch = report(tmp_path, 4, 60, latency, waiting={"kind": "candidate"})
    for key in (events.CANDIDATES, events.UNACKNOWLEDGED, events.DRIFT, events.LEARNING_RATE):
        assert set(series(batch, key)) == {0, 1, 2, 3}
    assert series(batch, events.CANDIDATES)[0][-1][2] >= 1  # two seconds of latency are two periods of one
