"""The cycle of a parameter server: ours beside Ray's actor, torch RPC, gloo and ZeroMQ, taking turns in one run.

Each turn starts a peer, warms it up, measures all sizes and ends it, so that nothing of it idles beside the next one.
A peer that can't be installed or does not end in time has its row all the same.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import pushing
from benchmarks.peers.common import Plan
from benchmarks.report import Row, percentile

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SIZES = {11_000_000: "11 M", 270_000: "270 k", 9_000: "9 k"}
PLANS = (Plan(11_000_000, 40, 10), Plan(270_000, 300, 50), Plan(9_000, 600, 100))
ROUNDS = 3
DEADLINE_SECONDS = 90.0
"""A peer's turn."""
OURS = "TrainHub"
PEERS = {
    "Ray's actor": "ray_actor",
    "torch RPC": "torch_rpc",
    "gloo send, recv": "gloo",
    "ZeroMQ": "zeromq",
}


class Absent(Exception):
    """Why a peer has no figures."""


@dataclass
class Found:
    """Seconds of cycles by parameters, and why there are none."""

    seconds: dict[int, list[float]] = field(default_factory=lambda: {p.parameters: [] for p in PLANS})
    note: str = ""

    def add(self, turn: dict[int, list[float]]) -> None:
        for parameters, seconds in turn.items():
            self.seconds[parameters] += seconds


def main() -> list[Row]:
    found = {name: Found() for name in (OURS, *PEERS)}
    for _ in range(ROUNDS):
        for name, peer in found.items():
            if peer.note:
                continue  # it has failed once, and would again
            try:
                peer.add(ours() if name == OURS else theirs(PEERS[name]))
            except Absent as reason:
                peer.note = str(reason)
    return [row(name, plan.parameters, found) for plan in PLANS for name in found]


def ours() -> dict[int, list[float]]:
    return {plan.parameters: pushing.cycles(plan.parameters, plan.cycles, plan.warm_up) for plan in PLANS}


def theirs(module: str) -> dict[int, list[float]]:
    """One turn of a peer, in its own environment. Raises Absent."""
    if not PYTHON.exists():
        raise Absent("not installed: .venv-peers is missing")
    command = [str(PYTHON), "-W", "ignore", "-m", f"benchmarks.peers.{module}", *map(str, PLANS)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Absent(f"did not end within {DEADLINE_SECONDS:.0f} s") from None
    if done.returncode:
        raise Absent(why(done.stderr))
    return {int(parameters): seconds for parameters, seconds in json.loads(done.stdout.splitlines()[-1]).items()}


def why(stderr: str) -> str:
    last = (stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return f"not installed: {last}" if last.startswith("ModuleNotFoundError") else last[:100]


def row(name: str, parameters: int, found: dict[str, Found]) -> Row:
    told: Row = {"peer": name, "parameters": SIZES[parameters]}
    seconds = found[name].seconds[parameters]
    if not seconds:
        return told | {"median_ms": "", "p99_ms": "", "against_ours": "", "note": found[name].note}
    median, own = statistics.median(seconds), statistics.median(found[OURS].seconds[parameters])
    return told | {
        "median_ms": round(median * 1e3, 3),
        "p99_ms": round(percentile(seconds, 99) * 1e3, 3),
        "against_ours": round(median / own, 2),
        "note": found[name].note,
    }
