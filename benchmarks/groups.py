"""Three machine groups of two devices, one group four times slower: asynchronous and synchronous, real and predicted.

Real children on real slots; time is dominated by sleep, so that two cores stand for three machines. `busy` is the share
of the fast groups' time in which they compute. The predictions are simulations of the same specs, with the step times
that the asynchronous run measured, each group's mean.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.children import assignment, batches, start, stop, work_dir
from benchmarks.report import Row
from workers import events
from workers.assignment import SERVER_WORKER, Role
from workers.simulator.files import simulation
from workers.spec import RunSpec

GROUPS, DEVICES, SLOWER = 3, 2, 4.0
SECONDS = 0.12
"""Of a step of a fast group."""
IMAGES = 16
TARGET = 0.85
RATE = 0.03
SEEDS = range(3)
SLOW = GROUPS - 1
PATIENCE_SECONDS = 150.0

Floats = npt.NDArray[np.float64]


class Found(NamedTuple):
    """What one run came to. Seconds are real, or virtual."""

    images_per_second: float
    busy: float
    to_target: float
    steps: list[float]
    """Seconds of a step of each group."""


def main() -> list[Row]:
    live = {kind: mean([real(kind, seed) for seed in SEEDS]) for kind in ("async", "sync")}
    steps = live["async"].steps
    rows = []
    for kind, found in live.items():
        rows.append(row(kind, "measured", found, live["sync"]))
        rows.append(row(kind, "predicted", mean([predicted(kind, steps, seed) for seed in SEEDS]), live["sync"]))
    return rows


def mean(found: list[Found]) -> Found:
    columns = [np.mean([getattr(f, name) for f in found], axis=0) for name in Found._fields]
    return Found(*(c.tolist() for c in columns))


def row(kind: str, how: str, found: Found, synchronous: Found) -> Row:
    return {
        "gate": kind,
        "": how,
        "images/s": f"{found.images_per_second:.0f}",
        "times sync": f"{found.images_per_second / synchronous.images_per_second:.2f}",
        "fast groups busy": f"{100 * found.busy:.0f} %",
        f"s to {TARGET:.0%} accuracy": f"{found.to_target:.1f}",
    }


def spec_of(kind: str, **changes: Any) -> RunSpec:
    """Both gates at the same step for each image: a synchronous step is made of all groups' images."""
    delays = [{"kind": "gamma", "mean_seconds": SECONDS, "workers": [w]} for w in range(SLOW)]
    delays += [{"kind": "gamma", "mean_seconds": SECONDS * SLOWER, "workers": [SLOW]}]
    base = {
        "name": f"three groups, {kind}",
        "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
        "optimizer": {"kind": "sgd", "learning_rate": RATE * (GROUPS if kind == "sync" else 1)},
        "batch_size": IMAGES,
        "workers": GROUPS,
        "layout": {"kind": "hybrid", "shards": DEVICES},
        "gate": {"kind": kind},
        "budget": {"passes": 30, "target": {"metric": "accuracy", "value": TARGET, "direction": "max"}},
        "evaluation": {"every_passes": 0.03},
        "checkpoints": {"every_seconds": None},
        "delays": delays,
    }
    return RunSpec.parse(base | changes)


# ---------------------------------------------------------------- real


def real(kind: str, seed: int) -> Found:
    """Train to the target with real children."""
    spec = spec_of(kind, seed=seed)
    with tempfile.TemporaryDirectory(prefix="th-") as folder, children(spec, Path(folder)) as server:
        server.join(PATIENCE_SECONDS)
        assert not server.is_alive(), (work_dir(Path(folder), Role.SERVER) / "output.log").read_text()
        return read(work_dir(Path(folder), Role.SERVER))


@contextmanager
def children(spec: RunSpec, folder: Path) -> Iterator[BaseProcess]:
    server = start(assignment(spec, folder, Role.SERVER))
    others = [start(assignment(spec, folder, Role.EVALUATOR))]
    others += [start(assignment(spec, folder, Role.TRAINER, w)) for w in range(GROUPS)]
    try:
        yield server
    finally:
        if server.is_alive():
            stop(server)
        for child in others:
            child.join(PATIENCE_SECONDS)


def read(server: Path) -> Found:
    series = all_series(server)
    t0 = min(series[events.LOSS, w][1].min() for w in range(GROUPS))
    times = np.concatenate([series[events.LOSS, w][1] for w in range(GROUPS)])
    spent = times.max() - times.min()
    steps, busy = [], []
    for worker in range(GROUPS):
        compute, transfer = (series[key, worker][2].mean() for key in (events.COMPUTE_SECONDS, events.TRANSFER_SECONDS))
        wait = series[events.WAIT_SECONDS, worker][2].mean()
        steps.append(compute + transfer)
        busy.append((compute + transfer) / (compute + transfer + wait))
    versions, _, accuracy = series[events.EVALUATION_METRIC.format("accuracy"), SERVER_WORKER]
    reached = versions[accuracy >= TARGET]
    # When that version came out, not when its evaluation was through.
    to_target = float(made_at(series, reached[0]) - t0) if len(reached) else math.nan
    return Found((len(times) - 1) * IMAGES / spent, float(np.mean(busy[:SLOW])), to_target, steps)


def made_at(series: dict[tuple[str, int], tuple[Floats, Floats, Floats]], version: float) -> float:
    """When a version came out, in seconds since 1970."""
    every = [series[events.LOSS, w] for w in range(GROUPS)]
    x, t = (np.concatenate([one[i] for one in every]) for i in range(2))
    return float(t[x == version].max())


def all_series(folder: Path) -> dict[tuple[str, int], tuple[Floats, Floats, Floats]]:
    """x, t and y of every series, by key and worker."""
    found: dict[tuple[str, int], list[tuple[bytes, bytes, bytes]]] = {}
    for batch in batches(folder):
        for p in batch.points:
            found.setdefault((p.key, p.worker), []).append((p.x, p.t, p.y))
    joined = {name: [b"".join(column) for column in zip(*parts, strict=True)] for name, parts in found.items()}
    return {
        name: (np.frombuffer(x, np.int64).astype(np.float64), np.frombuffer(t), np.frombuffer(y))
        for name, (x, t, y) in joined.items()
    }


# ---------------------------------------------------------------- predicted


def predicted(kind: str, steps: list[float], seed: int) -> Found:
    """The same run under the virtual clock, each group's steps taking what they took on average."""
    compute = {"kind": "trace", "seconds": [[s] for s in steps]}
    with simulation(spec_of(kind, seed=seed, execution={"kind": "simulate", "compute": compute}), None) as simulated:
        result = simulated.run()
    reached = [e.seconds for e in result.evaluations if e.metrics["accuracy"] >= TARGET]
    rate = result.gradients * IMAGES / result.seconds
    # A fast group makes a step in every round that it takes part in; the rest of the round it waits.
    rounds = [result.seconds / max(1, n) for n in simulated.core.clocks.applied]
    busy = [min(1.0, step / each) for step, each in zip(steps, rounds, strict=True)]
    return Found(rate, sum(busy[:SLOW]) / SLOW, reached[0] if reached else math.nan, steps)
