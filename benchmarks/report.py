"""How a measurement is told: a table for people, JSON for the documentation."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

Row = dict[str, str | float]
PATH = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.json"


def millis(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def table(rows: list[Row]) -> str:
    """The rows in columns."""
    heads = list(rows[0])
    cells = [heads, *([str(row[h]) for h in heads] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in cells)


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, {platform.system()} {platform.machine()}"


def keep(name: str, rows: list[Row], command: str) -> None:
    """Replace one benchmark's entry in docs/benchmarks.json."""
    entries = json.loads(PATH.read_text()) if PATH.exists() else {}
    date = datetime.now(UTC).date().isoformat()
    entries[name] = {"machine": machine(), "date": date, "command": command, "rows": rows}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
