"""What happened to a run."""

from __future__ import annotations

import argparse

from rich.text import Text

from trainhub.client import Event
from trainhub.command import service, telling

HELP = "Print what happened to a run, oldest first."
STYLES = {"warning": "yellow", "error": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=int, metavar="RUN", help="a run's number")
    parser.add_argument("--limit", type=int, default=200, help="the last so many (200, 1000 at most)")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    with service.connected(options) as client:
        found = client.events(options.run, limit=options.limit)
    if options.as_json:
        telling.document([each.as_data() for each in found])
    else:
        telling.table(("at", "attempt", "level", "what"), [row(each) for each in found], right=("attempt",))


def row(each: Event) -> list[telling.Cell]:
    message = f"{each.message}\n{each.detail}" if each.detail else each.message
    return [
        telling.clock(each.at),
        str(each.attempt),
        Text(each.level, style=STYLES.get(each.level, "dim")),
        message,
    ]
