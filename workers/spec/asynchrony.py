"""What the server does with gradients that come when they come: gates, rates, compensations."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import MAX_TRAINERS, Fraction, NotNegative, Part, Positive


class AsyncGate(Part):
    """Each gradient is applied as it comes; nobody waits for anybody."""

    kind: Literal["async"] = "async"


class Softsync(Part):
    """An update for every c gradients, whoever sent them."""

    kind: Literal["softsync"]
    c: int = Field(ge=1, le=MAX_TRAINERS)
    """Gradients in an update."""
    waiting: bool = True
    """Whether the trainers of an update wait for it. If not, each goes on at once from the weights there are."""


class SyncGate(Part):
    """Every update waits for a gradient of every trainer."""

    kind: Literal["sync"]


class Backup(Part):
    """An update takes the first gradients of a round, all but `extra`; those that come later are dropped."""

    kind: Literal["backup"]
    extra: int = Field(ge=1, le=MAX_TRAINERS)
    """Trainers that a round does without."""


class Ssp(Part):
    """Stale synchronous parallel: nobody works more than `bound` rounds ahead of the slowest."""

    kind: Literal["ssp"]
    bound: int = Field(ge=0, le=1_000_000)
    """Rounds between the fastest and the slowest; a round is a gradient of a trainer's own."""


Gate = Annotated[AsyncGate | Softsync | SyncGate | Backup | Ssp, Field(discriminator="kind")]


class ConstantRate(Part):
    """Every gradient takes a full step: plain asynchronous SGD."""

    kind: Literal["constant"] = "constant"


class StalenessInverse(Part):
    """A gradient d versions late takes 1/max(1, d) of a step."""

    kind: Literal["staleness-inverse"]


class Balanced(Part):
    """Gradients of an update weighed against each other by their staleness (CN112861991A; a reconstruction)."""

    kind: Literal["balanced"]


class BalancedMse(Part):
    """Weighed so that noise and staleness bias together are least (for CN112861991A; a reconstruction)."""

    kind: Literal["balanced-mse"]
    kappa: Positive
    """Squared drift a version over the variance of one example's gradient: the larger, the less late ones count."""


class MeanStaleness(Part):
    """Every gradient takes 1/N of a step, N being the trainers that live."""

    kind: Literal["mean-staleness"]


class DelayAdaptive(Part):
    """A gradient more than N versions late takes N/d of a step."""

    kind: Literal["delay-adaptive"]


class AdaDelay(Part):
    """Steps that fall with time t and staleness d: 1/(1 + kappa sqrt(t + d))."""

    kind: Literal["adadelay"]
    kappa: Positive
    """How fast steps shrink with time and staleness."""


class Ringmaster(Part):
    """Gradients R or more versions late are dropped; the others take a full step."""

    kind: Literal["ringmaster"]
    R: int = Field(ge=1, le=1_000_000)
    """In versions. From twice the number of trainers on, equally fast ones lose nothing."""


class WindowRate(Part):
    """Each trainer forecasts its staleness from its last rounds, and asks for 1/(1 + forecast) of a step
    (CN106779093A; a reconstruction)."""

    kind: Literal["window"]
    size: int = Field(default=16, ge=1, le=10_000)
    """Rounds in the window."""
    context: Literal["mean", "ema", "p75"] = "mean"
    """What is made of them: their mean, a moving average as long, or their upper quartile."""
    cap: bool = False
    """Whether the server lowers a scale to 1/(1 + d) where the gradient met more staleness d than forecast."""


Rate = Annotated[
    ConstantRate
    | StalenessInverse
    | Balanced
    | BalancedMse
    | MeanStaleness
    | DelayAdaptive
    | AdaDelay
    | Ringmaster
    | WindowRate,
    Field(discriminator="kind"),
]


class NoCompensation(Part):
    """Gradients are taken as they come."""

    kind: Literal["none"] = "none"


class DcAsgd(Part):
    """A late gradient is moved along the drift of the weights, by its own square for the curvature."""

    kind: Literal["dc-asgd-c"]
    lam: NotNegative = 0.04
    """How much of the correction is added."""


class DcAsgdAdaptive(Part):
    """As dc-asgd-c, with less of it where gradients are large."""

    kind: Literal["dc-asgd-a"]
    lam0: NotNegative = 2.0
    """How much of it is added where gradients are small."""


class GapAware(Part):
    """Every element of a gradient is divided by how far its weight has drifted, in steps. Owns its momentum."""

    kind: Literal["gap-aware"]
    momentum: Fraction = 0.9
    """Its own, in place of the optimizer's."""
    nesterov: bool = False
    """Look ahead along the momentum."""

    @model_validator(mode="after")
    def _nesterov_looks_ahead_by_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set momentum, or nesterov: false")
        return self


class MultiAsgd(Part):
    """A momentum for each trainer, of its own gradients only."""

    kind: Literal["multi-asgd"]
    momentum: Fraction = 0.9
    """Of each trainer's own, in place of the optimizer's."""


class DanaZero(Part):
    """A momentum for each trainer; trainers compute on an estimate of the weights after everybody's next step."""

    kind: Literal["dana-zero"]
    momentum: Fraction = 0.9
    """Of each trainer's own, in place of the optimizer's."""


Compensation = Annotated[
    NoCompensation | DcAsgd | DcAsgdAdaptive | GapAware | MultiAsgd | DanaZero, Field(discriminator="kind")
]
