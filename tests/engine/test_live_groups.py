"""Machine groups of real processes: one trainer each, exact, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.harness import Gang, Member, spec_of
from tests.engine.test_replay import final, log_of
from tests.engine.test_sessions_between_hosts import gang_behind_a_line, rejoined
from workers import checkpoint, events
from workers.assignment import Cause, Outcome, Role
from workers.simulator.replay import replay, same

CNN: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "batch_size": 16,
}
HEADED: dict[str, Any] = CNN | {"problem": {"kind": "python", "target": "tests.engine.headed:Headed"}}


def hybrid(shards: int) -> dict[str, Any]:
    return {"layout": {"kind": "hybrid", "shards": shards}}


def test_one_group_of_four_goes_the_way_of_one_device_with_the_whole_batch(tmp_path: Path) -> None:
    saved = {}
    for name, layout in (("whole", {}), ("cut", hybrid(4))):
        with Gang(spec_of(**CNN | layout, budget={"updates": 20}), tmp_path / name) as gang:
            assert gang.end().outcome is Outcome.COMPLETED
            saved[name] = checkpoint.model_state(checkpoint.read(final(gang))[0])
    assert saved["whole"].keys() == saved["cut"].keys()  # the exported model is the ordinary one
    for name, tensor in saved["whole"].items():
        torch.testing.assert_close(saved["cut"][name], tensor, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    "changes",
    [
        CNN | hybrid(2) | {"workers": 2, "budget": {"updates": 60}, "rate": {"kind": "staleness-inverse"}},
        CNN | hybrid(3) | {"workers": 1, "budget": {"updates": 20}, "batch_norm": {"kind": "server"}},
        HEADED | hybrid(2) | {"workers": 2, "budget": {"updates": 30}, "accumulation": 2, "clip_norm": 0.3},
        CNN | hybrid(2) | {"workers": 1, "budget": {"updates": 20}, "precision": "bfloat16"},
    ],
    ids=["two-groups", "server-batch-norm", "dropout-accumulated-and-clipped", "bfloat16"],
)
def test_a_live_run_of_groups_comes_out_again_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    with Gang(spec_of(**changes), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        log, saved = log_of(gang), final(gang)
        assert gang.leftovers() == []
    again = replay(log)
    assert again.hash == log.hash
    assert again.differences(saved) == []
    assert any(not same(t, torch.zeros_like(t)) for t in again.tensors.values())


def test_groups_on_other_hosts_go_on_when_their_lines_break_and_come_out_again_to_the_bit(tmp_path: Path) -> None:
    work = spec_of(**HEADED | hybrid(2), workers=2, budget={"updates": 300})
    with gang_behind_a_line(work, tmp_path, lambda link: link.reset_after(60_000, times=3)) as (gang, link):
        assert gang.end().version == 300
        assert link.fired["reset"] >= 3
        assert rejoined(gang) >= 3
        log, saved = log_of(gang), final(gang)
    again = replay(log)
    assert again.hash == log.hash
    assert again.differences(saved) == []


def test_each_device_tells_where_its_time_went_and_what_it_sent(tmp_path: Path) -> None:
    images, features, size = 16, 8 * 4 * 4, 2
    with Gang(spec_of(**CNN | hybrid(size), budget={"updates": 60}), tmp_path) as gang:
        gang.end()
        [told] = gang.trainers[0].events("group")
        assert "machine group 0: 2 × cpu; over gloo each sends" in told.message
        each = images // size
        for rank in range(size):
            for phase in events.PHASES:
                _, seconds = gang.trainers[0].series(events.GROUP_PHASE.format(rank, phase))[0]
                assert (seconds >= 0).all()
            _, sent = gang.trainers[0].series(events.GROUP_BYTES.format(rank, "last_layer"))[0]
            # 2 (G - 1) B D + 4 (G - 1) B floats, (G - 1) B labels and (G - 1) losses, of 4 bytes each.
            formula = 4 * (size - 1) * (2 * each * features + 4 * each + each + 1)
            assert (sent[1:] == formula).all()


def test_a_device_killed_in_the_middle_of_a_step_takes_its_group_along_and_nothing_is_torn(tmp_path: Path) -> None:
    note = tmp_path / "killed"
    problem = {
        "kind": "python",
        "target": "tests.engine.headed:Dying",
        "parameters": {"note": str(note), "at": 30, "rank": 1},
    }
    work = spec_of(**HEADED | hybrid(2) | {"problem": problem}, workers=2, budget={"updates": 300})
    with Gang(work, tmp_path) as gang:
        gang.wait_for(note.exists)
        dead = first_to_end(gang)
        word = dead.end()
        assert word is not None
        assert (word.outcome, word.cause) == (Outcome.FAILED, Cause.CRASHED)
        number = dead.assignment.worker
        assert word.detail == (
            f"device 1 of 2 of machine group {number} (process {note.read_text()}) was killed by SIGKILL; "
            "the group ends with it"
        )
        gang.start(Role.TRAINER, number)
        assert gang.end().version == 300
        log, saved = log_of(gang), final(gang)
        [lost] = [e for e in gang.server.events("left") if not e.data["expected"]]
        assert lost.data["worker"] == number
    # What the weights became is what the gradients that were pushed make of them: nothing was half applied.
    assert replay(log).differences(saved) == []


def first_to_end(gang: Gang) -> Member:
    """Whose process ends first: the other one trains on, perhaps to the end of the run."""
    gang.wait_for(lambda: not all(trainer.alive for trainer in gang.trainers))
    return next(trainer for trainer in gang.trainers if not trainer.alive)


def test_a_killed_leader_takes_its_devices_along(tmp_path: Path) -> None:
    with Gang(spec_of(**CNN | hybrid(3), workers=1, budget={"updates": 10**6}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 3)
        leader = gang.trainers[0].process.pid
        assert leader is not None
        devices = [int(c) for c in Path(f"/proc/{leader}/task/{leader}/children").read_text().split()]
        assert len(devices) == 2
        gang.trainers[0].kill()
        gang.wait_for(lambda: not any(Path(f"/proc/{d}").exists() and running(d) for d in devices), 5)
        gang.start(Role.TRAINER, 0)
        before = gang.version
        gang.wait_for(lambda: gang.version > before + 3)


def running(pid: int) -> bool:
    """Whether a process is more than an entry that nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_group_asked_to_leave_does_so_in_order(tmp_path: Path) -> None:
    work = spec_of(**CNN | hybrid(2), workers={"min": 1, "max": 2}, budget={"updates": 200})
    with Gang(work, tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 3)
        gang.trainers[1].ask_to_stop()
        word = gang.trainers[1].end()
        assert word is not None
        assert word.outcome is Outcome.STOPPED
        assert gang.end().version == 200


