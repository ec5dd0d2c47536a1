"""The scheduler's writes: gangs admitted, doorbells due, trainers replaced, waiting runs told why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from trainhub import topology
from trainhub.actions import announce, events, runs, slots
from trainhub.models import Attempt, Member, MemberState, Node, Run, RunState, Slot, Wish
from trainhub.scheduling import Waiting
from trainhub.topology import CPU, Demand, Free, Gang, Host, Room
from workers.assignment import Outcome, Role

LAST_RING = dt.timedelta(seconds=32)
LOOKED_AHEAD = 50
"""Runs at the head of the queue that a tick looks at beyond what idle slots could take."""
TOLD_AT_ONCE = 100
MOST_DEMANDS = 100
"""Different placements that a tick looks at."""
FAR_BEHIND = f"more than {LOOKED_AHEAD} runs are ahead"


def idle_slots() -> list[Free]:
    idle = offered().filter(member=None).order_by("node__name", "kind", "index")
    rows = idle.values_list("pk", "node__name", "kind", "index", "device__uuid")
    return [Free(pk, node, kind, index, gpu or "") for pk, node, kind, index, gpu in rows]


def offered() -> QuerySet[Slot]:
    """Slots that may take members: of online nodes that are not drained."""
    return Slot.objects.filter(retired=False, node__online=True, node__drained=False)


def hosts() -> list[Host]:
    """All nodes that may take members, with what they offer."""
    slots: dict[int, dict[str, int]] = {}
    counted = offered().order_by().values("node", "kind").annotate(count=Count("pk"))
    for node, kind, count in counted.values_list("node", "kind", "count"):
        slots.setdefault(node, {})[kind] = count
    nodes = Node.objects.filter(pk__in=slots).order_by("name")
    return [Host(n.name, slots[n.pk], bool(n.address), n.shares_home, n.labels) for n in nodes]


@dataclass(frozen=True)
class Queue:
    """The part of the queue that a tick looks at. `told`: those of it for which a plan's reasons are the right ones."""

    waiting: list[Waiting]
    told: frozenset[int]


def queue(idle: Sequence[Free], hosts: Sequence[Host]) -> Queue:
    """What to look at of a queue that may be thousands long.

    Its head: as many runs as idle slots could take, and some more. Behind it, those that fit into the idle slots,
    for they may pass. And some of those that no end of other runs will make room for.
    """
    queued = Run.objects.filter(state=RunState.QUEUED).order_by("-priority", "queued_at", "pk")
    demands = _demands(queued)
    fits_some_day = _fitting(demands, lambda demand: topology.offered(hosts, demand))
    fits_now = _fitting(demands, lambda demand: topology.idle_rooms(hosts, demand, idle))
    head = _waiting(queued.filter(fits_some_day)[: len(idle) + LOOKED_AHEAD])
    passing = _waiting(queued.filter(fits_now)[: len(idle)])
    impossible = _waiting(queued.exclude(fits_some_day)[:LOOKED_AHEAD])
    told = [*head, *impossible]
    return Queue(list(dict.fromkeys([*told, *passing])), frozenset(w.run for w in told))


def _demands(queued: QuerySet[Run]) -> list[dict[str, object]]:
    """What the queued runs ask of their nodes; nearly all ask nothing, and an index has the others."""
    special = queued.order_by().exclude(placement={}).values_list("placement", flat=True).distinct()
    return [{}, *special[:MOST_DEMANDS]]


def _fitting(demands: Sequence[dict[str, object]], rooms: Callable[[Demand], Sequence[Room]]) -> Q:
    """Runs for whose least gang these rooms are large enough."""
    fits = Q()
    for row in demands:
        fits |= Q(placement=row, least_slots__lte=topology.largest(rooms(Demand.from_row(row))))
    return fits


def _waiting(runs: QuerySet[Run]) -> list[Waiting]:
    rows = runs.values_list("pk", "least_slots", "most_slots", "priority", "queued_at", "placement")
    return [
        Waiting(run, least, most, priority, queued_at, Demand.from_row(placement))
        for run, least, most, priority, queued_at, placement in rows
    ]


