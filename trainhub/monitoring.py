"""Load and failures of the whole installation at a glance. Reads only, in a number of queries that rows don't raise."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import django
import numpy as np
from django.conf import settings
from django.db import connection
from django.db.models import BinaryField, Count, F, Func, Min, Q
from django.db.models.fields.json import KT
from django.utils import timezone

from trainhub import words
from trainhub.models import AuditEntry, Event, Member, MemberState, Node, Run, RunState, SeriesChunk
from workers import events
from workers.assignment import SERVER_WORKER

STALLED_SECONDS = 60
"""A run that trains and has stored no point for so long is marked."""
RECENT_BATCHES = 300
"""How far back, in a run's stored batches, a series counts as going on: about two minutes."""
RECENT_POINTS = 50
"""How many of a series' last points make "now"."""
RUNS_SHOWN = 30
FAILURES_SHOWN = 100
FAILURES_A_CAUSE = 5
ENTRIES_SHOWN = 10
LATELY = dt.timedelta(hours=1)
FAILURES_SINCE = dt.timedelta(hours=24)


@dataclass(frozen=True)
class Load:
    """What of a node's slots is in use."""

    id: int
    name: str
    online: bool
    drained: bool
    used: int
    total: int
    unanswered: int
    """Members placed there that no supervisor has taken up yet."""
    beat_seconds: float
    """Since the agent was last heard of."""
    versions: dict[str, str]

    @property
    def words(self) -> str:
        return ("online" if self.online else "offline") + (", drained" if self.drained else "")


@dataclass(frozen=True)
class Queue:
    length: int
    oldest_seconds: float | None
    """How long the oldest has waited. None: nothing waits."""
    first: Run | None
    """The run at the head."""


@dataclass(frozen=True)
class Pace:
    """How a run that trains is doing. None: it has not said so lately."""

    run: Run
    updates_per_second: float | None
    staleness: float | None
    """Mean over its trainers' last gradients, in versions."""
    silent_seconds: float | None
    """Since its newest point. None: its clock is virtual, or it has only just begun."""
    simulated: bool

    @property
    def stalled(self) -> bool:
        return self.silent_seconds is not None and self.silent_seconds > STALLED_SECONDS


@dataclass(frozen=True)
class Failures:
    """Runs that failed for one cause, the newest of them by name."""

    cause: str
    count: int
    runs: list[Run]


@dataclass(frozen=True)
class Storage:
    """In bytes. None: not to be had."""

    database: int
    disk_free: int | None
    disk_total: int | None


@dataclass(frozen=True)
class Board:
    """All that the monitoring page shows, as of one moment."""

    at: dt.datetime
    nodes: list[Load]
    queue: Queue
    states: list[tuple[str, int]]
    paces: list[Pace]
    """The worst by staleness first; stalled ones before all others."""
    training: int
    failures: list[Failures]
    lost_members: int
    restarts: int
    storage: Storage
    versions: dict[str, str]
    entries: list[AuditEntry]

    @property
    def used(self) -> int:
        return sum(node.used for node in self.nodes)

    @property
    def total(self) -> int:
        return sum(node.total for node in self.nodes if node.online)

    @property
    def updates_per_second(self) -> float:
        return sum(pace.updates_per_second or 0.0 for pace in self.paces)

    @property
    def stalled(self) -> int:
        return sum(pace.stalled for pace in self.paces)

    @property
    def failed(self) -> int:
        return sum(each.count for each in self.failures)

    @property
    def shown(self) -> list[Pace]:
        return self.paces[:RUNS_SHOWN]


def board(now: dt.datetime | None = None) -> Board:
    now = now or timezone.now()
    states = dict(Run.objects.order_by().values_list("state").annotate(Count("pk")))
    return Board(
        at=now,
        nodes=loads(now),
        queue=queue(now),
        states=[(state, states.get(state, 0)) for state in RunState.values],
        paces=paces(now),
        training=states.get(RunState.RUNNING, 0),
        failures=failures(now),
        lost_members=Member.objects.filter(state=MemberState.LOST, ended_at__gte=now - LATELY).count(),
        restarts=restarts(now),
        storage=storage(),
        versions=versions(),
        entries=list(AuditEntry.objects.select_related("project").order_by("-at", "-pk")[:ENTRIES_SHOWN]),
    )


def loads(now: dt.datetime) -> list[Load]:
    nodes = Node.objects.order_by("name").annotate(
        total=Count("slots", filter=Q(slots__retired=False) | Q(slots__member__isnull=False)),
        used=Count("slots", filter=Q(slots__member__isnull=False)),
        unanswered=Count("slots", filter=Q(slots__member__state=MemberState.RESERVED)),
    )
    return [
        Load(
            id=node.pk,
            name=node.name,
            online=node.online,
            drained=node.drained,
            used=node.used,
            total=node.total,
            unanswered=node.unanswered,
            beat_seconds=max(0.0, (now - node.seen_at).total_seconds()),
            versions=node.environment.get("packages", {}) | _named(node.environment, "python"),
        )
        for node in nodes
    ]


