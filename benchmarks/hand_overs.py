"""Hand-overs under fire: a million of them, with trainers that die in the middle, and readers beside them.

Every gradient is -1 everywhere and every step has length 1, so that version v is the vector of all v, exact in float32.
A torn read, half a gradient, or one applied twice is then a vector that is not all alike, or not its version's number.
Trainers check each vector they are handed, an evaluator each copy, and every checkpoint is read at the end.

Each trainer dies after some pushes, by its own SIGKILL, at a place that takes turns: with half of its gradient written,
with half of its push sent, or with its push sent and not answered. A successor takes its number.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from enum import IntEnum
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.children import END_SECONDS, assignment, batches
from benchmarks.report import Row
from workers import catalog, checkpoint, process
from workers.assignment import Assignment, Exit, Outcome, Role
from workers.layout import Layout
from workers.problems import registry
from workers.process import StopSignal
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.transport import frames
from workers.transport.base import Report, RunEnded
from workers.transport.shared_memory import EvaluatorSession, SharedMemorySession, SlotSize

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["workers.preload"])
HAND_OVERS = 1_000_000
FLOATS = 4096
TRAINERS = 4
LIVES = (2_000, 20_000)
"""Pushes after which a trainer dies, from and to."""
TORN = 3
"""Exit code of a child that saw a vector which is not its version's."""
REPORT = Report(1.0, 1.0, 0.0, 0.0, 0.0, (1.0,))
WATCH_SECONDS = 0.01
FAREWELL_SECONDS = 2.0


class Death(IntEnum):
    """Where a trainer dies."""

    WRITING = 0  # with half of its gradient in the slot
    SENDING = 1  # with half of its push on the socket
    WAITING = 2  # with its push sent, before the answer


@dataclass
class Fire:
    """What happened."""

    version: int
    deaths: dict[Death, int]
    lost: int
    """Trainers that the server saw go without a word."""
    torn: int
    evaluated: int
    """Copies that the evaluator looked at."""
    checkpoints: int
    seconds: float


def spec_of(hand_overs: int) -> RunSpec:
    return RunSpec.parse(
        {
            "name": "hand-overs",
            "problem": {"kind": "ledger", "coordinates": FLOATS},
            "optimizer": {"kind": "sgd", "learning_rate": 1.0},
            "workers": TRAINERS,
            "budget": {"updates": hand_overs},
            "evaluation": {"every_passes": 0.1},
            "checkpoints": {"every_seconds": 0.5},
        }
    )


class Drill:
    """The children of one run, and those that follow the fallen."""

    def __init__(self, hand_overs: int, folder: Path, lives: tuple[int, int]) -> None:
        self._spec, self._folder, self._lives = spec_of(hand_overs), folder, lives
        self._random = random.Random(7)
        self._members = 2
        self._trainers: dict[int, tuple[BaseProcess, Death]] = {}
        self.deaths = dict.fromkeys(Death, 0)
        self.torn = 0

    def run(self) -> Fire:
        began = time.monotonic()
        server = CONTEXT.Process(target=process.main, args=(assignment(self._spec, self._folder, Role.SERVER),))
        server.start()
        evaluator = CONTEXT.Process(target=_look, args=(assignment(self._spec, self._folder, Role.EVALUATOR),))
        evaluator.start()
        for worker in range(TRAINERS):
            self._enlist(worker)
        while server.is_alive():
            self._replace_the_fallen()
            time.sleep(WATCH_SECONDS)
        for child in [evaluator, *(p for p, _ in self._trainers.values())]:
            child.join(FAREWELL_SECONDS)
            child.kill()  # one that came after the end looks for a server that has gone
            child.join(END_SECONDS)
            self.torn += child.exitcode == TORN
        word = Exit.read(self._folder / Role.SERVER)
        assert word is not None, (self._folder / Role.SERVER / "output.log").read_text()
        assert word.outcome is Outcome.COMPLETED, word
        return self._outcome(word, time.monotonic() - began)

    def _enlist(self, worker: int) -> None:
        self._members += 1
        death = Death(self._members % len(Death))
        mine = replace(assignment(self._spec, self._folder, Role.TRAINER), worker=worker, member=self._members)
        child = CONTEXT.Process(target=_train, args=(mine, self._random.randint(*self._lives), death))
        child.start()
        self._trainers[worker] = child, death

    def _replace_the_fallen(self) -> None:
        for worker, (child, death) in list(self._trainers.items()):
            if child.exitcode == -signal.SIGKILL:
                self.deaths[death] += 1
                self._enlist(worker)
            elif child.exitcode == TORN:
                self.torn += 1
                self._enlist(worker)

    def _outcome(self, word: Exit, seconds: float) -> Fire:
        told = [e for b in batches(self._folder / Role.SERVER) for e in b.events]
        saved = [Path(e.data["path"]) for e in told if e.kind == "checkpoint"]
        whole = [path for path in saved if _is_whole(path)]
        self.torn += len(saved) - len(whole)
        return Fire(
            version=word.version or 0,
            deaths=self.deaths,
            lost=sum(e.kind == "left" and not e.data["expected"] for e in told),
            torn=self.torn,
            evaluated=sum(e.kind == "evaluated" for e in told),
            checkpoints=len(saved),
            seconds=seconds,
        )


