"""What an outer optimizer is.

A trainer makes H steps of its own from the weights it read, with its own optimizer, and pushes where that has led:
the displacement delta = (weights read) - (weights reached), or the weights themselves. The server makes an update of
it, tile by tile, as it would of a gradient; learning rate, schedule, momentum and weight decay stay with the trainer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor

from workers.methods.space import Space, Tiles


class Outer(ABC):
    pushes_weights: bool = False
    """Whether trainers push the weights they have reached; else the displacement from those they read."""
    answers_privately: bool = False
    """Whether a trainer is answered with weights of its own, that are not the server's."""

    def __init__(self) -> None:
        self.steps = 0

    def prepare(self, space: Space) -> None:
        """Make room for what is kept. Called once, before the first push."""
        self._weights = space.weights
        self._workers = space.workers

    @abstractmethod
    def step(self, pushed: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        """Update the weights by one push, or by the mean of several, and leave what is answered in `out`.

        `learning_rate` is what the rate rule leaves of a full step, 1.
        """

    def state(self) -> dict[str, Tensor]:
        """Its vectors by name, to save or to load in place."""
        return {}
