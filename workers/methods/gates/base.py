"""What a gate is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence


class Gate(ABC):
    """Decides which of the waiting gradients make the next update, and which workers may go on."""

    one_by_one: bool = False
    """Whether every gradient is an update of its own at once, and its worker goes on: nothing ever waits."""
    answers_at_once: bool = False
    """Whether a worker goes on while its gradient waits; the server copies the gradient then."""
    drops_from: float = math.inf
    """Gradients this many versions late are dropped as they come."""

    def __init__(self) -> None:
        self.live: set[int] = set()

    def join(self, worker: int) -> None:
        """`worker` takes part from now on."""
        self.live.add(worker)

    def leave(self, worker: int) -> None:
        """`worker` was lost or has left; its gradients wait no more."""
        self.live.discard(worker)

    @abstractmethod
    def group(self, waiting: Sequence[int]) -> int:
        """How many of the waiting gradients, oldest first, make the next update. 0: wait for more.

        `waiting` names the workers whose gradients wait, in order of arrival.
        """

    def taken(self, worker: int) -> None:  # noqa: B027 - most gates need not know
        """A gradient of `worker` has gone into an update."""

    def may_go_on(self, worker: int) -> bool:
        """Whether a worker whose gradient has been taken gets its weights now, or later."""
        return True
