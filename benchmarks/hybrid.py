"""A machine group's two layouts at equal batch, by the number of classes: traffic, time and memory of a step.

Groups of two devices, each a process with one thread, and no server. Each row tries both layouts in turns. `sent` is
what the first device handed to its collectives for the last layer, `formula` what docs/methods/hybrid.md says. The last
row says from how many classes on hybrid moves less, and takes less time, by where the measured lines cross; the
method's rule of thumb is C = B G.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.report import Row, millis
from workers.problems import registry
from workers.spec import RunSpec
from workers.traffic import Work
from workers.trainer.group.trial import Measured, measure

DEVICES, IMAGES, FEATURES, WIDTH = 2, 128, 64, 8
CLASSES = (32, 64, 128, 256, 1024, 4096, 20_000, 65_536)
TURNS, STEPS = 3, 10


class Point(NamedTuple):
    """What was measured for one number of classes, of each layout."""

    classes: int
    hybrid: Measured
    single: Measured

    @property
    def hybrid_bytes(self) -> int:
        return self.hybrid.sent_bytes[0]["last_layer"]

    @property
    def single_bytes(self) -> int:
        """All that is reduced, without what belongs to the layers below: as much again as hybrid's reduce-scatter."""
        return self.single.sent_bytes[0]["convolutions"] - 2 * self.hybrid.sent_bytes[0]["convolutions"]

    @property
    def work(self) -> Work:
        return Work(DEVICES, IMAGES, FEATURES, self.classes, 0)


def main() -> list[Row]:
    torch.set_num_threads(1)  # before anything is computed: trials fork
    points = [point(classes) for classes in CLASSES]
    rows: list[Row] = [row(p) for p in points]
    moved = crossing(points, lambda p: p.single_bytes / p.hybrid_bytes)
    timed = crossing(points, lambda p: p.single.step_seconds / p.hybrid.step_seconds)
    told: Row = {
        "classes": "crossing",
        "sent": f"C = {moved:.0f}",
        "formula": f"B·G = {IMAGES}",
        "step": f"C = {timed:.0f}",
    }
    empty: Row = dict.fromkeys(rows[0], "")
    return [*rows, empty | told]


def point(classes: int) -> Point:
    problem = {"kind": "glyphs", "classes": classes, "examples": max(2, 512 // classes), "features": FEATURES}
    spec = RunSpec.parse(
        {
            "name": "a group",
            "problem": problem | {"width": WIDTH},
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            "batch_size": IMAGES,
            "workers": 1,
            "budget": {"updates": 1},
        }
    )
    made = registry.load(spec.problem)
    turns: dict[Any, list[Measured]] = {"hybrid": [], "single": []}
    for _ in range(TURNS):
        for kind, found in turns.items():
            found.append(measure(spec, made, kind, DEVICES, STEPS))
    best = {kind: min(found, key=lambda m: m.step_seconds) for kind, found in turns.items()}
    return Point(classes, best["hybrid"], best["single"])


def row(p: Point) -> Row:
    memory = [statistics.mean(m.dirty_bytes) / 2**20 for m in (p.hybrid, p.single)]
    return {
        "classes": p.classes,
        "sent": p.hybrid_bytes,
        "formula": p.work.hybrid_bytes,
        "sent, data-parallel": p.single_bytes,
        "its formula": p.work.data_parallel_bytes,
        "step": millis(p.hybrid.step_seconds),
        "data-parallel": millis(p.single.step_seconds),
        "times": f"{p.single.step_seconds / p.hybrid.step_seconds:.2f}",
        "memory": f"{memory[0]:.0f} MiB",
        "its memory": f"{memory[1]:.0f} MiB",
    }


def crossing(points: Sequence[Point], ratio: Callable[[Point], float]) -> float:
    """Classes at which the ratio passes 1 for good, between the two points around it, on a straight line."""
    last = max((i for i, p in enumerate(points) if ratio(p) < 1.0), default=-1)
    if last < 0 or last + 1 == len(points):
        return float("nan")
    low, high = points[last], points[last + 1]
    share = (1.0 - ratio(low)) / (ratio(high) - ratio(low))
    return low.classes + share * (high.classes - low.classes)
