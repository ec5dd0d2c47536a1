"""What a compensation is: a change of a late gradient, element by element, so that it can be made tile by tile."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space


class Compensation(ABC):
    looks_ahead: bool = False
    """Whether workers are sent other weights than the server's own."""

    @abstractmethod
    def prepare(self, space: Space) -> None:
        """Make room for what is kept. Called once, before the first gradient."""

    def begin(self) -> Terms:
        """Take a gradient into account, before its first tile; returns the numbers that hold for it alone."""
        return ()

    @abstractmethod
    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        """The direction to step along for tile `index` of a gradient that `worker` computed on `base`.

        Called once for each tile of each gradient, before the step there, with what `begin` returned for it.
        `gradient` stays as it is; what is returned may be overwritten by the next call.
        """

    @abstractmethod
    def fragment(self) -> Fragment:
        """The same for one element. Its scalars are what `begin` returns. Called after `prepare`."""

    def state(self) -> dict[str, Tensor]:
        """Its vectors by name, to save or to load in place."""
        return {}

    def look_ahead(self, index: int, out: Tensor, rate: float) -> None:
        """Write what workers are sent into `out`; `rate` is eta. Only where `looks_ahead`."""
        raise NotImplementedError


class MomentumOwner(Compensation):
    """A compensation with a momentum of its own: it stands in for the optimizer's, and adds the weight decay."""
