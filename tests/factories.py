"""Rows that look like those of real runs, and batches to stream into a page that is open."""

from __future__ import annotations

import datetime as dt
import hashlib
import heapq
import json
import math
import random
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from trainhub.actions import people, runs, telemetry
from trainhub.models import (
    Artifact,
    ArtifactKind,
    Attempt,
    Event,
    Experiment,
    Level,
    LogLine,
    Member,
    Membership,
    MemberState,
    Node,
    Project,
    Role,
    Run,
    RunState,
    Slot,
)
from workers import events
from workers.assignment import SERVER_WORKER
from workers.assignment import Role as MemberRole
from workers.spec import RunSpec

LAYERS = ("bn1", "bn2")


class Cell(NamedTuple):
    spec: RunSpec
    labels: dict[str, Any]


def person(name: str, **more: Any) -> User:
    return User.objects.get_or_create(username=name, defaults=more)[0]


def operator(name: str) -> User:
    """Somebody who keeps the installation, and is in no project."""
    made = person(name, is_staff=True)
    made.groups.add(people.operators())
    return made


def project(name: str = "vision", **people: Role) -> Project:
    """A project; `bob=Role.MEMBER` makes bob one of its members."""
    made = Project.objects.get_or_create(name=name)[0]
    for username, role in people.items():
        Membership.objects.update_or_create(project=made, user=person(username), defaults={"role": role})
    return made


def spec(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "digits, four trainers, one slow",
        "problem": {"kind": "digits"},
        "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        "schedule": {"kind": "cosine"},
        "rate": {"kind": "staleness-inverse"},
        "workers": 4,
        "budget": {"passes": 30},
        "delays": [{"kind": "factor", "factor": 3, "workers": [3]}],
    }
    parsed: dict[str, Any] = json.loads(RunSpec.parse(base | changes).canonical())
    return parsed


def run(*, owner: User, within: Project, state: str = RunState.QUEUED, **changes: Any) -> Run:
    """A run without members or measurements. `spec=` replaces the specification."""
    given = changes.pop("spec", None) or spec()
    experiment = Experiment.objects.create(project=within, owner=owner, name=given["name"])
    now = timezone.now()
    values = {"number": 1, "name": given["name"], "spec": given, "state": state, "queued_at": now}
    return Run.objects.create(experiment=experiment, **(values | changes))


def study(*, owner: User, within: Project, labels: list[dict[str, Any]], **changes: Any) -> list[Run]:
    """An experiment with a queued run for each of these labels."""
    cells = [Cell(RunSpec.parse(spec(delays=[]) | changes), each) for each in labels]
    made = runs.submit_many(project=within, owner=owner, name="rates and gates", cells=cells)
    return list(made.runs.order_by("number"))


def ended(run: Run, accuracy: float) -> None:
    """Complete a run with this accuracy."""
    run.state, run.fraction, run.ended_at = RunState.COMPLETED, 1.0, timezone.now()
    run.save()
    evaluated(run, 7, accuracy=accuracy, loss=0.1)


def gang(run: Run, *, trainers: int = 4, number: int = 1, restored: int | None = None) -> list[Member]:
    """An attempt with its server, trainers and evaluator; the server comes first."""
    node = Node.objects.get_or_create(
        name="node-a",
        defaults={
            "agent": uuid.uuid4(),
            "cores": 2,
            "memory_bytes": 8 << 30,
            "registered_at": timezone.now(),
            "seen_at": timezone.now(),
        },
    )[0]
    now = timezone.now()
    attempt = Attempt.objects.create(run=run, number=number, started_at=now, restored_version=restored)
    run.attempt, run.epoch, run.started_at, run.training_at = number, number, now, now
    run.save()
    places = [(MemberRole.SERVER, None)] + [(MemberRole.TRAINER, w) for w in range(trainers)]
    members = []
    for rank, (role, worker) in enumerate(places):
        slot = Slot.objects.get_or_create(node=node, index=rank)[0]
        members.append(
            Member.objects.create(
                attempt=attempt,
                slot=slot,
                reservation=1,
                rank=rank,
                role=role,
                worker=worker,
                state=MemberState.RUNNING,
                epoch=number,
                reserved_at=now,
                started_at=now,
            )
        )
    return members


