"""What a submission would find: slots it needs, slots there are, and whether it would start or wait. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from trainhub import scheduling
from trainhub.actions import placement
from trainhub.scheduling import Waiting
from trainhub.topology import Demand
from workers.spec import RunSpec


@dataclass(frozen=True)
class Outlook:
    """In slots. `needed` and `least` are of its largest run: for a full gang, and to start at all."""

    needed: int
    least: int
    idle: int
    total: int
    wait: str
    """One sentence on what would happen now."""


def outlook(specs: Sequence[RunSpec]) -> Outlook:
    """Plan as the scheduler's next tick would, with these runs at the queue's end."""
    idle, hosts = placement.idle_slots(), placement.hosts()
    now = timezone.now()
    # No run that exists has a number below 1.
    ours = [Waiting(-n, s.least_slots, s.slots, s.priority, now, Demand.of(s)) for n, s in enumerate(specs, start=1)]
    queue = placement.queue(idle, hosts).waiting
    plan = scheduling.plan([*queue, *ours], idle, hosts, now=now)
    needed, least = max(s.slots for s in specs), max(s.least_slots for s in specs)
    total = sum(sum(host.slots.values()) for host in hosts)
    return Outlook(needed, least, len(idle), total, _sentence(ours, plan, total))


def _sentence(ours: Sequence[Waiting], plan: scheduling.Plan, total: int) -> str:
    if never := [run for run in ours if run.run in plan.impossible]:
        return _never(never, len(ours), plan, total)
    started = [run for run in ours if run.run in plan.admitted]
    if len(started) == len(ours):
        short = any(len(plan.admitted[run.run]) < run.most for run in ours)
        return "Starts at once, with fewer trainers than it may have." if short else "Starts at once."
    if not started:
        first = min((run for run in ours), key=lambda run: -run.run)
        return f"Waits: {plan.reasons[first.run]}."
    return f"{len(started)} of {len(ours)} runs start at once; the others wait for slots."


def _never(never: Sequence[Waiting], count: int, plan: scheduling.Plan, total: int) -> str:
    """Some can't start whatever ends; the largest of them says why."""
    worst = max(never, key=lambda run: run.least)
    who = "Can't start" if count == 1 else f"{len(never)} of {count} runs can't start"
    if worst.least > total:
        needs = "it needs" if count == 1 else "they need up to"
        offered = f"all nodes together offer {_slots(total)}" if total else "no node offers any"
        return f"{who}: {needs} {_slots(worst.least)}, but {offered}."
    reason = plan.reasons[worst.run]
    return f"{who}: {'it ' if reason.startswith('needs') else ''}{reason}."


def _slots(count: int) -> str:
    return f"{count} slot{'s' if count != 1 else ''}"
