"""Machines as the nodes page shows them: who has which slot, and who waits for one. Reads only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models import Prefetch, QuerySet

from trainhub import words
from trainhub.models import Member, Node, Run, RunState, Slot
from workers.assignment import Role

MOST_WAITING = 100
"""Of a longer queue only its head is shown."""


@dataclass(frozen=True)
class Holder:
    """Who has a slot. `name` is None where the viewer may not know; `url` where there is nothing to open."""

    run: int
    name: str | None
    url: str | None
    role: str
    state: str


@dataclass(frozen=True)
class Place:
    """A slot. `holder` None: it is free. `retired`: its node no longer offers it."""

    title: str
    holder: Holder | None
    retired: bool


@dataclass(frozen=True)
class Machine:
    """A node. `states` has one word or two: online or offline, and drained.

    `reach` says what of the other nodes it may be combined with; empty where there are no others, and nothing to say.
    """

    name: str
    states: list[str]
    cores: int
    memory_bytes: int
    seen_at: dt.datetime
    drained: bool
    places: list[Place]
    facts: list[tuple[str, str]]
    reach: str = ""
    labels: tuple[str, ...] = ()
    shares_home: bool = True

    @property
    def busy(self) -> int:
        return sum(place.holder is not None for place in self.places)

    @property
    def idle(self) -> int:
        """Slots that may be given to a run now."""
        usable = "online" in self.states and not self.drained
        return sum(place.holder is None and not place.retired for place in self.places) if usable else 0


@dataclass(frozen=True)
class Waiting:
    """A queued run, in its turn. `name` and `url` are None as with a holder."""

    run: int
    name: str | None
    url: str | None
    slots: int
    reason: str
    priority: int
    queued_at: dt.datetime


@dataclass(frozen=True)
class Overview:
    machines: list[Machine]
    queue: list[Waiting]
    waiting: int
    """All that wait, also those behind the ones shown."""

    @property
    def slots(self) -> int:
        return sum(not place.retired for machine in self.machines for place in machine.places)

    @property
    def busy(self) -> int:
        return sum(machine.busy for machine in self.machines)

    @property
    def idle(self) -> int:
        return sum(machine.idle for machine in self.machines)


def overview(visible: QuerySet[Run], *, names_all: bool = False) -> Overview:
    """All nodes and the queue. Runs that are not `visible` have no link, and no name unless `names_all`."""
    slots = Slot.objects.select_related("member__attempt__run").order_by("kind", "index")
    nodes = list(Node.objects.prefetch_related(Prefetch("slots", slots)).order_by("name"))
    queued = Run.objects.filter(state=RunState.QUEUED).order_by("-priority", "queued_at", "pk").defer("spec")
    head = list(queued[:MOST_WAITING])
    held = {slot.member.attempt.run_id for node in nodes for slot in node.slots.all() if slot.member}
    seen = set(visible.order_by().filter(pk__in=held | {run.pk for run in head}).values_list("pk", flat=True))
    return Overview(
        machines=[_machine(node, seen, names_all, alone=len(nodes) == 1) for node in nodes],
        queue=[_waiting(run, seen, names_all) for run in head],
        waiting=len(head) if len(head) < MOST_WAITING else queued.count(),
    )


def _machine(node: Node, seen: Collection[int], names_all: bool, *, alone: bool) -> Machine:
    places = [_place(slot, seen, names_all) for slot in node.slots.all()]
    return Machine(
        name=node.name,
        states=["online" if node.online else "offline", *(["drained"] if node.drained else [])],
        cores=node.cores,
        memory_bytes=node.memory_bytes,
        seen_at=node.seen_at,
        drained=node.drained,
        places=[place for place in places if place.holder or not place.retired],
        reach=_reach(node, alone=alone),
        labels=tuple(f"{key}={value}" for key, value in sorted(node.labels.items())),
        shares_home=node.shares_home,
        facts=list(_facts(node.environment)),
    )


def _place(slot: Slot, seen: Collection[int], names_all: bool) -> Place:
    member = slot.member
    return Place(f"{slot.kind}:{slot.index}", _holder(member, seen, names_all) if member else None, slot.retired)


def _reach(node: Node, *, alone: bool) -> str:
    if node.address:
        return f"reached by other nodes at {node.address}"
    return "" if alone else "takes whole runs only: no other node can reach it"


def _holder(member: Member, seen: Collection[int], names_all: bool) -> Holder:
    run = member.attempt.run
    name, url = _shown(run, seen, names_all)
    role = "parameter server" if member.role == Role.SERVER else member.title
    return Holder(run.pk, name, url, role, member.state)


def _waiting(run: Run, seen: Collection[int], names_all: bool) -> Waiting:
    name, url = _shown(run, seen, names_all)
    reason = run.waiting_reason or "the scheduler has not looked at it yet"
    return Waiting(run.pk, name, url, run.least_slots, reason, run.priority, run.queued_at)


def _shown(run: Run, seen: Collection[int], names_all: bool) -> tuple[str | None, str | None]:
    if run.pk in seen:
        return run.name, run.get_absolute_url()
    return (run.name if names_all else None), None


def _facts(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """What an agent says of its machine, in a fixed order; what it does not say is left out."""
    packages = environment.get("packages") or {}
    commit = environment.get("commit")
    told = {
        "Host": environment.get("host"),
        "System": environment.get("system"),
        "Processor": environment.get("processor"),
        "Python": environment.get("python"),
        **{str(name): version for name, version in sorted(packages.items())},
        "Commit": str(commit)[:12] if commit else None,
        **{f"GPU {gpu['index']}": _gpu(gpu) for gpu in environment.get("gpus") or []},
    }
    return [(name, str(value)) for name, value in told.items() if value]


def _gpu(facts: dict[str, Any]) -> str:
    memory = words.size(facts["memory_bytes"])
    return f"{facts['name']}, {memory}, compute capability {facts['capability']}, driver {facts['driver']}"
