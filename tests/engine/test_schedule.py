"""Learning rate and budget by the number of gradients, on numbers anyone can redo."""

import math

import pytest

from tests.engine.harness import spec_of
from workers import spec
from workers.server.budget import Budget
from workers.server.schedule import Clock, rate_at

CLOCK = Clock(per_pass=10, total=100)


def rates(schedule: spec.Constant | spec.Cosine | spec.Step, *gradients: int) -> list[float]:
    return [rate_at(g, base=2.0, schedule=schedule, clock=CLOCK) for g in gradients]


def test_a_constant_rate_stays() -> None:
    assert rates(spec.Constant(), 0, 50, 1000) == [2.0, 2.0, 2.0]


def test_a_cosine_falls_to_half_at_half_time_and_to_its_end() -> None:
    assert rates(spec.Cosine(kind="cosine", final=0.5), 0, 50, 100, 200) == pytest.approx([2.0, 1.5, 1.0, 1.0])


def test_a_cosine_is_a_cosine() -> None:
    [rate] = rates(spec.Cosine(kind="cosine"), 25)
    assert rate == pytest.approx(1 + math.cos(math.pi / 4))


def test_steps_multiply_at_their_shares() -> None:
    schedule = spec.Step(kind="step", at=[0.5, 0.75], factor=0.1)
    assert rates(schedule, 0, 49, 50, 74, 75) == pytest.approx([2.0, 2.0, 0.2, 0.2, 0.02])


def test_a_warm_up_rises_in_a_straight_line() -> None:
    # two passes of ten gradients, from a tenth: at 10 of 20, 0.1 + 0.9 / 2 = 0.55
    schedule = spec.Constant(warmup_passes=2, warmup_from=0.1)
    assert rates(schedule, 0, 10, 20, 30) == pytest.approx([0.2, 1.1, 2.0, 2.0])


def test_a_budget_of_passes_counts_batches_and_accumulation() -> None:
    budget = Budget.of(spec_of(batch_size=10, accumulation=2, budget={"passes": 3}), examples=100)
    assert budget.gradients == 15  # 3 passes of 100 examples, 20 in a gradient
    assert not budget.spent_updates(gradients=14, updates=14)
    assert budget.spent_updates(gradients=15, updates=15)


def test_the_limit_that_comes_first_counts() -> None:
    budget = Budget.of(spec_of(batch_size=10, budget={"passes": 3, "updates": 7, "seconds": 60}), examples=100)
    assert budget.spent_updates(gradients=7, updates=7)
    assert budget.spent_seconds(60.0)
    assert budget.fraction(gradients=3, updates=3, seconds=30.0) == 0.5


def test_a_target_alone_has_no_end_in_sight() -> None:
    target = {"target": {"metric": "total", "value": 9, "direction": "max"}}
    assert Budget.of(spec_of(budget=target), 100).fraction(gradients=5, updates=5, seconds=5) is None
