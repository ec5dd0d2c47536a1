"""What passes between the parameter server and whoever feeds it: pushes in, reactions out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from workers.server.passes import HandOver


class Stale(ValueError):
    """A push that does not fit what this worker was told: of a version or a step it was not given."""


class Push(NamedTuple):
    """One gradient, left in its worker's place."""

    worker: int
    place: HandOver
    base_version: int
    """The version it was computed on."""
    step: int
    """Its number in the worker's data."""
    scale: float | None = None
    """What the learner itself asks for. None: the rate rule decides."""
    gradients: int = 1
    """Gradients in it: a displacement has one for each step its worker has made; `step` is the first one's number."""


class Applied(NamedTuple):
    """One gradient's part in an update. The update made version `version_before + 1`."""

    worker: int
    version_before: int
    staleness: int
    scale: float
    learning_rate: float
    group: int = 0
    """The update's number, shared by the c gradients in it."""
    step: int = 0
    gradients: int = 1


class Skip(NamedTuple):
    """How many versions beyond the one its gradient made a worker reads next. Known once it has been answered."""

    worker: int
    version: int
    """The version its gradient made."""
    skip: int


class Reaction(NamedTuple):
    """What a push, or a worker's leaving, has brought about."""

    applied: list[Applied]
    """Gradients taken into updates, in apply order."""
    answers: list[int]
    """Workers to answer now: their places hold the newest weights."""
    dropped: list[int]
    """Workers whose gradient was dropped; they are answered too."""
    skips: list[Skip]

    def add(self, other: Reaction) -> None:
        """Have all of another reaction in this one."""
        self.applied.extend(other.applied)
        self.answers.extend(other.answers)
        self.dropped.extend(other.dropped)
        self.skips.extend(other.skips)


@dataclass(eq=False)
class Waiting:
    """A gradient that has come and is in no update yet. `read`: the version its worker was given meanwhile."""

    push: Push
    place: HandOver
    read: int | None = None


@dataclass
class Clocks:
    """Where the run stands. `steps` holds each worker's next step that has not been taken into account."""

    version: int = 0
    gradients: int = 0
    refused: int = 0
    dropped: int = 0
    statistics: int = 0
    steps: list[int] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
