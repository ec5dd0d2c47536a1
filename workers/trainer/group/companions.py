"""The other devices of a machine group, as processes: forked by the first one, told what to do, and ended with it.

The trainer's own child is device 0 and leads. It forks the others before any tensor operation, so that they start from
the same clean process. Each has a socket to the leader, on which words go both ways; whoever hangs up has died. The
kernel kills the others when the leader dies, so that a group is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import msgpack

from workers.assignment import Cause
from workers.failures import Failure, last_lines
from workers.spec_errors import SpecError

Word = dict[str, Any]
MAX_WORD_BYTES = 64 * 1024
SILENCE_SECONDS = 180.0
"""After which a device that should say something counts as lost: more than its own collectives wait."""
DIAGNOSIS_SECONDS = 2.0
"""How long the leader looks for the device that died, when a collective says that one has."""
FAREWELL_SECONDS = 5.0
LEAVING_SECONDS = 0.2
PR_SET_PDEATHSIG = 1


class Line:
    """One end of a socket between the leader and another device. Words are msgpack maps: no code, no pickle."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def say(self, word: Word, *, fds: tuple[int, ...] = ()) -> None:
        """Raises OSError where the other side is gone."""
        socket.send_fds(self.socket, [msgpack.packb(word)], list(fds))

    def hear(self) -> tuple[Word, list[int]] | None:
        """Wait for a word, and the descriptors that came with it. None: the other side is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, MAX_WORD_BYTES, 4)
        except OSError:
            return None
        return (msgpack.unpackb(data, strict_map_key=False), fds) if data else None


@dataclass(frozen=True)
class Companion:
    """A device's process, as the leader knows it."""

    rank: int
    pid: int
    line: Line


class Companions:
    """All devices of a group but the first. Owned by the leader."""

    def __init__(self, title: str, found: list[Companion]) -> None:
        self._title = title
        self._found = found
        self._over, self._ends = os.pipe()
        """A pipe that is hung up when the group is over."""
        self._watch: threading.Thread | None = None

    @classmethod
    def fork(cls, title: str, size: int, live: Callable[[int, Line], None]) -> Companions:
        """Fork devices 1 to `size` - 1. Each calls `live` with its rank and its line, and ends when that returns.

        `title` is what messages call the group. Called before any tensor operation of this process.
        """
        found: list[Companion] = []
        leader = os.getpid()
        for rank in range(1, size):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
            if pid == 0:
                for other in [ours, *(c.line.socket for c in found)]:
                    other.close()
                _live(rank, Line(theirs), live, leader)
            theirs.close()
            found.append(Companion(rank, pid, Line(ours)))
        return cls(title, found)

    @property
    def size(self) -> int:
        """Of the group, its leader included."""
        return len(self._found) + 1

    def say(self, word: Word, *, fds: tuple[int, ...] = ()) -> None:
        """Tell all of them. Raises Failure naming one that is gone."""
        for companion in self._found:
            try:
                companion.line.say(word, fds=fds)
            except OSError:
                raise self._lost(companion) from None

    def hear(self) -> list[Word]:
        """One word of each, in the order of ranks. Raises Failure naming the device that failed or died."""
        waiting = {c.line.socket.fileno(): c for c in self._found}
        words: dict[int, Word] = {}
        deadline = time.monotonic() + SILENCE_SECONDS
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                ranks = ", ".join(str(c.rank) for c in waiting.values())
                raise Failure(Cause.CRASHED, f"{self._title}: no word of device {ranks} in {SILENCE_SECONDS:.0f} s")
            for fd in readable:
                companion = waiting.pop(fd)
                words[companion.rank] = self._word_of(companion)
        return [words[c.rank] for c in self._found]

    def _word_of(self, companion: Companion) -> Word:
        heard = companion.line.hear()
        if heard is None:
            raise self._lost(companion)
        word = heard[0]
        if "failed" in word:
            raise Failure(Cause(word["cause"]), f"{self._name(companion)}: {word['failed']}")
        return word

    def watch(self, on_death: Callable[[], None]) -> None:
        """Have a thread of its own call `on_death`, once, as soon as one of them is gone; it ends with the group.

        For what does not see that by itself: who waits for a GPU's exchange waits for a dead device, too.
        """

        def look() -> None:
            if self._over not in _hung_up(self._over, *(c.line.socket.fileno() for c in self._found)):
                on_death()

        self._watch = threading.Thread(target=look, name="watch over the group", daemon=True)
        self._watch.start()

    def diagnose(self) -> None:
        """A collective says that a device is gone. Raises Failure naming it, if one is found in a moment."""
        deadline = time.monotonic() + DIAGNOSIS_SECONDS
        by_fd = {c.line.socket.fileno(): c for c in self._found}
        while by_fd and (left := deadline - time.monotonic()) > 0:
            for fd in select.select(list(by_fd), [], [], left)[0]:
                self._word_of(by_fd.pop(fd))  # a word of one that is well says nothing

    def _lost(self, companion: Companion) -> Failure:
        return Failure(Cause.CRASHED, f"{self._name(companion)} {_how_it_ended(companion.pid)}; the group ends with it")

    def _name(self, companion: Companion) -> str:
        return f"device {companion.rank} of {self.size} of {self._title} (process {companion.pid})"

    def end(self) -> None:
        """Hang up; they leave by themselves, or are killed. Called at the group's end, however it ends."""
        os.close(self._ends)
        if self._watch is not None:
            self._watch.join(FAREWELL_SECONDS)
        os.close(self._over)
        for companion in self._found:
            companion.line.socket.close()
        deadline = time.monotonic() + FAREWELL_SECONDS
        for companion in self._found:
            while not _ended(companion.pid):
                if time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(companion.pid, signal.SIGKILL)
                time.sleep(0.005)


