"""Figures of a study as Plotly's JSON: means with their 95 % intervals, over the runs' own dots where these are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workers.studies.plan import Figure, Study, Value
from workers.studies.results import Results
from workers.studies.summary import Mean, Row, mean_of

Json = dict[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b", "#8f7a00")
"""Okabe and Ito's, which people of any colour vision tell apart; black and yellow are darkened or greyed."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
MOST_DOTS = 250
LOG_TICKS = [float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 2, 5)]
WIDTH, HEIGHT, LEGEND_LINE = 900, 430, 20
GAP_ACROSS, GAP_DOWN = 0.05, 0.23
"""Shares of the whole, between panels; below one are its ticks and its title, and the next one's name."""


def draw(study: Study, figure: Figure, results: Results) -> Json:
    """One figure. Series are told apart by colour, dash and symbol; panels share their axes' ranges."""
    rows = [r for r in results.rows if r["stage"] == figure.stage and _is_in(r, figure)]
    facets = study.in_order(figure.facets, (r[figure.facets] for r in rows)) if figure.facets else [None]
    series = study.in_order(figure.series, (r[figure.series] for r in rows))
    places = study.in_order(figure.x, (r[figure.x] for r in rows)) if figure.kind != "traces" else []
    traces: list[Json] = []
    for panel, facet in enumerate(facets):
        for number, name in enumerate(series):
            mine = [r for r in rows if r[figure.series] == name]
            if facet is not None:
                mine = [r for r in mine if r[figure.facets or ""] == facet]
            style = _style(str(name), number, panel)
            if figure.kind == "traces":
                traces += _recorded(figure, mine, results, style)
            else:
                traces += _means(figure, mine, places, style, dots=len(rows) <= MOST_DOTS)
    return {"data": traces, "layout": _layout(figure, facets, len(series), places)}


def _is_in(row: Row, figure: Figure) -> bool:
    return all(str(row.get(name)) in map(str, values) for name, values in figure.where.items())


def _style(name: str, number: int, panel: int) -> Json:
    """`number` counts the series: each has its own colour until the colours are used up, then its own dash."""
    colour, again = COLOURS[number % len(COLOURS)], number // len(COLOURS)
    axis = "" if panel == 0 else str(panel + 1)
    return {
        "type": "scatter",
        "name": name,
        "legendgroup": name,
        "showlegend": panel == 0,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "line": {"color": colour, "width": 2, "dash": DASHES[again % len(DASHES)]},
        "marker": {"color": colour, "size": 7, "symbol": SYMBOLS[number % len(SYMBOLS)]},
    }


def _means(figure: Figure, rows: list[Row], places: list[Value], style: Json, *, dots: bool) -> list[Json]:
    found = [(x, mean_of(r.get(figure.y) for r in rows if r[figure.x] == x)) for x in places]
    known = [(x, mean) for x, mean in found if mean is not None and _middle(figure, mean) is not None]
    if not known:
        return []
    line = style | {
        "mode": "lines+markers",
        "x": [_place(figure, x) for x, _ in known],
        "y": [_middle(figure, mean) for _, mean in known],
    }
    if figure.kind == "bars":
        line = {k: v for k, v in line.items() if k not in ("mode", "line")} | {
            "type": "bar",
            "marker": {"color": style["marker"]["color"]},
        }
    line["error_y"] = _whiskers(figure, [mean for _, mean in known], style["marker"]["color"])
    return [line, _dots(figure, rows, style)] if dots and figure.kind == "lines" else [line]


def _middle(figure: Figure, mean: Mean) -> float | None:
    return mean.median if figure.statistic == "median" else mean.mean


def _place(figure: Figure, x: Any) -> Any:
    return x if figure.x_log else str(x)


def _whiskers(figure: Figure, means: Sequence[Mean], colour: str) -> Json:
    """95 % intervals of means; of medians, from the lower to the upper quartile. 0 long where there is no end to it."""
    if figure.statistic == "median":
        up = [0.0 if m.upper_quartile is None else m.upper_quartile - (m.median or 0.0) for m in means]
        down = [0.0 if m.lower_quartile is None else (m.median or 0.0) - m.lower_quartile for m in means]
    else:
        up = down = [0.0 if m.high is None else m.high - m.mean for m in means]
    drawn = {"type": "data", "array": up, "color": colour, "thickness": 1.2, "width": 3}
    return drawn | ({} if up == down else {"symmetric": False, "arrayminus": down})


