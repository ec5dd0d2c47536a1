"""A compiled pass: `workers.server.passes.Pass` by one C++ loop, over threads where the vectors are long."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from workers.kernels import compiling
from workers.kernels.source import BLOCK_FLOATS, EACH, MEAN, MOST_OWN, MOST_SCALARS, SEND, source
from workers.methods.compensation.base import Compensation
from workers.methods.fragment import Fragment, Terms
from workers.server.optimizers import Elementwise, Optimizer, Tiling
from workers.server.passes import HandOver, Step

STREAM_FROM_FLOATS = 4 * 1024 * 1024
"""Vectors of 16 MiB and more do not stay in a cache until their trainer reads them."""
NONE_OWN = (0,) * MOST_OWN
THREADED_FROM_FLOATS = 2 * 1024 * 1024
"""Below, a walk takes less than what it costs to wake threads for it."""


class Group(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("first_scale", ctypes.c_float),
        ("second_scale", ctypes.c_float),
        ("first_decay", ctypes.c_float),
        ("second_decay", ctypes.c_float),
    )


class Plan(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("shared", ctypes.POINTER(ctypes.c_void_p)),
        ("groups", ctypes.POINTER(Group)),
        ("group_count", ctypes.c_int64),
        ("streams", ctypes.c_int64),
    )


PART_BYTES = struct.calcsize(f"@PP{MOST_OWN}Pf{MOST_SCALARS}f0P")
WALK = struct.Struct("@PPqqqqff")


def text_of(weights: Tensor, optimizer: Optimizer, compensation: Compensation | None) -> str | None:
    """The C++ of these rules. None: they can't be fused, or the weights are not in this machine's memory."""
    if not isinstance(optimizer, Elementwise) or weights.device.type != "cpu":
        return None
    return source(None if compensation is None else compensation.fragment(), optimizer.fragment())


class FusedPass:
    """Owns nothing but pointers: the vectors are those of the server and its rules, which outlive it."""

    coalesces = True

    def __init__(
        self,
        path: Path,
        weights: Tensor,
        tiling: Tiling,
        optimizer: Elementwise,
        compensation: Compensation | None,
        *,
        threads: int = 1,
        streams: bool | None = None,
    ) -> None:
        self.kernel = path.stem
        self._optimizer, self._compensation = optimizer, compensation
        first = Fragment("") if compensation is None else compensation.fragment()
        second = optimizer.fragment()
        self._vectors = [*first.shared.values(), *second.shared.values()]
        own = [(v.data_ptr(), v.stride(0) * v.element_size()) for v in first.own.values()]
        self._own = own + [(0, 0)] * (MOST_OWN - len(own)) if own else []
        if streams is None:
            streams = weights.numel() >= STREAM_FROM_FLOATS and not first.reads_base
        self._plan, self._keep = _plan(weights, tiling, optimizer, self._vectors, streams=streams)
        self._plan_at = ctypes.addressof(self._plan)
        self._tiles = tiling.of(weights)
        count = len(first.scalars) + len(second.scalars)
        self._pack = struct.Struct(f"@PP{MOST_OWN}Pf{count}f").pack_into
        self._none = (0.0,) * len(second.scalars)
        self._parts, self._parts_at = _memory(PART_BYTES)
        ranges = _ranges(weights.numel(), threads)
        self._walks = [(*_memory(WALK.size), *bounds) for bounds in ranges]
        self._threads = ThreadPoolExecutor(len(ranges)) if len(ranges) > 1 else None
        self._run = compiling.load(path).run
        self._run.restype, self._run.argtypes = None, (ctypes.c_void_p,)

    def send(self, place: HandOver, ahead: float) -> None:
        if self._compensation is None or not self._compensation.looks_ahead:
            torch._foreach_copy_(place.weights, self._tiles)
            return
        self._put(0, Step(place, 0, 0.0), (*self._compensation.begin(), *self._none))
        self._walk(1, ahead, mode=SEND)

    def one(self, step: Step, ahead: float) -> None:
        self._put(0, step, self._terms(step.rate))
        self._walk(1, ahead)

    def several(self, steps: Sequence[Step], ahead: float) -> None:
        self._make_room(len(steps))
        for index, step in enumerate(steps):
            self._put(index, step, self._terms(step.rate))
        self._walk(len(steps), ahead)

    def mean(self, parts: Sequence[tuple[Step, float]], out: HandOver, rate: float, ahead: float) -> None:
        """The last part stands for the step itself: where it goes, and by which rate."""
        self._make_room(len(parts) + 1)
        own: Terms = ()
        for index, (step, share) in enumerate(parts):
            own = () if self._compensation is None else self._compensation.begin()
            self._put(index, step, (*own, *self._none), share)
        self._put(len(parts), Step(out, parts[-1][0].worker, rate), (*own, *self._optimizer.begin(rate)))
        self._walk(len(parts) + 1, ahead, mode=MEAN)

    def _terms(self, rate: float) -> Terms:
        if self._compensation is None:
            return self._optimizer.begin(rate)
        return self._compensation.begin() + self._optimizer.begin(rate)

    def _make_room(self, parts: int) -> None:
        if len(self._parts) < parts * PART_BYTES:
            self._parts, self._parts_at = _memory(parts * PART_BYTES)

    def _put(self, index: int, step: Step, terms: Terms, share: float = 1.0) -> None:
        """Write a part where the kernel reads it: as one struct, since each of ctypes' fields costs as much as that."""
        place, own = step.place, self._own
        vectors = NONE_OWN if not own else tuple(address + step.worker * stride for address, stride in own)
        where = index * PART_BYTES
        self._pack(self._parts, where, place.gradient_address, place.weights_address, *vectors, share, *terms)

    def _walk(self, parts: int, ahead: float, *, mode: int = EACH) -> None:
        for memory, _, first, last in self._walks:
            WALK.pack_into(memory, 0, self._plan_at, self._parts_at, parts, mode, first, last, ahead, 0.0)
        # ctypes lets go of the interpreter meanwhile.
        if self._threads is None:
            self._run(self._walks[0][1])
            return
        for share in [self._threads.submit(self._run, at) for _, at, _, _ in self._walks]:
            share.result()


def _memory(size_bytes: int) -> tuple[bytearray, int]:
    """Memory that `struct` writes and the kernel reads, and its address."""
    memory = bytearray(size_bytes)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _plan(
    weights: Tensor, tiling: Tiling, optimizer: Elementwise, vectors: Sequence[Tensor], *, streams: bool
) -> tuple[Plan, object]:
    """The vectors' addresses and the groups, and what must live as long as they are used."""
    # Who owns the momentum adds the decay, and a displacement has been scaled by its trainer: two rules, two tilings.
    terms = zip(tiling.scales, optimizer.tiling.scales, tiling.decays, optimizer.tiling.decays, strict=True)
    cut = [Group(*bounds, *numbers) for bounds, numbers in zip(tiling.ranges, terms, strict=True)]
    groups = (Group * len(cut))(*cut)
    shared = (ctypes.c_void_p * max(1, len(vectors)))(*(v.data_ptr() for v in vectors))
    return Plan(weights.data_ptr(), shared, groups, len(groups), streams), (groups, shared, list(vectors))


def _ranges(size: int, threads: int) -> list[tuple[int, int]]:
    """Equal shares in whole blocks."""
    if threads < 2 or size < THREADED_FROM_FLOATS:
        return [(0, size)]
    blocks = -(-size // (threads * BLOCK_FLOATS)) * BLOCK_FLOATS
    return [(start, min(start + blocks, size)) for start in range(0, size, blocks)]
