"""What a run reports, and the spool it travels in.

A child appends *batches* to spool files in its working directory; its supervisor tails them and stores each
batch in one transaction, exactly once by (member, sequence). Files, not a socket: what a killed child had to
say is still readable, a replaced supervisor reads on, and a database that is down only makes a file longer.

One frame is `magic, sequence, length, crc32` (little-endian, 20 bytes) and a msgpack payload. Series values
are raw little-endian arrays, so that the reader stores them without looking at a single point.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgpack

MAGIC = 0x54485342
HEADER = struct.Struct("<IQII")
SPOOL_NAME = "spool-{:06d}"
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024

# Series, one point per applied gradient and worker; x is the version that gradient produced.
LOSS = "loss"
STALENESS = "staleness"
SKIP = "skip"  # (version read next) - (version at apply + 1)
SCALE = "scale"
LEARNING_RATE = "learning_rate"  # eta times scale
GRADIENT_NORM = "gradient_norm"
COMPUTE_SECONDS = "compute_seconds"
WAIT_SECONDS = "wait_seconds"  # from push to answer, of the push before this one
TRANSFER_SECONDS = "transfer_seconds"
CONTEXT = "context"  # staleness that a learner's window forecast for this gradient, in versions
TRAIN_METRIC = "train/{}"

# Where trainers step by themselves; one point for each push.
CANDIDATES = "candidates"  # periods in a row that ended without word of the server, before this push
UNACKNOWLEDGED = "unacknowledged"  # gradients the server had not confirmed when its word came
DRIFT = "drift"  # ||w - w_S|| when the server's weights came; of outer rounds, the length of the displacement
DRIFT_LEFT = "drift_left"  # ||w - w_S|| right after they were merged

# Where a trainer is a machine group: for each of its devices, seconds of a step by phase, and bytes that it sent in the
# step by what they were for; sampled.
GROUP_PHASE = "group/{}/seconds/{}"
GROUP_BYTES = "group/{}/bytes/{}"
PHASES = (
    "push",  # from its part of the gradient being written until the next step: its machine's push, and the answer
    "data",
    "conv_forward",
    "all_gather",
    "slice_forward",
    "softmax_exchange",
    "slice_backward",
    "reduce_scatter",
    "conv_backward",
    "gradient_exchange",
)
TRAFFIC = ("last_layer", "convolutions", "batch_norm", "metrics")

# Batch norm, sampled: worker i's batch statistic, and the server's aggregate as worker -1.
# Values are means over the layer's channels.
BATCH_NORM_MEAN = "batch_norm/{}/mean"
BATCH_NORM_VARIANCE = "batch_norm/{}/variance"
# How far worker i's batch was from the server's statistics that it had: |mu_a - mu_S| and |log(var_B / var_S)|.
BATCH_NORM_SHIFT = "batch_norm/{}/mean_shift"
BATCH_NORM_LOG_RATIO = "batch_norm/{}/log_variance_ratio"

# Series of the run as a whole (worker -1).
DROPPED = "dropped"  # gradients dropped so far, by gate or rate rule
MEAN_DELAY = "mean_delay"  # running mean of d + 1 + skip over all gradients, sampled; N/c in the long run
SCALE_SUM = "scale_sum"  # S, the sum of the scales of one update's gradients
GREATEST_STALENESS = "staleness/greatest"  # of all trainers, beside means, where not each has series of its own
UPDATES_PER_SECOND = "updates_per_second"
ELAPSED_SECONDS = "elapsed_seconds"  # seconds of training until this version, sampled: what tells versions the time
EVALUATION_LOSS = "evaluation/loss"
EVALUATION_METRIC = "evaluation/{}"


@dataclass(frozen=True)
class Points:
    """Points of one series: x int64 (versions, rising), t float64 (seconds since 1970), y float64."""

    worker: int
    key: str
    x: bytes
    t: bytes
    y: bytes

    @property
    def count(self) -> int:
        return len(self.x) // 8


@dataclass(frozen=True)
class Event:
    """Something that happened, for the timeline and for the supervisor.

    Kinds the supervisor acts on: `listening` {endpoint}, `training` (all trainers joined, the first version is out),
    `checkpoint` {path, sha256, size_bytes, version, metrics, final}, `evaluated` {version, metrics, loss}.
    Kinds it only shows: `restored`, `group`, `joined`, `left`, `refused`, `warning`, `budget-spent`, `target-reached`.
    """

    kind: str
    at: float
    message: str
    level: str = "info"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where the server stands. `fraction` of the budget is 0 to 1; None where the budget has no end in sight."""

    version: int
    gradients: int
    fraction: float | None
    refused: int = 0
    steps: dict[int, int] = field(default_factory=dict)  # worker -> steps applied


@dataclass(frozen=True)
class Batch:
    sequence: int
    points: list[Points] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    progress: Progress | None = None
    dropped: int = 0
    """Points thrown away because the spool was full."""


class SpoolError(ValueError):
    """A spool frame is damaged: the writer never writes one like it."""


def encode(batch: Batch) -> bytes:
    progress = batch.progress
    payload: bytes = msgpack.packb(
        {
            "points": [[p.worker, p.key, p.x, p.t, p.y] for p in batch.points],
            "events": [[e.kind, e.at, e.message, e.level, e.data] for e in batch.events],
            "progress": None
            if progress is None
            else [progress.version, progress.gradients, progress.fraction, progress.refused, progress.steps],
            "dropped": batch.dropped,
        }
    )
    return HEADER.pack(MAGIC, batch.sequence, len(payload), zlib.crc32(payload)) + payload


def decode(buffer: bytes | memoryview, offset: int = 0) -> tuple[Batch, int] | None:
    """Read the frame at `offset`; returns it and the offset behind it. None: it is not all there yet."""
    if len(buffer) - offset < HEADER.size:
        return None
    magic, sequence, length, checksum = HEADER.unpack_from(buffer, offset)
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES:
        raise SpoolError(f"no frame at byte {offset}")
    start, end = offset + HEADER.size, offset + HEADER.size + length
    if len(buffer) < end:
        return None
    payload = bytes(buffer[start:end])
    if zlib.crc32(payload) != checksum:
        raise SpoolError(f"frame {sequence} at byte {offset} is damaged")
    raw = msgpack.unpackb(payload, strict_map_key=False)
    batch = Batch(
        sequence=sequence,
        points=[Points(*p) for p in raw["points"]],
        events=[Event(*e) for e in raw["events"]],
        progress=None if raw["progress"] is None else Progress(*raw["progress"]),
        dropped=raw["dropped"],
    )
    return batch, end
