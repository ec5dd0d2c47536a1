"""Trainers that step by themselves, in whole runs of real children."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.engine.harness import TRANSPORTS, Gang, Transport, spec_of
from workers import events
from workers.assignment import SERVER_WORKER, Outcome

DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp"}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "batch_size": 16,
    "budget": {"passes": 6},
}
CANDIDATE: dict[str, Any] = {"waiting": {"kind": "candidate"}}
PLAIN = {"kind": "sgd", "learning_rate": 0.05}
OUTERS: dict[str, dict[str, Any]] = {
    "local-sgd": {"outer": {"kind": "local-sgd", "steps": 5}, "gate": {"kind": "sync"}},
    "diloco": {"outer": {"kind": "diloco", "steps": 5}, "gate": {"kind": "sync"}, "optimizer": PLAIN},
    "easgd": {"outer": {"kind": "easgd", "steps": 5}},
    "delayed-nesterov": {"outer": {"kind": "delayed-nesterov", "steps": 5}, "optimizer": PLAIN},
}
SLOW_LINE = {"kind": "latency", "push_seconds": 0.03, "pull_seconds": 0.03}


def weights(gang: Gang) -> dict[str, torch.Tensor]:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return {k: v for k, v in load_file(Path(event.data["path"])).items() if not k.startswith("trainhub/")}


def accuracy(gang: Gang) -> float:
    return float(gang.server.series("evaluation/accuracy")[SERVER_WORKER][1][-1])


def idle_share(gang: Gang, worker: int) -> float:
    def total(key: str) -> float:
        return float(np.sum(gang.server.series(key)[worker][1]))

    waits, works = total(events.WAIT_SECONDS), total(events.COMPUTE_SECONDS) + total(events.TRANSFER_SECONDS)
    return waits / (waits + works)


@pytest.mark.parametrize("kind", OUTERS)
def test_outer_optimizers_learn(tmp_path: Path, kind: str) -> None:
    with Gang(spec_of(**DIGITS | OUTERS[kind] | {"budget": {"passes": 12}}, workers=3), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        assert accuracy(gang) > 0.8
        last = [b.progress for b in gang.server.batches() if b.progress][-1]
        assert last.gradients == sum(last.steps.values())
        assert last.gradients % 5 == 0


def test_one_step_of_local_sgd_is_synchronous_sgd(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"optimizer": {"kind": "sgd", "learning_rate": 0.05}, "budget": {"updates": 40}}
    work = DIGITS | plain | {"gate": {"kind": "sync"}}
    with Gang(spec_of(**work, workers=2), tmp_path / "sync") as gang:
        gang.end()
        expected = weights(gang)
    with Gang(spec_of(**work, outer={"kind": "local-sgd", "steps": 1}, workers=2), tmp_path / "local") as gang:
        gang.end()
        torch.testing.assert_close(weights(gang), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_candidates_learn_and_never_wait_behind_a_slow_line(tmp_path: Path, transport: Transport) -> None:
    slow = {"delays": [SLOW_LINE, {"kind": "gamma", "mean_seconds": 0.01}], "budget": {"passes": 10}}
    with Gang(spec_of(**DIGITS | CANDIDATE | slow, workers=3), tmp_path, transport=transport) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        assert accuracy(gang) > 0.8
        for worker in range(3):
            assert idle_share(gang, worker) < 0.01
            # 60 ms there and back, 10 ms a period: at least 4 candidates in a row, but for the first push.
            assert np.median(gang.server.series(events.CANDIDATES)[worker][1]) >= 4


def test_drift_falls_at_each_merge(tmp_path: Path) -> None:
    delays = [SLOW_LINE, {"kind": "gamma", "mean_seconds": 0.008}]
    with Gang(spec_of(**DIGITS | CANDIDATE, delays=delays, workers=2), tmp_path) as gang:
        gang.end()
        before, left = (gang.server.series(key)[0][1] for key in (events.DRIFT, events.DRIFT_LEFT))
        assert len(before) == len(left) > 3
        assert np.median(left / before) < 1.0
        counts = gang.server.series(events.UNACKNOWLEDGED)[0][1]
        assert (counts >= 2).all()


def test_one_candidate_is_sequential_sgd_over_a_real_line(tmp_path: Path) -> None:
    work = DIGITS | {"schedule": {"kind": "constant", "warmup_passes": 1.0}, "workers": 1}
    line = [{"kind": "latency", "push_seconds": 0.004, "pull_seconds": 0.004}]
    with Gang(spec_of(**work | CANDIDATE | {"budget": {"passes": 2}}, delays=line), tmp_path / "candidate") as gang:
        gang.end()
        found, gradients, pushes = weights(gang), progress(gang), gang.version
        assert gradients > 2 * pushes  # it did go on by itself
    with Gang(spec_of(**work | {"budget": {"updates": gradients}}), tmp_path / "plain") as gang:
        gang.end()
        torch.testing.assert_close(found, weights(gang), rtol=0, atol=1e-4)


def progress(gang: Gang) -> int:
    """Gradients applied at the end."""
    return [b.progress.gradients for b in gang.server.batches() if b.progress][-1]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_candidate_is_done_without(tmp_path: Path, transport: Transport) -> None:
    work = spec_of(**DIGITS | CANDIDATE | {"budget": {"passes": 20}}, workers=3)
    with Gang(work, tmp_path, transport=transport) as gang:
        gang.wait_for(lambda: gang.version >= 5)
        gang.trainers[0].kill()
        assert gang.end().outcome is Outcome.COMPLETED
        assert accuracy(gang) > 0.8
        assert any("trainer 0 was lost" in e.message for e in gang.server.events("left"))
