"""What goes wrong, and that it costs what it should and no more. Each test makes sure that its fault happened."""

import os
import random
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests.engine.harness import TRANSPORTS, Gang, Transport, spec_of
from tests.engine.test_runs import counts, final_checkpoint
from workers import events
from workers.assignment import Cause, Exit, Outcome, Role
from workers.failures import Failure
from workers.transport import shared_memory
from workers.transport.shared_memory import Slot, SlotSize

PROBLEMS = "tests.engine.problems"


def python(name: str, **parameters: int) -> dict[str, object]:
    return {"kind": "python", "target": f"{PROBLEMS}:{name}", "parameters": parameters}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_ledger_stays_exact_while_trainers_are_killed_and_replaced(tmp_path: Path, transport: Transport) -> None:
    chance, kills = random.Random(1), 0
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    with Gang(spec_of(problem=problem, workers=4, budget={"updates": 2500}), tmp_path, transport=transport) as gang:
        gang.wait_for(lambda: gang.version > 0)
        while gang.server.alive and gang.version < 1800:
            time.sleep(chance.uniform(0.0, 0.06))
            worker = chance.randrange(4)
            gang.trainers[worker].kill()
            gang.trainers[worker] = gang.start(Role.TRAINER, worker)
            kills += 1
        assert gang.end() == Exit(Outcome.COMPLETED, None, "the budget is spent", 2500)
        held = counts(final_checkpoint(gang).data["path"])
        loss = gang.server.series(events.LOSS)
        assert sum(held) == 2500
        assert held[:4] == [len(loss[w][0]) for w in range(4)]
        assert sorted(np.concatenate([x for x, _ in loss.values()]).tolist()) == list(range(1, 2501))
        lost = [e for e in gang.server.events("left") if not e.data["expected"]]
        assert kills >= 5
        assert len(lost) >= 5  # some are killed before they have joined
        assert gang.leftovers() == []


def test_gradients_that_stay_not_finite_fail_the_run(tmp_path: Path) -> None:
    with Gang(spec_of(problem=python("NotFinite", first=6, last=10_000)), tmp_path) as gang:
        word = gang.end()
        assert (word.outcome, word.cause, word.version) == (Outcome.FAILED, Cause.NON_FINITE, 5)
        assert [e.level for e in gang.server.events("warning")] == ["warning"]
        assert gang.server.events("checkpoint") == []


def test_a_few_that_are_not_finite_are_counted_and_passed_over(tmp_path: Path) -> None:
    with Gang(spec_of(problem=python("NotFinite", first=3, last=5)), tmp_path) as gang:
        assert gang.end().version == 20
        assert max(b.progress.refused for b in gang.server.batches() if b.progress) == 3
        _, losses = gang.server.series(events.LOSS)[0]
        assert np.isfinite(losses).all()


def test_an_error_in_the_loss_names_itself(tmp_path: Path) -> None:
    with Gang(spec_of(problem=python("Raises")), tmp_path) as gang:
        word = gang.trainers[0].end()
        assert word is not None
        assert (word.outcome, word.cause) == (Outcome.FAILED, Cause.USER_CODE)
        assert "the moon is in the wrong quarter" in word.detail
        assert "problems.py" in word.detail


def test_an_error_in_the_data_fails_the_server_before_it_listens(tmp_path: Path) -> None:
    with Gang(spec_of(problem=python("NoData")), tmp_path, trainers=0) as gang:
        word = gang.server.end()
        assert word is not None
        assert (word.cause, "no such data" in word.detail) == (Cause.DATA, True)


