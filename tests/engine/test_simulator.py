"""Runs under a virtual clock: exact bookkeeping, the same bits from the same seed, latency by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import spec_of
from workers.assignment import Outcome
from workers.server import event_log
from workers.server.event_log import Fate
from workers.simulator import files
from workers.simulator.faults import random_faults
from workers.simulator.replay import threads
from workers.simulator.simulation import Result, Simulation
from workers.simulator.times import BLOCK_STEPS, SECOND, Times
from workers.spec import RunSpec, Simulate
from workers.spec_errors import SpecError

MIXED = {"slow": [{"kind": "machines", "variation": 0.6}, {"kind": "bursts"}]}
DIGITS = {"problem": {"kind": "digits", "model": {"kind": "mlp"}}, "optimizer": {"kind": "sgd", "learning_rate": 0.05}}


def spec_with(execution: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
    return spec_of(execution={"kind": "simulate", **(execution or {})}, **changes)


def ledger(workers: int, updates: int, execution: dict[str, Any] | None = None, **changes: Any) -> Simulation:
    problem = {"kind": "ledger", "coordinates": workers}
    return Simulation(spec_with(execution, problem=problem, workers=workers, budget={"updates": updates}, **changes))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As `workers.simulator.files` has it: the last bits of a sum depend on how many threads share it."""
    with threads(1):
        yield


def gate(c: int) -> dict[str, Any]:
    return {"kind": "async"} if c == 1 else {"kind": "softsync", "c": c, "waiting": True}


def result(**changes: Any) -> Result:
    return Simulation(spec_with(**changes)).run()


def holds(simulation: Simulation) -> bool:
    """sum(d + 1 + skip) + sum_i (v_now - v_i) = N v_now, in integers."""
    now, totals = simulation.core.version, simulation.totals
    return totals.rounds + sum(now - v for v in simulation.versions_read) == len(simulation.workers) * now


# ---------------------------------------------------------------- bookkeeping


@pytest.mark.parametrize("c", [1, 4, 8])
@pytest.mark.parametrize("execution", [{}, MIXED, {"push_seconds": 0.3, "pull_seconds": 2.0}])
def test_versions_are_conserved_at_every_instant(c: int, execution: dict[str, Any]) -> None:
    simulation = ledger(16, 150, execution, gate=gate(c))
    assert holds(simulation)
    while simulation.turn():
        assert holds(simulation)
    assert simulation.core.version == 150


