"""How a measurement is told: a table for people, JSON and a page for the documentation."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

Row = dict[str, str | float]
DOCS = Path(__file__).resolve().parent.parent / "docs"
PATH, PAGE = DOCS / "benchmarks.json", DOCS / "benchmarks.md"


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
    """Replace one benchmark's rows in docs/benchmarks.json, and its table in docs/benchmarks.md.

    The file has the rows of each benchmark under its name, and how they came about under `measured`.
    """
    told = json.loads(PATH.read_text()) if PATH.exists() else {}
    how = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "command": command}
    told |= {name: rows, "measured": told.get("measured", {}) | {name: how}}
    PAGE.write_text(with_table(PAGE.read_text(), name, rows, how))
    PATH.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def with_table(page: str, name: str, rows: list[Row], how: dict[str, str]) -> str:
    """The page with what was measured between the marks of this benchmark. Raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{PAGE.name} has no place for {name}: it lacks {begin.strip()} and {end}")
    told = f"{markdown(rows)}\n\n{how['date']}, {how['machine']}, `{how['command']}`\n"
    return before + begin + told + rest[rest.index(end) :]


def markdown(rows: list[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(head.replace('_', ' ') for head in line)} |" for line in lines)


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
