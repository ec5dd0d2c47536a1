"""Child processes of a node agent: forked from a warm forkserver, adopted after an agent's death, ended.

The forkserver has torch loaded, so a child is there in milliseconds and shares its memory; the agent itself
stays free of torch. A child is named by a pidfd, so no signal ever reaches a reused pid.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import signal
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

from trainhub.processes import start_ticks
from workers import process
from workers.assignment import Assignment, Cause, Exit, Outcome

_context = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the forkserver, which loads torch. The first child waits for it, later ones don't."""
    _context.set_forkserver_preload(["workers.preload"])
    forkserver.ensure_running()


@dataclass
class Child:
    """A living or ended child. `fd` is its pidfd; None when it had ended before we could open one."""

    work_dir: Path
    fd: int | None
    process: multiprocessing.context.ForkServerProcess | None = None

    @property
    def alive(self) -> bool:
        if self.fd is None:
            return False
        # A pidfd turns readable when its process ends.
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def send(self, number: signal.Signals) -> None:
        if self.fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        return self.fd is None or bool(select.select([self.fd], [], [], seconds)[0])

    def last_word(self) -> Exit:
        """How an ended child ended. One that left no word crashed."""
        left = Exit.read(self.work_dir)
        self.forget()
        return left or Exit(Outcome.FAILED, Cause.CRASHED, f"its process {self._how()}")

    def forget(self) -> None:
        """Let go of the process, alive or not."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _how(self) -> str:
        code = None
        if self.process is not None:
            self.process.join(1)
            code = self.process.exitcode
        if code is None:
            return "ended without a word"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def start(assignment: Assignment) -> Child:
    """Fork a child for this assignment into a fresh working directory."""
    work_dir = Path(assignment.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    for left in ("exit.json", "child.json"):  # An evaluator starts again in the same place
        (work_dir / left).unlink(missing_ok=True)
    child = _context.Process(target=process.main, args=(assignment,), daemon=False)
    child.start()
    assert child.pid is not None
    return Child(work_dir, _open(child.pid), child)


def adopt(work_dir: Path, *, patience_seconds: float = 0.0) -> Child:
    """Take over a child that an earlier agent started. It may have ended since.

    A child that was forked a moment before its agent died may still have to write who it is: wait that long.
    """
    note = work_dir / "child.json"
    deadline = time.monotonic() + patience_seconds
    while not note.exists():
        if time.monotonic() >= deadline:
            return Child(work_dir, None)
        time.sleep(0.02)
    noted = json.loads(note.read_text())
    fd = _open(noted["pid"])
    if fd is not None and start_ticks(noted["pid"]) != noted["start_ticks"]:
        os.close(fd)
        fd = None
    return Child(work_dir, fd)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
