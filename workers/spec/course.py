"""How many take part, how long, from where, how slowly on purpose, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import MAX_TRAINERS, Part, Positive


class Workers(Part):
    min: int = Field(ge=1, le=MAX_TRAINERS)
    max: int = Field(ge=1, le=MAX_TRAINERS)

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Target(Part):
    metric: str = Field(min_length=1, max_length=80)
    value: float = Field(allow_inf_nan=False)
    direction: Literal["min", "max"]


class Budget(Part):
    """When to stop: at whichever limit comes first."""

    passes: Positive | None = None
    updates: int | None = Field(default=None, ge=1)
    seconds: Positive | None = None
    target: Target | None = None

    @model_validator(mode="after")
    def _something_ends_the_run(self) -> Self:
        if all(v is None for v in (self.passes, self.updates, self.seconds, self.target)):
            raise ValueError("needs at least one of passes, updates, seconds, target")
        return self


class Fresh(Part):
    kind: Literal["fresh"] = "fresh"


class FromCheckpoint(Part):
    kind: Literal["checkpoint"]
    run: int = Field(ge=1)
    version: int | None = Field(default=None, ge=0)
    """None: the newest one."""
    take: Literal["weights", "all"] = "weights"
    """`all` goes on with optimizer, clocks and data position too."""


class FactorDelay(Part):
    """Each batch takes `factor` times as long as it would."""

    kind: Literal["factor"]
    factor: float = Field(ge=1, le=1000)
    workers: list[Annotated[int, Field(ge=0)]] | None = None
    """Trainers it falls on, from 0. None: all."""


class GammaDelay(Part):
    """Each batch takes a Gamma-distributed time of the given mean; shape 100 is the DANA protocol."""

    kind: Literal["gamma"]
    mean_seconds: float = Field(gt=0, le=60)
    shape: float = Field(default=100.0, gt=0, le=1e6)
    workers: list[Annotated[int, Field(ge=0)]] | None = None


class Latency(Part):
    """A slow line: what a trainer sends and what it is answered are held back. Times are one way."""

    kind: Literal["latency"]
    push_seconds: float = Field(default=0.0, ge=0, le=60)
    pull_seconds: float = Field(default=0.0, ge=0, le=60)
    workers: list[Annotated[int, Field(ge=0)]] | None = None


Delay = Annotated[FactorDelay | GammaDelay | Latency, Field(discriminator="kind")]


class Checkpoints(Part):
    every_seconds: Positive | None = 10.0
    """None: only when the run pauses or ends."""
    keep_last: int = Field(default=3, ge=1, le=1000)
    keep_best: int = Field(default=1, ge=0, le=100)


class Evaluation(Part):
    every_passes: Positive = 1.0
    batch_size: int = Field(default=256, ge=1, le=65536)
