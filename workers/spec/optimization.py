"""The optimizer, and the learning rate over time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import Fraction, NotNegative, Part, Positive


class ParameterGroup(Part):
    """Parameters whose name matches the regular expression; the first matching group wins."""

    match: str = Field(min_length=1, max_length=200)
    learning_rate_scale: NotNegative = 1.0
    weight_decay: NotNegative | None = None
    """None: the optimizer's own."""


class Optimizer(Part):
    learning_rate: Positive
    weight_decay: NotNegative = 0.0
    """Batch-norm parameters and biases never decay, unless a group says so."""
    groups: list[ParameterGroup] = Field(default=[], max_length=32)


class Sgd(Optimizer):
    kind: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_looks_ahead_by_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set momentum, or nesterov: false")
        return self


class AdamW(Optimizer):
    kind: Literal["adamw"]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8


class Muon(Optimizer):
    """Momentum whose matrices are made orthogonal: all steps are of one length, however late a gradient comes."""

    kind: Literal["muon"]
    momentum: Fraction = 0.8
    nesterov: bool = True


class Schedule(Part):
    """The learning rate over time. Its clock is the number of gradients applied."""

    warmup_passes: NotNegative = 0.0
    """Passes over the data in which the rate rises from `warmup_from` times itself to itself."""
    warmup_from: float = Field(default=0.1, ge=0, le=1)


class Constant(Schedule):
    kind: Literal["constant"] = "constant"


class Cosine(Schedule):
    kind: Literal["cosine"]
    final: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate that is left at the end of the budget."""


class Step(Schedule):
    kind: Literal["step"]
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.5, 0.75], min_length=1, max_length=20)
    """Shares of the budget after which the rate is multiplied by `factor`."""
    factor: float = Field(default=0.1, gt=0, le=1)
