"""How many take part, how long, from where, how slowly on purpose, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import MAX_TRAINERS, Part, Positive


class Workers(Part):
    """How many trainers take part; the parameter server comes on top."""

    min: int = Field(ge=1, le=MAX_TRAINERS)
    """With fewer trainers the run does not start, and stops where it can't get another."""
    max: int = Field(ge=1, le=MAX_TRAINERS)
    """As many as there are slots for, up to this."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Target(Part):
    """A value of a metric that ends the run."""

    metric: str = Field(min_length=1, max_length=80)
    """What the evaluation reports, by its name: `accuracy` for classes, `error` for numbers."""
    value: float = Field(allow_inf_nan=False)
    """The run stops once an evaluation reaches it."""
    direction: Literal["min", "max"]
    """`max`: at this value or above; `min`: at this value or below."""

    def reached_by(self, value: float) -> bool:
        return value >= self.value if self.direction == "max" else value <= self.value


class Budget(Part):
    """When to stop: at whichever comes first."""

    passes: Positive | None = None
    """Passes over the training data, of all trainers together."""
    updates: int | None = Field(default=None, ge=1)
    """New versions of the weights."""
    seconds: Positive | None = None
    """Time of training; virtual time where the run is simulated."""
    target: Target | None = None
    """Stop as soon as an evaluation is good enough."""

    @model_validator(mode="after")
    def _something_ends_the_run(self) -> Self:
        if all(v is None for v in (self.passes, self.updates, self.seconds, self.target)):
            raise ValueError("needs at least one of passes, updates, seconds, target")
        return self


class Fresh(Part):
    """New weights, made from the seed."""

    kind: Literal["fresh"] = "fresh"


class FromCheckpoint(Part):
    """The weights of a run that was trained before."""

    kind: Literal["checkpoint"]
    run: int = Field(ge=1)
    """Number of the run whose checkpoint it starts from, in the same project."""
    version: int | None = Field(default=None, ge=0)
    """Left out: the newest one."""
    take: Literal["weights", "all"] = "weights"
    """`weights` alone, or `all`: optimizer, clocks and data position go on too."""


class FactorDelay(Part):
    """Each batch takes `factor` times as long as it would."""

    kind: Literal["factor"]
    factor: float = Field(ge=1, le=1000)
    """How many times as long a batch takes."""
    workers: list[Annotated[int, Field(ge=0)]] | None = None
    """Trainers it falls on, from 0. Left out: all."""


class GammaDelay(Part):
    """Each batch takes a Gamma-distributed time of the given mean; shape 100 is the DANA protocol."""

    kind: Literal["gamma"]
    mean_seconds: float = Field(gt=0, le=60)
    """Time of a batch, on average."""
    shape: float = Field(default=100.0, gt=0, le=1e6)
    """The larger, the more alike the times are."""
    workers: list[Annotated[int, Field(ge=0)]] | None = None
    """Trainers it falls on, from 0. Left out: all."""


class Latency(Part):
    """A slow line: what a trainer sends and what it is answered are held back. Times are one way."""

    kind: Literal["latency"]
    push_seconds: float = Field(default=0.0, ge=0, le=60)
    """From a trainer to the server."""
    pull_seconds: float = Field(default=0.0, ge=0, le=60)
    """From the server to a trainer."""
    workers: list[Annotated[int, Field(ge=0)]] | None = None
    """Trainers it falls on, from 0. Left out: all."""


Delay = Annotated[FactorDelay | GammaDelay | Latency, Field(discriminator="kind")]


class Checkpoints(Part):
    """Which weights are kept as files."""

    every_seconds: Positive | None = 10.0
    """Switched off: only when the run pauses or ends."""
    keep_last: int = Field(default=3, ge=1, le=1000)
    """The newest checkpoints, as many as this, are kept."""
    keep_best: int = Field(default=1, ge=0, le=100)
    """Besides them, those that were evaluated best."""


class Evaluation(Part):
    """When the weights are tried on examples that nobody trains on."""

    every_passes: Positive = 1.0
    """How often the weights are evaluated."""
    batch_size: int = Field(default=256, ge=1, le=65536)
    """Changes how fast an evaluation is, not what it finds."""
    device: Literal["cpu", "cuda"] = "cpu"
    """`cuda`: on a GPU of the server's machine that one of the trainers has; where there is none, on its CPU."""
