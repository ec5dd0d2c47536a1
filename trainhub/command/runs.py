"""List runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice

from trainhub.client import Run
from trainhub.command import service, telling

HELP = "List runs, newest first. Filters narrow each other."
COLUMNS = ("run", "name", "state", "done", "version", "metrics", "trainers", "method", "owner", "project", "made")
SPARE = ("project", "owner", "trainers", "method", "made", "version")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        help="queued, starting, running, paused, completed, failed or cancelled; several: any of them",
    )
    parser.add_argument("--project")
    parser.add_argument("--owner", help="somebody's user name")
    parser.add_argument("--tag")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        help="a kind such as softsync, or a word of a method's name; several: all of them",
    )
    parser.add_argument("--search", help="words of its name or its experiment's, or its number")
    parser.add_argument("--experiment", type=int, help="an experiment's number")
    parser.add_argument("--limit", type=int, default=30, help="how many at most (30); 0: all")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    filters = {
        name: getattr(options, name) for name in ("state", "project", "owner", "tag", "method", "search", "experiment")
    }
    page = min(options.limit or 100, 100)
    with service.connected(options) as client:
        found = list(islice(client.runs(**filters, page=page), options.limit or None))
    if options.as_json:
        telling.document([each.as_data() for each in found])
    elif found:
        tell(found)
    else:
        telling.say("No run matches. `trainhub submit SPEC` makes one.")


def tell(runs: Iterable[Run]) -> None:
    telling.table(COLUMNS, [row(each) for each in runs], right=("run", "done", "version"), spare=SPARE)


def row(run: Run) -> list[telling.Cell]:
    return [
        str(run.id),
        telling.titled(run.name, run.labels),
        telling.state(run.state, run.wish),
        telling.percent(run.fraction),
        telling.number(run.version),
        telling.metrics(run.metrics),
        run.trainers,
        run.method,
        run.owner,
        run.project,
        telling.ago(run.created_at, run.now),
    ]
