"""A machine group as one asynchronous trainer: one session, one version, one push for all of its devices.

All devices map the leader's hand-over slot. On CPUs their parameters are views of its weights, and each device's slice
of the last layer is a range of it; a GPU has copies of its own part. Each writes its part of the gradient into it. Only
the leader talks to the server: it pushes when all devices have written, and lets them go on when new weights are there.
So a group that dies in the middle of a step has pushed nothing, and to the server it is a trainer like any other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from workers import events
from workers.assignment import Cause
from workers.devices import Feed
from workers.failures import Failure
from workers.process import Child
from workers.trainer.group.companions import Companions, Word
from workers.trainer.group.ends import End, PeerLost, meet
from workers.trainer.group.follower import follow
from workers.trainer.group.heads import check_output, head_of
from workers.trainer.group.holding import Shared
from workers.trainer.group.links import TRIED_BYTES, try_links
from workers.trainer.group.phases import Stopwatch, Traffic
from workers.trainer.group.shard import Shard, pooled
from workers.trainer.loop import Ready, Trainer, stream_of
from workers.trainer.steps import shorten
from workers.transport import choose
from workers.transport.base import Report, TrainerSession
from workers.transport.shared_memory import SlotSize

REPORT_SECONDS = 0.2
"""Phases and bytes of a step are reported five times a second at most."""


class GroupTrainer(Trainer):
    """The leader, which is device 0."""

    def __init__(self, child: Child) -> None:
        self._meeting = Path(child.assignment.work_dir) / "meeting"
        title = f"machine group {child.assignment.worker}"
        size = child.spec.shards
        self._companions = Companions.fork(title, size, partial(follow, child, self._meeting))
        self._reported_version = -1
        self._next_report = 0.0
        self._traffic = Traffic()
        super().__init__(child)

    def _join(self) -> TrainerSession:
        # All devices map the slot, which stays in host memory: each brings what it needs of it to where it computes.
        return choose.connect(self._child, self._manifest(), SlotSize.trainer(self._layout, self._batch_norm))

    def _prepare(self) -> None:
        """Check the model, have all devices map the slot, and see that they can talk."""
        self._phases = Stopwatch(self._device)
        check_output(self._problem, self._model, head_of(self._model), self._dataset)
        memory = self._session.memory
        if memory is None:
            raise Failure(Cause.ENGINE, "the group's devices can't map what this session's tensors lie in")
        self._companions.say({"map": True}, fds=(memory,))
        names = [self._device.name, *(word["device"] for word in self._companions.hear())]
        self._group = self._meet()
        self._companions.watch(self._group.abort)
        self._shard = Shard(
            self._spec,
            self._model,
            self._layout,
            self._batch_norm,
            Shared(*self._vectors),
            self._group,
            self._phases,
            self._device,
        )
        self._vectors = self._vectors._replace(buffers=self._shard.buffers)
        self._own = self._shard.steps_of(self._problem, self._child.assignment.worker)
        self._companions.hear()
        self._try_links(names)
        size = self._companions.size
        keys = [events.GROUP_PHASE.format(rank, name) for rank in range(size) for name in events.PHASES]
        keys += [events.GROUP_BYTES.format(rank, kind) for rank in range(size) for kind in events.TRAFFIC]
        self._table = self._child.reporter.table(self._child.assignment.worker, tuple(keys))

    def _meet(self) -> End:
        size, gpus = self._companions.size, self._child.assignment.gpus
        with _blaming(self._companions):
            return meet(self._meeting, rank=0, size=size, device=self._device, gpus=gpus)

    def _try_links(self, names: list[str]) -> None:
        """Before it starts, the group moves something between all of its devices, and says how that went."""
        with _blaming(self._companions):
            seconds = try_links(self._group, self._layout, self._device)
        size, way = self._companions.size, self._group.backend
        devices = ", ".join(f"{count} × {name}" for name, count in Counter(names).items())
        rate = (size - 1) * TRIED_BYTES / seconds / 2**20
        worker = self._child.assignment.worker
        self._child.reporter.event(
            "group",
            f"machine group {worker}: {devices}; over {way} each sends {rate:.0f} MiB/s to the others",
            worker=worker,
            devices=size,
            names=names,
            backend=way,
            mebibytes_per_second=rate,
        )

    def _stream(self, step: int) -> Feed:
        rows = self._shard.rows
        return self._device.feed(stream_of(self._child, self._problem, self._dataset, step, rows))

    def _begin_step(self, batches: Feed, step: int) -> Ready:
        self._phases.mark("push")
        began = time.perf_counter()
        batch = self._shard.begin(self._own, step, lambda number: next(batches))
        self._phases.mark("data")
        return Ready(batch, time.perf_counter() - began)

    def _compute(self, batches: Feed, step: int, ready: Ready, wait_seconds: float) -> Report:
        self._companions.say({"step": step})
        self._shard.bring()
        self._batch_norm.begin(self._vectors.buffers)
        self._phases.mark("push")
        began = time.perf_counter()
        with _blaming(self._companions):
            self._shard.step(self._own, step, ready.batch, lambda number: next(batches), batches.prepare)
        if self._delays:
            self._be_slow(step, ready.seconds + time.perf_counter() - began)
        computed = time.perf_counter()
        words = self._companions.hear()
        gradient = self._vectors.gradient
        norm = float(torch.linalg.vector_norm(gradient))
        shorten(gradient, norm, self._spec.clip_norm)
        ended = time.perf_counter()
        loss, metrics = self._own.means()
        metrics = pooled([metrics, *(word["metrics"] for word in words)], self._shard.images)
        self._report(words)
        return Report(loss, norm, ready.seconds + computed - began, wait_seconds, ended - computed, metrics)

    def _be_slow(self, step: int, seconds: float) -> None:
        """A slow machine is slow as a whole: what its leader waits, all of its devices wait."""
        count = self._spec.accumulation
        self._pause(sum(self._delays.seconds(step * count + i, seconds / count) for i in range(count)))

    def _report(self, words: list[Word]) -> None:
        """Tell where each device's time went in this step, and what it sent."""
        mine = {"phases": self._phases.take(), "bytes": self._traffic.since_last(self._group.sent_bytes)}
        now = time.time()
        if now < self._next_report or self.version <= self._reported_version:
            return
        self._next_report, self._reported_version = now + REPORT_SECONDS, self.version
        every = [mine, *words]
        phases, sent = ([v for word in every for v in word[name]] for name in ("phases", "bytes"))
        self._table.add(self.version, now, *phases, *sent)

    def close(self) -> None:
        self._companions.end()
        self._meeting.unlink(missing_ok=True)


@contextmanager
def _blaming(companions: Companions) -> Iterator[None]:
    """Where a collective says that some device is gone, say which."""
    try:
        yield
    except PeerLost:
        companions.diagnose()
        raise
