"""A way for tensors whose gradients are compressed, whichever way that is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workers.methods.compression.base import Compression, Payload
from workers.transport.frames import FrameError
from workers.transport.ways import Block, BlockName, TensorWay


class CompressedWay:
    """What a trainer keeps between pushes lives and ends with its session, as a replay has it too."""

    piecewise = False
    """Its payload has one size."""

    def __init__(self, way: TensorWay, rule: Compression, words: str) -> None:
        """`words`: the compression with its parameters, of which both ends have to mean the same."""
        self._way, self._rule = way, rule
        self.name, self.transport = f"{way.name} {words}", f"{way.transport}, {words}"
        self._payload: Payload | None = None

    def meet(self) -> None:
        self._way.meet()

    def send(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.name is BlockName.GRADIENT and block.finite:
                self._rule.encode(block.tensor, self._payload_for(block.tensor))
        self._way.send([part for block in blocks for part in self._parts(block)])

    def receive(self, blocks: Sequence[Block]) -> None:
        self._way.receive([part for block in blocks for part in self._parts(block)])
        for block in blocks:
            if block.name is BlockName.GRADIENT:
                self._decode(block.tensor)

    def _decode(self, gradient: Tensor) -> None:
        try:
            self._rule.decode(self._payload_for(gradient), gradient)
        except ValueError as error:
            raise FrameError(str(error)) from None

    def _parts(self, block: Block) -> list[Block]:
        if block.name is not BlockName.GRADIENT:
            return [block]
        return [Block(block.name, part) for part in self._payload_for(block.tensor)]

    def _payload_for(self, gradient: Tensor) -> Payload:
        if self._payload is None:
            self._payload = self._rule.payload(gradient.numel())
        return self._payload

    def close(self) -> None:
        self._way.close()
