"""The scheduler's writes: gangs admitted, doorbells due, trainers replaced, waiting runs told why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from trainhub.actions import announce, events, runs, slots
from trainhub.models import Attempt, Member, MemberState, Run, RunState, Slot, Wish
from trainhub.scheduling import Free, Waiting
from workers.assignment import Outcome

LAST_RING = dt.timedelta(seconds=32)


def idle_slots() -> list[Free]:
    idle = offered().filter(member=None).order_by("node__name", "kind", "index")
    return [Free(*row) for row in idle.values_list("pk", "node__name", "kind", "index")]


def offered() -> QuerySet[Slot]:
    """Slots that may take members: of online nodes that are not drained."""
    return Slot.objects.filter(retired=False, node__online=True, node__drained=False)


def waiting_runs() -> list[Waiting]:
    queued = Run.objects.filter(state=RunState.QUEUED)
    waiting = []
    for run in queued:
        spec = run.run_spec
        waiting.append(Waiting(run.pk, spec.least_slots, spec.slots, run.priority, run.queued_at))
    return waiting


def admit(run_id: int, chosen: Sequence[Free]) -> list[Member]:
    """Reserve the slots and write the gang, all or nothing. Empty: the run or a slot went to somebody else."""
    with transaction.atomic():
        run = runs.lock(Run(pk=run_id))
        taken = {
            s.pk: s
            for s in offered().filter(pk__in=[f.id for f in chosen], member=None).select_for_update(of=("self",))
        }
        if run.state != RunState.QUEUED or len(taken) != len(chosen):
            return []
        now = timezone.now()
        run.attempt += 1
        run.started_at, run.training_at, run.ended_at = now, None, None
        attempt = Attempt.objects.create(run=run, number=run.attempt, started_at=now)
        gang = [
            slots.reserve(taken[free.id], attempt, rank=rank, worker=rank - 1 if rank else None, now=now)
            for rank, free in enumerate(chosen)
        ]
        runs.move(run, RunState.STARTING)
        events.record(run, "admitted", f"Got {len(gang)} slots: {', '.join(sorted({f.node for f in chosen}))}")
        for node in {f.node for f in chosen}:
            announce.wake_node(node)
        return gang


def explain(reasons: dict[int, str]) -> None:
    """Write why each run waits, where the reason is a new one."""
    for run_id, reason in reasons.items():
        with transaction.atomic():
            waits = Run.objects.filter(pk=run_id, state=RunState.QUEUED).exclude(waiting_reason=reason)
            if waits.update(waiting_reason=reason):
                announce.run_changed(run_id)


def missing_trainers() -> list[tuple[Run, list[int]]]:
    """Running runs that lack trainers, with the numbers that lack them."""
    lacking = []
    for run in Run.objects.filter(state=RunState.RUNNING, wish=Wish.NONE, fraction__lt=1).exclude(server=None):
        gang = Member.objects.filter(attempt__run=run, attempt__number=run.attempt)
        if gang.filter(outcome=Outcome.COMPLETED).exists():
            continue  # A trainer that was told the run is over needs no heir
        numbers = set(gang.filter(ended_at=None).exclude(worker=None).values_list("worker", flat=True))
        missing = [n for n in range(run.run_spec.workers.max) if n not in numbers]
        if missing:
            lacking.append((run, missing))
    return lacking


def replace(run: Run, worker: int, free: Free) -> Member | None:
    """Give trainer `worker`'s place to a new member. None: the run or the slot went elsewhere."""
    with transaction.atomic():
        run = runs.lock(run)
        slot = offered().filter(pk=free.id, member=None).select_for_update(of=("self",)).first()
        if slot is None or run.state != RunState.RUNNING or run.wish:
            return None
        attempt = Attempt.objects.get(run=run, number=run.attempt)
        member = slots.reserve(slot, attempt, rank=worker + 1, worker=worker, now=timezone.now())
        events.record(run, "replaced", f"{slot} takes the place of trainer {worker}", member=member)
        announce.wake_node(free.node)
        return member


def due_doorbells() -> list[tuple[int, str]]:
    """Members whose node has not answered yet and is due to be rung; each ring doubles the wait for the next."""
    now = timezone.now()
    due = []
    with transaction.atomic():
        silent = Member.objects.filter(state=MemberState.RESERVED, ring_at__lte=now)
        for member in silent.select_related("slot__node").select_for_update(of=("self",), skip_locked=True):
            wait = min(slots.FIRST_RING * 2**member.rings, LAST_RING)
            Member.objects.filter(pk=member.pk).update(rings=F("rings") + 1, ring_at=now + wait)
            if member.slot:
                due.append((member.pk, member.slot.node.name))
    return due
