"""Writes what a study's results come to: summary.csv, its tables as text, and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.studies import images, results
from workers.studies.figures import draw
from workers.studies.plan import Figure, Study
from workers.studies.results import Results
from workers.studies.summary import mean_of, summarise

SUMMARY = "summary.csv"
TABLES = "tables.md"
Row = dict[str, Any]


def write(study: Study, found: Results, folder: Path) -> str | None:
    """Write everything; returns why there are no SVG files, if there are none. Raises OSError."""
    results.write(folder / SUMMARY, summarise(study, found.rows))
    (folder / TABLES).write_text(tables(study, found))
    drawn = {figure.name: draw(study, figure, found) for figure in study.figures}
    for name, figure in drawn.items():
        (folder / f"{name}.json").write_text(json.dumps(figure, separators=(",", ":")) + "\n")
    try:
        for name, text in zip(drawn, images.svgs(list(drawn.values())), strict=True):
            (folder / f"{name}.svg").write_text(text + "\n")
    except images.NoBrowser as error:
        return str(error)
    return None


def tables(study: Study, found: Results) -> str:
    """Each figure of means as a table: mean ± half of the 95 % interval, or the median where the figure shows that."""
    shown = [_table(study, figure, found.rows) for figure in study.figures if figure.kind != "traces"]
    return "\n".join([f"# {study.name}\n", *shown])


def _table(study: Study, figure: Figure, rows: list[Row]) -> str:
    names = [n for n in (figure.facets, figure.series) if n]
    mine = [
        r
        for r in rows
        if r["stage"] == figure.stage and all(str(r.get(n)) in map(str, v) for n, v in figure.where.items())
    ]
    places = study.in_order(figure.x, (r[figure.x] for r in mine))
    lines = [
        f"## {figure.title or figure.name}\n",
        "| " + " | ".join([*names, *(f"{figure.x} {p}" for p in places)]) + " |",
        "|" + "---|" * (len(names) + len(places)),
    ]
    for key in dict.fromkeys(tuple(r[n] for n in names) for r in mine):
        group = [r for r in mine if tuple(r[n] for n in names) == key]
        told = [_told(figure, [r.get(figure.y) for r in group if r[figure.x] == place]) for place in places]
        lines.append("| " + " | ".join([*map(str, key), *told]) + " |")
    return "\n".join(lines) + "\n"


def _told(figure: Figure, values: list[float | None]) -> str:
    mean = mean_of(values)
    if mean is None:
        return "never" if values else ""
    if figure.statistic == "median":
        return "never" if mean.median is None else f"{mean.median:.4g} ({mean.count} of {mean.runs})"
    return f"{mean.mean:.4g}" if mean.high is None else f"{mean.mean:.4g} ± {mean.high - mean.mean:.2g}"
