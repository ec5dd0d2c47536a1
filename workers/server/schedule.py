"""The learning rate over time, as pure functions. The clock is the number of gradients applied.

Gradients, not updates or seconds: so a schedule means the same whatever the gate combines, and however fast it runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workers import spec


@dataclass(frozen=True)
class Clock:
    """What a schedule needs to know of the run: gradients in one pass over the data, and in the whole budget.

    `total` is None where the budget does not end by passes or updates; only a constant rate can do with that.
    """

    per_pass: float
    total: float | None


def rate_at(gradients: int, *, base: float, schedule: spec.Constant | spec.Cosine | spec.Step, clock: Clock) -> float:
    """The scheduled learning rate of the gradient after `gradients` others."""
    if isinstance(schedule, spec.Constant) and not schedule.warmup_passes:
        return base  # on the way of every gradient
    share = min(1.0, gradients / clock.total) if clock.total else 0.0
    return base * warmup(gradients, schedule, clock) * decay(share, schedule)


def warmup(gradients: int, schedule: spec.Schedule, clock: Clock) -> float:
    """Rises in a straight line from `warmup_from` to 1."""
    length = schedule.warmup_passes * clock.per_pass
    if gradients >= length:
        return 1.0
    return schedule.warmup_from + (1.0 - schedule.warmup_from) * gradients / length


def decay(share: float, schedule: spec.Schedule) -> float:
    """What is left of the rate after this share of the budget."""
    match schedule:
        case spec.Cosine(final=final):  # Loshchilov & Hutter, 2016, arXiv:1608.03983, eq. 5, without restarts
            return final + (1.0 - final) * (1.0 + math.cos(math.pi * share)) / 2.0
        case spec.Step(at=at, factor=factor):
            return float(factor ** sum(share >= a for a in at))
        case _:
            return 1.0