def _dots(figure: Figure, rows: list[Row], style: Json) -> Json:
    shown = [r for r in rows if r.get(figure.y) is not None]
    return style | {
        "mode": "markers",
        "showlegend": False,
        "hoverinfo": "skip",
        "marker": style["marker"] | {"size": 4, "opacity": 0.35},
        "x": [_place(figure, r[figure.x]) for r in shown],
        "y": [r[figure.y] for r in shown],
    }


def _recorded(figure: Figure, rows: list[Row], results: Results, style: Json) -> list[Json]:
    """The line that the run of the first seed recorded under the figure's `y`."""
    first = min(rows, key=lambda r: int(r["seed"]), default=None)
    found = results.traces(first["run"]) if first else {}
    if figure.y not in found:
        return []
    seconds, values = found[figure.y]
    line = style["line"] | {"width": 1.5, "shape": "hv"}
    return [style | {"mode": "lines", "line": line, "x": [round(s, 3) for s in seconds], "y": values}]


def _layout(figure: Figure, facets: Sequence[Value | None], series: int, places: list[Value]) -> Json:
    lines = math.ceil(len(facets) / _columns(len(facets)))
    legend_lines = math.ceil(series / 4)
    layout: Json = {
        "title": {"text": figure.title, "x": 0.01, "xanchor": "left", "font": {"size": 16}},
        "width": WIDTH,
        "height": HEIGHT + (lines - 1) * 2 * HEIGHT // 3 + legend_lines * LEGEND_LINE,
        "template": None,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#333333"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 62, "r": 16, "t": 60, "b": 70 + legend_lines * LEGEND_LINE},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 0.01, "yref": "container", "yanchor": "bottom"},
        "barmode": "group",
        "annotations": [],
    }
    for panel, facet in enumerate(facets):
        _panel(layout, figure, facet, panel, (len(facets), lines), places)
    return layout


def _panel(
    layout: Json, figure: Figure, facet: Value | None, panel: int, size: tuple[int, int], places: list[Value]
) -> None:
    count, lines = size
    columns = _columns(count)
    row, column = divmod(panel, columns)
    number = "" if panel == 0 else str(panel + 1)
    across, down = _share(column, columns, GAP_ACROSS), _share(lines - 1 - row, lines, GAP_DOWN)
    grid = {"gridcolor": "#e8e8e8", "zeroline": False, "linecolor": "#999999", "ticks": "outside", "automargin": True}
    x: Json = grid | {"domain": across, "anchor": f"y{number}", "title": {"text": figure.x_title or figure.x}}
    y: Json = grid | {"domain": down, "anchor": f"x{number}"}
    if column == 0:
        y["title"] = {"text": figure.y_title or figure.y}
    else:
        y["showticklabels"] = False
    if panel:
        x["matches"], y["matches"] = "x", "y"
    if figure.kind != "traces":
        x |= {"type": "log"} if figure.x_log else {"type": "category", "categoryarray": [str(p) for p in places]}
        if figure.x_log:
            x |= {"tickvals": places, "tickangle": -45}
    if figure.y_log:
        y |= {"type": "log", "tickvals": LOG_TICKS, "ticktext": [f"{tick:g}" for tick in LOG_TICKS]}
    if figure.y_range:
        y["range"] = [math.log10(v) for v in figure.y_range] if figure.y_log else list(figure.y_range)
    layout[f"xaxis{number}"], layout[f"yaxis{number}"] = x, y
    if facet is not None:
        text = str(facet) if figure.facets in ("method", "rate") else f"{figure.facets} {facet}"
        place = {"x": sum(across) / 2, "y": down[1] + 0.01, "xref": "paper", "yref": "paper"}
        layout["annotations"].append({"text": f"<b>{text}</b>", "showarrow": False, "yanchor": "bottom", **place})


def _columns(panels: int) -> int:
    return 2 if panels == 4 else min(panels, 3)


def _share(index: int, count: int, gap: float) -> list[float]:
    """Where panel `index` of `count` lies, in 0 to 1."""
    size = (1.0 - gap * (count - 1)) / count
    start = index * (size + gap)
    return [round(start, 4), round(min(1.0, start + size), 4)]
