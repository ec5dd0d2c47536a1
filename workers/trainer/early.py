"""Gradients that are handed on during the backward pass: those of the last layers are complete long before others."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Protocol

from torch import Tensor, nn

from workers.layout import Layout
from workers.transport.pieces import Range

PIECE_FLOATS = 256 * 1024
"""1 MiB. Fewer are sent together with their neighbours."""
PIECES = 1024
"""Of a gradient, about; those of a very large one are larger."""


class Piecewise(Protocol):
    """A session that takes a gradient in pieces."""

    def piece(self, piece: Range) -> None: ...

    def spoil(self) -> None: ...


class Early:
    """Copies each parameter's gradient into the flat vector when it is complete, and gives runs to the session."""

    def __init__(self, model: nn.Module, layout: Layout, flat: Tensor, session: Piecewise) -> None:
        named = dict(model.named_parameters())
        self._parameters = [named[s.name] for s in layout.segments]
        self._targets = [s.of(flat) for s in layout.segments]
        # Each up to where the next one begins: the zeros between them go along.
        borders = [*(s.offset for s in layout.segments), layout.size]
        self._ranges = [Range(start, stop) for start, stop in pairwise(borders)]
        self._least = max(PIECE_FLOATS, layout.size // PIECES)
        self._session = session
        self._copied: set[int] = set()
        self._run: Range | None = None
        for index, parameter in enumerate(self._parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._completed, index))  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """A new gradient; the vector is the trainer's again."""
        self._copied.clear()
        self._run = None

    def complete(self) -> None:
        """Copy what no hook has: parameters that this batch did not use have no gradient, and count as 0."""
        for index, target in enumerate(self._targets):
            if index not in self._copied:
                target.zero_()

    def _completed(self, index: int, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._targets[index].copy_(parameter.grad)
        if index in self._copied:
            self._session.spoil()  # a part of the model was run backward twice: what has gone of it was not all
            return
        self._copied.add(index)
        self._add(self._ranges[index])

    def _add(self, new: Range) -> None:
        """Let a run of neighbours grow until it is worth a frame. What is left over goes with the push."""
        run = self._run
        if run is not None and new.stop == run.start:
            run = Range(new.start, run.stop)
        elif run is not None and run.stop == new.start:
            run = Range(run.start, new.stop)
        else:
            run = new
        if run.stop - run.start >= self._least:
            self._session.piece(run)
            run = None
        self._run = run
