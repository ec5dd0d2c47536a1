"""Candidate model: a trainer never waits (CN114254756A). The formulas are a reconstruction.

The patent states the method: a worker trains its period's initial model and gets its first gradient; if no global
parameters arrived in that period, it derives a candidate model from that gradient and trains on from the candidate. So
it computes while the server computes and sends. Ours is completed by local compensation, so that nothing is lost and
nothing counts twice. Trainers push displacements, so schedules and momentum stay their own and stay exact:

    F: the displacement in flight to the server;  A: what has been added since;  both start at 0

    a period:  p = eta_k (the optimizer's direction at w);   A += p
    its end, in this order:
      (1) a reply (w_S, v) has arrived in this period:   F = 0
      (2) F is empty:   F = A, A = 0; push F
      (3) a reply has arrived:   w = w_S - (F + A)  ("compensate"),  or  w = w_S  ("overwrite")
          none has:              w = w - p          <- the candidate

    server, when K distinct live trainers have reported:   w_S -= (1/N) sum F_i;   v += 1;   reply to these K

One push is in flight at a time, so two vectors do whatever the latency. 1/N also where K < N, with N the live trainers:
each of them adds its whole displacements in its turn.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Mode = Literal["compensate", "overwrite"]


class Candidate:
    """One trainer's vectors: `weights` it computes with, `in_flight` (F), `since` (A), and their gradient counts."""

    def __init__(self, weights: Tensor, in_flight: Tensor, *, mode: Mode) -> None:
        """Works in place on the two vectors, of one shape and dtype."""
        self.weights = weights
        self.in_flight = in_flight
        self.since = torch.zeros_like(weights)
        self.compensates = mode == "compensate"
        self.flying = 0
        """Gradients in F. 0: nothing is in flight."""
        self.added = 0
        """Gradients in A."""

    @property
    def unacknowledged(self) -> int:
        """Gradients that the server has not said it has."""
        return self.flying + self.added

    def start(self, received: Tensor) -> None:
        """Begin at the server's weights, with nothing in flight."""
        self.weights.copy_(received)
        self.since.zero_()
        self.flying = self.added = 0

    def end_period(self, step: Tensor, received: Tensor | None) -> bool:
        """Go on from `step` (p); `received` is w_S where a reply arrived in this period.

        Returns whether `in_flight` now holds a displacement to push, of `flying` gradients.
        """
        self.since.add_(step)
        self.added += 1
        if received is not None:
            self.flying = 0
        pushes = self.flying == 0
        if pushes:
            self.in_flight.copy_(self.since)
            self.since.zero_()
            self.flying, self.added = self.added, 0
        if received is None:
            self.weights.sub_(step)
        elif self.compensates:
            # A is 0 here: after a reply, (2) has always moved it into F.
            torch.sub(received, self.in_flight, out=self.weights)
        else:
            self.weights.copy_(received)
        return pushes
