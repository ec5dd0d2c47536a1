"""The scheduler's writes: gangs admitted, doorbells due, trainers replaced, waiting runs told why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from trainhub.actions import announce, events, runs, slots
from trainhub.models import Attempt, Member, MemberState, Run, RunState, Slot, Wish
from trainhub.scheduling import Free, Waiting
from workers.assignment import Outcome

LAST_RING = dt.timedelta(seconds=32)
LOOKED_AHEAD = 50
"""Runs at the head of the queue that a tick looks at beyond what idle slots could take."""
TOLD_AT_ONCE = 100
FAR_BEHIND = f"more than {LOOKED_AHEAD} runs are ahead"


def idle_slots() -> list[Free]:
    idle = offered().filter(member=None).order_by("node__name", "kind", "index")
    return [Free(*row) for row in idle.values_list("pk", "node__name", "kind", "index")]


def offered() -> QuerySet[Slot]:
    """Slots that may take members: of online nodes that are not drained."""
    return Slot.objects.filter(retired=False, node__online=True, node__drained=False)


@dataclass(frozen=True)
class Queue:
    """The part of the queue that a tick looks at. `told`: those of it for which a plan's reasons are the right ones."""

    waiting: list[Waiting]
    told: frozenset[int]


def queue(*, idle: int, total: int) -> Queue:
    """What to look at of a queue that may be thousands long; `idle` slots are free of `total`.

    Its head: as many runs as idle slots could take, and some more. Behind it, those that fit into the idle slots,
    for they may pass. And some of those that no end of other runs will make room for.
    """
    queued = Run.objects.filter(state=RunState.QUEUED).order_by("-priority", "queued_at", "pk")
    possible = queued.filter(least_slots__lte=total)
    head = _waiting(possible[: idle + LOOKED_AHEAD])
    passing = _waiting(possible.filter(least_slots__lte=idle)[:idle])
    impossible = _waiting(queued.filter(least_slots__gt=total)[:LOOKED_AHEAD])
    told = [*head, *impossible]
    return Queue(list(dict.fromkeys([*told, *passing])), frozenset(w.run for w in told))


def _waiting(runs: QuerySet[Run]) -> list[Waiting]:
    rows = runs.values_list("pk", "least_slots", "most_slots", "priority", "queued_at")
    return [Waiting(*row) for row in rows]


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
        slots_got = f"{len(gang)} slot{'s' if len(gang) > 1 else ''}"
        events.record(run, "admitted", f"Got {slots_got}: {', '.join(sorted({f.node for f in chosen}))}")
        for node in {f.node for f in chosen}:
            announce.wake_node(node)
        return gang


def explain(reasons: dict[int, str]) -> None:
    """Write why each run waits, where the reason is a new one."""
    known = dict(Run.objects.filter(pk__in=list(reasons)).values_list("pk", "waiting_reason"))
    for run_id, reason in reasons.items():
        if known.get(run_id) == reason:
            continue
        with transaction.atomic():
            waits = Run.objects.filter(pk=run_id, state=RunState.QUEUED).exclude(waiting_reason=reason)
            if waits.update(waiting_reason=reason):
                announce.run_changed(run_id)


def explain_the_rest(but: frozenset[int]) -> None:
    """Tell those far behind so, some at a tick. Their reason is put right when they come to the queue's head."""
    silent = Run.objects.filter(state=RunState.QUEUED, waiting_reason="").exclude(pk__in=but)
    explain(dict.fromkeys(silent.order_by("pk").values_list("pk", flat=True)[:TOLD_AT_ONCE], FAR_BEHIND))


REPLACING = (RunState.STARTING, RunState.RUNNING)
"""States in which a lost trainer gets a successor."""


def missing_trainers() -> list[tuple[Run, list[int]]]:
    """Runs that lack trainers, with the numbers that lack them: also such as have a server and still gather."""
    lacking = []
    going_on = Run.objects.filter(state__in=REPLACING, wish=Wish.NONE).exclude(server=None)
    for run in going_on.exclude(fraction__gte=1).exclude(spec__execution__kind="simulate"):
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
        if slot is None or run.state not in REPLACING or run.wish:
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
