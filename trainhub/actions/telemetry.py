"""What children report, written once: rows first, then a hint to the dashboards."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.db.models import F

from trainhub import charts
from trainhub.actions import announce, artifacts, members
from trainhub.models import Event, LogLine, Member, Run
from trainhub.models.series import CHUNK_POINTS
from workers import events as reported

HINT_POINTS = 60
"""Points of one series in one hint; more are thinned, keeping extremes."""
HINT_POINTS_OF_ALL = 12_000
"""Points of all series in one hint: a simulation may have hundreds of series."""
LEAST_HINT_POINTS = 4

# One round trip for all series of a batch. A full chunk is left alone and the next index opened.
_APPEND = """
INSERT INTO trainhub_serieschunk AS chunk
    (run_id, attempt, worker, key, index, sequence, count, nonfinite, first_x, last_x, low, high, last, x, t, y)
SELECT %(run)s, %(attempt)s, new.worker, new.key,
    coalesce((SELECT c.index + (c.count >= %(full)s)::int FROM trainhub_serieschunk c
              WHERE c.run_id = %(run)s AND c.attempt = %(attempt)s AND c.worker = new.worker AND c.key = new.key
              ORDER BY c.index DESC LIMIT 1), 0),
    %(sequence)s, new.count, new.nonfinite, new.first_x, new.last_x, new.low, new.high, new.last, new.x, new.t, new.y
FROM unnest(%(worker)s::int[], %(key)s::text[], %(count)s::int[], %(nonfinite)s::int[], %(first_x)s::bigint[],
            %(last_x)s::bigint[], %(low)s::float8[], %(high)s::float8[], %(last)s::float8[],
            %(x)s::bytea[], %(t)s::bytea[], %(y)s::bytea[])
    AS new(worker, key, count, nonfinite, first_x, last_x, low, high, last, x, t, y)
ON CONFLICT (run_id, attempt, worker, key, index) DO UPDATE SET
    sequence = excluded.sequence,
    count = chunk.count + excluded.count,
    nonfinite = chunk.nonfinite + excluded.nonfinite,
    last_x = excluded.last_x,
    low = least(chunk.low, excluded.low),
    high = greatest(chunk.high, excluded.high),
    last = excluded.last,
    x = chunk.x || excluded.x, t = chunk.t || excluded.t, y = chunk.y || excluded.y
"""


@dataclass(frozen=True)
class Position:
    """How far a spool has been read, behind the batch that is being stored."""

    file: int
    offset: int


def store(member: Member, batch: reported.Batch, behind: Position) -> bool:
    """Write one batch, its place in the spool and all that follows from its events, in one transaction.

    False: it had been stored before. Raises Fenced when an event claims an epoch that is over.
    """
    with transaction.atomic():
        if not Member.objects.filter(pk=member.pk, spool_sequence__lt=batch.sequence).update(
            spool_sequence=batch.sequence, spool_file=behind.file, spool_offset=behind.offset
        ):
            return False
        run_id = member.attempt.run_id
        Run.objects.filter(pk=run_id).update(live_sequence=F("live_sequence") + 1)
        run = Run.objects.get(pk=run_id)
        points = [p for p in batch.points if p.count]
        if points:
            _append(run, member.attempt.number, points)
        _note_progress(member, batch.progress)
        for event in batch.events:
            _note_event(run, member, event)
        _note_dropped(run, member, batch.dropped)
        announce.publish(run_id, _hint(run, member.attempt.number, points, batch.progress))
        return True


def _append(run: Run, attempt: int, points: list[reported.Points]) -> None:
    rows = [_chunk(p) for p in points]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns |= {"run": run.pk, "attempt": attempt, "sequence": run.live_sequence, "full": CHUNK_POINTS}
    with connection.cursor() as cursor:
        cursor.execute(_APPEND, columns)


def _chunk(points: reported.Points) -> dict[str, Any]:
    x, y = np.frombuffer(points.x, "<i8"), np.frombuffer(points.y, "<f8")
    finite = y[np.isfinite(y)]
    return {
        "worker": points.worker,
        "key": points.key,
        "count": len(x),
        "nonfinite": len(y) - len(finite),
        "first_x": int(x[0]),
        "last_x": int(x[-1]),
        "low": float(finite.min()) if len(finite) else None,
        "high": float(finite.max()) if len(finite) else None,
        "last": float(y[-1]),
        "x": points.x,
        "t": points.t,
        "y": points.y,
    }


def _note_progress(member: Member, progress: reported.Progress | None) -> None:
    if progress is None:
        return
    Run.objects.filter(pk=member.attempt.run_id, epoch=member.epoch).update(
        version=progress.version,
        gradients=progress.gradients,
        fraction=progress.fraction,
        refused=progress.refused,
    )


def _note_event(run: Run, member: Member, event: reported.Event) -> None:
    data = _storable(event.data)
    Event.objects.create(
        run=run,
        attempt=member.attempt.number,
        member=member,
        at=dt.datetime.fromtimestamp(event.at, dt.UTC),
        kind=event.kind,
        level=event.level,
        message=event.message,
        data=data,
    )
    consequence = _CONSEQUENCES.get(event.kind)
    if consequence:
        consequence(member, data)
    announce.run_changed(run.pk)


def _storable(value: Any) -> Any:
    """The same with what is not finite by its name: PostgreSQL's JSON knows no NaN and no infinities."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: _storable(each) for key, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
    return value


