"""The ways tensors may travel between hosts. Both ends agree on one when a trainer joins.

A way carries named blocks one after another. Which blocks come, their dtype and their size follow from the manifest
that both ends have agreed on: the receiver holds them ready, and refuses what is announced otherwise before a byte
of it is received. So a peer's word allocates nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from workers.transport.frames import FrameError, Kind
from workers.transport.link import Link

DESCRIPTION = struct.Struct("<HHIQQ")
"""Block, dtype, 0, values, bytes behind it."""


class BlockName(IntEnum):
    GRADIENT = 1
    WEIGHTS = 2
    BUFFERS = 3
    SERVED = 4
    CONSTANTS = 5


DTYPES = {torch.float32: 1, torch.uint8: 2, torch.bfloat16: 3, torch.int32: 4}


class Block(NamedTuple):
    """A vector of the session, in its own contiguous memory."""

    name: BlockName
    tensor: Tensor
    finite: bool = True
    """Of a gradient. One that is not is refused by the server, and nothing of it is kept anywhere."""

    @property
    def description(self) -> bytes:
        tensor = self.tensor
        return DESCRIPTION.pack(self.name, DTYPES[tensor.dtype], 0, tensor.numel(), tensor.nbytes)


class TensorWay(Protocol):
    """Carries blocks between a trainer and its server. Used by one thread at a time, as its link is.

    `send` and `receive` return when all of the blocks have gone or come. They raise LinkLost, Unwelcome, and
    FrameError when something else comes than what was agreed.
    """

    name: str
    """What both ends have to agree on."""
    transport: str
    """What people are told: "tls", ..."""

    piecewise: bool
    """Whether a gradient may travel in pieces."""

    def meet(self) -> None:
        """Get ready, when the trainer has been let in and the other end gets ready too."""
        ...

    def send(self, blocks: Sequence[Block]) -> None: ...

    def receive(self, blocks: Sequence[Block]) -> None: ...

    def close(self) -> None: ...


class Inline:
    """Through the session itself: a TENSOR frame says what the bytes behind it are. Encrypted as all of it is."""

    name = "inline"
    transport = "tls"
    piecewise = True

    def __init__(self, link: Link) -> None:
        self._link = link

    def meet(self) -> None:
        pass  # the session is all there is

    def send(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.tensor.numel():
                self._link.gather(Kind.TENSOR, body=block.description)
                self._link.payload(memory_of(block.tensor))
        self._link.flush()

    def receive(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.tensor.numel():
                frame = self._link.receive()
                if frame.kind != Kind.TENSOR or frame.body != block.description:
                    raise FrameError(f"another tensor than the {block.name.name.lower()} that is due")
                self._link.receive_into(memory_of(block.tensor))

    def close(self) -> None:
        pass  # the session is closed by who has opened it


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, where they lie."""
    return tensor.view(torch.uint8).numpy().data
