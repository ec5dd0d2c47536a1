"""The optimizer, and the learning rate over time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import Fraction, NotNegative, Part, Positive


class ParameterGroup(Part):
    """Parameters whose name matches the regular expression; the first matching group wins."""

    match: str = Field(min_length=1, max_length=200)
    """A regular expression that is found in their names, such as `bn|bias`."""
    learning_rate_scale: NotNegative = 1.0
    """Their learning rate is the optimizer's times this."""
    weight_decay: NotNegative | None = None
    """Left out: the optimizer's own."""


class Optimizer(Part):
    learning_rate: Positive
    """Of a gradient that came in time; the schedule and the rate scale it."""
    weight_decay: NotNegative = 0.0
    """Batch-norm parameters and biases never decay, unless a group says so."""
    groups: list[ParameterGroup] = Field(default=[], max_length=32)
    """Parameters with a learning rate or weight decay of their own, by name."""


class Sgd(Optimizer):
    """Steps along the gradient, with or without momentum."""

    kind: Literal["sgd"]
    momentum: Fraction = 0.0
    """Share of the last step that goes into the next. Late gradients act like momentum themselves."""
    nesterov: bool = False
    """Look ahead along the momentum."""

    @model_validator(mode="after")
    def _nesterov_looks_ahead_by_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set momentum, or nesterov: false")
        return self


class AdamW(Optimizer):
    """Steps of a size of their own for each weight, by running means of gradients and their squares."""

    kind: Literal["adamw"]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """How far back the two means reach: the nearer to 1, the farther."""
    eps: Positive = 1e-8
    """Keeps steps finite where gradients are tiny."""


class Muon(Optimizer):
    """Momentum whose matrices are made orthogonal: all steps are of one length, however late a gradient comes."""

    kind: Literal["muon"]
    momentum: Fraction = 0.8
    """Share of the last step that goes into the next."""
    nesterov: bool = True
    """Look ahead along the momentum."""


class Schedule(Part):
    """The learning rate over time. Its clock is the number of gradients applied."""

    warmup_passes: NotNegative = 0.0
    """Passes over the data in which the rate rises from `warmup_from` times itself to itself."""
    warmup_from: float = Field(default=0.1, ge=0, le=1)
    """Share of the rate that the warm-up begins with."""


class Constant(Schedule):
    """The rate stays as it is."""

    kind: Literal["constant"] = "constant"


class Cosine(Schedule):
    """The rate falls along half a cosine until the budget ends."""

    kind: Literal["cosine"]
    final: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate that is left at the end of the budget."""


class Step(Schedule):
    """The rate falls in steps, at shares of the budget."""

    kind: Literal["step"]
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.5, 0.75], min_length=1, max_length=20)
    """Shares of the budget after which the rate is multiplied by `factor`."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """What the rate is multiplied by at each of them."""
