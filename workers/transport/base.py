"""What a trainer and an evaluator need of a transport, whichever way tensors travel."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

JOIN_SECONDS = 60.0
ANSWER_SECONDS = 120.0
"""Silence after which a server counts as lost. It answers within milliseconds; this is for a stopped machine."""


class OwnSteps(NamedTuple):
    """What a trainer that steps by itself tells of a displacement. NaN: there is no such thing in this mode."""

    learning_rate: float
    """Of its last step."""
    candidates: float
    """Candidates in a row: periods that ended without word of the server since the last that did."""
    unacknowledged: float
    """Gradients that the server had not confirmed when its word came."""
    drift: float
    """||w - w_S|| when the server's weights came: how far the trainer had gone by itself."""
    drift_left: float
    """The same right after they were merged."""


@dataclass(frozen=True)
class Report:
    """What a trainer measured while it made a gradient; travels in its push.

    `metrics` in the order of the problem's. NaN: not measured.
    """

    loss: float
    gradient_norm: float
    compute_seconds: float
    wait_seconds: float
    transfer_seconds: float
    metrics: tuple[float, ...]
    own: OwnSteps | None = None
    """Where the trainer steps by itself."""

    def pack(self) -> bytes:
        values = self.metrics if self.own is None else (*self.metrics, *self.own)
        return struct.pack(
            f"<{5 + len(values)}d",
            self.loss,
            self.gradient_norm,
            self.compute_seconds,
            self.wait_seconds,
            self.transfer_seconds,
            *values,
        )


class Answer(NamedTuple):
    """New weights are readable; go on with `step`. `applied`: whether the gradient before made it into them."""

    version: int
    step: int
    applied: bool
    gradients: int
    """Gradients that the server has applied in all: the clock of schedules."""
    staleness: int
    """Versions between that gradient's read and its apply; 0 where it was not applied."""
    rejoined: bool = False
    """The session broke and was opened anew. Whether the push before was applied, `step` tells: begin from there, as a
    newcomer does, with nothing carried over."""


class RunEnded(Exception):
    """The server said stop. `completed`: its budget is spent; otherwise it was stopped."""

    def __init__(self, *, completed: bool) -> None:
        super().__init__("the run is complete" if completed else "the run was stopped")
        self.completed = completed


class TrainerSession(Protocol):
    """A trainer's end. Between a push and its answer all vectors belong to the server."""

    weights: Tensor
    gradient: Tensor
    buffers: Tensor
    """Batch-norm statistics, as the trainer reports them."""
    served: Tensor
    """The server's, of the version of the weights; empty where the batch-norm rule serves none."""
    examples: int
    """Training examples in all, of which this trainer may see a part."""
    constants: Tensor
    """Bytes of what the model holds beside them; given once, at the join."""
    memory: int | None
    """Descriptor of the slot that all of these lie in, for other processes to map. None: they are private."""

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        """Hand over gradient and statistics, with the scale this learner asks for, if it does. Raises as `answer`.

        `step` is the number of the first of the `gradients` that are in it.
        """
        ...

    def answer(self) -> Answer:
        """Wait for new weights. Raises RunEnded, ServerLost, or Failure when the server refuses this trainer."""
        ...

    def waits(self, seconds: float) -> bool:
        """Wait for a word of the server or a stop; says whether the server has one."""
        ...

    def leave(self) -> None: ...
