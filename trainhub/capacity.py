"""What a submission would find: slots it needs, slots there are, and whether it would start or wait. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from trainhub import scheduling
from trainhub.actions import placement
from trainhub.scheduling import Waiting
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
    idle, total = placement.idle_slots(), placement.offered().count()
    now = timezone.now()
    # No run that exists has a number below 1.
    ours = [Waiting(-n, s.least_slots, s.slots, s.priority, now) for n, s in enumerate(specs, start=1)]
    queue = placement.queue(idle=len(idle), total=total).waiting
    plan = scheduling.plan([*queue, *ours], idle, total=total, now=now)
    needed, least = max(s.slots for s in specs), max(s.least_slots for s in specs)
    return Outlook(needed, least, len(idle), total, _sentence(ours, plan, least, total))


def _sentence(ours: Sequence[Waiting], plan: scheduling.Plan, least: int, total: int) -> str:
    if least > total:
        offered = f"all nodes together offer {_slots(total)}" if total else "no node offers any"
        never = sum(run.least > total for run in ours)
        who = "Can't start: it needs" if len(ours) == 1 else f"{never} of {len(ours)} runs can't start: they need up to"
        return f"{who} {_slots(least)}, but {offered}."
    started = [run for run in ours if run.run in plan.admitted]
    if len(started) == len(ours):
        short = any(len(plan.admitted[run.run]) < run.most for run in ours)
        return "Starts at once, with fewer trainers than it may have." if short else "Starts at once."
    if not started:
        first = min((run for run in ours), key=lambda run: -run.run)
        return f"Waits: {plan.reasons[first.run]}."
    return f"{len(started)} of {len(ours)} runs start at once; the others wait for slots."


def _slots(count: int) -> str:
    return f"{count} slot{'s' if count != 1 else ''}"
