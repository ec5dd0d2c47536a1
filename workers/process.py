"""Entry of a child: server, trainer, evaluator or simulation of one run.

The agent imports this module to name `main`, so torch is imported inside. A child holds no database or broker
credentials; all it knows is its `Assignment`. It ends by writing `exit.json`: without one it crashed.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.assignment import Assignment, Cause, Exit, Outcome, Role
from workers.failures import Failure, ServerLost, is_out_of_memory, last_lines
from workers.reporting import Reporter
from workers.spec import RunSpec
from workers.spec_errors import SpecError

ROLES = {
    Role.SERVER: "workers.server.loop",
    Role.TRAINER: "workers.trainer.loop",
    Role.EVALUATOR: "workers.evaluator",
    Role.SIMULATION: "workers.simulator.child",
}
NICENESS = {Role.EVALUATOR: 10, Role.SIMULATION: 10}
"""Nobody waits for these: live training, agents and pages go first."""


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class StopSignal:
    """SIGTERM as something one can wait on beside sockets. Owned by the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def listen(self) -> None:
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._requested)

    def _requested(self, signum: int, frame: object) -> None:
        self.requested = True

    def fileno(self) -> int:
        return self._read.fileno()

    def wait(self, seconds: float, *others: HasFileno) -> None:
        """Wait for `seconds`; a stop, or anything to read on `others`, ends it early."""
        if not self.requested:
            select.select([self.fileno(), *(o.fileno() for o in others)], [], [], max(0.0, seconds))


@dataclass(frozen=True)
class Child:
    """What every role gets: who it is, what to train, where to report, when to leave."""

    assignment: Assignment
    spec: RunSpec
    reporter: Reporter
    stop: StopSignal

    @property
    def data(self) -> Path | None:
        """Folder of the data set that the problem names."""
        return Path(self.assignment.data) if self.assignment.data else None


def main(assignment: Assignment) -> None:
    """Run one child to its end. Never raises: what went wrong is in `exit.json` and `output.log`."""
    work_dir = Path(assignment.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    _leave_the_terminal()
    stop = StopSignal()
    stop.listen()
    _redirect_output(work_dir)
    _write_identity(work_dir)
    print(f"{_title(assignment)} of run {assignment.run}, attempt {assignment.attempt}, epoch {assignment.epoch}")
    reporter = Reporter(work_dir)
    reporter.start()
    try:
        last_word = _play(assignment, reporter, stop)
    except BaseException as error:  # noqa: BLE001 - a process ends here; what was lost is said
        last_word = _explain(error)
        print(error if isinstance(error, ServerLost) else last_lines(error), file=sys.stderr)
    reporter.close()
    print(f"{last_word.outcome}{f' ({last_word.cause})' if last_word.cause else ''}: {last_word.detail or 'in order'}")
    last_word.write(work_dir)
    sys.exit(0 if last_word.outcome in (Outcome.COMPLETED, Outcome.STOPPED) else 1)


def _title(assignment: Assignment) -> str:
    return f"trainer {assignment.worker}" if assignment.role is Role.TRAINER else str(assignment.role)


def _play(assignment: Assignment, reporter: Reporter, stop: StopSignal) -> Exit:
    assert "torch" in sys.modules, "a child is forked from a forkserver that has torch preloaded"
    assert "django" not in sys.modules, "a child never loads Django"
    import torch

    torch.set_num_threads(assignment.threads)
    # What the forkserver loaded lives as long as the child: collecting over it again and again costs pauses.
    gc.freeze()
    os.nice(NICENESS.get(assignment.role, 0))
    spec = RunSpec.parse(json.loads(assignment.spec))
    role = importlib.import_module(ROLES[assignment.role])
    result: Exit = role.run(Child(assignment, spec, reporter, stop))
    return result


def _explain(error: BaseException) -> Exit:
    match error:
        case Failure():
            return Exit(Outcome.FAILED, error.cause, str(error))
        case ServerLost():
            return Exit(Outcome.SERVER_LOST, None, str(error))
        case SpecError():
            return Exit(Outcome.FAILED, Cause.SPEC, str(error))
        case OSError() if error.errno == errno.ENOSPC and str(error.filename or "").startswith("/dev/shm"):
            return Exit(Outcome.FAILED, Cause.SHARED_MEMORY, str(error))
        case _ if is_out_of_memory(error):
            return Exit(Outcome.FAILED, Cause.OUT_OF_MEMORY, str(error) or "out of memory")
        case _:
            return Exit(Outcome.FAILED, Cause.ENGINE, last_lines(error))


def _leave_the_terminal() -> None:
    """A terminal's Ctrl-C goes to the whole group; whether this run ends is the agent's decision."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpgrp() != os.getpid():
        os.setsid()


def _redirect_output(work_dir: Path) -> None:
    log = os.open(work_dir / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")


def _write_identity(work_dir: Path) -> None:
    """Pid and start time together name a process for good; a pid alone is used again."""
    partial = work_dir / "child.json.part"
    partial.write_text(json.dumps({"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}))
    os.replace(partial, work_dir / "child.json")


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot (proc(5), stat, field 22)."""
    # The name in field 2 may hold spaces and brackets: count from behind its last bracket.
    behind_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(behind_name.split()[19])
