"""What a compression is: a payload of a fixed size in place of a vector, made at a trainer and read at the server."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

Payload = tuple[Tensor, ...]
"""Tensors whose dtypes and sizes follow from the vector's size alone, so that nobody allocates on a peer's word."""


class Compression(Protocol):
    """One trainer's, or the server's reading side. What a trainer keeps between its pushes is lost with it."""

    piecewise: bool
    """Whether a part of a vector can be encoded by itself, without a look at the rest."""

    def payload(self, size: int) -> Payload:
        """Memory for what is sent of `size` floats. It holds something that can be read, if nothing meaningful."""
        ...

    def encode(self, vector: Tensor, payload: Payload) -> None:
        """Fill the payload. `vector` is finite; one that is not never gets here, since the server refuses it anyway."""
        ...

    def decode(self, payload: Payload, into: Tensor) -> None:
        """Make a vector of it again. Raises ValueError, and touches nothing, where the payload is not what `encode`
        makes."""
        ...
