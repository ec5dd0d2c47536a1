"""Machine groups without processes: their devices take turns, and leave what real ones would, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from workers.assignment import Cause
from workers.failures import from_user
from workers.methods.hybrid.base import NoPhases
from workers.server.setup import Run, build_model
from workers.simulator.snapshots import Snapshot
from workers.simulator.trainers import Measured, Place, Trainers
from workers.spec import RunSpec
from workers.trainer.batches import Batches, fetch
from workers.trainer.group.heads import check_output, head_of
from workers.trainer.group.holding import Shared
from workers.trainer.group.in_process import play, room
from workers.trainer.group.shard import Shard, ShardSteps, pooled
from workers.trainer.steps import shorten


@dataclass(frozen=True)
class Member:
    """One trainer's data and steps, on one device of its group."""

    batches: Batches
    dataset: Any
    collate: Any
    steps: ShardSteps

    def batch(self, number: int) -> Any:
        try:
            return fetch(self.dataset, self.batches[number], self.collate)
        except MemoryError:
            raise
        except Exception as error:
            raise from_user("fetching training examples", error, Cause.DATA) from error


def _compute(shard: Shard, member: Member, step: int) -> None:
    shard.step(member.steps, step, shard.begin(member.steps, step, member.batch), member.batch)


class GroupTrainers(Trainers):
    """All groups of a run, computed by the devices of one."""

    def __init__(self, spec: RunSpec, run: Run) -> None:
        """Raises SpecError or Failure where the model can't be cut."""
        self._spec, self._run = spec, run
        self._shared = self._load()
        self._turns, self._ends = room(spec.shards)
        self._work = Place(run)
        self._places = [self._work.buffers, *(torch.zeros_like(self._work.buffers) for _ in range(1, spec.shards))]
        problem, dataset = self._shared
        whole = build_model(problem, spec.seed)
        check_output(problem, whole, head_of(whole), dataset)
        self._shards = [self._shard(rank) for rank in range(spec.shards)]
        self._groups: dict[int, list[Member]] = {}

    def _shard(self, rank: int) -> Shard:
        layout, rule, work = self._run.layout, self._run.core.rules.batch_norm, self._work
        model = build_model(self._shared[0], self._spec.seed)
        constants = torch.zeros(layout.constants_bytes, dtype=torch.uint8)
        layout.give_constants(self._run.model, constants)
        layout.take_constants(model, constants)
        shared = Shared(work.weights, work.gradient, self._places[rank], work.served)
        return Shard(self._spec, model, layout, rule, shared, self._ends[rank], NoPhases())

    def compute(self, worker: int, step: int, read: Snapshot, place: Place) -> Measured:
        members = self._groups.get(worker)
        if members is None:
            members = self._groups[worker] = [self._member(worker, shard) for shard in self._shards]
        self._read(read)
        for buffers in self._places:
            self._run.core.rules.batch_norm.begin(buffers)
        pairs = zip(self._shards, members, strict=True)
        play(self._ends, self._turns, [partial(_compute, shard, member, step) for shard, member in pairs])
        measured = self._measured(members)
        self._leave_in(place, read)
        for buffers in self._places[1:]:
            buffers.nan_to_num_(0.0, 0.0, 0.0)  # 0 * NaN would stay in them
        return measured

    def _measured(self, members: list[Member]) -> Measured:
        norm = float(torch.linalg.vector_norm(self._work.gradient))
        shorten(self._work.gradient, norm, self._spec.clip_norm)
        means = [m.steps.means() for m in members]
        return Measured(means[0][0], norm, pooled([metrics for _, metrics in means], self._shards[0].images))

    def _member(self, worker: int, shard: Shard) -> Member:
        problem, dataset = self._of(worker)
        batches = Batches(
            seed=self._spec.seed,
            worker=worker,
            workers=self._spec.workers.max,
            examples=len(dataset),  # type: ignore[arg-type]
            batch_size=self._spec.batch_size,
            rows=shard.rows,
        )
        return Member(batches, dataset, problem.collate, shard.steps_of(problem, worker))