@dataclass
class Training:
    """An invented asynchronous training whose staleness follows from its trainers' speeds."""

    trainers: int = 4
    slow: dict[int, float] = field(default_factory=lambda: {3: 3.0})
    seconds: float = 0.02
    rate: float = 0.05
    updates: int = 4000
    seed: int = 7
    diverges_at: int | None = None
    group: int = 1
    """Gradients of one update. More than one: their trainers wait for it, and share the step by the balanced rule."""
    window: int = 0
    """Rounds of which a trainer forecasts its staleness. 0: it does not."""
    dropped: bool = False
    """Whether gradients are dropped now and then."""

    def batches(self, start: dt.datetime, *, of: int = 200, first: int = 1) -> Iterator[events.Batch]:
        """Batches of `of` updates each, whose versions begin at `first`."""
        points: dict[tuple[int, str], list[tuple[int, float, float]]] = {}
        for version, (at, values) in enumerate(self.versions(), start=first):
            moment = start.timestamp() + at
            for (owner, key), value in values.items():
                points.setdefault((owner, key), []).append((version, moment, value))
            if (version - first) % of == of - 1:
                yield self._batch(version, points)
                points = {}
        if points:
            yield self._batch(version, points)

    def versions(self) -> Iterator[tuple[float, dict[tuple[int, str], float]]]:
        """When each version came, and what was measured with it."""
        chance = random.Random(self.seed)
        ready = [(self._compute(w, chance), w, 0) for w in range(self.trainers)]
        heapq.heapify(ready)
        windows: dict[int, deque[int]] = {w: deque(maxlen=self.window or 1) for w in range(self.trainers)}
        delays = 0
        for version in range(1, self.updates + 1):
            finished = [heapq.heappop(ready) for _ in range(self.group)]
            at = finished[-1][0]
            staleness = {worker: version - 1 - read for _, worker, read in finished}
            contexts = {w: fmean(windows[w] or [self.trainers - 1]) for w in staleness} if self.window else {}
            scales = self._scales(staleness, contexts)
            values: dict[tuple[int, str], float] = {}
            for worker, late in staleness.items():
                took = self._compute(worker, chance)
                heapq.heappush(ready, (at + took, worker, version))
                windows[worker].append(late)
                delays += late + 1
                values |= self._values(version, worker, late, scales[worker], took, chance)
                if self.window:
                    values[worker, events.CONTEXT] = contexts[worker]
            values |= self._of_the_run(version, chance)
            if self.group > 1:
                values[SERVER_WORKER, events.SCALE_SUM] = sum(scales.values())
            if version % 10 == 0:
                values[SERVER_WORKER, events.MEAN_DELAY] = delays / (version * self.group)
            if self.dropped and version % 50 == 0:
                values[SERVER_WORKER, events.DROPPED] = version // 50
            yield at, values

    def _compute(self, worker: int, chance: random.Random) -> float:
        return self.seconds * self.slow.get(worker, 1.0) * chance.gammavariate(30, 1 / 30)

    def _scales(self, staleness: dict[int, int], contexts: dict[int, float]) -> dict[int, float]:
        if contexts:
            return {worker: 1 / (1 + context) for worker, context in contexts.items()}
        if self.group == 1:
            return {worker: 1 / max(1, late) for worker, late in staleness.items()}
        shares = {worker: 1 / (1 + late) for worker, late in staleness.items()}
        whole = sum(shares.values()) * (1 + fmean(staleness.values()))
        return {worker: share / whole for worker, share in shares.items()}

    def _values(
        self, version: int, worker: int, staleness: int, scale: float, took: float, chance: random.Random
    ) -> dict[tuple[int, str], float]:
        done = version / self.updates
        loss = (0.05 + 2.3 * np.exp(-9 * done)) * chance.lognormvariate(0, 0.22 + 0.1 * done)
        if self.diverges_at and version >= self.diverges_at:
            loss = float("nan")
        schedule = self.rate * 0.5 * (1 + np.cos(np.pi * done))
        accuracy = min(1.0, max(0.0, 1 - 0.85 * np.exp(-8 * done) + chance.gauss(0, 0.03)))
        values = {
            (worker, events.LOSS): float(loss),
            (worker, events.STALENESS): float(staleness),
            (worker, events.SKIP): 0.0,
            (worker, events.SCALE): scale,
            (worker, events.LEARNING_RATE): float(schedule * scale),
            (worker, events.GRADIENT_NORM): chance.lognormvariate(0, 0.3),
            (worker, events.COMPUTE_SECONDS): took,
            (worker, events.WAIT_SECONDS): 0.0012 * chance.lognormvariate(0, 0.6),
            (worker, events.TRANSFER_SECONDS): 0.0004 * chance.lognormvariate(0, 0.4),
            (worker, events.TRAIN_METRIC.format("accuracy")): round(accuracy * 32) / 32,
        }
        if version % 10 == 0:
            values |= self._batch_norm(done, worker, chance)
        return values

    def _batch_norm(self, done: float, worker: int, chance: random.Random) -> dict[tuple[int, str], float]:
        values: dict[tuple[int, str], float] = {}
        drift = 0.05 * (worker - 1.5)
        for depth, layer in enumerate(LAYERS, start=1):
            mean = float(0.3 * depth * (1 - np.exp(-5 * done)))
            variance = depth * (0.6 + 0.8 * done)
            of_batch = mean + drift * 0.4 + chance.gauss(0, 0.04)
            spread = variance * (1 + drift) + chance.gauss(0, 0.08)
            values |= {
                (worker, events.BATCH_NORM_MEAN.format(layer)): of_batch,
                (worker, events.BATCH_NORM_VARIANCE.format(layer)): spread,
                (worker, events.BATCH_NORM_SHIFT.format(layer)): abs(of_batch - mean),
                (worker, events.BATCH_NORM_LOG_RATIO.format(layer)): abs(math.log(spread / variance)),
                (SERVER_WORKER, events.BATCH_NORM_MEAN.format(layer)): mean,
                (SERVER_WORKER, events.BATCH_NORM_VARIANCE.format(layer)): variance,
            }
        return values

    def _of_the_run(self, version: int, chance: random.Random) -> dict[tuple[int, str], float]:
        done = version / self.updates
        values: dict[tuple[int, str], float] = {}
        if version % 25 == 0:
            speed = sum(1 / (self.seconds * self.slow.get(w, 1.0)) for w in range(self.trainers)) / self.group
            values[SERVER_WORKER, events.UPDATES_PER_SECOND] = speed * chance.gauss(1, 0.04)
        if version % 135 == 0:
            better = 1 - 0.9 * np.exp(-9 * done)
            values[SERVER_WORKER, events.EVALUATION_LOSS] = float(0.08 + 2.2 * np.exp(-10 * done))
            values[SERVER_WORKER, events.EVALUATION_METRIC.format("accuracy")] = float(0.985 * better)
        return values

    def _batch(self, version: int, points: dict[tuple[int, str], list[tuple[int, float, float]]]) -> events.Batch:
        return events.Batch(
            sequence=version,
            points=[self._points(worker, key, rows) for (worker, key), rows in points.items()],
            progress=events.Progress(
                version, version * self.group, min(1.0, version / self.updates), steps={0: version}
            ),
        )

    def _points(self, worker: int, key: str, rows: list[tuple[int, float, float]]) -> events.Points:
        x, t, y = (np.array(column) for column in zip(*rows, strict=True))
        return events.Points(
            worker, key, x.astype("<i8").tobytes(), t.astype("<f8").tobytes(), y.astype("<f8").tobytes()
        )


