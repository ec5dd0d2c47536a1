"""Methods whose two halves meet over a session, in whole runs of real children."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.engine.harness import Gang, spec_of
from workers import checkpoint, events, spec
from workers.assignment import SERVER_WORKER, Outcome, Role
from workers.problems.digits import Digits

DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp", "batch_norm": True}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "batch_size": 4,
}
SERVED: dict[str, Any] = DIGITS | {"batch_norm": {"kind": "server"}}
LAYERS = ("2", "5", "8")


def final(gang: Gang) -> Path:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return Path(event.data["path"])


def test_four_trainers_learn_with_statistics_through_the_server(tmp_path: Path) -> None:
    with Gang(spec_of(**SERVED, workers=4, budget={"passes": 4}), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        accuracies = gang.server.series("evaluation/accuracy")[SERVER_WORKER][1]
        assert accuracies[-1] > 0.8
        state = {k: v for k, v in load_file(final(gang)).items() if not k.startswith("trainhub/")}
        problem = Digits(spec.Digits.model_validate(SERVED["problem"]))
        model, test = problem.model(), problem.dataset("test")
        model.load_state_dict(state, strict=True)
        with torch.no_grad():
            right = (model.eval()(test.images).argmax(1) == test.labels).float()  # type: ignore[attr-defined]
        # Plain PyTorch, with the server's statistics, finds what was reported.
        assert float(right.mean()) == pytest.approx(accuracies[-1], abs=1e-6)


@pytest.mark.parametrize(
    "gate", [{"kind": "sync"}, {"kind": "softsync", "c": 2, "waiting": False}], ids=["sync", "softsync"]
)
def test_statistics_of_all_gradients_of_an_update_reach_the_server(tmp_path: Path, gate: dict[str, Any]) -> None:
    with Gang(spec_of(**SERVED, gate=gate, workers=4, budget={"updates": 50}), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        tensors, meta = checkpoint.read(final(gang))
        samples, messages = tensors["trainhub/batch_norm/counts"].view(2, -1)[:, 0].tolist()
        assert (samples, messages) == (4 * meta.gradients, meta.gradients)
        assert meta.gradients == 50 * (4 if gate["kind"] == "sync" else 2)


def test_deviations_from_the_server_s_statistics_are_reported_for_each_layer(tmp_path: Path) -> None:
    with Gang(spec_of(**SERVED, workers=2, budget={"updates": 400}), tmp_path) as gang:
        gang.end()
        for layer in LAYERS:
            assert set(gang.server.series(events.BATCH_NORM_MEAN.format(layer))) == {SERVER_WORKER, 0, 1}
            for key in (events.BATCH_NORM_SHIFT, events.BATCH_NORM_LOG_RATIO):
                series = gang.server.series(key.format(layer))
                assert set(series) == {0, 1}
                values = np.concatenate([y for _, y in series.values()])
                assert np.isfinite(values).all()
                assert (values > 0).all()


def test_a_run_with_served_statistics_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    work = spec_of(**SERVED, budget={"updates": 60}, seed=3)
    with Gang(work, tmp_path / "whole") as whole:
        whole.end()
        expected, _ = checkpoint.read(final(whole))
    # A checkpoint at 20 of the same run, then the rest of it.
    with Gang(spec_of(**SERVED, budget={"updates": 20}, seed=3), tmp_path / "parts") as first:
        first.end()
        saved = str(final(first))
    with Gang(work, tmp_path / "parts", attempt=2, restore=saved) as second:
        assert second.end().version == 60
        actual, _ = checkpoint.read(final(second))
    assert "trainhub/batch_norm/counts" in expected
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def test_a_gradient_that_is_refused_drops_its_statistics(tmp_path: Path) -> None:
    problem = {"kind": "python", "target": "tests.engine.problems:NormedNotFinite", "parameters": {"every": 3}}
    changes: dict[str, Any] = {"problem": problem, "batch_norm": {"kind": "server"}, "budget": {"updates": 30}}
    with Gang(spec_of(**changes | {"optimizer": {"kind": "sgd", "learning_rate": 0.01}}), tmp_path) as gang:
        assert gang.end().version == 30
        tensors, meta = checkpoint.read(final(gang))
        assert (meta.refused, meta.statistics) == (14, 30)
        samples, messages = tensors["trainhub/batch_norm/counts"].view(2, -1)[:, 0].tolist()
        assert (samples, messages) == (30 * 8, 30)
        assert all(bool(t.isfinite().all()) for t in tensors.values())


# ---------------------------------------------------------------- the staleness window

WINDOW: dict[str, Any] = {
    "rate": {"kind": "window", "size": 8},
    "problem": {"kind": "ledger", "compute_seconds": 0.004},
}


def of_worker(gang: Gang, key: str, worker: int) -> Any:
    return gang.server.series(key)[worker][1]


def test_each_learner_scales_by_the_window_of_what_it_met(tmp_path: Path) -> None:
    with Gang(spec_of(**WINDOW, workers=3, budget={"updates": 300}), tmp_path) as gang:
        gang.end()
        for worker in range(3):
            staleness = of_worker(gang, events.STALENESS, worker)
            context = of_worker(gang, events.CONTEXT, worker)
            expected = [2.0] + [np.mean(staleness[max(0, k - 8) : k]) for k in range(1, len(staleness))]
            np.testing.assert_allclose(context, expected, rtol=1e-12)
            np.testing.assert_allclose(of_worker(gang, events.SCALE, worker), 1 / (1 + context), rtol=1e-12)


def test_a_slow_learner_s_scale_settles_where_its_staleness_is(tmp_path: Path) -> None:
    delays = [{"kind": "gamma", "mean_seconds": 0.004, "workers": [0, 1, 2]}]
    delays += [{"kind": "gamma", "mean_seconds": 0.016, "workers": [3]}]
    changes = WINDOW | {"problem": {"kind": "ledger"}, "delays": delays, "rate": {"kind": "window", "size": 16}}
    with Gang(spec_of(**changes, workers=4, budget={"updates": 900}), tmp_path) as gang:
        gang.end()
        scale, staleness = (of_worker(gang, key, 3) for key in (events.SCALE, events.STALENESS))
        assert scale[0] == 0.25
        settled = 1 / (1 + staleness[17:].mean())
        assert settled < 0.15
        # Within W + 1 rounds it is where it stays.
        assert scale[17] == pytest.approx(settled, rel=0.2)
        assert scale[17:].mean() == pytest.approx(settled, rel=0.1)
        assert of_worker(gang, events.SCALE, 0)[17:].mean() > 2 * scale[17:].mean()


def test_capped_no_gradient_takes_more_than_the_staleness_it_met_allows(tmp_path: Path) -> None:
    changes = WINDOW | {"rate": {"kind": "window", "size": 4, "context": "p75", "cap": True}}
    with Gang(spec_of(**changes, workers=3, budget={"updates": 200}), tmp_path) as gang:
        gang.end()
        for worker in range(3):
            asked = 1 / (1 + of_worker(gang, events.CONTEXT, worker))
            allowed = 1 / (1 + of_worker(gang, events.STALENESS, worker))
            np.testing.assert_allclose(of_worker(gang, events.SCALE, worker), np.minimum(asked, allowed), rtol=1e-12)


def test_a_restarted_learner_starts_cold(tmp_path: Path) -> None:
    with Gang(spec_of(**WINDOW, workers=3, budget={"updates": 900}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 200)
        gang.trainers[2].kill()
        gang.start(Role.TRAINER, 2)
        gang.end()
        joined = [e.data["version"] for e in gang.server.events("joined") if e.data["worker"] == 2]
        x, context = gang.server.series(events.CONTEXT)[2]
        assert context[0] == 2.0
        assert context[x > joined[1]][0] == 2.0
        assert context[x > joined[1]].min() < 2.0


def test_learners_held_back_by_a_bound_hear_of_their_staleness_too(tmp_path: Path) -> None:
    delays = [{"kind": "factor", "factor": 3.0, "workers": [2]}]
    with Gang(
        spec_of(**WINDOW, gate={"kind": "ssp", "bound": 1}, delays=delays, workers=3, budget={"updates": 200}), tmp_path
    ) as gang:
        gang.end()
        for worker in range(3):
            staleness = of_worker(gang, events.STALENESS, worker)
            expected = [2.0] + [np.mean(staleness[max(0, k - 8) : k]) for k in range(1, len(staleness))]
            np.testing.assert_allclose(of_worker(gang, events.CONTEXT, worker), expected, rtol=1e-12)
