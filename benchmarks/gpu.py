"""On a GPU: the cycle beside the floor of its memory, and images a second of trainers that share it beside a bare loop.

    make bench-gpu      on the first GPU; where there is none, the same in small on a CPU

Nothing here touches CUDA in the process that starts the others, so that each has a context of its own.

The cycle is a push, an update by plain SGD and a pull, from a gradient that is complete on the GPU to new weights that
are usable there. *in place*: the server is on the same GPU. Its floor is one pass of the update over the GPU's memory
(three vectors in, two out: 20 bytes a parameter) and the round trip of an echo. *pinned*: the server is on a CPU. Its
floor is the pass on one core, the two copies through pinned memory, and the echo. Both are measured between the cycles.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.children import CONTEXT, SERVER_CORE, assignment, start, stop, times
from benchmarks.floor import Echo
from benchmarks.report import Row, millis
from workers import catalog, devices, gpus
from workers.assignment import Assignment, Role
from workers.devices import Device
from workers.layout import Layout
from workers.problems import registry
from workers.process import StopSignal
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.trainer.batches import Batches, stream
from workers.trainer.steps import Steps
from workers.transport.base import Report
from workers.transport.mirror import Mirror, on_device
from workers.transport.shared_memory import SharedMemorySession, SlotSize

BYTES_A_PARAMETER = 20
IN_PLACE, PINNED = "in place", "pinned"
BARE = "bare loop"
MOST_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """What is measured. `gpu` is a UUID; empty: a CPU stands in, and everything is small."""

    gpu: str
    device: str
    sizes: tuple[int, ...]
    cycles: int
    rounds: int
    model: str
    batch_size: int
    steps: int
    warm_up: int
    trainers: tuple[int, ...]
    precisions: tuple[str, ...]

    @property
    def ways(self) -> tuple[str, ...]:
        return (IN_PLACE, PINNED) if self.gpu else (IN_PLACE,)

    def place(self, what: Assignment, *, there: bool = True) -> Assignment:
        return replace(what, device="cuda:0", gpu=self.gpu) if there and self.gpu else what


def on_gpu(gpu: gpus.Gpu) -> Plan:
    sizes = (270_000, 11_000_000, 26_000_000)
    return Plan(gpu.uuid, gpu.name, sizes, 100, 10, "ResNet18", 128, 200, 40, (1, 2, 3, 4), ("float32", "bfloat16"))


IN_SMALL = Plan("", "CPU", (9_000,), 30, 3, "Small", 16, 30, 5, (1, 2), ("float32",))


def plan() -> Plan:
    found = gpus.usable(gpus.discover(os.environ), torch.__version__)
    return on_gpu(found[0]) if found else IN_SMALL


# ------------------------------------------------------------ the cycle


def cycle(of: Plan, floats: int, way: str) -> Row:
    spec = RunSpec.parse(
        {
            "name": "cycle",
            "problem": {"kind": "ledger", "coordinates": floats},
            "optimizer": {"kind": "sgd", "learning_rate": 1e-6},
            "workers": 1,
            "budget": {"updates": 10_000_000},
            "evaluation": {"every_passes": 1e6},
            "checkpoints": {"every_seconds": None},
        }
    )
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        folder = Path(path)
        server = start(of.place(assignment(spec, folder, Role.SERVER), there=way == IN_PLACE), SERVER_CORE)
        try:
            mine = of.place(assignment(spec, folder, Role.TRAINER))
            samples = in_a_process(lambda: _cycles(of, spec, mine, floats, way))
        finally:
            stop(server)
    cycles, floors = (statistics.median(samples[name]) for name in ("cycle", "floor"))
    return {
        "what": f"cycle, {way}",
        "device": of.device,
        "size": floats,
        "measured": millis(cycles),
        "beside": f"floor {millis(floors)}",
        "ratio": f"{cycles / floors:.2f}",
        "rate": f"{BYTES_A_PARAMETER * floats / cycles / 1e9:.1f} GB/s",
    }


def in_a_process(work: Callable[[], Any]) -> Any:
    """What `work` returns, computed in a process of its own. Raises EOFError where that died."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=_send, args=(sender, work))
    child.start()
    sender.close()
    result = receiver.recv()
    child.join()
    return result


