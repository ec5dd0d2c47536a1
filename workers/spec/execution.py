"""Whether a run is real or simulated, and how time passes where it is simulated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workers.spec.base import MAX_TRAINERS, NotNegative, Part, Positive


class Live(Part):
    """Real trainers on real slots, in real time."""

    kind: Literal["live"] = "live"


class ConstantTimes(Part):
    """Every push takes `mean_seconds` to compute."""

    kind: Literal["constant"]
    mean_seconds: Positive = 1.0
    """Virtual time of a push."""


class GammaTimes(Part):
    """Gamma-distributed; shape 100 is the DANA protocol (Hakimi et al., 2019, arXiv:1907.11612, section 5)."""

    kind: Literal["gamma"] = "gamma"
    mean_seconds: Positive = 1.0
    """Virtual time of a push, on average."""
    shape: float = Field(default=100.0, gt=0, le=1e6)
    """The larger, the more alike the times are."""


class LognormalTimes(Part):
    """Lognormal of the given mean: long tails to the right."""

    kind: Literal["lognormal"]
    mean_seconds: Positive = 1.0
    """Virtual time of a push, on average."""
    sigma: float = Field(default=0.3, ge=0, le=5)
    """Standard deviation of the logarithm."""


class TraceTimes(Part):
    """Recorded times of pushes, one list for each trainer; a list that ends starts over."""

    kind: Literal["trace"]
    seconds: list[Annotated[list[Positive], Field(min_length=1)]] = Field(min_length=1, max_length=MAX_TRAINERS)
    """Trainer i takes list i, or i modulo the number of lists."""


class Bursts(Part):
    """A share of all pushes takes `factor` times as long."""

    kind: Literal["bursts"]
    share: float = Field(default=0.08, ge=0, le=1)
    """Of all pushes."""
    factor: float = Field(default=6.0, gt=0, le=1e6)
    """How many times as long they take."""


class Straggler(Part):
    """One trainer takes `factor` times as long for everything."""

    kind: Literal["straggler"]
    factor: float = Field(default=4.0, gt=0, le=1e6)
    """How many times as long it takes."""
    worker: int = Field(default=0, ge=0)
    """Which trainer, from 0."""


class HalfSlow(Part):
    """The second half of the trainers takes `factor` times as long."""

    kind: Literal["half"]
    factor: float = Field(gt=0, le=1e6)
    """How many times as long they take."""


class Machines(Part):
    """Each trainer has a speed of its own: its mean is Gamma-distributed with this coefficient of variation
    (Ali et al., 2000, "Representing task and machine heterogeneities", section 4; DANA takes 0.6)."""

    kind: Literal["machines"]
    variation: float = Field(default=0.6, gt=0, le=5)
    """0.6 is what DANA takes; near 0 all are alike."""


class Crash(Part):
    """A trainer is lost at a virtual time, with the gradient it is computing or sending."""

    kind: Literal["crash"]
    worker: int = Field(ge=0)
    """Which trainer, from 0."""
    at_seconds: NotNegative
    """Virtual time at which it is lost."""
    back_after_seconds: NotNegative | None = None
    """Virtual time until it is back. Left out: it does not come back."""


class RandomCrashes(Part):
    """Each trainer is lost after an exponentially distributed time up, and is back after `down_seconds`."""

    kind: Literal["random-crashes"]
    mean_up_seconds: Positive
    """Virtual time between two losses of a trainer, on average."""
    down_seconds: NotNegative = 10.0
    """Virtual time until it is back."""


class Simulate(Part):
    """The same server, methods and data under a virtual clock, in one process: `trainhub simulate SPEC`."""

    kind: Literal["simulate"]
    compute: Annotated[ConstantTimes | GammaTimes | LognormalTimes | TraceTimes, Field(discriminator="kind")] = (
        GammaTimes()
    )
    """How long a trainer computes for one push, in virtual seconds."""
    slow: list[Annotated[Bursts | Straggler | HalfSlow | Machines, Field(discriminator="kind")]] = Field(
        default=[], max_length=16
    )
    """Each multiplies what the others left."""
    push_seconds: NotNegative = 0.0
    """From the end of a computation to the gradient's arrival at the server."""
    pull_seconds: NotNegative = 0.0
    """From the server's answer to the start of the next computation."""
    faults: list[Annotated[Crash | RandomCrashes, Field(discriminator="kind")]] = Field(default=[], max_length=1000)
