"""The cycle: push + apply (plain SGD) + pull, from the push's signal to the new version readable.

A real server child and a real trainer session, in processes of their own on cores of their own, one thread each,
telemetry on. Beside it, in the same run and taking turns with it, the floor: the round trip of an echo over the same
kind of socket between the same two cores, plus one fused pass (w -= lr g, copied out, tile by tile, the best of several
tile sizes) in a process that does nothing else.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.children import CONTEXT, SERVER_CORE, TRAINER_CORE, stop
from benchmarks.pushing import Pusher, serve, spec_of
from benchmarks.report import Row, millis, percentile
from workers.transport.frames import HEADER

SIZES = {"11 M": 11_000_000, "270 k": 270_000, "9 k": 9_000}
BARS = {"11 M": 1.5, "270 k": 2.0, "9 k": 3.0}
ROUNDS = 10
CYCLES = {"11 M": 20, "270 k": 200, "9 k": 500}
TILES = (16 * 1024, 32 * 1024, 64 * 1024, 256 * 1024, 1 << 30)
FRAME_BYTES = HEADER.size + 48


def echo(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data)


class Echo:
    """The other end of a round trip, on the server's core."""

    def __init__(self) -> None:
        self._mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process = CONTEXT.Process(target=self._run, args=(theirs, self._mine))
        self._process.start()
        theirs.close()

    @staticmethod
    def _run(theirs: socket.socket, mine: socket.socket) -> None:
        mine.close()  # or its hang-up would never be seen
        os.sched_setaffinity(0, {SERVER_CORE})
        echo(theirs)

    def times(self, count: int) -> list[float]:
        message, found = bytes(FRAME_BYTES), []
        for _ in range(count):
            began = time.perf_counter()
            self._mine.sendall(message)
            self._mine.recv(4096)
            found.append(time.perf_counter() - began)
        return found

    def close(self) -> None:
        self._mine.close()
        self._process.join()


class FusedPass:
    """w -= lr g, tile by tile, each tile copied out while it is in cache."""

    def __init__(self, floats: int) -> None:
        self._weights, self._gradient, self._out = torch.randn(floats), torch.randn(floats), torch.empty(floats)
        best = min(TILES, key=lambda tile: statistics.median(self._timed(tile, 5)))
        self._tile = best

    def _timed(self, tile: int, count: int) -> list[float]:
        tiles = [torch.split(t, tile) for t in (self._weights, self._gradient, self._out)]
        found = []
        for _ in range(count):
            began = time.perf_counter()
            for w, g, o in zip(*tiles, strict=True):
                w.add_(g, alpha=-1e-6)
                o.copy_(w)
            found.append(time.perf_counter() - began)
        return found

    def times(self, count: int) -> list[float]:
        return self._timed(self._tile, count)


@dataclass
class Samples:
    echo: list[float]
    fused: list[float]
    cycle: list[float]


def measure(name: str) -> Row:
    """Measure one size; its three parts take turns, so that whatever else the machine does falls on all."""
    floats, count = SIZES[name], CYCLES[name]
    samples = Samples([], [], [])
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        spec = spec_of(floats, 1)
        server, partner = serve(spec, Path(folder)), Echo()
        os.sched_setaffinity(0, {TRAINER_CORE})
        cycle, fused = Pusher(spec, Path(folder)), FusedPass(floats)
        cycle.start()
        cycle.times(count)
        for _ in range(ROUNDS):
            samples.echo += partner.times(count)
            samples.fused += fused.times(count)
            samples.cycle += cycle.times(count)
        partner.close()
        cycle.close()
        stop(server)
    return row(name, samples)


def row(name: str, samples: Samples) -> Row:
    floor = statistics.median(samples.echo) + statistics.median(samples.fused)
    median = statistics.median(samples.cycle)
    # On a machine that does other things as well, this is what they disturb least.
    tenth, floor_tenth = percentile(samples.cycle, 10), percentile(samples.echo, 10) + percentile(samples.fused, 10)
    return {
        "parameters": name,
        "cycle median": millis(median),
        "cycle p99": millis(percentile(samples.cycle, 99)),
        "floor": millis(floor),
        "echo": millis(statistics.median(samples.echo)),
        "fused pass": millis(statistics.median(samples.fused)),
        "ratio": round(median / floor, 2),
        "fastest tenth": round(tenth / floor_tenth, 2),
        "bar": BARS[name],
    }


def main() -> list[Row]:
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0)
    try:
        return [measure(name) for name in SIZES]
    finally:
        os.sched_setaffinity(0, cores)
