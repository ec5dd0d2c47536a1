"""Runs side by side."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator

from trainhub.client import Comparison
from trainhub.client.shapes import Group, Result
from trainhub.command import service, telling
from trainhub.words import duration

HELP = "Put runs side by side: what they differ in, and what they came to."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=int, nargs="+", metavar="RUN", help="two runs' numbers or more")
    parser.add_argument("--all", action="store_true", dest="every", help="also what is the same in all of them")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    with service.connected(options) as client:
        found = client.compare(options.runs)
    if options.as_json:
        telling.document(found.as_data())
    else:
        tell(found, every=options.every)


def tell(found: Comparison, *, every: bool) -> None:
    titles = [f"run {each.id}" for each in found.runs]
    shown = [each for each in found.parameters if every or each.differs]
    rows: list[list[telling.Cell]] = [["state", *(telling.state(each.state) for each in found.runs)]]
    if len({each.name for each in found.runs}) > 1:
        rows.insert(0, ["name", *(each.name for each in found.runs)])
    rows += [[each.field, *(telling.number(value) for value in each.values)] for each in shown]
    rows += [[name, *values] for name, values in results(found.results) if any(value != "–" for value in values)]
    telling.table(["", *titles], rows)
    for group in found.groups:
        if group.completed > 1:
            telling.out().print(in_words(group, {name for each in found.results for name in each.metrics}))


def results(found: list[Result]) -> Iterator[tuple[str, list[str]]]:
    """Names with units, and the value of each run."""
    for metric in dict.fromkeys(name for each in found for name in each.metrics):
        yield metric, [telling.number(each.metrics.get(metric)) for each in found]
    yield "version", [telling.number(each.version) for each in found]
    yield "mean staleness, versions", [telling.number(each.mean_staleness) for each in found]
    yield "updates/s", [telling.number(each.updates_per_second) for each in found]
    yield "trained", ["–" if each.seconds is None else duration(each.seconds) for each in found]
    yield "virtual time", ["–" if each.virtual_seconds is None else duration(each.virtual_seconds) for each in found]


def in_words(group: Group, metrics: Collection[str]) -> str:
    """`runs 1, 2, 3 (seeds 0, 1, 2): accuracy 0.97 ± 0.01, loss 0.1 ± 0.02`."""
    means = [
        f"{name} {mean.mean:.4g} ± {mean.deviation:.2g}"
        for name, mean in group.means.items()
        if name in metrics and mean.mean is not None and mean.deviation is not None
    ]
    runs, seeds = (", ".join(map(str, each)) for each in (group.runs, group.seeds))
    return f"runs {runs} (seeds {seeds}), {group.completed} completed, mean ± deviation: {', '.join(means)}"