def _is(vector: Tensor, version: int) -> bool:
    values = vector.numpy()
    return bool((values == version).all())


def _is_whole(path: Path) -> bool:
    tensors, meta = checkpoint.read(path)
    return _is(tensors["counts"], meta.version)


def _agreed(mine: Assignment) -> tuple[bytes, Layout, RunSpec]:
    """Manifest, layout and spec, as a child derives them."""
    spec = RunSpec.parse(json.loads(mine.spec))
    problem = registry.load(spec.problem)
    layout = Layout.of(build_model(problem, spec.seed), spec.optimizer)
    return layout.manifest([m.name for m in problem.metrics]), layout, spec


def _train(mine: Assignment, pushes: int, death: Death) -> None:
    torch.set_num_threads(1)
    manifest, layout, spec = _agreed(mine)
    size = SlotSize.trainer(layout, build_rule(catalog.BATCH_NORMS, spec.batch_norm))
    session = SharedMemorySession(mine, StopSignal(), manifest, size)
    session.gradient.fill_(-1.0)
    try:
        answer = session.answer()
        for _ in range(pushes):
            if not _is(session.weights, answer.version):
                os._exit(TORN)
            session.push(REPORT, step=answer.step)
            answer = session.answer()
        _die(session, answer.step, death)
    except RunEnded:
        os._exit(0)


def _die(session: SharedMemorySession, step: int, death: Death) -> None:
    half = FLOATS // 2
    if death is Death.WRITING:
        session.gradient[:half].fill_(1e30)
    elif death is Death.SENDING:
        session.gradient.fill_(1e30)
        # Any half of a frame will do: the server can see no more of it than that it is not whole.
        session.socket.sendall(bytes(frames.HEADER.size // 2))
    else:
        session.push(REPORT, step=step)
    os.kill(os.getpid(), signal.SIGKILL)


def _look(mine: Assignment) -> None:
    torch.set_num_threads(1)
    manifest, layout, _ = _agreed(mine)
    session = EvaluatorSession(replace(mine, member=2), StopSignal(), manifest, SlotSize.evaluator(layout))
    try:
        while True:
            version = session.next_version()
            if not _is(session.weights, version):
                os._exit(TORN)
            session.result(version, [0.0, float(version)])
    except RunEnded:
        os._exit(0)


def fire(hand_overs: int, *, lives: tuple[int, int] = LIVES) -> Fire:
    """Make so many hand-overs under fire."""
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        return Drill(hand_overs, Path(folder), lives).run()


def main() -> list[Row]:
    seen = fire(HAND_OVERS)
    assert seen.torn == 0, seen
    assert seen.version == HAND_OVERS, seen
    return [
        {
            "hand-overs": seen.version,
            "torn": seen.torn,
            "killed while writing": seen.deaths[Death.WRITING],
            "while sending": seen.deaths[Death.SENDING],
            "while waiting": seen.deaths[Death.WAITING],
            "evaluator's copies": seen.evaluated,
            "checkpoints": seen.checkpoints,
            "seconds": round(seen.seconds, 1),
        }
    ]
