"""`python -m benchmarks [NAME …]`: measure, print a table, keep it in docs/benchmarks.json. No name: all of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.report import Row, keep, table

ALL = {
    "cycle": "cycle",
    "peers": "peers.table",
    "one-trainer": "one_trainer",
    "transports": "transports",
    "slow-line": "slow_line",
    "overlap": "overlap",
    "scaling": "scaling",
    "straggler": "straggler",
    "hand-overs": "hand_overs",
    "hybrid": "hybrid",
    "groups": "groups",
    "latency": "latency",
    "pages": "pages",
    "telemetry": "telemetry",
    "gpu": "gpu",
}
"""Name to module, whose `main()` returns the rows. Quick ones first."""
NAMED = {"gpu"}
"""Measured only when named: without a GPU there is nothing to learn from them."""


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in ALL]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    chosen = names or [name for name in ALL if name not in NAMED]
    if len(chosen) == 1:
        _measure(chosen[0])
        return 0
    # Each in a process of its own: forked children inherit whatever threads and memory another one has left behind.
    failed = [
        name for name in chosen if subprocess.run([sys.executable, "-m", "benchmarks", name], check=False).returncode
    ]
    if failed:
        print(f"without figures, for the reasons above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str) -> None:
    began = time.monotonic()
    measure: Callable[[], list[Row]] = importlib.import_module(f"benchmarks.{ALL[name]}").main
    rows = measure()
    print(f"\n{name}, {time.monotonic() - began:.0f} s\n{table(rows)}", flush=True)
    keep(name, rows, f"make bench-{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
