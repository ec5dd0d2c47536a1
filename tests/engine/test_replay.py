"""The log of a real run, and the weights that come out of it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.harness import TRANSPORTS, Gang, Transport, spec_of
from workers import checkpoint
from workers.assignment import Role
from workers.failures import Failure
from workers.server import event_log
from workers.server.event_log import FILE_NAME, Fate
from workers.simulator.replay import Refused, replay

CNN = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
    "rate": {"kind": "staleness-inverse"},
    "batch_size": 32,
}


def log_of(gang: Gang) -> event_log.Log:
    return event_log.read(gang.server.work_dir / FILE_NAME)


def final(gang: Gang) -> Path:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return Path(event.data["path"])


def ran(folder: Path, transport: Transport = "shared memory", **changes: Any) -> tuple[event_log.Log, Path]:
    with Gang(spec_of(**CNN | changes), folder, transport=transport) as gang:
        gang.end()
        return log_of(gang), final(gang)


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 4, "budget": {"updates": 200}},
        {"workers": 4, "budget": {"updates": 40}, "optimizer": {"kind": "adamw", "learning_rate": 0.01}},
        {"workers": 3, "budget": {"updates": 60}, "batch_norm": {"kind": "server"}, "rate": {"kind": "window"}},
        {"workers": 4, "budget": {"updates": 30}, "gate": {"kind": "softsync", "c": 2, "waiting": False}},
        {"workers": 4, "budget": {"updates": 20}, "gate": {"kind": "backup", "extra": 1}},
        {"workers": 3, "budget": {"updates": 30}, "gate": {"kind": "ssp", "bound": 1}},
    ],
    ids=["cnn", "adamw", "server-batch-norm-and-window", "softsync", "backup", "ssp"],
)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_live_run_comes_out_again_to_the_bit(tmp_path: Path, changes: dict[str, Any], transport: Transport) -> None:
    log, saved = ran(tmp_path, transport, **changes)
    assert log.complete
    assert sum(r.group_end for r in log.records if r.fate == Fate.APPLIED) == changes["budget"]["updates"]
    again = replay(log)
    assert again.version == changes["budget"]["updates"]
    assert again.hash == log.hash
    assert again.differences(saved) == []


BY_THEMSELVES: dict[str, dict[str, Any]] = {
    "candidate": {"waiting": {"kind": "candidate"}, "batch_norm": {"kind": "server"}},
    "overwrite-of-two": {"waiting": {"kind": "candidate", "mode": "overwrite", "k": 2}},
    "easgd": {"outer": {"kind": "easgd", "steps": 3}},
    "diloco": {"outer": {"kind": "diloco", "steps": 3}, "gate": {"kind": "sync"}},
    "delayed-nesterov": {"outer": {"kind": "delayed-nesterov", "steps": 3}},
}


@pytest.mark.parametrize("kind", BY_THEMSELVES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_trainers_that_step_by_themselves_come_out_again(tmp_path: Path, kind: str, transport: Transport) -> None:
    changes = {"rate": {"kind": "constant"}, "workers": 3, "budget": {"updates": 20}, "schedule": {"kind": "step"}}
    log, saved = ran(tmp_path, transport, **changes | BY_THEMSELVES[kind])
    again = replay(log)
    assert again.gradients == sum(r.gradients for r in log.records if r.fate == Fate.APPLIED) > 20
    assert again.hash == log.hash
    assert again.differences(saved) == []


def test_a_log_of_a_run_on_gpus_is_refused_with_the_reason(tmp_path: Path) -> None:
    log, _ = ran(tmp_path, budget={"updates": 3})
    there = replace(log, header=replace(log.header, device="cuda"))
    with pytest.raises(Refused, match="this run computed on cuda, where sums are made in another order each time"):
        replay(there)


def test_a_killed_candidate_and_its_successor_come_out_again(tmp_path: Path) -> None:
    work = CNN | BY_THEMSELVES["candidate"] | {"rate": {"kind": "constant"}, "workers": 2, "budget": {"updates": 60}}
    with Gang(spec_of(**work), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 5)
        gang.trainers[1].kill()
        gang.start(Role.TRAINER, 1)
        gang.server.end()
        log, saved = log_of(gang), final(gang)
    assert [r.worker for r in log.records if r.fate == Fate.LOST] == [1]
    assert replay(log).differences(saved) == []


def test_a_killed_trainer_and_its_successor_come_out_again(tmp_path: Path) -> None:
    with Gang(spec_of(**CNN | {"workers": 2, "budget": {"updates": 150}}), tmp_path) as gang:
        gang.wait_for(lambda: gang.version > 10)
        gang.trainers[1].kill()
        gang.start(Role.TRAINER, 1)
        gang.server.end()
        log, saved = log_of(gang), final(gang)
    assert [r.worker for r in log.records if r.fate == Fate.LOST] == [1]
    assert replay(log).differences(saved) == []


def test_a_resumed_attempt_comes_out_again_from_its_checkpoint(tmp_path: Path) -> None:
    spec = spec_of(**CNN | {"workers": 2, "budget": {"updates": 2000}})
    with Gang(spec, tmp_path) as first:
        first.wait_for(lambda: first.version > 10)
        first.server.ask_to_stop()
        first.end()
        middle = final(first)
    with Gang(spec, tmp_path, attempt=2, restore=str(middle)) as second:
        second.wait_for(lambda: second.version > 0)
        second.server.ask_to_stop()
        second.end()
        log, saved = log_of(second), final(second)
    assert log.header.restored == checkpoint.read(middle)[1].version
    with pytest.raises(Refused, match="went on from the checkpoint of version"):
        replay(log)
    assert replay(log, restored=middle).differences(saved) == []


def test_another_machine_is_refused_in_words(tmp_path: Path) -> None:
    log, _ = ran(tmp_path, workers=1, budget={"updates": 3})
    other = replace(log, header=replace(log.header, cpu="ABACUS"))
    with pytest.raises(Refused, match=r"cpu is .* here and was ABACUS there"):
        replay(other)


def test_a_changed_record_is_found_out(tmp_path: Path) -> None:
    log, _ = ran(tmp_path, workers=1, budget={"updates": 5})
    records = [r._replace(scale=0.5) if r.step == 2 else r for r in log.records]
    with pytest.raises(Failure, match="dealt with the gradients in another way"):
        replay(replace(log, records=records, hash="0" * 64))


def test_a_damaged_file_is_refused_and_a_torn_tail_left_out(tmp_path: Path) -> None:
    with Gang(spec_of(workers=1, budget={"updates": 50}), tmp_path) as gang:
        gang.end()
        path = gang.server.work_dir / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    torn = event_log.read(path)
    assert not torn.complete
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Failure, match="is damaged"):
        event_log.read(path)
    path.write_bytes(b"something else")
    with pytest.raises(Failure, match="is no gradient log"):
        event_log.read(path)


def test_threads_are_left_as_they_were(tmp_path: Path) -> None:
    log, _ = ran(tmp_path, workers=1, budget={"updates": 2})
    before = torch.get_num_threads()
    replay(log)
    assert torch.get_num_threads() == before
