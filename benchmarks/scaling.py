"""2 to 64 trainers on one server: updates a second, as a share of what its memory allows.

Trainers are sessions that push the same gradient after a sleep; one process on one core drives them all. A server child
has the other core. The sleep is chosen so that 64 trainers ask for a third more than the server can do. What it can do
is measured beside each row, at the same size: `alone`, one trainer that never sleeps, its cycle taken as the server's
service time; and `pass`, the bare arithmetic and copy of the floor.

Gradients that wait at the same time go in by one walk over the server's weights. Each row has the same server without
that beside it (`separately`); the last rows, of trainers that do not sleep at all, show what it is worth by how many
wait.
"""

from __future__ import annotations

import heapq
import os
import select
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.children import KERNELS, SERVER_CORE, TRAINER_CORE, stop
from benchmarks.floor import FusedPass
from benchmarks.pushing import Pusher, cycles, serve, spec_of
from benchmarks.report import Row

FLOATS = 11_000_000
TRAINERS = (2, 4, 8, 16, 32, 64)
SATURATED = 64
OVERLOAD = 4 / 3
BAR = 0.9
ALONE_CYCLES, WARM_UP = 60, 20
PASSES = 40
WITHOUT_SLEEP = (2, 4, 8)
COUNTED_SLEEPS, COUNTED_CYCLES = 6, 200
"""What is measured: so many sleeps of a trainer, or without sleep so many cycles. A sixth of it before is not."""


class Alone(NamedTuple):
    """Seconds of an update, of the server by itself and of its bare arithmetic."""

    cycle: float
    fused: float


class Fleet:
    """Trainers that sleep, push, and sleep again once they are answered. Driven by one thread: they compute nothing."""

    def __init__(self, pushers: list[Pusher], sleep_seconds: float) -> None:
        self._sleep = sleep_seconds
        self._by_fd = {p.session.socket.fileno(): p for p in pushers}
        now = time.monotonic()
        # Spread over one sleep, as they would be after a while.
        self._due = [(now + sleep_seconds * i / len(pushers), fd) for i, fd in enumerate(self._by_fd)]
        heapq.heapify(self._due)
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)

    def run(self, seconds: float) -> float:
        """Drive them for so long; returns updates a second, by the versions of the first and the last answer."""
        end = time.monotonic() + seconds
        versions: list[tuple[float, int]] = []
        while (now := time.monotonic()) < end:
            while self._due and self._due[0][0] <= now:
                self._by_fd[heapq.heappop(self._due)[1]].push()
            until = min(self._due[0][0], end) if self._due else end
            for fd, _ in self._poll.poll(max(0.0, until - now)):
                version, at = self._by_fd[fd].answer(), time.monotonic()
                versions.append((at, version))
                heapq.heappush(self._due, (at + self._sleep, fd))
        (first, version), (last, newest) = versions[0], versions[-1]
        return (newest - version) / (last - first)

    def settle(self) -> None:
        """Take in what is still under way, so that all can leave."""
        for fd in set(self._by_fd) - {fd for _, fd in self._due}:
            self._by_fd[fd].answer()
        self._poll.close()


def updates_per_second(trainers: int, sleep_seconds: float, seconds: float, *, together: bool) -> float:
    """Of a run with so many trainers, over so many seconds. `together` as in `pushing.serve`."""
    spec, cores = spec_of(FLOATS, trainers), os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        server = serve(spec, Path(path), together=together)
        os.sched_setaffinity(0, {TRAINER_CORE})
        try:
            pushers = [Pusher(spec, Path(path), worker) for worker in range(trainers)]
            for pusher in pushers:
                pusher.start()
            fleet = Fleet(pushers, sleep_seconds)
            fleet.run(seconds / 6)
            found = fleet.run(seconds)
            fleet.settle()
            for pusher in pushers:
                pusher.close()
        finally:
            os.sched_setaffinity(0, cores)
            stop(server)
    return found


def alone() -> Alone:
    """Both on the server's core, one after the other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE})
    fused = statistics.median(FusedPass(spec_of(FLOATS, 1), KERNELS).times(PASSES))
    os.sched_setaffinity(0, cores)
    return Alone(statistics.median(cycles(FLOATS, ALONE_CYCLES, WARM_UP)), fused)


def row(trainers: int, sleep_seconds: float) -> Row:
    bare = alone()
    seconds = COUNTED_SLEEPS * sleep_seconds or COUNTED_CYCLES * bare.cycle
    together, separately = (
        updates_per_second(trainers, sleep_seconds, seconds, together=together) for together in (True, False)
    )
    saturated = sleep_seconds and trainers == SATURATED
    return {
        "trainers": trainers,
        "sleep_s": round(sleep_seconds, 2),
        "asked_per_second": round(trainers / (sleep_seconds + bare.cycle), 1) if sleep_seconds else "",
        "updates_per_second": round(together, 1),
        "separately_per_second": round(separately, 1),
        "gain": round(together / separately, 2),
        "alone_per_second": round(1 / bare.cycle, 1),
        "share_of_alone": round(together * bare.cycle, 3),
        "separately_share": round(separately * bare.cycle, 3),
        "share_of_pass": round(together * bare.fused, 3),
        "bar": BAR if saturated else "",
    }


def main() -> list[Row]:
    torch.set_num_threads(1)
    sleep_seconds = SATURATED * alone().cycle / OVERLOAD
    return [row(n, sleep_seconds) for n in TRAINERS] + [row(n, 0.0) for n in WITHOUT_SLEEP]
