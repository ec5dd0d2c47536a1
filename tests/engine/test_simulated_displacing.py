"""Trainers that step by themselves, under the virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.harness import spec_of
from workers.assignment import Outcome
from workers.server.pushes import Push
from workers.simulator.replay import threads
from workers.simulator.simulation import Result, Simulation
from workers.simulator.trainers import Measured

MLP: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "batch_size": 16,
    "schedule": {"kind": "step", "warmup_passes": 1.0},
    "budget": {"passes": 3},
}
CANDIDATE: dict[str, Any] = {"waiting": {"kind": "candidate"}}


def simulated(latency: float = 0.0, compute: float = 1.0, **changes: Any) -> Simulation:
    execution = {
        "kind": "simulate",
        "compute": {"kind": "constant", "mean_seconds": compute},
        "push_seconds": latency / 2,
        "pull_seconds": latency / 2,
    }
    return Simulation(spec_of(**MLP | {"execution": execution} | changes))


def weights(simulation: Simulation) -> Tensor:
    simulation.run()
    return simulation.core.weights


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As every simulation has it outside of tests; two threads on a busy machine only wait for each other."""
    with threads(1):
        yield


class Pushes:
    """Takes down what arrives."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, Measured]] = []

    def watch(self, simulation: Simulation) -> Pushes:
        pushes = self.seen

        class Watcher:
            def arrived(self, push: Push, measured: Measured) -> None:
                pushes.append((simulation.seconds, push.gradients, measured))

            def __getattr__(self, name: str) -> Any:
                return lambda *args, **kwargs: None

        simulation.observer = Watcher()
        return self


@pytest.mark.parametrize("latency", [0.0, 1.0, 5.0])
def test_one_candidate_equals_one_trainer_that_is_answered_at_once(latency: float) -> None:
    warmed: dict[str, Any] = {"schedule": {"kind": "constant", "warmup_passes": 1.0}, "workers": 1}
    candidate = simulated(latency, **CANDIDATE | warmed)
    found = weights(candidate)
    # The last push may bring gradients beyond the budget: the plain run makes as many.
    plain = simulated(budget={"updates": candidate.core.clocks.gradients}, **warmed)
    torch.testing.assert_close(found, weights(plain), rtol=0, atol=2e-5)


def test_a_candidate_pushes_as_often_as_it_is_answered() -> None:
    # 1 s a period, 2 s there and 2 s back: the first weights come at 2, the first push leaves at 3, and is answered
    # at 7, which is the end of the fourth period after it.
    simulation = simulated(4.0, workers=1, **CANDIDATE)
    pushes = Pushes().watch(simulation).seen
    simulation.run()
    assert [p[1] for p in pushes[:4]] == [1, 4, 4, 4]
    assert [p[0] for p in pushes[:4]] == [5.0, 9.0, 13.0, 17.0]
    assert [p[2].own.candidates for p in pushes[:4] if p[2].own] == [0, 3, 3, 3]


def test_candidates_lose_no_time_where_waiting_trainers_lose_most_of_it() -> None:
    fast = simulated(4.0, workers=4, **CANDIDATE).run()
    slow = simulated(4.0, workers=4, gate={"kind": "sync"}).run()
    # 3 passes of 90 batches over 4 trainers: 67 periods of 1 s, against 67 rounds of 5 s.
    assert fast.gradients >= slow.gradients
    assert fast.seconds < 80.0
    assert slow.seconds > 330.0


@pytest.mark.parametrize("k", [1, 2, None])
def test_candidates_learn_whoever_makes_an_update(k: int | None) -> None:
    waiting = {"kind": "candidate", "k": k}
    result = simulated(2.0, workers=4, waiting=waiting, budget={"passes": 10}).run()
    assert result.evaluations[-1].metrics["accuracy"] > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"outer": {"kind": "local-sgd", "steps": 4}, "gate": {"kind": "sync"}},
        {"outer": {"kind": "easgd", "steps": 4}},
        {"outer": {"kind": "delayed-nesterov", "steps": 4, "momentum": 0.5}},
        {"outer": {"kind": "diloco", "steps": 4, "momentum": 0.5}, "gate": {"kind": "sync"}},
    ],
    ids=["local-sgd", "easgd", "delayed-nesterov", "diloco"],
)
def test_outer_optimizers_learn_and_repeat_themselves(changes: dict[str, Any]) -> None:
    def once() -> Result:
        return simulated(workers=4, budget={"passes": 12}, **changes).run()

    result = once()
    assert result.outcome is Outcome.COMPLETED
    assert result.evaluations[-1].metrics["accuracy"] > 0.85
    assert (result.log_hash, result.weights_hash) == (once().log_hash, once().weights_hash)


def test_an_outer_round_takes_as_long_as_its_steps() -> None:
    outer = {"kind": "easgd", "steps": 5}
    result = simulated(2.0, workers=1, outer=outer, budget={"updates": 4}).run()
    assert (result.seconds, result.gradients) == (4 * 7.0, 20)


def test_candidates_that_crash_come_back_and_begin_anew() -> None:
    faults = [{"kind": "crash", "worker": w, "at_seconds": 5.5 + w, "back_after_seconds": 3.0} for w in range(2)]
    execution = {"kind": "simulate", "push_seconds": 1.0, "pull_seconds": 1.0, "faults": faults}
    simulation = Simulation(spec_of(**MLP | CANDIDATE | {"execution": execution}, workers=3))
    result = simulation.run()
    assert result.totals.crashes == 2
    assert result.outcome is Outcome.COMPLETED
    assert sum(simulation.core.clocks.applied) == result.gradients
