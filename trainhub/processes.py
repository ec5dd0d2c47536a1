"""Processes named so that a reused pid is never hit, and a supervisor that starts, restarts and stops them.

A pid alone says little: it is reused. A pid with its start time (field 22 of /proc/<pid>/stat, in clock ticks since
boot) is one process and no other, also across a restart of whoever wrote it down.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""Whoever ran this long is started again without delay."""

_libc = ctypes.CDLL(None, use_errno=True)  # loaded here, since nothing may be loaded between fork and exec


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot. None: it is gone, or a zombie."""
    try:
        # The name in field 2 may hold spaces and parentheses, so count from the last one.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(rest[18])


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the process that started at `ticks` still runs."""
    return start_ticks(pid) == ticks


def end(pid: int, ticks: int, *, ask: signal.Signals = signal.SIGTERM, grace_seconds: float = 5.0) -> bool:
    """Ask one process to leave, and kill it when it has not after `grace_seconds`. False: it was gone already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The handle is fixed to whatever has the pid now; only then is the comparison worth something.
        if not is_alive(pid, ticks):
            return False
        for number, patience in ((ask, grace_seconds), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience)[0]:
                break
        return True
    finally:
        os.close(handle)


def die_with_parent() -> None:
    """Between fork and exec: be asked to end when the parent is killed and can ask no more."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


@dataclass(frozen=True)
class Program:
    """One long-running process of the stack.

    `user`, `group`: whom it runs as when not as us. `pass_fds`: open files it inherits.
    """

    name: str
    arguments: Sequence[str]
    environ: Mapping[str, str] | None = None
    output: Path | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 5.0
    user: int | None = None
    group: int | None = None
    pass_fds: tuple[int, ...] = ()

    def start(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as files:
            output = files.enter_context(self.output.open("ab")) if self.output else None
            return subprocess.Popen(
                self.arguments,
                cwd=self.cwd,
                env=None if self.environ is None else dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
                pass_fds=self.pass_fds,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop the others in order
                preexec_fn=die_with_parent,  # noqa: PLW1509  it takes no lock, so threads do not matter
            )


@dataclass
class Running:
    program: Program
    process: subprocess.Popen[bytes]
    ticks: int | None
    since: float
    delay_seconds: float = FIRST_DELAY_SECONDS
    again_at: float | None = None


@dataclass
class Supervisor:
    """Owner of the stack's processes. One thread: `start`, `watch` and `stop` are called in turn.

    `say` is told what a person at the terminal should know; `record` after each change which processes there are.
    """

    say: Callable[[str], None]
    record: Callable[[dict[str, tuple[int, int]]], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    running: dict[str, Running] = field(default_factory=dict)

    def start(self, program: Program) -> None:
        process = program.start()
        self.running[program.name] = Running(program, process, start_ticks(process.pid), self.clock())
        self._record()

    def _record(self) -> None:
        self.record(
            {
                name: (each.process.pid, each.ticks)
                for name, each in self.running.items()
                if each.ticks is not None and each.again_at is None
            }
        )

    def watch(self) -> None:
        """Start again what died, each with a back-off of its own. Call it some times a second."""
        for each in self.running.values():
            if each.again_at is None and each.process.poll() is not None:
                self._plan_restart(each)
            if each.again_at is not None and self.clock() >= each.again_at:
                self._restart(each)

    def _plan_restart(self, each: Running) -> None:
        if self.clock() - each.since >= STEADY_SECONDS:
            each.delay_seconds = FIRST_DELAY_SECONDS
        each.again_at = self.clock() + each.delay_seconds
        log = f" Its log: {each.program.output}" if each.program.output else ""
        how = how_it_ended(each.process)
        self.say(f"{each.program.name} {how}; starting it again in {each.delay_seconds:.1f} s.{log}")
        each.delay_seconds = min(2 * each.delay_seconds, LONGEST_DELAY_SECONDS)
        self._record()

    def _restart(self, each: Running) -> None:
        each.process = each.program.start()
        each.ticks = start_ticks(each.process.pid)
        each.since, each.again_at = self.clock(), None
        self._record()

    def stop(self, names: Iterable[str]) -> None:
        """Stop these in that order, each within its deadline."""
        for name in names:
            if (each := self.running.pop(name, None)) is not None:
                self._stop(each)
                self._record()

    def _stop(self, each: Running) -> None:
        if each.process.poll() is not None:
            return
        each.process.send_signal(each.program.stop_signal)
        try:
            each.process.wait(each.program.grace_seconds)
        except subprocess.TimeoutExpired:
            self.say(f"{each.program.name} did not stop within {each.program.grace_seconds:.0f} s; killing it")
            each.process.kill()
            each.process.wait(5)


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
