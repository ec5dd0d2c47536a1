"""Pids are reused, processes ignore signals, programs die at once: what the helpers do then."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import eventually
from trainhub.processes import Program, Supervisor, end, is_alive, start_ticks

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def ticks_of(pid: int) -> int:
    ticks = start_ticks(pid)
    assert ticks is not None
    return ticks


def test_a_process_is_known_by_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    ticks = ticks_of(sleeper.pid)
    assert is_alive(sleeper.pid, ticks)
    assert not is_alive(sleeper.pid, ticks + 1)


def test_a_name_with_parentheses_does_not_confuse_the_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([odd, "60"])
    try:
        assert abs(ticks_of(process.pid) - ticks_of(os.getpid())) < 10_000_000
        assert is_alive(process.pid, ticks_of(process.pid))
    finally:
        process.kill()
        process.wait()


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    eventually(lambda: start_ticks(sleeper.pid) is None)


def test_it_ends_a_process_that_ignores_the_question() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert end(process.pid, ticks_of(process.pid), grace_seconds=0.2)
    assert process.wait(5) == -signal.SIGKILL
    process.stdout.close()


def test_it_never_hits_a_process_that_reused_the_pid(sleeper: subprocess.Popen[bytes]) -> None:
    assert not end(sleeper.pid, ticks_of(sleeper.pid) - 1)
    assert sleeper.poll() is None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_dies_again_and_again_is_started_with_growing_pauses() -> None:
    clock, said = Clock(), list[str]()
    supervisor = Supervisor(say=said.append, clock=clock)
    supervisor.start(Program("hasty", ["false"]))
    each = supervisor.running["hasty"]
    pauses = []
    for _ in range(7):
        each.process.wait(5)
        supervisor.watch()
        assert each.again_at is not None
        pauses.append(round(each.again_at - clock.now, 3))
        clock.now = each.again_at
        supervisor.watch()
        assert each.again_at is None
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert said[0].startswith("hasty ended with exit code 1; starting it again in 0.2 s")
    supervisor.stop(["hasty"])


def test_who_ran_long_is_started_again_soon() -> None:
    clock = Clock()
    supervisor = Supervisor(say=lambda _: None, clock=clock)
    supervisor.start(Program("steady", ["true"]))
    each = supervisor.running["steady"]
    each.delay_seconds, clock.now = 5.0, 11.0
    each.process.wait(5)
    supervisor.watch()
    assert each.again_at == pytest.approx(11.2)
    supervisor.stop(["steady"])


def test_it_stops_in_the_order_it_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    supervisor = Supervisor(say=lambda _: None)
    for name in ("first", "second"):
        shell = f"trap 'echo {name} >> {log}; exit' TERM; echo up >> {log}; while :; do sleep 0.01; done"
        supervisor.start(Program(name, ["sh", "-c", shell]))
    eventually(lambda: log.exists() and log.read_text() == "up\nup\n")
    supervisor.stop(["second", "first"])
    assert log.read_text() == "up\nup\nsecond\nfirst\n"


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import time; from pathlib import Path; from trainhub.processes import Program;"
        f"Path({str(told)!r}).write_text(str(Program('child', ['sleep', '60']).start().pid)); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    eventually(lambda: told.exists() and told.read_text() != "")
    child = int(told.read_text())
    ticks = ticks_of(child)
    parent.kill()
    parent.wait()
    eventually(lambda: not is_alive(child, ticks), seconds=5)