def _restored(member: Member, data: dict[str, Any]) -> None:
    members.note_restored(member.attempt, data["version"])


def _joined(member: Member, data: dict[str, Any]) -> None:
    members.joined(member, data["member"], data.get("transport", ""), data.get("peer", ""))


def _evaluated(member: Member, data: dict[str, Any]) -> None:
    metrics = {"loss": data["loss"], **data["metrics"], "version": data["version"]}
    Run.objects.filter(pk=member.attempt.run_id, epoch=member.epoch).update(metrics=metrics)


def _checkpoint(member: Member, data: dict[str, Any]) -> None:
    if not artifacts.add_checkpoint(member, data):
        transaction.on_commit(partial(_remove, data["path"]))


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


_CONSEQUENCES: dict[str, Callable[[Member, dict[str, Any]], None]] = {
    "listening": lambda member, data: members.listening(member, data["endpoint"], data.get("address", "")),
    "joined": _joined,
    "training": lambda member, data: members.training(member),
    "restored": _restored,
    "evaluated": _evaluated,
    "checkpoint": _checkpoint,
}


def _note_dropped(run: Run, member: Member, dropped: int) -> None:
    if dropped:
        message = f"{member.title} dropped {dropped} points: its spool was full"
        _note_event(run, member, reported.Event("dropped", time.time(), message, "warning"))


def _hint(run: Run, attempt: int, points: list[reported.Points], progress: reported.Progress | None) -> dict[str, Any]:
    most = max(LEAST_HINT_POINTS, min(HINT_POINTS, HINT_POINTS_OF_ALL // max(1, len(points))))
    return {
        "kind": "delta",
        "sequence": run.live_sequence,
        "attempt": attempt,
        "series": [_thinned(p, most) for p in points],
        "progress": asdict(progress) if progress else None,
    }


def _thinned(points: reported.Points, most: int) -> list[Any]:
    x, t, y = (np.frombuffer(raw, kind) for raw, kind in ((points.x, "<i8"), (points.t, "<f8"), (points.y, "<f8")))
    keep = charts.thin(x, y, most)
    return [points.worker, points.key, x[keep].tolist(), t[keep].tolist(), y[keep].tolist()]


def store_log(member: Member, lines: list[str], behind_bytes: int) -> None:
    """Write what a child printed, and how far its log has been read, in one transaction."""
    with transaction.atomic():
        moved = Member.objects.filter(pk=member.pk, log_offset__lt=behind_bytes).update(log_offset=behind_bytes)
        if not moved:
            return
        now = dt.datetime.now(dt.UTC)
        run = member.attempt.run
        LogLine.objects.bulk_create([LogLine(run=run, member=member, at=now, text=line) for line in lines])
        announce.run_changed(run.pk)
