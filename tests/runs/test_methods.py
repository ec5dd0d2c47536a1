"""The ready specs of the methods' pages, run for real with one trainer four times slower, judged by stored rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from django.conf import settings

from tests.runs.conftest import Stack, series
from trainhub.models import Run, RunState
from workers import events
from workers.methods.rates.balanced import Balanced
from workers.spec import RunSpec

FOLDER = Path(settings.BASE_DIR) / "examples" / "methods"
FAST, SLOW = (0, 1, 2), 3
WINDOW = 16


def completed(stack: Stack, name: str) -> Run:
    run = stack.submit(**yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
    return stack.wait(run, RunState.COMPLETED)


def known(run: Run, key: str) -> set[int]:
    """Workers that have this series."""
    return set(run.series_chunks.filter(key=key).values_list("worker", flat=True))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_ready_spec_is_one(path: Path) -> None:
    spec = RunSpec.parse_yaml(path.read_text())
    assert spec.workers.max * spec.shards == 4
    assert (settings.BASE_DIR / "docs" / "methods" / f"{path.stem}.md").exists()


def test_balanced_rates_follow_from_the_stored_delays(stack: Stack) -> None:
    run = completed(stack, "balanced")
    assert run.metrics["accuracy"] > 0.9
    versions, delays = series(run, events.STALENESS)
    _, scales = series(run, events.SCALE)
    rule = Balanced()
    for version in np.unique(versions)[:100]:
        met, found = delays[versions == version].astype(int).tolist(), scales[versions == version]
        assert sorted(rule.scales(met, range(len(met)))) == pytest.approx(sorted(found.tolist()), rel=1e-12)
    fast = np.concatenate([series(run, events.SCALE, w)[1] for w in FAST])
    assert np.median(series(run, events.SCALE, SLOW)[1]) < np.median(fast)
    _, sums = series(run, events.SCALE_SUM, -1)
    assert ((sums > 0) & (sums <= 1 + 1e-12)).all()
    assert series(run, events.MEAN_DELAY, -1)[1][-1] == pytest.approx(4 / 2, rel=0.05)


def test_served_statistics_are_stored_for_every_layer_and_trainer(stack: Stack) -> None:
    run = completed(stack, "server-batch-norm")
    assert run.metrics["accuracy"] > 0.9
    layers = {k.split("/")[1] for k in run.series_chunks.values_list("key", flat=True) if k.startswith("batch_norm/")}
    assert len(layers) == 2
    for layer in layers:
        assert known(run, events.BATCH_NORM_MEAN.format(layer)) == {-1, *FAST, SLOW}
        assert known(run, events.BATCH_NORM_SHIFT.format(layer)) == {*FAST, SLOW}
        assert known(run, events.BATCH_NORM_LOG_RATIO.format(layer)) == {*FAST, SLOW}


def test_a_slow_trainers_rate_settles_within_a_window(stack: Stack) -> None:
    run = completed(stack, "window")
    assert run.metrics["accuracy"] > 0.9
    (_, contexts), (_, delays) = series(run, events.CONTEXT, SLOW), series(run, events.STALENESS, SLOW)
    _, rates = series(run, events.LEARNING_RATE, SLOW)
    assert rates == pytest.approx(0.2 / (1 + contexts), rel=1e-9)
    # Its context is the mean of its own last delays, from the first full window on.
    means = [np.mean(delays[i - WINDOW : i]) for i in range(WINDOW, len(delays))]
    assert contexts[WINDOW:] == pytest.approx(means, rel=1e-9)
    settled = 0.2 / (1 + np.mean(delays[WINDOW:]))
    assert rates[WINDOW] == pytest.approx(settled, rel=0.2)
    assert rates[WINDOW] < np.median(series(run, events.LEARNING_RATE, 0)[1]) / 2


def test_a_candidate_trainer_is_never_idle(stack: Stack) -> None:
    run = completed(stack, "candidate")
    assert run.metrics["accuracy"] > 0.9

    def seconds(key: str, worker: int) -> float:
        return float(series(run, key, worker)[1].sum())

    for worker in (*FAST, SLOW):
        busy = seconds(events.COMPUTE_SECONDS, worker) + seconds(events.TRANSFER_SECONDS, worker)
        waited = seconds(events.WAIT_SECONDS, worker)
        assert waited / (busy + waited) < 0.01
        # 60 ms there and back: 4 periods of a fast trainer, 1 of the slow one, and what the others take.
        in_a_row = series(run, events.CANDIDATES, worker)[1]
        assert np.median(in_a_row) >= (3 if worker in FAST else 1)
        drift, left = (series(run, key, worker)[1] for key in (events.DRIFT, events.DRIFT_LEFT))
        assert len(drift) == len(left) > 3
        assert np.median(series(run, events.UNACKNOWLEDGED, worker)[1]) >= 2


@pytest.mark.parametrize("name", ["outer", "gates", "rates", "compensations", "local-batch-norm"])
def test_the_other_ready_specs_learn(stack: Stack, name: str) -> None:
    assert completed(stack, name).metrics["accuracy"] > 0.85
