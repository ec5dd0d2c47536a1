"""The mean of recent weights: by hand, and in whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import tensor

from tests.engine.harness import Gang, spec_of
from workers import checkpoint
from workers.methods.averaging.recent import RecentMean
from workers.methods.space import Space
from workers.server.event_log import FILE_NAME, read
from workers.simulator.replay import replay

DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp"}},
    "optimizer": {"kind": "muon", "learning_rate": 0.01},
    "averaging": {"kind": "recent", "rounds": 4},
    "batch_size": 16,
}


def prepared(rounds: float, weights: torch.Tensor) -> RecentMean:
    mean = RecentMean(rounds=rounds)
    mean.prepare(Space((weights,), lambda flat: (flat,), (0.0,), (1.0,), weights.numel(), 2), weights)
    return mean


def test_the_first_weights_replace_those_before_training() -> None:
    weights = tensor([0.0])
    mean = prepared(100, weights)
    weights.fill_(1.0)
    mean.update(1, 2)  # 9 / (1 + 8) = 1
    assert mean.average.item() == 1.0
    weights.fill_(2.0)
    mean.update(1, 2)  # 9 / (2 + 8) = .9:  1 + .9 (2 - 1)
    assert mean.average.item() == pytest.approx(1.9)


def test_it_reaches_back_so_many_rounds_and_no_further() -> None:
    # 2 trainers, 5 rounds: a tenth each, as soon as 9 / (t + 8) is less, which is from t = 83 on.
    weights = tensor([1.0])
    mean = prepared(5, weights)
    for _ in range(100):
        mean.update(1, 2)
    weights.fill_(2.0)
    mean.update(1, 2)
    assert mean.average.item() == pytest.approx(1.1)
    mean.update(2, 2)  # an update of two gradients counts twice: 1.1 + .2 * .9
    assert mean.average.item() == pytest.approx(1.28)


def final(gang: Gang) -> Path:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return Path(event.data["path"])


def test_the_mean_is_evaluated_and_exported_and_comes_out_again(tmp_path: Path) -> None:
    with Gang(spec_of(**DIGITS, workers=3, budget={"updates": 150}), tmp_path) as gang:
        gang.end()
        saved, log = final(gang), read(gang.server.work_dir / FILE_NAME)
    tensors, _ = checkpoint.read(saved)
    last = tensors["trainhub/averaging/last_weights"]
    exported = torch.cat([t.flatten() for t in checkpoint.model_state(tensors).values()])
    assert not torch.isclose(exported.norm(), last.norm(), rtol=1e-6)
    assert replay(log).differences(saved) == []


def test_a_run_with_a_mean_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    with Gang(spec_of(**DIGITS, budget={"updates": 60}), tmp_path / "whole") as whole:
        whole.end()
        expected, _ = checkpoint.read(final(whole))
    with Gang(spec_of(**DIGITS, budget={"updates": 20}), tmp_path / "parts") as first:
        first.end()
        saved = str(final(first))
    with Gang(spec_of(**DIGITS, budget={"updates": 60}), tmp_path / "parts", attempt=2, restore=saved) as second:
        second.end()
        found, _ = checkpoint.read(final(second))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
