"""What a gate is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Gate(Protocol):
    def group(self, waiting: Sequence[int]) -> int:
        """How many of the waiting gradients, oldest first, make the next update. 0: wait for more.

        `waiting` names the workers whose gradients wait, in order of arrival.
        """
        ...
