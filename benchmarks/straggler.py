"""Time to a target with one of eight trainers four times slower: asynchronous runs against DDP.

A batch takes 20 ms of sleep and computing together, on the slow trainer 80 ms; the computing is about a millisecond of
it, so that two cores stand for eight machines. Real server, trainer and evaluator children on our side; on the other,
eight processes of torch's DistributedDataParallel over gloo. Both make as many gradients by the same schedule (a cosine
over the budget, on the clock of gradients) from the same first weights, and are evaluated after every eight.

Both use Nesterov momentum: DDP torch's SGD, ours dana-zero, which is its asynchronous form.

A DDP step costs the slow trainer's 80 ms and takes in 8 gradients, 100 a second; eight trainers that do not wait make
7 / 0.02 + 1 / 0.08 = 362.5 a second. So 3.6 times sooner is ideal, as long as a late gradient is worth as much.

Learning rates are the best of small grids on the virtual clock: straggler.yaml beside this file, by `trainhub study`.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import ddp
from benchmarks.children import assignment, batches, make_kernel, start, work_dir
from benchmarks.ddp import Moment
from benchmarks.report import Row
from workers import events
from workers.assignment import Role
from workers.spec import RunSpec

TRAINERS, SLOW = 8, 4
BATCH_SECONDS = 0.02
IDEAL = SLOW * ((TRAINERS - 1) + 1 / SLOW) / TRAINERS
BAR = 3.3
SEEDS = range(4)
TARGET = 0.97
IN_A_ROW = 3
"""Evaluations at the target or above, before it counts as reached: one alone may be luck."""
RUN_SECONDS = 120.0

BASE: dict[str, Any] = {
    "name": "one slow trainer",
    "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [64, 64], "initial": "he"}, "split": 1},
    "schedule": {"kind": "cosine", "warmup_passes": 0.5},
    "batch_size": 4,
    "workers": TRAINERS,
    "budget": {"passes": 8},
    "evaluation": {"every_passes": TRAINERS * 4 / 1437},
    "checkpoints": {"every_seconds": None},
    "delays": [
        {"kind": "gamma", "mean_seconds": BATCH_SECONDS, "shape": 1e6, "workers": list(range(TRAINERS - 1))},
        {"kind": "gamma", "mean_seconds": SLOW * BATCH_SECONDS, "shape": 1e6, "workers": [TRAINERS - 1]},
    ],
}
SYNCHRONOUS: dict[str, Any] = {
    "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "gate": {"kind": "sync"},
}
ASYNCHRONOUS: dict[str, Any] = {
    "optimizer": {"kind": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4},
    "compensation": {"kind": "dana-zero", "momentum": 0.9},
}


def spec_of(change: dict[str, Any], seed: int) -> RunSpec:
    return RunSpec.parse(BASE | change | {"seed": seed})


def train(spec: RunSpec) -> list[Moment]:
    """One asynchronous run, from the moment at which all trainers have their first weights."""
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        folder = Path(path)
        make_kernel(spec)
        children = [start(assignment(spec, folder, role)) for role in (Role.SERVER, Role.EVALUATOR)]
        children += [start(assignment(spec, folder, Role.TRAINER, worker)) for worker in range(TRAINERS)]
        for child in children:
            child.join(RUN_SECONDS)
            assert child.exitcode == 0, (work_dir(folder, Role.SERVER) / "output.log").read_text()
        return moments(list(batches(work_dir(folder, Role.SERVER))))


def moments(told: list[events.Batch]) -> list[Moment]:
    """What a server's evaluations found, at the times at which the evaluated versions were made."""
    made: dict[int, float] = {}
    for batch in told:
        for points in batch.points:
            if points.key == events.LOSS:
                made.update(zip(memoryview(points.x).cast("q"), memoryview(points.t).cast("d"), strict=True))
    happened = [event for batch in told for event in batch.events]
    began = next(e.at for e in happened if e.kind == "training")
    found = {e.data["version"]: e.data["metrics"]["accuracy"] for e in happened if e.kind == "evaluated"}
    return [Moment(made[version] - began, version, found[version]) for version in sorted(found)]


def reached(curve: list[Moment]) -> Moment | None:
    """The first of so many evaluations in a row that are good enough."""
    for index in range(len(curve) - IN_A_ROW + 1):
        if all(m.accuracy >= TARGET for m in curve[index : index + IN_A_ROW]):
            return curve[index]
    return None


def row(name: str, curves: list[list[Moment]]) -> Row:
    at = [m for m in map(reached, curves) if m]
    return {
        "trained by": name,
        "seeds": len(curves),
        "reached": len(at),
        "seconds_to_target": round(statistics.median(m.seconds for m in at), 2),
        "range": f"{min(m.seconds for m in at):.2f} to {max(m.seconds for m in at):.2f}",
        "gradients_to_target": round(statistics.median(m.gradients for m in at)),
        "gradients_per_second": round(statistics.median(c[-1].gradients / c[-1].seconds for c in curves), 1),
        "accuracy_at_the_end": round(statistics.fmean(c[-1].accuracy for c in curves), 4),
    }


def compared(ours: list[list[Moment]], theirs: list[list[Moment]]) -> Row:
    """Medians over the seeds, each seed beside its own counterpart."""
    pairs = [(a, b) for a, b in zip(map(reached, ours), map(reached, theirs), strict=True) if a and b]
    ratios = [b.seconds / a.seconds for a, b in pairs]
    return {
        "sooner": round(statistics.median(ratios), 2),
        "sooner_range": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "ideal": round(IDEAL, 2),
        "bar": BAR,
    }


def main() -> list[Row]:
    torch.set_num_threads(1)
    theirs, ours = [], []
    for seed in SEEDS:
        theirs.append(ddp.train(spec_of(SYNCHRONOUS, seed)))
        ours.append(train(spec_of(ASYNCHRONOUS, seed)))
    ratios = compared(ours, theirs)
    return [row("DDP", theirs) | dict.fromkeys(ratios, ""), row("TrainHub, dana-zero", ours) | ratios]
