"""A compiled pass: `workers.server.passes.Pass` by one C++ loop, over threads where the vectors are long."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from workers.kernels import compiling
from workers.kernels.source import BLOCK_FLOATS, MOST_OWN, MOST_SCALARS, source
from workers.methods.compensation.base import Compensation
from workers.methods.fragment import Fragment
from workers.server.optimizers import Elementwise, Optimizer, Tiling
from workers.server.passes import HandOver, Step

STREAM_FROM_FLOATS = 4 * 1024 * 1024
"""Vectors of 16 MiB and more do not stay in a cache until their trainer reads them."""
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


class Part(ctypes.Structure):
    _fields_ = (
        ("gradient", ctypes.c_void_p),
        ("slot", ctypes.c_void_p),
        ("own", ctypes.c_void_p * MOST_OWN),
        ("share", ctypes.c_float),
        ("scalars", ctypes.c_float * MOST_SCALARS),
    )


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
        self._own = [(v.data_ptr(), v.stride(0) * v.element_size()) for v in first.own.values()]
        if streams is None:
            streams = weights.numel() >= STREAM_FROM_FLOATS and not first.reads_base
        self._plan, self._keep = _plan(weights, tiling, optimizer, self._vectors, streams=streams)
        self._firsts = len(first.scalars)
        self._size = weights.numel()
        self._ranges = _ranges(self._size, threads)
        self._threads = ThreadPoolExecutor(len(self._ranges)) if len(self._ranges) > 1 else None
        library = compiling.load(path)
        self._run = library.run
        self._run.restype = None
        self._run.argtypes = (
            ctypes.POINTER(Plan),
            ctypes.POINTER(Part),
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_float,
            ctypes.c_int64,
            ctypes.c_int64,
        )
        self._part = Part()
        self._several: dict[int, ctypes.Array[Part]] = {}

    def one(self, step: Step, ahead: float) -> None:
        self._fill(self._part, step)
        self._walk(self._part, 1, False, ahead)

    def several(self, steps: Sequence[Step], ahead: float) -> None:
        parts = self._parts(len(steps))
        for part, step in zip(parts, steps, strict=True):
            self._fill(part, step)
        self._walk(parts, len(steps), False, ahead)

    def mean(self, parts: Sequence[tuple[Step, float]], out: HandOver, rate: float, ahead: float) -> None:
        """The last part stands for the step itself: where it goes, and by which rate."""
        array = self._parts(len(parts) + 1)
        for part, (step, share) in zip(array, parts, strict=False):
            self._fill_compensation(part, step)
            part.share = share
        last = array[len(parts)]
        terms = () if self._compensation is None else tuple(array[0].scalars[: self._firsts])
        last.slot = out.weights_address
        self._set(last, (*terms, *self._optimizer.begin(rate)))
        self._walk(array, len(parts) + 1, True, ahead)

    def _parts(self, count: int) -> ctypes.Array[Part]:
        found = self._several.get(count)
        if found is None:
            found = self._several[count] = (Part * count)()
        return found

    def _fill(self, part: Part, step: Step) -> None:
        part.gradient = step.place.gradient_address
        part.slot = step.place.weights_address
        if self._compensation is None:
            self._set(part, self._optimizer.begin(step.rate))
            return
        self._name_own(part, step.worker)
        self._set(part, (*self._compensation.begin(), *self._optimizer.begin(step.rate)))

    def _fill_compensation(self, part: Part, step: Step) -> None:
        part.gradient = step.place.gradient_address
        part.slot = step.place.weights_address
        if self._compensation is not None:
            self._name_own(part, step.worker)
            self._set(part, self._compensation.begin())

    def _name_own(self, part: Part, worker: int) -> None:
        for index, (address, stride) in enumerate(self._own):
            part.own[index] = address + worker * stride

    @staticmethod
    def _set(part: Part, terms: tuple[float, ...]) -> None:
        part.scalars[: len(terms)] = terms

    def _walk(self, parts: Part | ctypes.Array[Part], count: int, combine: bool, ahead: float) -> None:
        # ctypes lets go of the interpreter meanwhile.
        if self._threads is None:
            self._run(self._plan, parts, count, combine, ahead, 0, self._size)
            return
        shares = [
            self._threads.submit(self._run, self._plan, parts, count, combine, ahead, first, last)
            for first, last in self._ranges
        ]
        for share in shares:
            share.result()


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
