"""A few steps of a machine group by itself, with no server, to measure what a layout costs on this machine."""

from __future__ import annotations

import mmap
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workers import catalog
from workers.assignment import Cause
from workers.events import PHASES, TRAFFIC
from workers.failures import user_code
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.methods.hybrid.base import Phases
from workers.methods.hybrid.synced_layer import synchronise
from workers.problems.base import Problem
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.trainer.batches import Batches, fetch
from workers.trainer.group.companions import Companions, Line, Word
from workers.trainer.group.ends import End, meet
from workers.trainer.group.gradients import GroupGradients
from workers.trainer.group.holding import Shared
from workers.trainer.group.phases import Stopwatch, Traffic
from workers.trainer.group.shard import GroupDevice, Shard
from workers.trainer.steps import Steps

WARM_UP = 2
FLOAT_BYTES = 4
Kind = Literal["hybrid", "single"]


@dataclass(frozen=True)
class Measured:
    """Medians over the steps. `phases` and `sent_bytes` by device, then by name."""

    step_seconds: float
    phases: list[dict[str, float]] = field(default_factory=list)
    sent_bytes: list[dict[str, int]] = field(default_factory=list)
    dirty_bytes: list[int] = field(default_factory=list)
    """Memory that each device has for itself."""


class DataParallel(GroupDevice):
    """One device of a group that has the whole model: what `Shard` is compared with."""

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        layout: Layout,
        rule: BatchNorm,
        shared: Shared,
        group: End,
        phases: Phases,
    ) -> None:
        super().__init__(spec, group, phases)
        layout.bind(model, shared.weights, shared.served if rule.serves else shared.buffers)
        synchronise(model, layout.places, rule, shared.served, shared.buffers, group, self.images)
        self._model = model.train()
        self._gradients = GroupGradients(model, layout, shared.gradient, group)

    def steps_of(self, problem: Problem, worker: int) -> Steps:
        return Steps(problem, self._model, self._spec, worker)

    def step(self, steps: Steps, step: int, first: Any, batch: Callable[[int], Any]) -> None:
        self._backward(steps, step, first, batch)
        for target, part in self._gradients.parts():
            target.copy_(part)
        self._gradients.spread()
        self._phases.mark("gradient_exchange")


@dataclass(frozen=True)
class Setting:
    """What all devices of a trial have from before they were forked."""

    spec: RunSpec
    kind: Kind
    devices: int
    problem: Problem
    dataset: Any
    model: nn.Module
    layout: Layout
    vectors: tuple[Tensor, Tensor]
    meeting: Path


def measure(spec: RunSpec, problem: Problem, kind: Kind, devices: int, steps: int) -> Measured:
    """Run `steps` steps of a group of `devices` with that layout. Raises SpecError or Failure.

    To be called in a process whose torch has run on one thread alone: it forks.
    """
    with user_code("dataset('train')", Cause.DATA):
        dataset = problem.dataset("train")
    model = build_model(problem, spec.seed)
    layout = Layout.of(model, spec.optimizer)
    vectors = _shared(layout.size), _shared(layout.size)
    layout.collect(model, vectors[0], torch.zeros(layout.buffer_size))
    with tempfile.TemporaryDirectory(prefix="trainhub-") as folder:
        setting = Setting(spec, kind, devices, problem, dataset, model, layout, vectors, Path(folder) / "meeting")
        group = Companions.fork("the trial", devices, partial(_follow, setting, steps))
        try:
            mine = _run(setting, 0, steps)
            return _summed([mine, *group.hear()])
        finally:
            group.end()


def _shared(size: int) -> Tensor:
    """A vector that forked processes share."""
    return torch.frombuffer(mmap.mmap(-1, size * FLOAT_BYTES), dtype=torch.float32)


def _follow(setting: Setting, steps: int, rank: int, line: Line) -> None:
    line.say(_run(setting, rank, steps))
    line.hear()


def _run(setting: Setting, rank: int, steps: int) -> Word:
    spec, layout = setting.spec, setting.layout
    rule: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
    group, watch, traffic = meet(setting.meeting, rank=rank, size=setting.devices), Stopwatch(), Traffic()
    own_statistics = torch.zeros(rule.parts * layout.channels)
    served = torch.zeros_like(own_statistics) if rule.serves else torch.zeros(0)
    shared = Shared(*setting.vectors, own_statistics, served)
    made = Shard if setting.kind == "hybrid" else DataParallel
    device: Any = made(spec, setting.model, layout, rule, shared, group, watch)
    batches = Batches(
        seed=spec.seed,
        worker=0,
        workers=spec.workers.max,
        examples=len(setting.dataset),
        batch_size=spec.batch_size,
        rows=device.rows,
    )
    own = device.steps_of(setting.problem, 0)

    def fetched(number: int) -> Any:
        return fetch(setting.dataset, batches[number], setting.problem.collate)

    found: list[Word] = []
    began = time.perf_counter()
    for step in range(WARM_UP + steps):
        rule.begin(own_statistics)
        device.step(own, step, device.begin(own, step, fetched), fetched)
        ended = time.perf_counter()
        found.append({"seconds": ended - began, "phases": watch.take(), "bytes": traffic.since_last(group.sent_bytes)})
        began = ended
    return {"steps": found[WARM_UP:], "dirty": _dirty_bytes()}


def _summed(words: list[Word]) -> Measured:
    def median(word: Word, name: str, place: int) -> float:
        return float(statistics.median(step[name][place] for step in word["steps"]))

    slowest = [statistics.median(step["seconds"] for step in word["steps"]) for word in words]
    return Measured(
        max(slowest),
        [{name: median(word, "phases", i) for i, name in enumerate(PHASES)} for word in words],
        [{name: int(median(word, "bytes", i)) for i, name in enumerate(TRAFFIC)} for word in words],
        [word["dirty"] for word in words],
    )


def _dirty_bytes() -> int:
    """Memory that is this process's alone (proc(5), smaps_rollup)."""
    found: Counter[str] = Counter()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] += int(rest.split()[0]) * 1024
    return found["Private_Dirty"]
