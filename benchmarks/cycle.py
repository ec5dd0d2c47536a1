"""The cycle: push + apply + pull, from the push's signal to the new version readable.

A real server child and real sessions, in processes of their own on cores of their own, one thread each, telemetry on.
Beside it, in the same run and taking turns with it, the floor: see `benchmarks.floor`. Where several trainers push at
the same time, a cycle is a round of theirs divided by their number, and the floor is that of one update.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.children import KERNELS, TRAINER_CORE, stop
from benchmarks.floor import Echo, FusedPass, copies
from benchmarks.pushing import Pusher, serve, spec_of
from benchmarks.report import Row, percentile

SIZES = (9_000, 270_000, 11_000_000, 26_000_000)
LARGE = 11_000_000
FLEETS = (2, 4, 8)
RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"optimizer": {"kind": "sgd", "learning_rate": 1e-6, "momentum": 0.9}},
    "adamw": {"optimizer": {"kind": "adamw", "learning_rate": 1e-6}},
    "dc-asgd-a": {"compensation": {"kind": "dc-asgd-a"}},
    "gap-aware": {"compensation": {"kind": "gap-aware"}},
    "dana-zero": {"compensation": {"kind": "dana-zero"}},
}
SGD_BARS = {9_000: 3.0, 270_000: 2.0, LARGE: 1.5}
COMPILED_BAR, TENSOR_BAR = 1.4, 4.0
ROUNDS = 8
WORK_FLOATS = 40_000_000
"""Parameters that a turn walks over, about."""
MOST_CYCLES = 400


@dataclass(frozen=True)
class Case:
    floats: int
    rule: str
    trainers: int = 1
    compiled: bool = True

    @property
    def cycles(self) -> int:
        """In one turn."""
        return max(3, min(MOST_CYCLES, WORK_FLOATS // (self.floats * self.trainers)))

    @property
    def bar(self) -> float | None:
        if self.trainers > 1:
            return None
        if self.rule == "sgd" and self.compiled:
            return SGD_BARS.get(self.floats)
        return (COMPILED_BAR if self.compiled else TENSOR_BAR) if self.floats == LARGE else None


CASES = [
    *(Case(floats, rule) for floats in SIZES for rule in RULES),
    *(Case(floats, "sgd", trainers) for floats in SIZES for trainers in FLEETS),
    *(Case(LARGE, rule, compiled=False) for rule in RULES),
]


@dataclass
class Samples:
    echo: list[float] = field(default_factory=list)
    fused: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)
    cycle: list[float] = field(default_factory=list)


class Fleet:
    """Trainers that push together, as seen from one process."""

    def __init__(self, case: Case, folder: Path) -> None:
        spec = spec_of(case.floats, case.trainers, RULES[case.rule])
        self._server = serve(spec, folder, compiled=case.compiled)
        self._pushers = [Pusher(spec, folder, worker) for worker in range(case.trainers)]
        for pusher in self._pushers:
            pusher.start()

    def times(self, count: int) -> list[float]:
        """Seconds an update of so many rounds."""
        pushers, found = self._pushers, []
        for _ in range(count):
            for pusher in pushers:
                pusher.session.gradient.mul_(1.0)  # as in training, where a backward pass has just written it
            began = time.perf_counter()
            for pusher in pushers:
                pusher.push()
            for pusher in pushers:
                pusher.answer()
            found.append((time.perf_counter() - began) / len(pushers))
        return found

    def close(self) -> None:
        for pusher in self._pushers:
            pusher.close()
        stop(self._server)


def measure(case: Case) -> Row:
    """Measure one case; its parts take turns, so that whatever else the machine does falls on all."""
    samples, count = Samples(), case.cycles
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        os.sched_setaffinity(0, {TRAINER_CORE})
        fused = FusedPass(spec_of(case.floats, 1, RULES[case.rule]), KERNELS)
        partner, copy = Echo(), copies(case.floats)
        fleet = Fleet(case, Path(folder))
        fleet.times(count)
        for _ in range(ROUNDS):
            samples.echo += partner.times(count)
            samples.fused += fused.times(count)
            samples.copy += copy(count)
            samples.cycle += fleet.times(count)
        partner.close()
        fleet.close()
    return row(case, samples, fused.way)


def row(case: Case, samples: Samples, way: str) -> Row:
    echo, fused = statistics.median(samples.echo), statistics.median(samples.fused)
    median, floor = statistics.median(samples.cycle), echo + fused
    # On a machine that does other things as well, this is what they disturb least.
    tenth, floor_tenth = percentile(samples.cycle, 10), percentile(samples.echo, 10) + percentile(samples.fused, 10)
    return {
        "parameters": case.floats,
        "rule": case.rule,
        "server": "compiled" if case.compiled else "tensor code",
        "trainers": case.trainers,
        "median_ms": millis(median),
        "p99_ms": millis(percentile(samples.cycle, 99)),
        "floor_ms": millis(floor),
        "echo_ms": millis(echo),
        "pass_ms": millis(fused),
        "copy_ms": millis(statistics.median(samples.copy)),
        "fastest pass": way,
        "ratio": round(median / floor, 2),
        "fastest tenth": round(tenth / floor_tenth, 2),
        "bar": "" if case.bar is None else case.bar,
    }


def millis(seconds: float) -> float:
    return round(seconds * 1e3, 4)


def main() -> list[Row]:
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0)
    try:
        return [measure(case) for case in CASES]
    finally:
        os.sched_setaffinity(0, cores)
