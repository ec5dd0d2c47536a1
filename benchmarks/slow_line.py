"""What compression saves on a slow line: pushes of 11 million float32 through a proxy that limits their rate.

A real server child with its gateway, and a real trainer's session over TLS, with each compression in turns of one run.
The proxy holds each piece of 64 KiB back; what it really let through is in the table, since its timers are coarse. A
push has ended when its last byte is in the line's buffers. Weights come back as they are.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.children import SERVER_CORE, assignment, batches, start, stop, work_dir
from benchmarks.pushing import REPORT, spec_of
from benchmarks.report import Row, millis
from tests.faulty_link import FaultyLink
from workers import catalog
from workers.assignment import Role
from workers.layout import Layout
from workers.problems import registry
from workers.process import StopSignal
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.transport import credentials, tls
from workers.transport.network import NetworkSession
from workers.transport.shared_memory import SlotSize

FLOATS = 11_000_000
BYTES_PER_SECOND = 200e6
ROUNDS, PUSHES = 3, 3
SECONDS_TO_LISTEN = 30.0
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "bf16": {"kind": "bf16"},
    "top-k, 1 %": {"kind": "top-k", "share": 0.01},
}


class Line:
    """A run of one trainer, whose server is behind the proxy."""

    def __init__(self, compression: dict[str, Any], folder: Path) -> None:
        spec = spec_of(FLOATS, 1, {"transport": {"compression": compression}})
        pair = credentials.make(run=1, epoch=1)
        server = replace(assignment(spec, folder, Role.SERVER), listen="127.0.0.1", tls=pair.server)
        self._server = start(server, SERVER_CORE)
        self.link = FaultyLink(address_of(folder))
        host, port = self.link.address
        mine = assignment(spec, folder, Role.TRAINER)
        mine = replace(mine, endpoint=f"{tls.SCHEME}{host}:{port}", tls=pair.trainers)
        self._session = _join(spec, mine)
        self._step = self._session.answer().step
        self._session.gradient.normal_()
        self.link.bytes_per_second = BYTES_PER_SECOND

    def push(self) -> tuple[float, int]:
        """Push once; returns for how many seconds, and how many bytes."""
        before, began = self.link.up_bytes, time.perf_counter()
        self._session.push(REPORT, step=self._step)
        seconds = time.perf_counter() - began
        self._step = self._session.answer().step
        return seconds, self.link.up_bytes - before

    def close(self) -> None:
        self.link.bytes_per_second = 0.0
        self._session.leave()
        stop(self._server)
        self.link.close()


def _join(spec: RunSpec, mine: Any) -> NetworkSession:
    problem = registry.load(spec.problem)
    layout = Layout.of(build_model(problem, spec.seed), spec.optimizer)
    size = SlotSize.trainer(layout, build_rule(catalog.BATCH_NORMS, spec.batch_norm))
    manifest = layout.manifest([m.name for m in problem.metrics])
    return NetworkSession(mine, StopSignal(), manifest, size, spec=spec)


def address_of(folder: Path) -> tuple[str, int]:
    deadline = time.monotonic() + SECONDS_TO_LISTEN
    while time.monotonic() < deadline:
        for batch in batches(work_dir(folder, Role.SERVER)):
            for event in batch.events:
                if event.kind == "listening":
                    return tls.parse(str(event.data["address"]))
        time.sleep(0.05)
    raise TimeoutError("the server did not listen")


def main() -> list[Row]:
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in COMPRESSIONS}
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        lines = {}
        for number, (name, compression) in enumerate(COMPRESSIONS.items()):
            (own := Path(folder) / str(number)).mkdir()
            lines[name] = Line(compression, own)
        for _ in range(ROUNDS):
            for name, line in lines.items():
                found[name] += [line.push() for _ in range(PUSHES)]
        for line in lines.values():
            line.close()
    plain = statistics.median(seconds for seconds, _ in found["none"])
    return [_row(name, pushes, plain) for name, pushes in found.items()]


def _row(name: str, pushes: list[tuple[float, int]], plain: float) -> Row:
    seconds = statistics.median(s for s, _ in pushes)
    size_bytes = statistics.median(b for _, b in pushes)
    return {
        "compression": name,
        "push": millis(seconds),
        "megabytes": round(size_bytes / 1e6, 2),
        "MB/s let through": round(size_bytes / seconds / 1e6),
        "of the time without": f"{100 * seconds / plain:.0f} %",
    }
