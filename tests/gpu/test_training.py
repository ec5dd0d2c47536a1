"""Whole runs on a GPU: exact counts, learning, kills; with the server on the same GPU, and on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.engine.harness import spec_of
from tests.gpu.conftest import WAYS, GpuGang
from tests.gpu.rules import RULES
from workers import checkpoint, events
from workers.assignment import SERVER_WORKER, Outcome, Role
from workers.server import event_log
from workers.simulator.replay import Refused, replay

pytestmark = pytest.mark.timeout(180)

DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "rate": {"kind": "staleness-inverse"},
    "batch_size": 32,
    "device": "cuda",
    "workers": 2,
}


def final(gang: GpuGang) -> dict[str, Any]:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return event.data


def tensors(gang: GpuGang) -> dict[str, torch.Tensor]:
    return checkpoint.read(Path(final(gang)["path"]))[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_ledger_of_two_trainers_on_one_gpu_is_exact(tmp_path: Path, way: str) -> None:
    with GpuGang(spec_of(device="cuda", workers=2, budget={"updates": 500}), tmp_path, way=way) as gang:
        assert gang.end().version == 500
        pushed = gang.server.series(events.LOSS)
        counts = [int(c) for c in tensors(gang)["counts"]]
        assert counts[:2] == [len(pushed[w][0]) for w in range(2)]
        assert sum(counts) == 500
        assert gang.leftovers() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_digits_are_learnt(tmp_path: Path, way: str, precision: str) -> None:
    with GpuGang(spec_of(**DIGITS, precision=precision, budget={"passes": 8}), tmp_path, way=way) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        assert final(gang)["metrics"]["accuracy"] > 0.85


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_trainer_leaves_nothing_half_done_and_its_successor_goes_on(tmp_path: Path, way: str) -> None:
    work = spec_of(
        device="cuda", workers=2, budget={"updates": 3000}, problem={"kind": "ledger", "coordinates": 100_000}
    )
    with GpuGang(work, tmp_path, way=way) as gang:
        gang.wait_for(lambda: gang.version > 200)
        gang.trainers[1].kill()
        gang.start(Role.TRAINER, 1)
        assert gang.server.end() is not None
        [lost] = [e for e in gang.server.events("left") if not e.data["expected"]]
        assert lost.data["worker"] == 1
        counts = tensors(gang)["counts"]
        assert counts.sum() == 3000
        assert counts.equal(counts.round())
        assert set(counts[2:].tolist()) == {0.0}


@pytest.mark.parametrize("way", WAYS)
def test_one_trainer_comes_to_the_weights_that_a_cpu_comes_to(tmp_path: Path, way: str) -> None:
    mlp = {"kind": "digits", "model": {"kind": "mlp", "batch_norm": False}}
    work = spec_of(**DIGITS | {"problem": mlp, "workers": 1}, budget={"updates": 60}, seed=3)
    with (
        GpuGang(work, tmp_path / "gpu", way=way) as there,
        GpuGang(work, tmp_path / "cpu", way="pinned", on_cpus=(0,), run=2) as here,
    ):
        there.end(), here.end()
        assert_close(tensors(there), tensors(here), rtol=1e-3, atol=1e-4)


def test_a_server_on_the_gpu_takes_trainers_on_cpus_too(tmp_path: Path) -> None:
    work = spec_of(**DIGITS | {"workers": 3}, budget={"passes": 8}, batch_norm={"kind": "server"})
    with GpuGang(work, tmp_path, way="in-place", on_cpus=(2,)) as gang:
        gang.end()
        assert set(gang.server.series(events.LOSS)) == {0, 1, 2}
        assert final(gang)["metrics"]["accuracy"] > 0.85


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", RULES)
def test_every_method_works_there_and_its_state_is_saved_and_taken_up(tmp_path: Path, rule: str, way: str) -> None:
    work: dict[str, Any] = DIGITS | {"seed": 1, "clip_norm": 5.0} | RULES[rule]
    with GpuGang(spec_of(**work, budget={"updates": 40}), tmp_path, way=way) as first:
        assert first.end().outcome is Outcome.COMPLETED, first.server.log
        path = final(first)["path"]
    with GpuGang(spec_of(**work, budget={"updates": 80}), tmp_path, way=way, attempt=2, restore=path) as second:
        assert second.end().version == 80, second.server.log
        assert all(bool(t.isfinite().all()) for t in tensors(second).values())


def test_an_evaluator_on_the_gpu_finds_what_one_on_a_cpu_finds(tmp_path: Path) -> None:
    found = []
    for run, device in enumerate(("cpu", "cuda"), start=1):
        work = spec_of(**DIGITS | {"workers": 1}, budget={"updates": 60}, seed=3, evaluation={"device": device})
        with GpuGang(work, tmp_path, way="pinned", run=run) as gang:
            gang.end()
            found.append(gang.server.series("evaluation/loss")[SERVER_WORKER][1][-1])
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_augmentation_accumulation_and_loader_processes_work_there(tmp_path: Path) -> None:
    work = spec_of(**DIGITS, budget={"updates": 30}, accumulation=2, data_loader_workers=2)
    with GpuGang(work, tmp_path, way="pinned") as gang:
        assert gang.end().version == 30


def test_its_log_says_cuda_and_a_replay_is_refused(tmp_path: Path) -> None:
    with GpuGang(spec_of(**DIGITS, budget={"updates": 10}), tmp_path, way="in-place") as gang:
        gang.end()
        log = event_log.read(gang.server.work_dir / event_log.FILE_NAME)
    assert log.header.device == "cuda"
    with pytest.raises(Refused, match="this run computed on cuda"):
        replay(log)
