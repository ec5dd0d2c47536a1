"""Where a trainer's vectors are, as the server's core reads and writes them: always on the core's own device.

* the server is on a CPU: they are the hand-over slot itself;
* the server is on a GPU, and the trainer on that very GPU: a block of its memory that both have;
* the server is on a GPU, and the trainer elsewhere: copies of the slot on the GPU, brought in and given out.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from workers.devices import Device
from workers.transport import cuda_ipc
from workers.transport.mirror import mirror
from workers.transport.shared_memory import Slot, SlotSize


class Vectors(NamedTuple):
    gradient: Tensor
    weights: Tensor
    buffers: Tensor
    served: Tensor


class Memory(Protocol):
    vectors: Vectors
    handle: bytes
    """What the trainer attaches to. Empty: the slot."""

    def bring(self) -> None:
        """Have the core see what the trainer pushed."""
        ...

    def give(self) -> None:
        """Have the trainer see what the core wrote; on return it may be told."""
        ...


class SlotMemory:
    """The slot, or copies of it on the server's device."""

    handle = b""

    def __init__(self, slot: Slot, device: Device) -> None:
        self._incoming = mirror((slot.gradient, slot.buffers), device)
        self._outgoing = mirror((slot.weights, slot.served), device)
        (gradient, buffers), (weights, served) = self._incoming.vectors, self._outgoing.vectors
        self.vectors = Vectors(gradient, weights, buffers, served)

    def bring(self) -> None:
        self._incoming.bring()

    def give(self) -> None:
        self._outgoing.give()


class SharedGpuMemory:
    """A block of the GPU that server and trainer are both on."""

    def __init__(self, size: SlotSize, device: Device) -> None:
        self._device = device
        self._block = torch.zeros(size.floats, device=device.where)
        self.vectors = Vectors(*size.cut(self._block))
        self.handle = b""

    def share(self) -> None:
        """Make a handle for one more trainer. The zeros must be there before anybody looks."""
        self._device.settle()
        self.handle = cuda_ipc.share(self._block)

    def bring(self) -> None:
        """The trainer has waited for its own work before it pushed."""

    def give(self) -> None:
        self._device.settle()


class Memories:
    """Chooses, and keeps the blocks of a GPU for a lost trainer's successor: what a killed process had attached to
    is never counted as given back, so a new block each time would be a leak. The successor starts only when its
    predecessor's process is gone, and its work on the GPU with it."""

    def __init__(self, size: SlotSize, device: Device) -> None:
        self._size, self._device = size, device
        self._kept: dict[int, SharedGpuMemory] = {}

    def of(self, slot: Slot, worker: int, gpu: str) -> Memory:
        """The memory of trainer `worker`, which computes on this `gpu`; empty: it told of none."""
        if not gpu or gpu != self._device.gpu:
            return SlotMemory(slot, self._device)
        shared = self._kept.get(worker) or self._kept.setdefault(worker, SharedGpuMemory(self._size, self._device))
        shared.share()
        return shared