def admit(run_id: int, chosen: Sequence[Free]) -> list[Member]:
    """Reserve the slots and write the gang, all or nothing. Empty: the run or a slot went to somebody else."""
    with transaction.atomic():
        run = runs.lock(Run(pk=run_id))
        taken = _lock(chosen)
        if run.state != RunState.QUEUED or len(taken) != len(chosen):
            return []
        now = timezone.now()
        run.attempt += 1
        run.started_at, run.training_at, run.ended_at = now, None, None
        attempt = Attempt.objects.create(run=run, number=run.attempt, started_at=now)
        demand = Demand.from_row(run.placement)
        # One that has the slots of a whole group is too good to serve, and the server's one slot is no group's.
        any_may_serve = demand.pooled and demand.shards == 1
        gang = [
            slots.reserve(
                theirs,
                attempt,
                rank=rank,
                worker=rank - 1 if rank else None,
                may_serve=(any_may_serve or rank == 0) and _may_serve(theirs[0]),
                now=now,
            )
            for rank, theirs in enumerate(_by_rank(taken, demand))
        ]
        runs.move(run, RunState.STARTING)
        slots_got = f"{len(chosen)} slot{'s' if len(chosen) > 1 else ''}"
        events.record(run, "admitted", f"Got {slots_got}: {', '.join(sorted({f.node for f in chosen}))}")
        for node in {f.node for f in chosen}:
            announce.wake_node(node)
        return gang


def _lock(free: Sequence[Free]) -> list[Slot]:
    """Those of these slots that are still free, in their order, locked in the caller's transaction."""
    still = offered().filter(pk__in=[f.id for f in free], member=None).select_related("node")
    found = {slot.pk: slot for slot in slots.lock(still)}
    return [found[f.id] for f in free if f.id in found]


def _by_rank(chosen: Sequence[Slot], demand: Demand) -> list[Sequence[Slot]]:
    """The server's slot, then those of each trainer."""
    each = demand.shards
    return [chosen[:1], *(chosen[start : start + each] for start in range(1, len(chosen), each))]


def _may_serve(slot: Slot) -> bool:
    """Checkpoints and gradient logs lie in the home, and a server computes on CPUs."""
    return slot.kind == CPU and slot.node.shares_home


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


@dataclass(frozen=True)
class Lack:
    """A run that lacks the trainers of these numbers, and where its gang is."""

    run: Run
    workers: list[int]
    gang: Gang

    @property
    def demand(self) -> Demand:
        return Demand.from_row(self.run.placement)


def missing_trainers() -> list[Lack]:
    """Runs that lack trainers, with the numbers that lack them: also such as have a server and still gather."""
    lacking = []
    going_on = Run.objects.filter(state__in=REPLACING, wish=Wish.NONE).exclude(server=None)
    going_on = going_on.select_related("server__slot__node")
    for run in going_on.exclude(fraction__gte=1).exclude(spec__execution__kind="simulate"):
        gang = Member.objects.filter(attempt__run=run, attempt__number=run.attempt)
        if gang.filter(outcome=Outcome.COMPLETED).exists():
            continue  # A trainer that was told the run is over needs no heir
        numbers = set(gang.filter(ended_at=None).exclude(worker=None).values_list("worker", flat=True))
        missing = [n for n in range(run.run_spec.workers.max) if n not in numbers]
        if missing:
            lacking.append(Lack(run, missing, _where(run)))
    return lacking


def far_from_their_servers(members: Collection[int]) -> set[int]:
    """Those of these members that train on another node than the one their server is on."""
    if not members:
        return set()
    trainers = Member.objects.filter(pk__in=members, role=Role.TRAINER)
    far = trainers.exclude(slot__node=F("attempt__run__server__slot__node"))
    return set(far.values_list("pk", flat=True))


def _where(run: Run) -> Gang:
    """Where the run's gang is. A server that listens says itself whether it opened a port; before, its node does."""
    assert run.server is not None
    slot = run.server.slot
    nodes = Member.objects.filter(attempt__run=run, attempt__number=run.attempt, ended_at=None)
    others = frozenset(nodes.exclude(slot=None).values_list("slot__node__name", flat=True))
    if slot is None:
        return Gang("", False, others)
    is_open = bool(run.address) if run.endpoint else bool(slot.node.address)
    return Gang(slot.node.name, is_open, others)


def replace(run: Run, worker: int, free: Sequence[Free]) -> Member | None:
    """Give trainer `worker`'s place to a new member, on slots of one node. None: the run or a slot went elsewhere."""
    with transaction.atomic():
        run = runs.lock(run)
        taken = _lock(free)
        if len(taken) != len(free) or run.state not in REPLACING or run.wish:
            return None
        attempt = Attempt.objects.get(run=run, number=run.attempt)
        member = slots.reserve(taken, attempt, rank=worker + 1, worker=worker, may_serve=False, now=timezone.now())
        events.record(run, "replaced", f"{member.place} takes the place of trainer {worker}", member=member)
        announce.wake_node(free[0].node)
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