@pytest.mark.parametrize("c", [1, 4, 8])
@pytest.mark.parametrize("execution", [{}, MIXED], ids=["equal", "mixed"])
def test_the_mean_round_is_n_over_c_versions_whatever_the_speeds(c: int, execution: dict[str, Any]) -> None:
    done = ledger(16, 200 * 16 // c, execution, gate=gate(c)).run()
    assert done.totals.mean_rounds == pytest.approx(16 / c, rel=0.03)


def test_a_ledger_holds_what_each_trainer_pushed() -> None:
    simulation = ledger(8, 200, MIXED)
    simulation.run()
    assert [int(c) for c in simulation.core.weights[:8]] == simulation.core.clocks.applied
    assert sum(simulation.core.clocks.applied) == 200


# ---------------------------------------------------------------- time


def arrivals(simulation: Simulation) -> list[tuple[float, int]]:
    """When the server had each version, and whose gradient made it."""
    found, before = [], list(simulation.core.clocks.applied)
    while simulation.turn():
        after = list(simulation.core.clocks.applied)
        found += [(simulation.seconds, w) for w, (a, b) in enumerate(zip(after, before, strict=True)) if a > b]
        before = after
    return found


def test_latency_on_two_trainers_by_hand() -> None:
    # Trainer 0 computes 1 s, trainer 1 computes 2 s; a push takes 0.5 s, an answer 0.25 s. A start has an answer too.
    # 0: 0.25 + 1 + 0.5 = 1.75, then every 1.75 s.   1: 0.25 + 2 + 0.5 = 2.75, then every 2.75 s.
    compute = {"kind": "trace", "seconds": [[1.0], [2.0]]}
    simulation = ledger(2, 6, {"compute": compute, "push_seconds": 0.5, "pull_seconds": 0.25})
    whole = [*arrivals(simulation), (simulation.seconds, 0)]
    assert whole[:5] == [(1.75, 0), (2.75, 1), (3.5, 0), (5.25, 0), (5.5, 1)]
    # Each reads the version of the moment of its answer: 1 reads 0, then 2; 0 reads 0, 1, 3, 4, and meets 5 at 7 s.
    assert simulation.totals.staleness == (0 - 0) + (1 - 0) + (2 - 1) + (3 - 3) + (4 - 2) + (5 - 4)
    assert whole[5][0] == 7.0


def test_equal_times_go_by_worker() -> None:
    assert [w for _, w in arrivals(ledger(4, 9, {"compute": {"kind": "constant"}}))] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_nobody_waits_for_a_straggler_but_a_synchronous_gate_does() -> None:
    slow = {"compute": {"kind": "constant"}, "slow": [{"kind": "straggler", "factor": 10}]}
    free, bound = ledger(4, 30, slow).run(), ledger(4, 30, slow, gate={"kind": "sync"}).run()
    assert free.seconds == pytest.approx(10, abs=1)
    assert bound.seconds == 300


@pytest.mark.parametrize(
    ("compute", "deviation"),
    [({"kind": "constant"}, 0.0), ({"kind": "gamma"}, 0.1), ({"kind": "lognormal", "sigma": 0.3}, 0.307)],
    ids=["constant", "gamma", "lognormal"],
)
def test_times_have_the_mean_and_the_spread_they_are_said_to_have(compute: dict[str, Any], deviation: float) -> None:
    times = Times(Simulate.model_validate({"kind": "simulate", "compute": compute}), seed=1, workers=1)
    drawn = [times.of(0, step) / SECOND for step in range(3000)]
    mean = sum(drawn) / len(drawn)
    assert mean == pytest.approx(1.0, abs=0.02)
    assert (sum((d - mean) ** 2 for d in drawn) / len(drawn)) ** 0.5 == pytest.approx(deviation, abs=0.02)


def test_times_depend_on_trainer_and_step_alone() -> None:
    execution = Simulate.model_validate({"kind": "simulate", "slow": [{"kind": "bursts", "share": 0.5}]})
    asked = [(worker, step) for worker in (0, 1) for step in range(3 * BLOCK_STEPS)]
    forwards, backwards = (Times(execution, seed=1, workers=2) for _ in range(2))
    there = {key: forwards.of(*key) for key in asked}
    assert {key: backwards.of(*key) for key in reversed(asked)} == there
    assert len(set(there.values())) == len(asked)


def test_slowness_is_drawn_per_push_and_per_machine() -> None:
    slow = [{"kind": "bursts"}, {"kind": "half", "factor": 3.0}]
    execution = Simulate.model_validate({"kind": "simulate", "compute": {"kind": "constant"}, "slow": slow})
    times = Times(execution, seed=0, workers=4)
    assert times.factors == [1.0, 1.0, 3.0, 3.0]
    drawn = [times.of(0, step) // SECOND for step in range(2000)]
    assert set(drawn) == {1, 6}
    assert drawn.count(6) / 2000 == pytest.approx(0.08, abs=0.02)
    machines = Simulate.model_validate({"kind": "simulate", "slow": [{"kind": "machines"}]})
    speeds = Times(machines, seed=0, workers=2000).factors
    mean = sum(speeds) / 2000
    assert mean == pytest.approx(1.0, abs=0.05)
    assert (sum((s - mean) ** 2 for s in speeds) / 2000) ** 0.5 == pytest.approx(0.6, abs=0.05)


# ---------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_log_and_weights_and_another_one_does_not() -> None:
    one, two = (result(**DIGITS, workers=8, budget={"updates": 120}, execution=MIXED, seed=3) for _ in range(2))
    other = result(**DIGITS, workers=8, budget={"updates": 120}, execution=MIXED, seed=4)
    assert (one.log_hash, one.weights_hash, one.seconds) == (two.log_hash, two.weights_hash, two.seconds)
    assert one.log_hash != other.log_hash
    assert one.weights_hash != other.weights_hash


def test_how_often_it_is_evaluated_changes_nothing() -> None:
    runs = [
        result(**DIGITS, workers=4, budget={"updates": 100}, evaluation={"every_passes": every})
        for every in (0.05, 100.0)
    ]
    assert runs[0].weights_hash == runs[1].weights_hash
    assert len(runs[0].evaluations) > len(runs[1].evaluations)


def test_times_alone_leave_no_trace_in_the_log(tmp_path: Path) -> None:
    """One trainer at another speed does the same things in the same order."""
    fast, slow = (
        ledger(1, 20, {"compute": {"kind": "constant", "mean_seconds": s}}).run().log_hash for s in (1.0, 7.0)
    )
    assert fast == slow


def test_a_simulation_s_log_replays(tmp_path: Path) -> None:
    path = tmp_path / "gradients.log"
    crashes: dict[str, Any] = {"faults": [{"kind": "random-crashes", "mean_up_seconds": 8, "down_seconds": 2}]}
    spec = spec_with(crashes, **DIGITS, workers=4, budget={"updates": 60}, gate=gate(2))
    with files.simulation(spec, path) as simulation:
        done = simulation.run()
    assert done.totals.crashes > 0
    again = files.replay_file(path)
    assert (again.version, again.log_hash, again.complete) == (60, done.log_hash, True)
    assert len(list(files.records(path))) == len(event_log.read(path).records)


# ---------------------------------------------------------------- faults


def test_a_crashed_trainer_is_gone_and_comes_back_with_its_next_step() -> None:
    crash = {"kind": "crash", "worker": 1, "at_seconds": 5.5, "back_after_seconds": 4.0}
    simulation = ledger(2, 40, {"compute": {"kind": "constant"}, "faults": [crash]})
    when = [t for t, w in arrivals(simulation) if w == 1]
    assert when[:5] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert when[5] == 10.5
    assert simulation.totals.crashes == 1
    assert simulation.core.clocks.steps == simulation.core.clocks.applied
    assert int(simulation.core.weights[1]) == simulation.core.clocks.applied[1]


@pytest.mark.parametrize(
    "kind", [{"kind": "sync"}, {"kind": "ssp", "bound": 2}, {"kind": "softsync", "c": 3, "waiting": True}]
)
def test_nobody_waits_for_the_dead(kind: dict[str, Any]) -> None:
    crash = {"kind": "crash", "worker": 0, "at_seconds": 3.5}
    done = ledger(3, 30, {"faults": [crash]}, gate=kind).run()
    assert (done.outcome, done.version) == (Outcome.COMPLETED, 30)


def test_a_run_without_trainers_fails_in_words() -> None:
    crash = {"kind": "crash", "worker": 0, "at_seconds": 2.5}
    done = ledger(1, 30, {"faults": [crash]}).run()
    assert (done.outcome, done.message, done.version) == (Outcome.FAILED, "no trainer is left", 2)


def test_random_crashes_come_in_order_and_again_from_the_same_seed() -> None:
    crashes = {"kind": "simulate", "faults": [{"kind": "random-crashes", "mean_up_seconds": 10, "down_seconds": 3}]}
    execution = Simulate.model_validate(crashes)
    first, second = (
        [next(s) for _ in range(50)] for s in [next(random_faults(execution, seed=1, worker=2)) for _ in "ab"]
    )
    assert first == second
    assert all(a.back is not None and a.back <= b.at for a, b in pairwise(first))


# ---------------------------------------------------------------- size, words


def test_sixty_four_trainers_share_what_they_read() -> None:
    simulation = Simulation(spec_with(None, **DIGITS, workers=64, budget={"updates": 300}, gate={"kind": "sync"}))
    most = 0
    for _ in range(500):
        simulation.turn()
        most = max(most, len(simulation.snapshots))
    assert most <= 2
    free = ledger(64, 300)
    while free.turn():
        assert len(free.snapshots) <= 64
    assert free.places_made == 1


def test_a_target_and_the_time_end_a_simulation() -> None:
    target = {"target": {"metric": "total", "value": 100, "direction": "max"}}
    problem = {"kind": "ledger", "coordinates": 4}
    reached = result(problem=problem, workers=4, budget=target, evaluation={"every_passes": 0.1})
    assert (reached.outcome, reached.version >= 100) == (Outcome.COMPLETED, True)
    timed = result(problem=problem, workers=4, budget={"seconds": 10}, execution={"compute": {"kind": "constant"}})
    assert (timed.message, timed.version) == ("the time is spent", 36)


def test_gradients_that_are_not_finite_end_a_simulation() -> None:
    wild = {"kind": "python", "target": "tests.engine.problems:NotFinite", "parameters": {"first": 3, "last": 99}}
    done = result(problem=wild, workers=1, budget={"updates": 50})
    assert done.message == "10 gradients in a row were not finite"
    assert (done.version, done.refused) == (2, 10)
    assert done.as_data()["evaluations"][-1]["version"] == 2


@pytest.mark.parametrize(
    ("execution", "error"),
    [
        ({"slow": [{"kind": "straggler", "worker": 4}]}, "execution.slow.0.worker: is 4, but trainers are 0 to 1"),
        ({"faults": [{"kind": "crash", "worker": 2, "at_seconds": 1}]}, "execution.faults.0.worker: is 2"),
        ({"compute": {"kind": "poisson"}}, "execution.compute.kind: must be one of constant, gamma, lognormal, trace"),
    ],
)
def test_a_wrong_execution_is_named(execution: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        spec_with(execution, workers=2)


def test_a_live_spec_is_not_simulated() -> None:
    with pytest.raises(SpecError, match=r"execution.kind: must be simulate to be simulated"):
        Simulation(spec_of())


def test_every_gradient_has_one_fate(tmp_path: Path) -> None:
    path = tmp_path / "gradients.log"
    spec = spec_with(
        MIXED, problem={"kind": "ledger"}, workers=8, budget={"updates": 50}, gate={"kind": "backup", "extra": 2}
    )
    with files.simulation(spec, path) as simulation:
        done = simulation.run()
    records = event_log.read(path).records
    assert sum(r.fate == Fate.APPLIED for r in records) == done.gradients == 300
    assert sum(r.fate == Fate.DROPPED for r in records) == done.totals.dropped > 0
    assert sum(r.group_end for r in records) == 50
    keys = [(r.worker, r.step) for r in records if r.fate in (Fate.APPLIED, Fate.DROPPED)]
    assert len(keys) == len(set(keys))