def _send(sender: Connection, work: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    sender.send(work())


def _cycles(of: Plan, spec: RunSpec, mine: Assignment, floats: int, way: str) -> dict[str, list[float]]:
    # The echo before CUDA is touched: what is forked behind that is of no use.
    with closing(Echo()) as echo:
        os.sched_setaffinity(0, {_core(1)})
        trainer = Trainer(spec, mine)
        with closing(trainer):
            floor = Floor(floats, trainer.device, way)
            samples: dict[str, list[float]] = {"cycle": [], "floor": []}
            for number in range(of.rounds + 1):
                found = trainer.times(of.cycles)
                beside = [a + b for a, b in zip(floor.times(of.cycles), echo.times(of.cycles), strict=True)]
                if number:  # the first round warms up
                    samples["cycle"] += found
                    samples["floor"] += beside
    return samples


class Trainer:
    """Pushes one gradient again and again."""

    def __init__(self, spec: RunSpec, mine: Assignment) -> None:
        self.device = devices.of(mine)
        problem = registry.load(spec.problem)
        layout = Layout.of(build_model(problem, spec.seed), spec.optimizer)
        size = SlotSize.trainer(layout, build_rule(catalog.BATCH_NORMS, spec.batch_norm))
        self._slot = SharedMemorySession(mine, StopSignal(), layout.manifest([m.name for m in problem.metrics]), size)
        self._session = on_device(self._slot, self.device)
        self._step = self._session.answer().step
        self._session.gradient.normal_()
        self._report = Report(1.0, 1.0, 0.001, 0.001, 0.001, (1.0,))

    def times(self, count: int) -> list[float]:
        session, found = self._session, []
        for _ in range(count):
            session.gradient.mul_(1.0)  # as in training, where a backward pass has just written it
            self.device.settle()
            began = time.perf_counter()
            session.push(self._report, step=self._step)
            self._step = session.answer().step
            self.device.settle()
            found.append(time.perf_counter() - began)
        return found

    def close(self) -> None:
        self._session.leave()
        self._slot.close()


class Floor:
    """What a cycle can't do without: the update's pass, and the copies on the way to where it is made."""

    def __init__(self, floats: int, device: Device, way: str) -> None:
        self._device, self._copies = device, way == PINNED
        where = device.where if way == IN_PLACE else devices.HOST.where
        self._weights, self._gradient, self._out = torch.randn(3, floats, device=where).unbind()
        self._mirror = Mirror([torch.zeros(floats)], device) if self._copies else None

    def times(self, count: int) -> list[float]:
        found = []
        for _ in range(count):
            began = time.perf_counter()
            if self._mirror is not None:
                self._mirror.give()
            self._weights.add_(self._gradient, alpha=-1e-6)
            self._out.copy_(self._weights)
            if self._mirror is not None:
                self._mirror.bring()
            self._device.settle()
            found.append(time.perf_counter() - began)
        return found


def _core(number: int) -> int:
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)]


# ------------------------------------------------------------ images a second


def images_spec(of: Plan, trainers: int, precision: str) -> RunSpec:
    return RunSpec.parse(
        {
            "name": "images",
            "problem": {"kind": "python", "target": f"benchmarks.pictures:{of.model}"},
            "optimizer": {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.9},
            "workers": trainers,
            "batch_size": of.batch_size,
            "precision": precision,
            "device": "cuda" if of.gpu else "cpu",
            "budget": {"updates": 10_000_000},
            "evaluation": {"every_passes": 1e6},
            "checkpoints": {"every_seconds": None},
        }
    )


def trained(of: Plan, trainers: int, precision: str, way: str) -> float:
    """Images a second of a run with so many trainers."""
    spec, gradients = images_spec(of, trainers, precision), trainers * of.steps
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        folder = Path(path)
        server = start(of.place(assignment(spec, folder, Role.SERVER), there=way == IN_PLACE), SERVER_CORE)
        others = [start(of.place(_trainer(spec, folder, worker)), _core(1 + worker)) for worker in range(trainers)]
        try:
            at = _wait_for(folder, gradients, [server, *others])
        finally:
            stop(server)
            for each in others:
                each.join()
    behind = at[trainers * of.warm_up :]
    return of.batch_size * (len(behind) - 1) / (behind[-1] - behind[0])


def _trainer(spec: RunSpec, folder: Path, worker: int) -> Assignment:
    one = assignment(spec, folder, Role.TRAINER)
    return replace(one, worker=worker, member=one.member + worker, work_dir=str(folder / f"trainer-{worker}"))


def _wait_for(folder: Path, gradients: int, children: list[BaseProcess]) -> list[float]:
    deadline = time.monotonic() + MOST_SECONDS
    while len(found := times(folder)) < gradients:
        logs = {log.parent.name: log.read_text() for log in folder.glob("*/output.log")}
        assert all(c.is_alive() for c in children), logs
        assert time.monotonic() < deadline, logs
        time.sleep(0.1)
    return sorted(found)[:gradients]


def bare(of: Plan, precision: str) -> float:
    """Images a second of a plain loop: the same model, batches, optimizer and precision; one process."""
    seconds: list[float] = in_a_process(lambda: _bare(of, precision))
    return of.batch_size / statistics.mean(seconds[of.warm_up :])


def _bare(of: Plan, precision: str) -> list[float]:
    os.sched_setaffinity(0, {_core(1)})
    spec = images_spec(of, 1, precision)
    device: Device = devices.Cuda(of.gpu) if of.gpu else devices.HOST
    problem = registry.load(spec.problem)
    data, model = problem.dataset("train"), build_model(problem, spec.seed).to(device.where)
    batches = Batches(seed=0, worker=0, workers=1, examples=len(data), batch_size=of.batch_size)  # type: ignore[arg-type]
    feed = device.feed(stream(data, batches, 0, problem.collate, 0, 0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    steps = Steps(problem, model, spec, 0, device)
    model.train()
    at = []
    for _ in range(of.steps):
        steps.begin(0)
        steps.add(next(feed), feed.prepare)
        optimizer.step()
        at.append(time.perf_counter())
    return [b - a for a, b in pairwise(at)]


def images(of: Plan) -> Iterator[Row]:
    for precision in of.precisions:
        loop = bare(of, precision)
        for way in of.ways:
            for trainers in of.trainers:
                found = trained(of, trainers, precision, way)
                yield {
                    "what": f"{trainers} trainer{'s' if trainers > 1 else ''}, {of.model}, {precision}, {way}",
                    "device": of.device,
                    "size": of.batch_size,
                    "measured": f"{found:.0f} images/s",
                    "beside": f"{BARE} {loop:.0f} images/s",
                    "ratio": f"{found / loop:.2f}",
                    "rate": "",
                }


def measure(of: Plan) -> list[Row]:
    """All rows. This process keeps to one thread: what is forked from it must not miss others of its own."""
    torch.set_num_threads(1)
    return [cycle(of, floats, way) for floats in of.sizes for way in of.ways] + list(images(of))


def main() -> list[Row]:
    return measure(plan())
