"""Whole runs of real children: exact counts, exact bookkeeping, and checkpoints that are worth what was reported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.engine.harness import TRANSPORTS, Gang, Transport, spec_of
from workers import checkpoint, events, spec
from workers.assignment import SERVER_WORKER, Exit, Outcome
from workers.problems.digits import Digits

DIGITS = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "rate": {"kind": "staleness-inverse"},
    "batch_size": 32,
}


def counts(path: str) -> list[int]:
    return [int(c) for c in checkpoint.read(Path(path))[0]["counts"]]


def final_checkpoint(gang: Gang) -> events.Event:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return event


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_ledger_of_four_trainers_is_exact_and_nothing_is_left(tmp_path: Path, transport: Transport) -> None:
    with Gang(spec_of(workers=4, budget={"updates": 400}), tmp_path, transport=transport) as gang:
        assert gang.end() == Exit(Outcome.COMPLETED, None, "the budget is spent", 400)
        loss = gang.server.series(events.LOSS)
        held = counts(final_checkpoint(gang).data["path"])
        assert held[:4] == [len(loss[w][0]) for w in range(4)]
        assert sum(held) == 400
        assert sorted(np.concatenate([x for x, _ in loss.values()]).tolist()) == list(range(1, 401))
        assert {m.end() for m in gang.all[1:]} >= {Exit(Outcome.COMPLETED)}
        assert gang.leftovers() == []


def test_staleness_is_conserved_in_integers_and_on_average(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.004}
    with Gang(spec_of(problem=problem, workers=4, budget={"updates": 600}), tmp_path) as gang:
        gang.end()
        staleness, skip = gang.server.series(events.STALENESS), gang.server.series(events.SKIP)
        terms = {w: staleness[w][1] + 1 + skip[w][1] for w in range(4)}
        # Each trainer has last read the version its own last gradient made, and `skip` more.
        read = {w: staleness[w][0][-1] + skip[w][1][-1] for w in range(4)}
        assert sum(t.sum() for t in terms.values()) + sum(600 - v for v in read.values()) == 4 * 600
        assert np.concatenate(list(terms.values())).mean() == pytest.approx(4, rel=0.05)


def test_a_checkpoint_is_worth_what_was_reported_in_plain_pytorch(tmp_path: Path) -> None:
    with Gang(spec_of(**DIGITS, workers=2, budget={"passes": 6}), tmp_path) as gang:
        gang.end()
        saved = final_checkpoint(gang).data
        problem = Digits(spec.Digits(kind="digits"))
        model, test = problem.model(), problem.dataset("test")
        state = {k: v for k, v in load_file(saved["path"]).items() if not k.startswith("trainhub/")}
        model.load_state_dict(state, strict=True)
        with torch.no_grad():
            right = (model.eval()(test.images).argmax(1) == test.labels).float()  # type: ignore[attr-defined]
        versions, accuracies = gang.server.series("evaluation/accuracy")[SERVER_WORKER]
        assert (versions[-1], saved["version"]) == (270, 270)
        assert float(right.mean()) == pytest.approx(accuracies[-1], abs=1e-6)
        assert saved["metrics"]["accuracy"] == accuracies[-1]
        assert accuracies[-1] > 0.8


def test_batch_norm_is_reported_for_each_trainer_and_the_server(tmp_path: Path) -> None:
    with Gang(spec_of(**DIGITS, workers=2, budget={"updates": 60}), tmp_path) as gang:
        gang.end()
        for key in ("batch_norm/1/mean", "batch_norm/4/variance"):
            assert set(gang.server.series(key)) == {SERVER_WORKER, 0, 1}


def test_a_target_ends_a_run(tmp_path: Path) -> None:
    budget = {"target": {"metric": "total", "value": 300, "direction": "max"}}
    with Gang(spec_of(workers=2, budget=budget), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        [reached] = gang.server.events("target-reached")
        assert reached.data["version"] >= 300


def test_accumulation_and_data_loaders_train_as_well(tmp_path: Path) -> None:
    changes = {"accumulation": 2, "data_loader_workers": 1, "budget": {"updates": 20}, "clip_norm": 1.0}
    optimizer = {"kind": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
    with Gang(spec_of(**DIGITS | changes | {"optimizer": optimizer}, workers=1), tmp_path) as gang:
        assert gang.end().version == 20


def test_one_trainer_with_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    losses = []
    for run in (1, 2):
        with Gang(spec_of(**DIGITS, budget={"updates": 30}, seed=3), tmp_path, run=run) as gang:
            gang.end()
            losses.append(gang.server.series(events.LOSS)[0][1].tolist())
    assert losses[0] == losses[1]


def test_a_stopped_run_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    work = spec_of(**DIGITS, budget={"updates": 300}, seed=3)
    with Gang(work, tmp_path / "whole") as whole:
        whole.end()
        expected, _ = checkpoint.read(Path(final_checkpoint(whole).data["path"]))
    with Gang(work, tmp_path / "parts") as first:
        first.wait_for(lambda: first.version > 20)
        first.server.ask_to_stop()
        stopped = first.end()
        assert stopped.outcome is Outcome.STOPPED
        assert stopped.version is not None
        assert 20 < stopped.version < 300
        saved = final_checkpoint(first).data["path"]
        assert first.trainers[0].end() == Exit(Outcome.STOPPED, version=stopped.version)
    with Gang(work, tmp_path / "parts", attempt=2, restore=saved) as second:
        assert second.end().version == 300
        xs, _ = second.server.series(events.LOSS)[0]
        assert xs.tolist() == list(range(stopped.version + 1, 301))
        actual, _ = checkpoint.read(Path(final_checkpoint(second).data["path"]))
    assert expected.keys() == actual.keys()
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def test_another_run_starts_with_the_weights_and_clocks_at_zero(tmp_path: Path) -> None:
    with Gang(spec_of(budget={"updates": 30}), tmp_path) as first:
        first.end()
        saved = final_checkpoint(first).data["path"]
    start = {"kind": "checkpoint", "run": 1}
    with Gang(spec_of(budget={"updates": 12}, start=start), tmp_path, run=2, restore=saved) as second:
        assert second.end().version == 12
        assert counts(final_checkpoint(second).data["path"])[0] == 42
    with Gang(spec_of(budget={"updates": 40}, start=start | {"take": "all"}), tmp_path, run=3, restore=saved) as third:
        assert third.end().version == 40
        assert counts(final_checkpoint(third).data["path"])[0] == 40
