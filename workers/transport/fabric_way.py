"""The fabric as a way for tensors: frames and small blocks stay in the TLS session, large ones go through its group."""

from __future__ import annotations

from collections.abc import Sequence

from workers.transport.fabric import Fabric, FabricLost
from workers.transport.frames import FrameError, Kind
from workers.transport.link import Link
from workers.transport.tls import LINK_SECONDS, LinkLost
from workers.transport.ways import Block, Inline

LARGE_BYTES = 64 * 1024
"""From here on a block goes through the group: what is smaller is there sooner by the session itself."""


class LinkChannel:
    """The session as `workers.transport.store.Channel`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, message: bytes) -> None:
        self._link.gather(Kind.STORE, body=message)
        self._link.flush()

    def receive(self, seconds: float) -> bytes:
        frame = self._link.receive(min(seconds, LINK_SECONDS))
        if frame.kind != Kind.STORE:
            raise FrameError(f"a {Kind(frame.kind).name} in a rendezvous")
        return frame.body


class FabricWay:
    """Tensors over a two-rank group; what they are is said, and checked, in the session first."""

    name = "fabric"
    transport = "fabric"
    piecewise = True

    def __init__(self, link: Link, rank: int) -> None:
        self._link, self._rank = link, rank
        self._inline = Inline(link)
        self._fabric: Fabric | None = None

    def meet(self) -> None:
        try:
            self._fabric = Fabric.meet(LinkChannel(self._link), self._rank, address=self._link.own_address)
        except FabricLost as lost:
            raise LinkLost(str(lost)) from None

    def send(self, blocks: Sequence[Block]) -> None:
        large, small = _by_size(blocks)
        for block in large:
            self._link.gather(Kind.TENSOR, body=block.description)
        self._inline.send(small)
        try:
            for moving in [self._group.start(block.tensor) for block in large]:
                moving.wait()
        except FabricLost as lost:
            raise LinkLost(str(lost)) from None

    def receive(self, blocks: Sequence[Block]) -> None:
        large, small = _by_size(blocks)
        for block in large:
            # gloo does not survive another number of bytes than it expects.
            frame = self._link.receive()
            if frame.kind != Kind.TENSOR or frame.body != block.description:
                raise FrameError(f"another tensor than the {block.name.name.lower()} that is due")
        self._inline.receive(small)
        try:
            for block in large:
                self._group.receive(block.tensor)
        except FabricLost as lost:
            raise LinkLost(str(lost)) from None

    @property
    def _group(self) -> Fabric:
        assert self._fabric is not None, "tensors travel when both ends have met"
        return self._fabric

    def close(self) -> None:
        if self._fabric is not None:
            self._fabric.close()


def _by_size(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """The large blocks and the small ones. Both ends hold the same sizes."""
    large = [block for block in blocks if block.tensor.nbytes >= LARGE_BYTES]
    return large, [block for block in blocks if block.tensor.nbytes < LARGE_BYTES]