def test_an_error_of_the_problem_names_the_device(tmp_path: Path) -> None:
    problem = {"kind": "python", "target": "tests.engine.headed:Headed", "parameters": {"term": 1.0}}
    with Gang(spec_of(**HEADED | hybrid(2) | {"problem": problem}), tmp_path) as gang:
        word = gang.trainers[0].end()
        assert word is not None
        assert (word.outcome, word.cause) == (Outcome.FAILED, Cause.USER_CODE)
        assert "cross_entropy of the model's output, as it is" in word.detail


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_device_that_fails_alone_ends_its_group_at_once(tmp_path: Path, rank: int) -> None:
    problem = {"kind": "python", "target": "tests.engine.headed:Failing", "parameters": {"at": 20, "rank": rank}}
    with Gang(spec_of(**HEADED | hybrid(3) | {"problem": problem, "workers": 1}), tmp_path) as gang:
        word = gang.trainers[0].end()  # within seconds, where its exchanges would wait for minutes
        assert word is not None
        assert (word.outcome, word.cause) == (Outcome.FAILED, Cause.USER_CODE)
        assert "a batch that this device can't take" in word.detail
        assert word.detail.startswith(f"device {rank} of 3 of machine group 0") == (rank > 0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_and_is_evaluated_as_the_ordinary_model(tmp_path: Path, precision: str) -> None:
    with Gang(spec_of(**CNN | hybrid(2), workers=2, budget={"passes": 8}, precision=precision), tmp_path) as gang:
        gang.end()
        _, accuracies = gang.server.series("evaluation/accuracy")[-1]
        assert accuracies[-1] > 0.8
        _, losses = gang.server.series(events.LOSS)[0]
        assert np.isfinite(losses).all()
