"""Machines and their slots."""

from __future__ import annotations

import argparse
from collections import Counter

from trainhub.client import Node
from trainhub.command import service, telling

HELP = "List machines and their slots. Operators take one out of use, and back."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--drain", metavar="NAME", help="give it no new members; those it has work on to their end")
    change.add_argument("--undrain", metavar="NAME", help="give it members again")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    with service.connected(options) as client:
        if options.drain:
            client.drain(options.drain)
        if options.undrain:
            client.undrain(options.undrain)
        found = client.nodes()
    if options.as_json:
        telling.document([each.as_data() for each in found])
    elif found:
        tell(found)
    else:
        telling.say("No node has ever signed on. `manage.py up` starts one.")


def tell(found: list[Node]) -> None:
    rows: list[list[telling.Cell]] = [
        [
            each.name,
            telling.state(state_of(each)),
            f"{each.slots.idle} of {each.slots.total} idle",
            telling.number(each.cores),
            telling.size(each.memory_bytes),
            ", ".join(f"{count} × {name}" for name, count in Counter(g.name for g in each.gpus).items()) or "–",
            each.address or "–",
            ", ".join(f"{key}={value}" for key, value in sorted(each.labels.items())) or "–",
            telling.ago(each.seen_at),
        ]
        for each in found
    ]
    headings = ("node", "state", "slots", "cores", "memory", "GPUs", "address", "labels", "seen")
    telling.table(headings, rows, right=("cores", "memory"))
    for each in found:
        if not each.shares_home:
            telling.say(f"{each.name} sees other files than the service: it trains, but serves no run.")


def state_of(node: Node) -> str:
    if not node.online:
        return "offline"
    return "drained" if node.drained else "online"
