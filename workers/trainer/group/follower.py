"""Any device of a machine group but the first: it maps the leader's slot, and computes its part when it is told to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from workers import catalog, devices
from workers.assignment import Cause
from workers.devices import Feed
from workers.failures import user_code
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.problems import registry
from workers.process import Child
from workers.server.setup import build_model, build_rule
from workers.trainer.group.companions import Line
from workers.trainer.group.ends import PeerLost, meet
from workers.trainer.group.holding import Shared
from workers.trainer.group.links import try_links
from workers.trainer.group.phases import Stopwatch, Traffic
from workers.trainer.group.shard import Shard
from workers.trainer.loop import stream_of
from workers.transport.shared_memory import Slot, SlotSize


def follow(child: Child, meeting: Path, rank: int, line: Line) -> None:
    """Compute until the leader hangs up. Raises SpecError or Failure, which the leader is told."""
    follower = Follower(child, rank)
    try:
        if follower.join(line, meeting):
            follower.work(line)
    except PeerLost:
        line.hear()  # another device died, and the leader is finding out which


class Follower:
    def __init__(self, child: Child, rank: int) -> None:
        spec = child.spec
        self._child, self._rank = child, rank
        self._device = devices.of(child.assignment, rank)
        self._problem = registry.load(spec.problem, child.data)
        with user_code("placed()"):
            self._problem.placed(child.assignment.worker, spec.workers.max)
        with user_code("dataset('train')", Cause.DATA):
            self._dataset = self._problem.dataset("train")
        self._model = build_model(self._problem, spec.seed)
        self._layout = Layout.of(self._model, spec.optimizer)
        self._rule: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
        self._phases, self._traffic = Stopwatch(self._device), Traffic()

    def join(self, line: Line, meeting: Path) -> bool:
        """Map the slot and meet the others. False: the leader has gone."""
        heard = line.hear()
        if heard is None:
            return False
        slot = Slot("the leader's", SlotSize.trainer(self._layout, self._rule), heard[1][0])
        os.close(heard[1][0])  # the mapping stays
        self._layout.take_constants(self._model, slot.constants)
        line.say({"device": self._device.name})
        spec, gpus = self._child.spec, self._child.assignment.gpus
        self._group = meet(meeting, rank=self._rank, size=spec.shards, device=self._device, gpus=gpus)
        shared = Shared(slot.weights, slot.gradient, torch.zeros_like(slot.buffers), slot.served)
        self._shard = Shard(
            spec, self._model, self._layout, self._rule, shared, self._group, self._phases, self._device
        )
        line.say({"ready": True})
        try_links(self._group, self._layout, self._device)
        return True

    def work(self, line: Line) -> None:
        batches: Feed | None = None

        def following(number: int) -> Any:
            assert batches is not None
            return next(batches)

        steps = self._shard.steps_of(self._problem, self._child.assignment.worker)
        begun, ready = -1, None
        while (heard := line.hear()) is not None:
            self._phases.mark("push")
            step = heard[0]["step"]
            if step != begun:  # the first one, or the server was found again and says where to go on
                mine = stream_of(self._child, self._problem, self._dataset, step, self._shard.rows)
                batches = self._device.feed(mine)
                begun, ready = step, self._shard.begin(steps, step, following)
            assert batches is not None
            self._shard.bring()
            self._rule.begin(self._shard.buffers)
            self._phases.mark("push")
            self._shard.step(steps, step, ready, following, batches.prepare)
            line.say(
                {
                    "metrics": steps.means()[1],
                    "phases": self._phases.take(),
                    "bytes": self._traffic.since_last(self._group.sent_bytes),
                }
            )
            begun, ready = step + 1, self._shard.begin(steps, step + 1, following)  # while the server works
            self._phases.mark("data")
