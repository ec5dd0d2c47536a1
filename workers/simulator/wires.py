"""Lines that compress, without a line: what a trainer's push becomes on its way to a server on another host."""

from __future__ import annotations

from torch import Tensor

from workers.methods.compression.base import Compression, Payload
from workers.server.setup import build_compression
from workers.simulator.trainers import Measured
from workers.spec import RunSpec


class Wires:
    """One for each trainer whose pushes are compressed; what it keeps between pushes ends with its trainer."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._wires: dict[int, Compression] = {}
        self._payload: Payload | None = None

    def joined(self, worker: int, *, compressed: bool) -> None:
        """A trainer came: on another host than the server, or on the same one, where nothing is compressed."""
        self._wires.pop(worker, None)
        rule = build_compression(self._spec) if compressed else None
        if rule is not None:
            self._wires[worker] = rule

    def carry(self, worker: int, vector: Tensor, measured: Measured) -> None:
        """Make of `vector` what arrives of it. The server refuses one that is not finite, so that is not encoded."""
        rule = self._wires.get(worker)
        if rule is None or not measured.finite:
            return
        if self._payload is None:
            self._payload = rule.payload(vector.numel())
        rule.encode(vector, self._payload)
        rule.decode(self._payload, vector)