def store(server: Member, batch: events.Batch) -> None:
    """Store a batch as a supervisor does, hints and all."""
    assert telemetry.store(server, batch, telemetry.Position(1, batch.sequence))


def evaluated(run: Run, version: int, *, accuracy: float, loss: float) -> None:
    run.metrics = {"loss": loss, "accuracy": accuracy, "version": version}
    run.save(update_fields=["metrics"])


def checkpoint(run: Run, version: int, *, final: bool = False, content: bytes = b"weights") -> Artifact:
    """A checkpoint with a file under the home, as the server writes it."""
    folder = Path(settings.HOME) / "runs" / str(run.pk) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"v{version}-e{run.epoch}.safetensors"
    file.write_bytes(content)
    return Artifact.objects.create(
        run=run,
        attempt=run.attempt,
        kind=ArtifactKind.CHECKPOINT,
        epoch=run.epoch,
        version=version,
        path=str(file),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        metrics={"loss": 0.091, "accuracy": 0.9722},
        final=final,
    )


def happened(run: Run, message: str, *, kind: str = "note", member: Member | None = None, **more: Any) -> Event:
    values = {"attempt": run.attempt, "at": timezone.now(), "level": Level.INFO}
    return Event.objects.create(run=run, kind=kind, message=message, member=member, **(values | more))


