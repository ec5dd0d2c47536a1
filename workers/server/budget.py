"""When a run is through: at whichever of its limits comes first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workers.server.schedule import Clock
from workers.spec import RunSpec

UNLIMITED = 2**62


@dataclass(frozen=True)
class Budget:
    """Limits in gradients, updates and seconds; None: not limited."""

    gradients: int | None
    updates: int | None
    seconds: float | None

    @classmethod
    def of(cls, spec: RunSpec, examples: int) -> Budget:
        passes = spec.budget.passes
        gradients = None if passes is None else max(1, math.ceil(passes * per_pass(spec, examples) - 1e-9))
        return cls(gradients, spec.budget.updates, spec.budget.seconds)

    def spent_updates(self, *, gradients: int, updates: int) -> bool:
        return (self.gradients is not None and gradients >= self.gradients) or (
            self.updates is not None and updates >= self.updates
        )

    def left(self, *, gradients: int, updates: int) -> int:
        """Updates of one gradient each that may still be made, as far as their number goes."""
        limits = [
            limit - now for now, limit in ((gradients, self.gradients), (updates, self.updates)) if limit is not None
        ]
        return max(1, min(limits, default=UNLIMITED))

    def spent_seconds(self, seconds: float) -> bool:
        return self.seconds is not None and seconds >= self.seconds

    def fraction(self, *, gradients: int, updates: int, seconds: float) -> float | None:
        """Share of the budget that is spent. None: it has no end in sight."""
        shares = [
            now / limit
            for now, limit in ((gradients, self.gradients), (updates, self.updates), (seconds, self.seconds))
            if limit
        ]
        return min(1.0, max(shares)) if shares else None

    def clock(self, spec: RunSpec, examples: int) -> Clock:
        ends = [e for e in (self.gradients, self.updates) if e is not None]
        return Clock(per_pass(spec, examples), float(min(ends)) if ends else None)


def per_pass(spec: RunSpec, examples: int) -> float:
    """Gradients in one pass over the training examples."""
    return examples / (spec.batch_size * spec.accumulation)
