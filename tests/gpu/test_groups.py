"""Machine groups whose devices are GPUs: shards that share one, over gloo; each on its own, over NCCL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from tests.engine.harness import spec_of
from tests.gpu.conftest import GpuGang, found
from tests.gpu.test_training import DIGITS, final, tensors
from workers import events
from workers.assignment import Cause, Outcome, Role

pytestmark = pytest.mark.timeout(180)

GROUPS = ("one GPU", "two GPUs")
CUT: dict[str, Any] = DIGITS | {"layout": {"kind": "hybrid", "shards": 2}}
BACKENDS = {"one GPU": "gloo", "two GPUs": "nccl"}


def gpus_of(group: str) -> tuple[str, ...]:
    """UUIDs of a group's devices."""
    uuids = [gpu.uuid for gpu in found()]
    if group == "one GPU":
        return (uuids[0], uuids[0])
    if len(uuids) < 2:
        pytest.skip("needs two GPUs")
    return (uuids[0], uuids[1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("group", GROUPS)
def test_digits_are_learnt(tmp_path: Path, group: str, precision: str) -> None:
    work = spec_of(**CUT, precision=precision, budget={"passes": 8})
    with GpuGang(work, tmp_path, way="pinned", group=gpus_of(group)) as gang:
        assert gang.end().outcome is Outcome.COMPLETED, gang.trainers[0].log
        assert final(gang)["metrics"]["accuracy"] > 0.85
        for trainer in gang.trainers:
            [told] = trainer.events("group")
            assert told.data["backend"] == BACKENDS[group]
            assert told.data["names"] == [found()[0].name] * 2
            for rank in range(2):
                for phase in events.PHASES:
                    _, seconds = trainer.series(events.GROUP_PHASE.format(rank, phase))[trainer.assignment.worker]
                    assert (seconds >= 0).all()


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_comes_to_the_weights_that_one_on_cpus_comes_to(tmp_path: Path, group: str) -> None:
    mlp = {"kind": "digits", "model": {"kind": "mlp", "batch_norm": False}}
    work = spec_of(**CUT | {"problem": mlp, "workers": 1}, budget={"updates": 60}, seed=3)
    with (
        GpuGang(work, tmp_path / "gpu", way="pinned", group=gpus_of(group)) as there,
        GpuGang(work, tmp_path / "cpu", way="pinned", on_cpus=(0,), run=2) as here,
    ):
        there.end(), here.end()
        assert_close(tensors(there), tensors(here), rtol=1e-3, atol=1e-4)


def test_batch_norm_through_the_server_takes_the_whole_group_s_batch(tmp_path: Path) -> None:
    work = spec_of(**CUT, batch_norm={"kind": "server"}, budget={"passes": 8})
    with GpuGang(work, tmp_path, way="pinned", group=gpus_of("one GPU")) as gang:
        assert gang.end().outcome is Outcome.COMPLETED, gang.trainers[0].log
        assert final(gang)["metrics"]["accuracy"] > 0.85


@pytest.mark.parametrize("group", GROUPS)
def test_a_device_that_is_killed_takes_its_group_along_and_the_run_goes_on(tmp_path: Path, group: str) -> None:
    note = tmp_path / "killed"
    problem = {
        "kind": "python",
        "target": "tests.engine.headed:Dying",
        "parameters": {"note": str(note), "at": 30, "rank": 1},
    }
    work = spec_of(**CUT | {"problem": problem, "batch_size": 16}, budget={"updates": 300})
    with GpuGang(work, tmp_path, way="pinned", group=gpus_of(group)) as gang:
        gang.wait_for(note.exists)
        gang.wait_for(lambda: not all(trainer.alive for trainer in gang.trainers))
        dead = next(trainer for trainer in gang.trainers if not trainer.alive)
        word = dead.end()
        assert word is not None
        assert (word.outcome, word.cause) == (Outcome.FAILED, Cause.CRASHED)
        assert word.detail.startswith("device 1 of 2 of machine group")
        gang.start(Role.TRAINER, dead.assignment.worker)
        assert gang.end().version == 300
