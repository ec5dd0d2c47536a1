"""One block of a GPU's memory in two processes: how a server and its trainers on the same GPU hand over in place.

The handle that CUDA gives for a block travels over the session, in a body of fixed shape. torch counts who uses the
block, in a file of its own in /dev/shm; the block lives as long as the process that made it keeps its tensor.
"""

from __future__ import annotations

import struct
from typing import Any

import torch
from torch import Tensor

from workers.transport.frames import FrameError

NUMBERS = struct.Struct("<QQQB")
"""Bytes of the block, its offset in what was allocated, the place of torch's count, whether to wait for an event."""
LENGTH = struct.Struct("<H")
FLOAT_BYTES = 4


def pack(shared: tuple[Any, ...]) -> bytes:
    """What `UntypedStorage._share_cuda_` returns, as bytes. The number of the device is left out: a child sees one."""
    _, handle, size, offset, counter, counter_offset, event, wait = shared
    return NUMBERS.pack(size, offset, counter_offset, wait) + b"".join(_counted(t) for t in (handle, counter, event))


def unpack(body: bytes) -> tuple[Any, ...]:
    """What `UntypedStorage._new_shared_cuda` takes. Raises FrameError for a body that is not one of `pack`."""
    try:
        size, offset, counter_offset, wait = NUMBERS.unpack_from(body)
        handle, at = _text(body, NUMBERS.size)
        counter, at = _text(body, at)
        event, at = _text(body, at)
    except struct.error:
        raise FrameError("a handle of GPU memory is cut off") from None
    if at != len(body):
        raise FrameError("a handle of GPU memory has something behind it")
    return 0, handle, size, offset, counter, counter_offset, event, bool(wait)


def _counted(text: bytes) -> bytes:
    return LENGTH.pack(len(text)) + text


def _text(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = LENGTH.unpack_from(body, at)
    start = at + LENGTH.size
    if start + length > len(body):
        raise FrameError("a handle of GPU memory is cut off")
    return body[start : start + length], start + length


def share(block: Tensor) -> bytes:
    """A handle of a block of floats that is a tensor's whole storage."""
    return pack(block.untyped_storage()._share_cuda_())  # type: ignore[no-untyped-call]


def attach(body: bytes, floats: int) -> Tensor:
    """The block of that handle, made by another process that uses the same GPU. Raises FrameError."""
    told = unpack(body)
    if told[2] < floats * FLOAT_BYTES:
        raise FrameError(f"GPU memory of {told[2]} bytes came where {floats * FLOAT_BYTES} were agreed")
    storage = torch.UntypedStorage._new_shared_cuda(*told)
    return torch.empty(0, dtype=torch.float32, device=storage.device).set_(storage, 0, (floats,), (1,))