def printed(member: Member, *lines: str) -> None:
    now = timezone.now()
    rows = [LogLine(run=member.attempt.run, member=member, at=now, text=line) for line in lines]
    LogLine.objects.bulk_create(rows)


def trained_run(
    *, owner: User, within: Project, training: Training | None = None, part: float = 0.6, **changes: Any
) -> tuple[Run, list[Member]]:
    """A run in the middle of its training, or at its end with `part=1` and `state=`."""
    training = training or Training()
    made = run(owner=owner, within=within, state=changes.pop("state", RunState.RUNNING), **changes)
    members = gang(made, trainers=training.trainers)
    server = members[0]
    seconds = training.updates * training.seconds / training.trainers
    begun = timezone.now() - dt.timedelta(seconds=seconds * part + 1)
    _tell_the_beginning(made, members, begun)
    for batch in training.batches(begun, of=400):
        progress = batch.progress
        if progress is not None and progress.version > part * training.updates:
            break
        store(server, batch)
    made.refresh_from_db()
    made.created_at = made.queued_at = begun - dt.timedelta(seconds=1)
    made.started_at = made.training_at = begun
    evaluated(made, made.version, accuracy=0.9722, loss=0.0913)
    for version in (made.version // 2, made.version):
        checkpoint(made, version, content=b"w" * 1_130_000)
    made.save()
    return made, members


def _tell_the_beginning(made: Run, members: list[Member], begun: dt.datetime) -> None:
    server, *trainers = members
    step = dt.timedelta(milliseconds=180)
    happened(made, f"Submitted by {made.experiment.owner.username}", kind="submitted", at=begun - 5 * step)
    happened(made, "Placed on 5 slots of node-a", kind="placed", at=begun - 4 * step)
    happened(made, "server promoted, epoch 1", kind="promoted", member=server, at=begun - 3 * step)
    for trainer in trainers:
        happened(made, f"{trainer.title} joined", kind="joined", member=trainer, at=begun - step)
    happened(made, "Training began", kind="training", at=begun)
    printed(
        server, "digits: 1437 training examples, 360 test examples", "model: 270,410 parameters, 2 batch-norm layers"
    )
    for trainer in trainers:
        printed(trainer, f"slice of 359 examples, seed 0, trainer {trainer.worker}", "forward and backward on 1 thread")
