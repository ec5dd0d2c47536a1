"""Frames: a fixed binary header and a short body. No pickle, no code, nothing allocated on a peer's word.

Every frame names its run, epoch and sender, and carries a sequence number that rises by exactly 1 for each sender.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple, Self, TypedDict

MAGIC = 0x54485031
HEADER = struct.Struct("<IHHIQQQqQQQQQQd")
MAX_BODY_BYTES = 64 * 1024
MAX_FRAME_BYTES = HEADER.size + MAX_BODY_BYTES
MANIFEST_BYTES = 32


class Kind(IntEnum):
    JOIN = 1  # child: manifest (32 bytes), by which way it comes (see BY), and the run's key
    WELCOME = 2  # server: how many training examples there are in all (8 bytes), and the name of the child's slot
    READY = 3  # child: it has mapped the slot; body: the UUID of the GPU it computes on, if it does
    WEIGHTS = 4  # server: new weights are in the slot; go on with `step`
    PUSH = 5  # trainer: gradient and statistics are in the slot; body: measurements
    EVALUATE = 6  # server: weights to evaluate are in the slot
    RESULT = 7  # evaluator: loss and metrics
    STOP = 8  # server: the run ends
    LEAVE = 9  # child: it goes in order
    REFUSED = 10  # server: why this session ends
    TENSOR = 11  # between hosts: body: what the bytes behind it are
    BEAT = 12  # between hosts, server: the answer is not there yet, but the line is
    PIECE = 14  # between hosts, trainer: these floats of its next push come (see `pieces`)
    STORE = 13  # between hosts: a message by which the ends of a group meet (see `store`)
    MEMORY = 20  # server, to a READY that names a GPU: the handle of memory on it; empty: the slot serves


KINDS = frozenset(Kind)

EXAMPLES = struct.Struct("<Q")

# Flags
EVALUATOR = 1  # in JOIN
BY = 2  # in JOIN: the body says by which way; a trainer of this host need not say
COMPLETED = 1  # in STOP: the run is through; without it, it was stopped
EARLY = 1  # in PUSH: its gradient has come before it, in pieces
NOT_APPLIED = 1  # in WEIGHTS: the gradient before was not finite and left no trace


class Frame(NamedTuple):
    kind: int
    flags: int
    run: int
    epoch: int
    member: int
    worker: int
    sequence: int
    base_version: int
    version: int
    step: int
    staleness: int
    """In WEIGHTS: what the gradient before met, in versions."""
    gradients: int
    """In PUSH: how many are in it. In WEIGHTS: how many have been applied in all."""
    scale: float
    """In PUSH: what the learner asks for. 0: it leaves the scale to the server's rule."""
    body: bytes


class Fields(TypedDict, total=False):
    """What a sender may say beside what each of its frames says: see `Frame`. Left out: 0, and no body."""

    flags: int
    base_version: int
    version: int
    step: int
    staleness: int
    gradients: int
    scale: float
    body: bytes


class FrameError(ValueError):
    """What came is no frame, or not one of this session."""


def pack(
    kind: int,
    *,
    run: int,
    epoch: int,
    member: int,
    worker: int,
    sequence: int,
    flags: int = 0,
    base_version: int = 0,
    version: int = 0,
    step: int = 0,
    staleness: int = 0,
    gradients: int = 0,
    scale: float = 0.0,
    body: bytes = b"",
) -> bytes:
    numbers = (run, epoch, member, worker, sequence, base_version, version, step, staleness, gradients, scale)
    return HEADER.pack(MAGIC, kind, flags, len(body), *numbers) + body


class JoinBody(NamedTuple):
    """What a child shows at its join. `by`: the way of its tensors, in a relay's words the peer's address too."""

    manifest: bytes
    by: str
    key: bytes

    def pack(self) -> bytes:
        by = self.by.encode()
        return self.manifest + (bytes([len(by)]) + by if by else b"") + self.key

    @classmethod
    def of(cls, frame: Frame) -> Self:
        manifest, rest = frame.body[:MANIFEST_BYTES], frame.body[MANIFEST_BYTES:]
        if not frame.flags & BY:
            return cls(manifest, "", rest)
        end = 1 + (rest[0] if rest else 0)
        return cls(manifest, rest[1:end].decode("ascii", errors="replace"), rest[end:])


class Decoder:
    """Cuts a byte stream into frames. Holds one frame's bytes at most beyond what it is fed."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take what came; returns the frames that are complete. Raises FrameError for anything else."""
        if self._rest:
            data = self._rest + data
        elif len(data) >= HEADER.size:
            # Nearly always one frame comes, and all of it: on the way of every gradient, both ways.
            fields = HEADER.unpack_from(data)
            if fields[0] == MAGIC and fields[1] in KINDS and HEADER.size + fields[3] == len(data) <= MAX_FRAME_BYTES:
                return [Frame._make((fields[1], fields[2], *fields[4:], data[HEADER.size :]))]
        found: list[Frame] = []
        offset = 0
        while len(data) - offset >= HEADER.size:
            magic, kind, flags, length, *numbers = HEADER.unpack_from(data, offset)
            if magic != MAGIC or kind not in KINDS or length > MAX_BODY_BYTES:
                raise FrameError("what came is not a frame of this protocol")
            end = offset + HEADER.size + length
            if end > len(data):
                break
            found.append(Frame._make((kind, flags, *numbers, data[offset + HEADER.size : end])))
            offset = end
        self._rest = data[offset:]
        return found
