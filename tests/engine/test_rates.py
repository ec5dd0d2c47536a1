"""Every rate rule on numbers anyone can redo, and over sequences of late gradients against plain loops."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from workers import spec as specification
from workers.layout import Group
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.gates.asynchronous import Asynchronous
from workers.methods.gates.base import Gate
from workers.methods.gates.softsync import Softsync
from workers.methods.rates.adadelay import AdaDelay
from workers.methods.rates.balanced import Balanced
from workers.methods.rates.balanced_mse import BalancedMse
from workers.methods.rates.base import Rate
from workers.methods.rates.constant import Constant
from workers.methods.rates.delay_adaptive import DelayAdaptive
from workers.methods.rates.mean_staleness import MeanStaleness
from workers.methods.rates.ringmaster import Ringmaster
from workers.methods.rates.staleness_inverse import StalenessInverse
from workers.server.core import ParameterServer, Rules
from workers.server.optimizers import Tiling, build
from workers.server.passes import HandOver
from workers.server.pushes import Push
from workers.spec import RunSpec
from workers.spec_errors import SpecError


def close(values: list[float]) -> Any:
    return pytest.approx(values, rel=1e-12)


def test_balanced_shares_a_full_step_among_fresh_gradients() -> None:
    assert Balanced().scales([0, 0, 0, 0], range(4)) == close([0.25] * 4)


def test_balanced_weighs_late_gradients_less_and_shortens_the_step() -> None:
    # u = (1, 1/2, 1/4), sum 7/4; mean delay 4/3: s = u / (7/4 * 7/3) = u * 12/49
    scales = Balanced().scales([0, 1, 3], range(3))
    assert scales == close([12 / 49, 6 / 49, 3 / 49])
    assert sum(scales) == pytest.approx(3 / 7)


@pytest.mark.parametrize("rule", [Balanced(), BalancedMse(kappa=0.1, batch_size=32)])
def test_one_balanced_gradient_takes_a_step_over_one_and_its_delay(rule: Rate) -> None:
    assert [rule.scales([d], [0])[0] for d in (0, 1, 4)] == close([1.0, 0.5, 0.2])


def test_balanced_by_squared_error_follows_its_formula() -> None:
    # k = .01 * 10; d = (0, 2): mean 1, V = 1; slope 2 * .1 * 1 / (1 + .1 * 2 * 1) = 1/6
    # l = (1/2)(1 + 1/6), (1/2)(1 - 1/6); s = l / 2
    assert BalancedMse(kappa=0.01, batch_size=10).scales([0, 2], [0, 1]) == close([7 / 24, 5 / 24])


def test_balanced_by_squared_error_gives_nothing_to_gradients_that_would_count_below_nothing() -> None:
    # c = 2, d = (0, 1): mean .5, V = .25; for a large k the slope is 2: shares 1 + 1 and 1 - 1
    first, second = BalancedMse(kappa=1e12, batch_size=1).scales([0, 1], [0, 1])
    assert first == pytest.approx(1 / 1.5)
    assert second == pytest.approx(0.0, abs=1e-9)
    assert min(BalancedMse(kappa=50.0, batch_size=8).scales([0, 0, 1, 40], range(4))) == 0.0


def test_mean_staleness_gives_each_an_nth() -> None:
    assert MeanStaleness().scales([0, 9], [0, 1], 5, 8) == [0.125, 0.125]


def test_delay_adaptive_is_a_full_step_up_to_n_versions_of_delay() -> None:
    assert DelayAdaptive().scales([0, 4, 8, 16], range(4), 99, 4) == close([0.25, 0.25, 0.125, 0.0625])


def test_adadelay_falls_with_time_and_delay() -> None:
    # 1 / (1 + 2 sqrt(7 + 2)) = 1/7
    assert AdaDelay(kappa=2.0).scales([2], [0], 7, 4) == close([1 / 7])
    assert AdaDelay(kappa=2.0).scales([0], [0], 0, 4) == [1.0]
    assert AdaDelay(kappa=1.0).scales([0, 1], [0, 1], 3, 4) == close([1 / (2 * (1 + math.sqrt(3))), 1 / 6])


def test_ringmaster_drops_from_r_on_and_gives_the_others_a_full_step() -> None:
    assert Ringmaster(R=5).drops_from == 5
    assert Ringmaster(R=5).scales([4], [0]) == [1.0]


@pytest.mark.parametrize("rule", [Constant(), StalenessInverse(), Balanced(), DelayAdaptive()])
def test_fresh_gradients_make_one_full_step_together(rule: Rate) -> None:
    for c in (1, 3, 8):
        assert sum(rule.scales([0] * c, range(c), 0, 8)) == pytest.approx(1.0)


SIZE, TRAINERS, PUSHES, ETA = 8, 4, 120, 0.2


def pushes() -> list[tuple[int, torch.Tensor]]:
    """Who pushes, and the point that its gradient leads to: some trainers push eight times as often as others."""
    draw, generator = random.Random(5), torch.Generator().manual_seed(5)
    turns = draw.choices(range(TRAINERS), weights=(8, 4, 2, 1), k=PUSHES)
    return [(turn, torch.randn(SIZE, generator=generator)) for turn in turns]


def trained(rate: Rate, gate: Gate) -> tuple[torch.Tensor, int]:
    """The weights that a real core ends with, and how many gradients it dropped; a gradient is (weights - point)."""
    tiling, weights = Tiling([Group(1.0, 0.0, 0, SIZE)], tile_floats=3), torch.zeros(SIZE)
    optimizer = build(specification.Sgd(kind="sgd", learning_rate=ETA), tiling, weights)
    rules = Rules(optimizer, rate, gate, LocalBatchNorm(rho=0.5), lambda gradients: ETA)
    core = ParameterServer(weights, torch.zeros(0), tiling, rules, workers=TRAINERS)
    slots = [(torch.zeros(SIZE), torch.zeros(SIZE)) for _ in range(TRAINERS)]
    places = [HandOver.of(tiling, gradient=g, weights=w, buffers=torch.zeros(0)) for g, w in slots]
    for index, place in enumerate(places):
        core.join(index)
        core.send(place)
    read = [0] * TRAINERS
    for index, point in pushes():
        gradient, held = slots[index]
        torch.sub(held, point, out=gradient)
        answers = core.receive(Push(index, places[index], read[index], core.next_step(index))).answers
        assert answers == [index]
        read[index] = core.version
    return weights, core.clocks.dropped


Plain = Callable[[int, int], float]
"""The paper's factor on the learning rate of a gradient, by its delay and the server's version. 0: not applied."""


def by_hand(factor: Plain, c: int = 1) -> tuple[torch.Tensor, int]:
    """Parameter server and trainers in as few lines as they take: an update for every c gradients, nobody waits."""
    weights, version, dropped = torch.zeros(SIZE, dtype=torch.float64), 0, 0
    held, waiting = [(weights, 0)] * TRAINERS, list[tuple[torch.Tensor, int]]()
    for index, point in pushes():
        base, read = held[index]
        if factor(version - read, version) == 0.0:
            dropped += 1
        else:
            waiting.append((base - point, read))
        if len(waiting) == c:
            weights = weights - ETA / c * sum(factor(version - read, version) * g for g, read in waiting)
            version, waiting = version + 1, []
        held[index] = weights, version
    return weights.float(), dropped


SEQUENCES: dict[str, tuple[Rate, Plain]] = {
    "asgd": (Constant(), lambda d, t: 1.0),
    "staleness-inverse": (StalenessInverse(), lambda d, t: 1.0 / d if d > 1 else 1.0),
    "mean-staleness": (MeanStaleness(), lambda d, t: 1.0 / TRAINERS),
    "delay-adaptive": (DelayAdaptive(), lambda d, t: min(1.0, TRAINERS / d) if d else 1.0),
    # 1 / (L + b sqrt(t + d)) with L = 1 / ETA and b = 0.5 / ETA, over ETA
    "adadelay": (AdaDelay(kappa=0.5), lambda d, t: 1.0 / (1.0 / ETA + 0.5 / ETA * (t + d) ** 0.5) / ETA),
    "ringmaster": (Ringmaster(R=6), lambda d, t: 1.0 if d < 6 else 0.0),
    "balanced": (Balanced(), lambda d, t: 1.0 / (1 + d)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_late_gradients_of_several_trainers_move_the_weights_as_a_plain_loop_does(name: str) -> None:
    rate, factor = SEQUENCES[name]
    weights, dropped = trained(rate, Asynchronous())
    expected, expected_dropped = by_hand(factor)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    assert dropped == expected_dropped
    assert (dropped > 0) == (name == "ringmaster")


def test_softsync_scales_each_gradient_of_an_update_by_its_own_staleness() -> None:
    # The paper's n-softsync: (1/c) sum of alpha(tau) g over the c gradients that came first.
    weights, _ = trained(StalenessInverse(), Softsync(c=2, waiting=False))
    torch.testing.assert_close(weights, by_hand(SEQUENCES["staleness-inverse"][1], c=2)[0], rtol=1e-4, atol=1e-5)


def test_the_sequence_tells_the_rules_apart() -> None:
    ends = [by_hand(factor)[0] for _, factor in SEQUENCES.values()]
    apart = [float((a - b).abs().max()) for i, a in enumerate(ends) for b in ends[:i]]
    assert min(apart) > 0.01


def spec(**changes: Any) -> RunSpec:
    base: dict[str, Any] = {
        "name": "test",
        "problem": {"kind": "ledger"},
        "optimizer": {"kind": "sgd", "learning_rate": 1.0},
        "workers": 4,
        "budget": {"updates": 20},
    }
    return RunSpec.parse(base | changes)


MOMENTUM = {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}
ADAMW = {"kind": "adamw", "learning_rate": 0.1}
SOFTSYNC = {"kind": "softsync", "c": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compensation": {"kind": "gap-aware"}, "optimizer": MOMENTUM}, "optimizer.momentum: must be 0.0, got 0.9"),
        ({"compensation": {"kind": "multi-asgd"}, "optimizer": ADAMW}, "optimizer.kind: must be sgd, got adamw"),
        ({"compensation": {"kind": "dana-zero"}, "gate": SOFTSYNC}, "gate.kind: must be async or ssp, got softsync"),
        ({"compensation": {"kind": "dana-zero"}, "rate": {"kind": "balanced"}}, "rate.kind: must be constant"),
        (
            {"compensation": {"kind": "dc-asgd-c"}, "gate": SOFTSYNC | {"waiting": False}},
            "gate.waiting: must be true, got false: compensation.kind dc-asgd-c needs the weights a gradient was made",
        ),
        ({"rate": {"kind": "adadelay", "kappa": 1}, "schedule": {"kind": "cosine"}}, "schedule.kind: must be constant"),
        (
            {"rate": {"kind": "adadelay", "kappa": 1}, "schedule": {"kind": "constant", "warmup_passes": 1}},
            "schedule.warmup_passes: must be 0.0",
        ),
        ({"rate": {"kind": "window"}, "gate": SOFTSYNC}, "gate.kind: must be async or ssp"),
        ({"rate": {"kind": "balanced-mse"}}, "rate.kappa"),
        ({"gate": SOFTSYNC | {"c": 5}}, "gate.c: must be at most workers.max (4), got 5"),
        ({"gate": {"kind": "backup", "extra": 4}}, "gate.extra: must be below workers.max (4), got 4"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_field_to_change(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        spec(**changes)
    assert message in str(refusal.value)
