"""The sliding-window staleness context, on numbers anyone can redo."""

import math

import pytest

from workers.methods.rates.window import Context, Window, WindowRate
from workers.spec import RunSpec
from workers.spec_errors import SpecError


def window(context: Context = "mean", size: int = 4, workers: int = 8) -> Window:
    return Window(size=size, context=context, workers=workers)


def filled(samples: list[int], context: Context = "mean", size: int = 4) -> Window:
    learner = window(context, size)
    for d in samples:
        learner.add(d)
    return learner


@pytest.mark.parametrize("context", ["mean", "ema", "p75"])
def test_a_learner_that_knows_nothing_yet_assumes_equal_speeds(context: Context) -> None:
    learner = window(context, workers=8)
    assert (learner.context, learner.scale) == (7.0, 1 / 8)


def test_alone_it_takes_full_steps() -> None:
    assert window(workers=1).scale == 1.0


def test_the_context_is_the_mean_of_the_window() -> None:
    assert filled([3, 5]).context == 4.0
    # The window holds the last four: (5 + 1 + 0 + 2) / 4 = 2, s = 1/3
    learner = filled([3, 5, 1, 0, 2])
    assert (learner.context, learner.scale) == (2.0, 1 / 3)


def test_ema_forgets_by_two_in_size_plus_one() -> None:
    # From 7 by 2/5: 7 + 0.4 (2 - 7) = 5, then 5 + 0.4 (0 - 5) = 3
    assert filled([2, 0], "ema").context == pytest.approx(3.0)


def test_p75_lies_three_quarters_up_the_window() -> None:
    # 1 2 4 8: place 0.75 * 3 = 2.25, so 4 + 0.25 * (8 - 4) = 5
    assert filled([8, 1, 4, 2], "p75").context == 5.0
    assert filled([6], "p75").context == 6.0


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_after_a_step_in_staleness_the_scale_settles_within_w_rounds_and_one(size: int) -> None:
    # A learner slowed down 4 times: the others' pushes while it computes grow from 7 to 28, give or take one.
    learner = filled([7 + (k % 3 - 1) for k in range(3 * size + 3)], size=size)
    for k in range(size + 1):
        learner.add(28 + (k % 3 - 1))
    assert learner.scale == pytest.approx(1 / 29, rel=0.1)
    for k in range(size + 1):
        learner.add(7 + (k % 3 - 1))
    assert learner.scale == pytest.approx(1 / 8, rel=0.15 if size == 1 else 0.1)


def test_a_wide_window_halves_what_bursts_do_to_the_scale() -> None:
    # Every twelfth round is six times as late.
    rounds = [42 if k % 12 == 0 else 7 for k in range(240)]
    spread = {}
    for size in (1, 16):
        learner, scales = window(size=size), []
        for d in rounds:
            learner.add(d)
            scales.append(learner.scale)
        mean = sum(scales[48:]) / len(scales[48:])
        spread[size] = math.sqrt(sum((s - mean) ** 2 for s in scales[48:]) / len(scales[48:])) / mean
    assert spread[16] < 0.5 * spread[1]


def test_the_server_takes_what_a_learner_asks_for() -> None:
    rule = WindowRate(size=16, context="mean", cap=False)
    assert [rule.accept(0.5, 0), rule.accept(0.5, 9), rule.accept(1.0, 3)] == [0.5, 0.5, 1.0]


def test_capped_it_gives_no_more_than_the_staleness_met_allows() -> None:
    rule = WindowRate(size=16, context="mean", cap=True)
    assert [rule.accept(0.5, 0), rule.accept(0.5, 1), rule.accept(0.5, 9)] == [0.5, 0.5, 0.1]


@pytest.mark.parametrize("scale", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        WindowRate(size=16, context="mean", cap=False).accept(scale, 0)


def test_a_gradient_without_its_learner_s_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="from the learner"):
        WindowRate(size=16, context="mean", cap=False).scales([0], [0])


def spec_with(gate: dict[str, object]) -> RunSpec:
    return RunSpec.parse(
        {
            "name": "test",
            "problem": {"kind": "ledger"},
            "optimizer": {"kind": "sgd", "learning_rate": 1.0},
            "workers": 4,
            "budget": {"updates": 1},
            "rate": {"kind": "window"},
            "gate": gate,
        }
    )


@pytest.mark.parametrize("gate", [{"kind": "async"}, {"kind": "ssp", "bound": 2}])
def test_it_goes_with_gates_of_one_gradient_an_update(gate: dict[str, object]) -> None:
    assert spec_with(gate).rate.kind == "window"


@pytest.mark.parametrize(
    "gate", [{"kind": "softsync", "c": 2}, {"kind": "sync"}, {"kind": "backup", "extra": 1}], ids=lambda g: g["kind"]
)
def test_it_is_refused_where_several_gradients_make_an_update(gate: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=r"gate\.kind.*rate\.kind window"):
        spec_with(gate)
