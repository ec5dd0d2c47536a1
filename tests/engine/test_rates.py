"""Every rate rule on numbers anyone can redo."""

import math
from typing import Any

import pytest

from workers.methods.rates.adadelay import AdaDelay
from workers.methods.rates.balanced import Balanced
from workers.methods.rates.balanced_mse import BalancedMse
from workers.methods.rates.base import Rate
from workers.methods.rates.constant import Constant
from workers.methods.rates.delay_adaptive import DelayAdaptive
from workers.methods.rates.mean_staleness import MeanStaleness
from workers.methods.rates.ringmaster import Ringmaster
from workers.methods.rates.staleness_inverse import StalenessInverse
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
        ({"compensation": {"kind": "gap-aware"}, "optimizer": MOMENTUM}, "optimizer.momentum must be 0.0, got 0.9"),
        ({"compensation": {"kind": "multi-asgd"}, "optimizer": ADAMW}, "optimizer.kind must be sgd, got adamw"),
        ({"compensation": {"kind": "dana-zero"}, "gate": SOFTSYNC}, "gate.kind must be async or ssp, got softsync"),
        ({"compensation": {"kind": "dana-zero"}, "rate": {"kind": "balanced"}}, "rate.kind must be constant"),
        (
            {"compensation": {"kind": "dc-asgd-c"}, "gate": SOFTSYNC | {"waiting": False}},
            "dc-asgd-c needs the weights a gradient was made on: gate.waiting must be true, got false",
        ),
        ({"rate": {"kind": "adadelay", "kappa": 1}, "schedule": {"kind": "cosine"}}, "schedule.kind must be constant"),
        (
            {"rate": {"kind": "adadelay", "kappa": 1}, "schedule": {"kind": "constant", "warmup_passes": 1}},
            "schedule.warmup_passes must be 0.0",
        ),
        ({"rate": {"kind": "window"}, "gate": SOFTSYNC}, "gate.kind must be async or ssp"),
        ({"rate": {"kind": "balanced-mse"}}, "rate.kappa"),
        ({"gate": SOFTSYNC | {"c": 5}}, "gate.c must be at most workers.max (4), got 5"),
        ({"gate": {"kind": "backup", "extra": 4}}, "gate.extra must be below workers.max (4), got 4"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_field_to_change(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        spec(**changes)
    assert message in str(refusal.value)