def queue(now: dt.datetime) -> Queue:
    waiting = Run.objects.filter(state=RunState.QUEUED)
    counted = waiting.aggregate(length=Count("pk"), oldest=Min("queued_at"))
    oldest = counted["oldest"]
    return Queue(
        length=counted["length"],
        oldest_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else None,
        first=waiting.order_by("-priority", "queued_at", "pk").first(),
    )


def paces(now: dt.datetime) -> list[Pace]:
    """Every run that trains, what needs a look first."""
    training = Run.objects.filter(state=RunState.RUNNING).select_related("experiment__project")
    running = training.defer("spec", "labels").annotate(execution=KT("spec__execution__kind"))
    recent = _recent()
    found = [_pace(run, recent.get(run.pk, []), now) for run in running]
    return sorted(found, key=lambda p: (not p.stalled, -(p.staleness if p.staleness is not None else -1.0), p.run.pk))


@dataclass(frozen=True)
class Tail:
    """The end of a series: its newest values, and when the newest one was measured, in seconds since 1970."""

    worker: int
    key: str
    values: Any
    at: float


def _recent() -> dict[int, list[Tail]]:
    """Run → the ends of the series that say how it is doing, in one query for all runs that train."""
    rows = (
        SeriesChunk.objects.filter(
            run__state=RunState.RUNNING,
            attempt=F("run__attempt"),
            key__in=[events.STALENESS, events.UPDATES_PER_SECOND],
            sequence__gt=F("run__live_sequence") - RECENT_BATCHES,
        )
        .order_by("run", "worker", "key", "-index")
        .distinct("run", "worker", "key")
        .values_list("run", "worker", "key", _last("y", RECENT_POINTS), _last("t", 1))
    )
    found: dict[int, list[Tail]] = defaultdict(list)
    for run, worker, key, y, t in rows:
        found[run].append(Tail(worker, key, np.frombuffer(y, "<f8"), float(np.frombuffer(t, "<f8")[-1])))
    return found


def _last(column: str, points: int) -> Func:
    """The last points of a packed column; the rest of it stays in the database."""
    bytes_ = points * 8
    template = f"substring(%(expressions)s from greatest(1, octet_length(%(expressions)s) - {bytes_ - 1}))"
    return Func(F(column), template=template, output_field=BinaryField())


def _pace(run: Any, tails: Sequence[Tail], now: dt.datetime) -> Pace:
    simulated = run.execution == "simulate"  # read by the database: specs are long
    updates = [t.values[-1] for t in tails if t.key == events.UPDATES_PER_SECOND and t.worker == SERVER_WORKER]
    of_all = [t for t in tails if t.key == events.STALENESS and t.worker == SERVER_WORKER]
    of_each = [t for t in tails if t.key == events.STALENESS and t.worker != SERVER_WORKER]
    means = [float(t.values.mean()) for t in of_all or of_each]
    return Pace(
        run=run,
        updates_per_second=float(updates[0]) if updates else None,
        staleness=sum(means) / len(means) if means else None,
        silent_seconds=None if simulated else _silent(run, tails, now),
        simulated=simulated,
    )


def _silent(run: Run, tails: Sequence[Tail], now: dt.datetime) -> float | None:
    newest = max((t.at for t in tails), default=None)
    began = run.training_at.timestamp() if run.training_at else None
    last = newest if newest is not None else began
    return None if last is None else max(0.0, now.timestamp() - last)


def failures(now: dt.datetime) -> list[Failures]:
    """By cause, the most frequent first."""
    failed = Run.objects.filter(state=RunState.FAILED, ended_at__gte=now - FAILURES_SINCE)
    counts = dict(failed.order_by().values_list("cause").annotate(Count("pk")))
    newest: dict[str, list[Run]] = defaultdict(list)
    for run in failed.defer("spec", "labels").order_by("-ended_at")[:FAILURES_SHOWN]:
        newest[run.cause].append(run)
    told = [Failures(cause, count, newest[cause][:FAILURES_A_CAUSE]) for cause, count in counts.items()]
    return sorted(told, key=lambda each: (-each.count, each.cause))


def restarts(now: dt.datetime) -> int:
    """Attempts of the last hour that a run began because the one before was lost."""
    # By run first: a run's events have an index, their moments have none.
    restarted = Event.objects.filter(run__restarts__gt=0, kind="restarting", at__gte=now - LATELY)
    return restarted.count()


def storage() -> Storage:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (size,) = cursor.fetchone()
    try:
        disk = shutil.disk_usage(settings.HOME)
    except FileNotFoundError:  # nothing has been stored yet
        return Storage(size, None, None)
    return Storage(size, disk.free, disk.total)


def versions() -> dict[str, str]:
    major, minor = divmod(connection.pg_version, 10000)  # type: ignore[attr-defined]
    try:
        ours = metadata.version("trainhub")
    except metadata.PackageNotFoundError:
        ours = "from a checkout"
    return {"TrainHub": ours, "Django": django.get_version(), "PostgreSQL": f"{major}.{minor}"}


def _named(environment: dict[str, Any], *names: str) -> dict[str, str]:
    return {name: str(environment[name]) for name in names if name in environment}


def waits(queue: Queue) -> str:
    """The state of the queue in a sentence."""
    if not queue.length or queue.oldest_seconds is None:
        return "nothing waits"
    return f"oldest waits for {words.duration(queue.oldest_seconds)}"