def test_a_killed_server_is_noticed_at_once_and_leaks_no_memory(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    with Gang(spec_of(problem=problem, workers=2, budget={"updates": 10**6}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 0)
        gang.server.kill()
        began = time.monotonic()
        words = [m.end() for m in gang.all[1:]]
        assert time.monotonic() - began < 3.0
        assert {w.outcome for w in words if w} == {Outcome.SERVER_LOST}
        assert Exit.read(gang.server.work_dir) is None
        assert list(Path("/dev/shm").glob(gang.shm_prefix + "*")) == []


def test_a_restarted_server_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    work = spec_of(problem=problem, budget={"updates": 1500}, checkpoints={"every_seconds": 0.2})
    with Gang(work, tmp_path) as first:
        first.wait_for(lambda: len(first.server.events("checkpoint")) >= 2)
        first.server.kill()
        saved = first.server.events("checkpoint")[-1].data
    with Gang(work, tmp_path, attempt=2, restore=saved["path"]) as second:
        assert second.end().version == 1500
        [restored] = second.server.events("restored")
        assert restored.data["version"] == saved["version"] > 0
        assert counts(final_checkpoint(second).data["path"])[0] == 1500


def test_a_trainer_asked_to_leave_does_so_in_order(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    work = spec_of(problem=problem, workers={"min": 1, "max": 2}, budget={"updates": 800})
    with Gang(work, tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 0)
        gang.trainers[1].ask_to_stop()
        word = gang.trainers[1].end()
        assert word is not None
        assert word.outcome is Outcome.STOPPED
        assert gang.end().version == 800
        left = [e for e in gang.server.events("left") if e.data["worker"] == 1]
        assert [e.data["expected"] for e in left] == [True]


def test_strangers_are_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    with Gang(spec_of(problem=problem, budget={"updates": 1000}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 0)
        forger = gang.start(Role.TRAINER, 0, run_key=b"a wrong key")
        late = gang.start(Role.TRAINER, 0, epoch=0)
        earlier = gang.start(Role.TRAINER, 0, member=0)
        with socket.socket(socket.AF_UNIX) as vandal:
            vandal.connect(str(gang.runtime / "server"))
            vandal.sendall(random.Random(0).randbytes(2000))
            words = [m.end() for m in (forger, late, earlier)]
        assert [w.cause for w in words if w] == [Cause.FENCED] * 3
        assert gang.end().version == 1000
        refused = " ".join(e.message for e in gang.server.events("refused"))
        for reason in ("not the key", "epoch 0", "a later trainer 0 already", "not a frame"):
            assert reason in refused


def test_a_later_member_takes_the_place_of_one_that_was_given_up_but_lives(tmp_path: Path) -> None:
    problem = {"kind": "ledger", "compute_seconds": 0.001}
    with Gang(spec_of(problem=problem, budget={"updates": 1000}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 0)
        heir = gang.start(Role.TRAINER, 0)
        given_up = gang.trainers[0].end()
        assert given_up is not None
        assert given_up.cause is Cause.FENCED
        assert "a later member has its place" in given_up.detail
        assert gang.end().version == 1000
        word = Exit.read(heir.work_dir)
        assert word is not None
        assert word.outcome is Outcome.COMPLETED
        assert counts(final_checkpoint(gang).data["path"])[0] == 1000
        assert len([e for e in gang.server.events("left") if not e.data["expected"]]) == 0


def test_a_silent_connection_is_cut(tmp_path: Path) -> None:
    work = spec_of(problem={"kind": "ledger", "compute_seconds": 0.05}, budget={"updates": 200})
    with Gang(work, tmp_path) as gang, socket.socket(socket.AF_UNIX) as silent:
        gang.wait_for(lambda: gang.version > 0)
        silent.connect(str(gang.runtime / "server"))
        silent.settimeout(10)
        assert b"no join came in time" in silent.recv(4096)


def test_a_slot_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(Failure, match=r"a run of 4 trainers needs 953674316\.4 MiB, \d+\.\d MiB are free") as caught:
        shared_memory.check_room(10**15, "a run of 4 trainers")
    assert caught.value.cause is Cause.SHARED_MEMORY


def test_a_lost_evaluator_costs_the_run_nothing_but_its_last_evaluation(tmp_path: Path) -> None:
    work = spec_of(problem={"kind": "ledger", "compute_seconds": 0.001}, budget={"updates": 300})
    with Gang(work, tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 0)
        assert gang.evaluator is not None
        gang.evaluator.kill()
        gang.start(Role.EVALUATOR)
        assert gang.end().version == 300
        assert [e.data["version"] for e in gang.server.events("evaluated")][-1] == 300


def test_a_machine_without_shared_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "not mounted")
    with pytest.raises(Failure, match=r"is not there: .* mount a tmpfs") as refused:
        shared_memory.check_room(1, "a run of 4 trainers")
    assert refused.value.cause is Cause.SHARED_MEMORY


def test_a_slot_that_is_let_go_gives_its_memory_back() -> None:
    size = SlotSize(1024, 1024, 0, 0, 0)
    before = len(os.listdir("/proc/self/fd"))
    made = Slot.create(f"trainhub-test-{os.getpid()}", size)
    opened, nameless = Slot.open(made.name, size), Slot.anonymous(size)
    made.unlink()
    assert opened.memory is not None
    assert nameless.memory is not None
    weights = opened.weights
    del made, opened, nameless
    weights.fill_(1.0)  # what still looks at it keeps its mapping
    del weights
    assert len(os.listdir("/proc/self/fd")) == before
