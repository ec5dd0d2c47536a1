"""Runs whose pushes are compressed: simulated, and computed again from their logs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.harness import spec_of
from workers.methods.compression.base import Payload
from workers.methods.compression.top_k import TopK
from workers.server import event_log
from workers.server.checkpoints import model_tensors
from workers.server.event_log import Fate
from workers.simulator import files
from workers.simulator.replay import replay
from workers.simulator.simulation import Result
from workers.simulator.trainers import Measured
from workers.simulator.wires import Wires
from workers.spec import RunSpec
from workers.spec_errors import SpecError

DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp"}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "workers": 3,
    "budget": {"updates": 60},
}
CRASHES = {"faults": [{"kind": "crash", "worker": 1, "at_seconds": 6.0, "back_after_seconds": 2.0}]}


def spec_with(compression: dict[str, Any], execution: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
    execution = {"kind": "simulate", **(execution or {})}
    return spec_of(**DIGITS | {"transport": {"compression": compression}, "execution": execution} | changes)


def result(spec: RunSpec) -> Result:
    with files.simulation(spec, None) as simulation:
        return simulation.run()


@pytest.mark.parametrize("compression", [{"kind": "bf16"}, {"kind": "top-k", "share": 0.02}])
def test_compression_changes_the_weights_and_the_run_still_learns(compression: dict[str, Any]) -> None:
    budget = {"updates": 400}
    plain, compressed = (result(spec_with(c, budget=budget)) for c in ({"kind": "none"}, compression))
    assert compressed.weights_hash != plain.weights_hash
    assert compressed.loss < 2.2 < math.log(10)  # which it begins with
    assert compressed.weights_hash == result(spec_with(compression, budget=budget)).weights_hash


def logged(spec: RunSpec, path: Path) -> tuple[Result, dict[str, Tensor]]:
    """Simulate with a log; returns the model's tensors too."""
    with files.simulation(spec, path) as simulation:
        done, core = simulation.run(), simulation.core
        return done, model_tensors(simulation.run_parts, core.exported, core.buffers, core.clocks.statistics)


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("outer", [{"kind": "none"}, {"kind": "delayed-nesterov", "steps": 3}])
@pytest.mark.parametrize("compression", [{"kind": "bf16"}, {"kind": "top-k", "share": 0.02}])
def test_a_compressed_run_comes_out_again_to_the_bit(
    tmp_path: Path, compression: dict[str, Any], outer: dict[str, Any]
) -> None:
    first, tensors = logged(spec_with(compression, CRASHES, outer=outer), tmp_path / "log")
    assert first.totals.crashes == 1  # what had not been sent was lost with that trainer, and is again
    log = event_log.read(tmp_path / "log")
    assert [r.worker for r in log.records if r.fate == Fate.JOINED_COMPRESSED] == [0, 1, 2, 1]
    again = replay(log)
    assert (again.version, again.hash) == (first.version, first.log_hash)
    assert not differ(again.tensors, tensors)


def test_what_waits_to_be_sent_is_a_part_of_what_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tensors = logged(spec_with({"kind": "top-k"}), tmp_path / "log")
    encode = TopK.encode

    def forgetful(self: TopK, vector: Tensor, payload: Payload) -> None:
        self._error = None
        encode(self, vector, payload)

    monkeypatch.setattr(TopK, "encode", forgetful)
    assert differ(replay(event_log.read(tmp_path / "log")).tensors, tensors)


def test_a_gradient_that_is_not_finite_leaves_nothing_behind_in_the_error() -> None:
    wires = Wires(spec_with({"kind": "top-k", "share": 0.5}))
    wires.joined(0, compressed=True)
    bad, good = torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, 2.0])
    wires.carry(0, bad, Measured(1.0, float("nan"), ()))
    wires.carry(0, good, Measured(1.0, 1.0, ()))
    assert good.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"waiting": {"kind": "candidate"}},
            "waiting.kind: must be blocking, got candidate: ",
        ),
        (
            {"outer": {"kind": "easgd"}},
            "outer.kind: must be none or local-sgd or diloco or",
        ),
        (
            {"transport": {"compression": {"kind": "top-k", "share": 0.0}}},
            "compression.share: must be greater than 0",
        ),
        ({"transport": {"between_hosts": "tcp"}}, "transport.between_hosts: must be inline or fabric, got 'tcp'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec_with({"kind": "top-k"}, **changes)
    assert message in str(refused.value)
