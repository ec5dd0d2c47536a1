"""A run as the API and the live stream tell of it: what it is, who works on it, what happened lately."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from trainhub import expectations, queries, words
from trainhub.models import Artifact, ArtifactKind, Attempt, Event, LogLine, Member, Run
from workers.assignment import Role

SNAPSHOT_EVENTS = 200
SNAPSHOT_LINES = 400
CHECKPOINTS = 100
CHARTED_EVENTS = ["evaluated"]
"""A long run has thousands of them, its charts show each, and a timeline would show nothing else."""

Json = dict[str, Any]


def line(run: Run) -> Json:
    """What its own row and its experiment's tell of a run: no query for runs that were read with those."""
    return {
        "id": run.pk,
        "name": run.name,
        "project": run.experiment.project.name,
        "experiment": {"id": run.experiment_id, "name": run.experiment.name},
        "labels": run.labels,
        "owner": run.experiment.owner.get_username(),
        "tags": run.experiment.tags,
        "problem": words.problem(run.spec),
        "method": words.method(run.spec),
        "trainers": words.trainers(run.spec),
        "budget": words.budget(run.spec),
        "simulated": run.is_simulated,
        "state": run.state,
        "waiting_reason": run.waiting_reason,
        "cause": run.cause,
        "restarts": run.restarts,
        "attempt": run.attempt,
        "version": run.version,
        "gradients": run.gradients,
        "fraction": run.fraction,
        "metrics": run.metrics,
        "created_at": moment(run.created_at),
        "queued_at": moment(run.queued_at),
        "started_at": moment(run.started_at),
        "training_at": moment(run.training_at),
        "ended_at": moment(run.ended_at),
    }


def read(run: Run) -> Json:
    """The run itself, its attempts, its members and its checkpoints."""
    members = _members(run)
    return line(run) | {
        "virtual_seconds": queries.virtual_seconds(run),
        "wish": run.wish,
        "detail": run.detail,
        "epoch": run.epoch,
        "address": run.address,
        "refused": run.refused,
        "seconds_left": queries.seconds_left(run),
        "mean_delay": _mean_delay(run, members),
        "sequence": run.live_sequence,
        "now": moment(timezone.now()),
        "attempts": [_attempt(a) for a in Attempt.objects.filter(run=run).order_by("number")],
        "members": [_member(m) for m in members],
        "checkpoints": [checkpoint(c) for c in _checkpoints(run)],
    }


@transaction.atomic
def snapshot(run_id: int) -> Json | None:
    """All a page shows but the series, as of one moment. None: there is no such run (any more).

    The sequence is read first: a delta behind it may be in here already, none before it is missing.
    """
    run = Run.objects.select_related("experiment__project", "experiment__owner").filter(pk=run_id).first()
    if run is None:
        return None
    return {
        "summary": read(run),
        "events": events_after(run_id, None, SNAPSHOT_EVENTS, but=CHARTED_EVENTS),
        "log": lines_after(run_id, None, SNAPSHOT_LINES),
    }


def events_after(run_id: int, after: int | None, most: int, *, but: Sequence[str] = ()) -> list[Json]:
    """The newest `most` events, or with `after` the first `most` behind that id; oldest first either way."""
    found = Event.objects.filter(run=run_id).exclude(kind__in=but).select_related("member")
    return [_event(e) for e in _in_turn(found, after, most)]


def lines_after(run_id: int, after: int | None, most: int, member: int | None = None) -> list[Json]:
    """The newest `most` lines of the log, as with events; of one member where it is given."""
    found = LogLine.objects.filter(run=run_id).select_related("member__attempt")
    if member is not None:
        found = found.filter(member=member)
    return [_line(line) for line in _in_turn(found, after, most)]


def _in_turn(found: QuerySet[Any], after: int | None, most: int) -> list[Any]:
    """Whoever goes on behind the last one read misses nothing, however many there are."""
    if after is not None:
        return list(found.filter(pk__gt=after).order_by("pk")[:most])
    return list(reversed(found.order_by("-pk")[:most]))


def moment(at: dt.datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None


def checkpoint(artifact: Artifact) -> Json:
    return {
        "id": artifact.pk,
        "version": artifact.version,
        "epoch": artifact.epoch,
        "attempt": artifact.attempt,
        "final": artifact.final,
        "metrics": artifact.metrics,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "created_at": moment(artifact.created_at),
        "url": reverse("api-checkpoint", args=[artifact.run_id, artifact.pk]),
    }


def _members(run: Run) -> list[Member]:
    found = Member.objects.filter(attempt__run=run, attempt__number=run.attempt)
    return list(found.select_related("slot__node").order_by("worker", "rank", "pk"))


def _checkpoints(run: Run) -> list[Artifact]:
    found = Artifact.objects.filter(run=run, kind=ArtifactKind.CHECKPOINT)
    return list(found.order_by("-version", "-epoch")[:CHECKPOINTS])


def _mean_delay(run: Run, members: list[Member]) -> Json:
    """What the mean delay tends to. `claimed`: whether it must."""
    placed = sum(m.role == Role.TRAINER for m in members)
    expected = expectations.mean_delay(run.spec, placed)
    return {"versions": expected.versions, "words": expected.words, "claimed": expected.claimed}


def _attempt(attempt: Attempt) -> Json:
    return {
        "number": attempt.number,
        "started_at": moment(attempt.started_at),
        "ended_at": moment(attempt.ended_at),
        "outcome": attempt.outcome,
        "cause": attempt.cause,
        "restored_version": attempt.restored_version,
    }


def _member(member: Member) -> Json:
    slot = member.slot
    return {
        "id": member.pk,
        "title": member.title,
        "role": member.role,
        "worker": member.worker,
        "state": member.state,
        "node": slot.node.name if slot else "",
        "slot": member.place.removeprefix(f"{slot.node}/") if slot else "",
        "transport": member.transport,
        "peer": member.peer,
        "cause": member.cause,
        "detail": member.detail,
        "started_at": moment(member.started_at),
        "ended_at": moment(member.ended_at),
    }


def _event(event: Event) -> Json:
    return {
        "id": event.pk,
        "at": moment(event.at),
        "attempt": event.attempt,
        "kind": event.kind,
        "level": event.level,
        "message": event.message,
        "member": event.member.title if event.member else "",
        "worker": event.member.worker if event.member else None,
        "detail": str(event.data.get("detail", "")),
    }


def _line(line: LogLine) -> Json:
    return {
        "id": line.pk,
        "at": moment(line.at),
        "attempt": line.member.attempt.number,
        "member": line.member.title,
        "worker": line.member.worker,
        "text": line.text,
    }
