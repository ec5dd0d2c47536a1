"""What trainers do: how they normalise, whether they wait, and whether they step by themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workers.spec.base import MAX_TRAINERS, Fraction, Part, Positive


class LocalBatchNorm(Part):
    """Trainers normalise by their own batch; the server averages what they report, for evaluation."""

    kind: Literal["local"] = "local"
    rho: float = Field(default=0.02, gt=0, le=1)
    """Weight of a new batch statistic in the server's running aggregate: 0.02 remembers about 50 batches."""


class ServerBatchNorm(Part):
    """Trainers normalise by their batch and the server's statistics together (CN112016699A; a reconstruction)."""

    kind: Literal["server"]
    rho: float = Field(default=0.02, gt=0, le=1)
    """Weight of a new batch statistic in the server's: 0.02 remembers about 50 batches."""
    n0: int = Field(default=4, ge=0, le=65536)
    """Images that the server's statistics count for beside a batch, at most. 0: trainers use their batch alone."""


class NoAveraging(Part):
    """The last weights are evaluated and exported."""

    kind: Literal["none"] = "none"


class RecentMean(Part):
    """A mean of recent weights is evaluated and exported; trainers go on from the last ones."""

    kind: Literal["recent"]
    rounds: Positive = 4.0
    """How far back it reaches: in rounds, which are as many gradients as there are trainers."""


class SingleDevice(Part):
    """Each trainer has the whole model on one device."""

    kind: Literal["single"] = "single"


class Hybrid(Part):
    """Each trainer is a group of devices of one machine. They share its batch; the last layer, a Linear, is cut by
    classes into one slice for each (CN108460457A; completed by us). It pays where classes outnumber the batch."""

    kind: Literal["hybrid"]
    shards: int = Field(ge=2, le=64)
    """Devices of a group: each takes a slot. They share the trainer's batch, as equally as can be."""


LayoutPart = Annotated[SingleDevice | Hybrid, Field(discriminator="kind")]


class Blocking(Part):
    """A trainer waits for the server's answer before its next batch."""

    kind: Literal["blocking"] = "blocking"


class Candidate(Part):
    """A trainer never waits: it goes on from a candidate of its own (CN114254756A; a reconstruction).

    Trainers push displacements. The server averages them as they are, over all live trainers.
    """

    kind: Literal["candidate"]
    mode: Literal["compensate", "overwrite"] = "compensate"
    """Whether what the server has not seen yet is kept when its weights come, or overwritten by them."""
    k: int | None = Field(default=None, ge=1, le=MAX_TRAINERS)
    """Trainers whose displacements make an update. Left out: all that live."""


class NoOuter(Part):
    """Trainers push gradients; the server makes all steps."""

    kind: Literal["none"] = "none"


class OuterPart(Part):
    steps: int = Field(default=10, ge=1, le=100_000)
    """Local steps between two pushes: each is a batch, or as many as are accumulated."""


class LocalSgd(OuterPart):
    """Everybody makes `steps` local steps, then all go on from the mean of their weights."""

    kind: Literal["local-sgd"]


class DiLoCo(OuterPart):
    """The mean displacement of all trainers' local steps is the gradient of an outer Nesterov step."""

    kind: Literal["diloco"]
    learning_rate: Positive = 0.7
    """Of the outer step."""
    momentum: Fraction = 0.9
    """Of the outer step."""


class Easgd(OuterPart):
    """Elastic averaging: each trainer keeps weights of its own, drawn to the server's after every `steps` steps."""

    kind: Literal["easgd"]
    beta: float = Field(default=0.9, gt=0, lt=1)
    """Share of their distance that all trainers and the centre move together; beta / N for one trainer."""


class DelayedNesterov(OuterPart):
    """Displacements are applied as they come; the outer momentum moves once in as many as there are trainers."""

    kind: Literal["delayed-nesterov"]
    learning_rate: Positive = 0.7
    """Of the outer step."""
    momentum: Fraction = 0.9
    """Of the outer step."""


Outer = Annotated[NoOuter | LocalSgd | DiLoCo | Easgd | DelayedNesterov, Field(discriminator="kind")]
