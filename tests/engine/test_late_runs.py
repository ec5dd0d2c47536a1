"""Whole runs whose server, trainers and evaluator compute on a device that is not the host: a GPU's run but for CUDA.

Copies to and from that device are made only when somebody waits for them. A hand-over that is told of too early, or
weights that are used too early, would be of the version before: a ledger counts them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.harness import Gang, spec_of
from tests.engine.test_replay import final
from workers import checkpoint

ROOT = Path(__file__).resolve().parents[2]
# In an interpreter of its own: children are forked from it with their device exchanged, and must not find Django there.
RUN = """
import json, multiprocessing, sys
from pathlib import Path
import workers.evaluator, workers.server.loop, workers.trainer.loop
from tests.engine import harness
from tests.engine.late import LateDevice
from workers import devices
from workers.assignment import Role

harness.ForkServerProcess = multiprocessing.get_context("fork").Process
devices.of = lambda assignment, rank=0: print(f"device {rank} is late") or LateDevice()
with harness.Gang(harness.spec_of(**json.loads(sys.argv[2])), Path(sys.argv[1])) as gang:
    word = gang.end()
    for member in gang.all:
        for rank in range(gang.spec.shards if member.assignment.role is Role.TRAINER else 1):
            assert f"device {rank} is late" in member.log
    [saved] = [e.data for e in gang.server.events("checkpoint") if e.data["final"]]
    print(json.dumps([word.version, saved["path"], saved["metrics"], gang.leftovers()]))
"""


def run(folder: Path, **changes: Any) -> tuple[int, Path, dict[str, float]]:
    """Version, checkpoint and metrics at the end of a run on that device."""
    command = [sys.executable, "-c", RUN, str(folder), json.dumps(changes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=55)
    version, path, metrics, left = json.loads(done.stdout.splitlines()[-1])
    assert left == []
    return version, Path(path), metrics


def test_a_ledger_is_exact(tmp_path: Path) -> None:
    version, path, _ = run(tmp_path, workers=3, budget={"updates": 300})
    counts = checkpoint.read(path)[0]["counts"]
    assert (version, float(counts.sum()), set(counts[3:].tolist())) == (300, 300.0, {0.0})


DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "batch_size": 32,
    "workers": 2,
}
MORE: dict[str, dict[str, Any]] = {
    "served-batch-norm": {"batch_norm": {"kind": "server"}},
    "easgd": {"outer": {"kind": "easgd", "steps": 3}},
    "candidate": {"waiting": {"kind": "candidate"}, "delays": [{"kind": "latency", "push_seconds": 0.002}]},
}


@pytest.mark.parametrize("more", MORE)
def test_digits_are_learnt(tmp_path: Path, more: str) -> None:
    _, _, metrics = run(tmp_path, **DIGITS | MORE[more], budget={"passes": 8})
    assert metrics["accuracy"] > 0.8


GROUPS: dict[str, dict[str, Any]] = {
    "two-of-two": {"layout": {"kind": "hybrid", "shards": 2}},
    "one-of-three": {"layout": {"kind": "hybrid", "shards": 3}, "workers": 1, "batch_norm": {"kind": "server"}},
}


@pytest.mark.parametrize("layout", GROUPS)
def test_a_machine_group_s_devices_hold_their_own_part_and_come_where_host_memory_leads(
    tmp_path: Path, layout: str
) -> None:
    _, there, _ = run(tmp_path / "late", **DIGITS | GROUPS[layout] | {"workers": 1}, budget={"updates": 40})
    with Gang(spec_of(**DIGITS | GROUPS[layout] | {"workers": 1}, budget={"updates": 40}), tmp_path / "host") as gang:
        gang.end()
        here = final(gang)
    # The same numbers in the same order: whatever was copied too early or to a wrong place would be others.
    for name, tensor in checkpoint.read(here)[0].items():
        assert torch.equal(checkpoint.read(there)[0][name], tensor), name


def test_groups_learn_on_devices_that_are_late(tmp_path: Path) -> None:
    _, _, metrics = run(tmp_path, **DIGITS | GROUPS["two-of-two"], budget={"passes": 8})
    assert metrics["accuracy"] > 0.8
