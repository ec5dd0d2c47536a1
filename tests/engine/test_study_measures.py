"""What studies measure besides what every run tells."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers.server.pushes import Applied, Reaction
from workers.simulator.trainers import Measured
from workers.spec import RunSpec
from workers.studies.measures.jitter import LossJitter
from workers.studies.measures.scales import Scales
from workers.studies.measuring import measure, seconds_to

SPEC: dict[str, Any] = {
    "name": "Measured",
    "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "batch_size": 16,
    "workers": 4,
    "budget": {"updates": 80},
    "execution": {"kind": "simulate", "compute": {"kind": "constant"}, "push_seconds": 2.0, "pull_seconds": 2.0},
}


def measured(*measures: str, **fields: Any) -> dict[str, Any]:
    columns, _ = measure(RunSpec.parse(SPEC | fields), measures)
    assert columns["outcome"] == "completed", columns
    return columns


def test_the_jitter_is_of_differences() -> None:
    jitter = LossJitter(cast("Any", None))
    for loss in (1.0, 2.0, 4.0):  # differences 1 and 2: half their distance
        jitter.arrived(cast("Any", None), Measured(loss, 1.0, ()))
    assert jitter.columns() == {"loss_jitter": 0.5}


def test_the_variation_is_within_a_trainer() -> None:
    scales = Scales(cast("Any", SimpleNamespace(seconds=3.0)))
    for worker, scale in ((0, 0.5), (1, 0.1), (0, 1.5), (1, 0.1)):  # 0: deviation .5 about 1; 1: none
        scales.settled(Reaction([Applied(worker, 0, 2, scale, 0.1)], [], [], []))
    assert scales.columns() == {"scale_variation": pytest.approx(0.25)}
    assert scales.traces()["scale"] == ([3.0, 3.0], [0.5, 1.5])  # of trainer 0
    assert scales.traces()["staleness"].values == [2.0, 2.0]


def test_who_waits_idles_for_the_way_there_and_back() -> None:
    assert measured("idle")["idle"] == pytest.approx(4.0 / 5.0)  # 1 s of computing, 2 s each way


def test_who_never_waits_is_never_idle() -> None:
    assert measured("idle", waiting={"kind": "candidate", "k": 1})["idle"] == pytest.approx(0.0)


def test_slow_machines_idle_others_in_rounds() -> None:
    slow = {"kind": "simulate", "compute": {"kind": "constant"}, "slow": [{"kind": "straggler", "factor": 4}]}
    # three of four trainers compute for 1 of the 4 s that the fourth takes
    assert measured("idle", gate={"kind": "sync"}, execution=slow)["idle"] == pytest.approx(3 * 0.75 / 4)


def test_the_server_s_mean_is_nearer_to_the_truth_at_small_batches() -> None:
    model: dict[str, Any] = {
        "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [16], "batch_norm": True}}
    }
    model |= {"batch_size": 2, "budget": {"updates": 500}, "optimizer": {"kind": "sgd", "learning_rate": 0.01}}
    local = measured("batch-norm", **model)
    server = measured("batch-norm", batch_norm={"kind": "server"}, **model)
    assert local["mean_error"] == pytest.approx(0.5, rel=0.3)  # of a mean of 2: half of the variance
    assert server["mean_error"] < local["mean_error"] / 2
    assert (server["spread_accuracy"], server["spread_loss"]) == (0.0, 0.0)
    assert local["spread_loss"] > 0
    assert local["worst_accuracy"] <= local["accuracy"] + 0.05


def test_watching_changes_nothing() -> None:
    plain, watched = measured(), measured("idle", "scales", "loss-jitter")
    assert watched["weights_hash"] == plain["weights_hash"]


def test_the_time_to_a_target_is_that_of_the_first_look_that_saw_it() -> None:
    looks = [SimpleNamespace(seconds=s, metrics={"accuracy": a}) for s, a in ((1.0, 0.5), (2.0, 0.9), (3.0, 0.8))]
    result = cast("Any", SimpleNamespace(evaluations=looks))
    target = RunSpec.parse(SPEC | {"budget": {"target": {"metric": "accuracy", "value": 0.8, "direction": "max"}}})
    assert target.budget.target is not None
    assert seconds_to(target.budget.target, result) == 2.0
    assert seconds_to(target.budget.target.model_copy(update={"value": 0.95}), result) is None