def _hung_up(*fds: int) -> list[int]:
    """Wait until the other end of one of these is closed; returns those. Words that come are for others to hear."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, 0)
    return [fd for fd, _ in poll.poll()]


def _ended(pid: int) -> bool:
    """Whether a child of this process has ended; takes its status where it has."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _how_it_ended(pid: int) -> str:
    deadline = time.monotonic() + DIAGNOSIS_SECONDS
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            break
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        time.sleep(0.005)
    return "hung up"


def _live(rank: int, line: Line, live: Callable[[int, Line], None], leader: int) -> NoReturn:
    """The whole life of a forked device. It says what went wrong, and leaves without the ceremonies of a program:
    what is registered to happen at exit is the leader's."""
    code = 1
    try:
        _die_with(leader)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=_leave_with, args=(line,), name="watch over the leader", daemon=True).start()
        live(rank, line)
        code = 0
    except Failure as failure:
        _tell(line, failure.cause, str(failure))
    except SpecError as error:
        _tell(line, Cause.SPEC, str(error))
    except BaseException as error:  # noqa: BLE001 - a process ends here; what was lost is said
        print(last_lines(error), file=sys.stderr)
        _tell(line, Cause.ENGINE, last_lines(error))
    finally:
        os._exit(code)


def _tell(line: Line, cause: Cause, detail: str) -> None:
    with contextlib.suppress(OSError):
        # And then it ends: the others wait for its part of an exchange. What it has said can be read all the same.
        line.say({"failed": detail, "cause": str(cause)})


def _leave_with(line: Line) -> None:
    """Leave when the leader hangs up, also out of an exchange that waits for its part and would for minutes."""
    _hung_up(line.socket.fileno())
    time.sleep(LEAVING_SECONDS)  # who is not in one leaves by itself
    os._exit(0)


def _die_with(leader: int) -> None:
    """Have the kernel kill this process when its parent dies (prctl(2)), also if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leader:
        os._exit(1)
