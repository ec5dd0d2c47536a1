"""Whom a simulation tells of what happens in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from workers.server.pushes import Push, Reaction
from workers.simulator.trainers import Measured

if TYPE_CHECKING:
    from workers.simulator.simulation import Evaluation


class Observer(Protocol):
    """Is told of each thing as it happens, before the virtual clock moves on. It changes nothing."""

    def joined(self, worker: int) -> None:
        """A trainer came, or came back."""

    def lost(self, worker: int) -> None:
        """A trainer went, and its gradients that wait at the server are forgotten."""

    def arrived(self, push: Push, measured: Measured) -> None:
        """A finite gradient lies in its place, and the server has not dealt with it yet."""

    def refused(self, push: Push) -> None:
        """A gradient that is not finite came, and was not applied."""

    def settled(self, reaction: Reaction) -> None:
        """What the server did with gradients that had arrived."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The present version was evaluated."""
