"""What no parameter server can be faster than here: an echo between the two cores, and one pass over memory.

The pass is the fastest of several ways to do a rule's arithmetic and copy the weights to where a trainer reads them, in
a process that does nothing else: the compiled loop, writing past the caches or not, and tensor code in tiles.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.children import CONTEXT, SERVER_CORE
from workers.kernels import choosing, compiling
from workers.server import setup
from workers.server.core import ParameterServer
from workers.server.passes import EagerPass, HandOver, Pass, Step
from workers.spec import RunSpec
from workers.transport.frames import HEADER

FRAME_BYTES = HEADER.size + 48
RATE = 1e-6
TRIES = 5


class Echo:
    """The other end of a round trip over a Unix socket, on the server's core."""

    def __init__(self) -> None:
        self._mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process = CONTEXT.Process(target=self._run, args=(theirs, self._mine))
        self._process.start()
        theirs.close()

    @staticmethod
    def _run(theirs: socket.socket, mine: socket.socket) -> None:
        mine.close()  # or its hang-up would never be seen
        os.sched_setaffinity(0, {SERVER_CORE})
        while data := theirs.recv(4096):
            theirs.sendall(data)

    def times(self, count: int) -> list[float]:
        message, found = bytes(FRAME_BYTES), []
        for _ in range(count):
            began = time.perf_counter()
            self._mine.sendall(message)
            self._mine.recv(4096)
            found.append(time.perf_counter() - began)
        return found

    def close(self) -> None:
        self._mine.shutdown(socket.SHUT_RDWR)  # a child forked meanwhile holds it open
        self._process.join()
        self._mine.close()


class FusedPass:
    """A run's rules over vectors of their own, by the fastest way there is."""

    def __init__(self, spec: RunSpec, kernels: Path) -> None:
        self._core = setup.build(spec).core
        self._gradient = torch.full_like(self._core.weights, 1e-3)
        self._out = self._core.weights.clone()
        place = HandOver.of(self._core.tiling, gradient=self._gradient, weights=self._out, buffers=torch.zeros(0))
        self._step = Step(place, 0, RATE)
        found = {name: self._timed(walk, TRIES) for name, walk in self._ways(kernels)}
        self.way = min(found, key=lambda name: statistics.median(found[name]))
        self._walk = dict(self._ways(kernels))[self.way]

    def _ways(self, kernels: Path) -> Iterator[tuple[str, Pass]]:
        core = self._core
        yield "tensor code", EagerPass(core.weights, core.tiling, core.rules.optimizer, core.rules.compensation)
        path = compile_for(core, kernels)
        if path is None:
            return
        for name, streams in (("compiled", False), ("compiled, past the caches", True)):
            choosing.use(core, path, streams=streams)
            yield name, core.walk

    def _timed(self, walk: Pass, count: int) -> list[float]:
        found = []
        for _ in range(count):
            self._gradient.mul_(1.0)  # as in training, where a backward pass has just written it
            began = time.perf_counter()
            walk.one(self._step, RATE)
            found.append(time.perf_counter() - began)
        return found

    def times(self, count: int) -> list[float]:
        return self._timed(self._walk, count)


def copies(floats: int) -> Callable[[int], list[float]]:
    """Times of copies of so many floats: what the memory's bandwidth is."""
    source, target = torch.ones(floats), torch.empty(floats)

    def times(count: int) -> list[float]:
        found = []
        for _ in range(count):
            began = time.perf_counter()
            target.copy_(source)
            found.append(time.perf_counter() - began)
        return found

    return times


def compile_for(core: ParameterServer, kernels: Path) -> Path | None:
    """Have the kernel of these rules ready. None: they can't be fused, or there is no compiler."""
    text = choosing.text(core)
    return None if text is None else compiling.build(text, kernels)
