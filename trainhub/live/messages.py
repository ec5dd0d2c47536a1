"""What travels to a browser: encoded once, whoever it is for.

    {"kind": "snapshot", "summary": {…}, "events": […], "log": […]}
    {"kind": "changed", "summary": {…}, "events": […], "log": […]}    events and lines that are new
    {"kind": "delta", "first": 7, "sequence": 9, "attempt": 1, "series": [[worker, key, x, y], …],
     "progress": {…}}

A delta holds the batches `first` to `sequence`. A page whose last sequence is below `first` - 1 has missed
some and asks the API for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def encode(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def visible(values: Iterable[float]) -> list[float | str]:
    """Numbers as JSON has them; those it lacks by name, so that a chart can show where they were."""
    return [v if math.isfinite(v) else name_of(v) for v in values]


def name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def merge(deltas: list[Json]) -> Json:
    """One delta of several that follow each other within one attempt."""
    series: dict[tuple[int, str], tuple[list[int], list[float | str]]] = {}
    for delta in deltas:
        for worker, key, x, _, y in delta["series"]:
            columns = series.setdefault((worker, key), ([], []))
            columns[0].extend(x)
            columns[1].extend(visible(y))
    return {
        "kind": "delta",
        "first": deltas[0]["sequence"],
        "sequence": deltas[-1]["sequence"],
        "attempt": deltas[-1]["attempt"],
        "series": [[worker, key, *columns] for (worker, key), columns in series.items()],
        "progress": next((d["progress"] for d in reversed(deltas) if d.get("progress")), None),
    }


def runs_of(deltas: list[Json]) -> list[list[Json]]:
    """Cut deltas, sorted by sequence, where one is missing or the attempt changes. Doubles are left out."""
    parts: list[list[Json]] = []
    for delta in deltas:
        last = parts[-1][-1] if parts else None
        if last and delta["sequence"] <= last["sequence"]:
            continue
        if last and delta["sequence"] == last["sequence"] + 1 and delta["attempt"] == last["attempt"]:
            parts[-1].append(delta)
        else:
            parts.append([delta])
    return parts
