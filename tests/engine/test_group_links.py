"""What the devices of a group send each other over gloo, between real processes: sums, bytes, and one that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
APART = ["unshare", "--net", "--"]
"""A network of its own, whose loopback carries nothing else: needs the right to make one."""


def run_group(size: int, kind: str, *arguments: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `tests.engine.gloo_group` in processes of its own: it forks, which pytest's process may not."""
    command = [sys.executable, "-m", "tests.engine.gloo_group", str(size), kind, *arguments]
    before = APART if alone else []
    return subprocess.run([*before, *command], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sums_over_gloo_are_those_of_devices_that_take_turns_to_the_bit(size: int) -> None:
    found = told(run_group(size, "sums"))
    assert found["same"] is True
    assert len(set(found["hashes"])) == 1


def test_what_goes_over_the_wire_is_what_the_formula_says() -> None:
    if subprocess.run([*APART, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a network of its own")
    found = told(run_group(2, "step", alone=True))
    # The kernel's count of loopback, both devices together: headers come on top, of 66 bytes a packet and gloo's own.
    assert found["formula"] <= found["wire"] / found["steps"] <= 1.04 * found["formula"]
    assert found["counted"] == found["formula"]


def test_a_device_that_dies_is_seen_at_once_by_name() -> None:
    found = told(run_group(3, "death"))
    assert found["seconds"] < 2.0
    assert found["words"].startswith(f"device 2 of 3 of the test (process {found['pid']}) was killed by SIGKILL")


def test_one_that_dies_is_told_of_to_whom_nothing_else_would_tell() -> None:
    found = told(run_group(3, "watch"))
    assert (found["early"], found["noticed"]) == (False, True)
    assert found["words"].startswith("device 2 of 3 of the test")
    assert told(run_group(3, "calm")) == {"noticed": False, "threads": 1}


def test_devices_die_with_their_leader() -> None:
    done = run_group(3, "leader")
    assert done.returncode == -signal.SIGKILL
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Raises ProcessLookupError once the process is gone or is nobody's any more."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        time.sleep(0.01)
