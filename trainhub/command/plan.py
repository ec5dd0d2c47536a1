"""Plan a machine group: what both of its layouts move, hold and take, and which one to choose. No service."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainhub import planning
from trainhub.command.errors import CommandError, read_text
from workers.spec import RunSpec
from workers.spec_errors import SpecError

HELP = (
    "Plan a machine group (layout: {kind: hybrid}): what each layout moves, holds and takes on this machine, and which "
    "one to choose."
)
PHASES = {
    "data": "batches",
    "conv_forward": "forward below the last layer",
    "all_gather": "all-gather of features",
    "slice_forward": "last layer forward",
    "softmax_exchange": "softmax exchange",
    "slice_backward": "last layer backward",
    "reduce_scatter": "reduce-scatter of their gradients",
    "conv_backward": "backward below it",
    "gradient_exchange": "gradients below it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, help="the run (a YAML file)")
    parser.add_argument("--shards", type=int, help="devices of a group, instead of the spec's; 2 where it has none")
    parser.add_argument("--no-measuring", action="store_true", help="the arithmetic alone; no step is tried")
    parser.add_argument("--data", type=Path, help="folder of the data set that the problem names")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the plan as JSON, and nothing else")


def run(options: argparse.Namespace) -> None:
    if options.shards is not None and not 2 <= options.shards <= 64:
        raise CommandError("--shards must be from 2 to 64")
    try:
        spec = RunSpec.parse_yaml(read_text(options.spec))
        found = planning.plan(spec, shards=options.shards, measured=not options.no_measuring, data=options.data)
    except (SpecError, planning.NoPlan) as error:
        raise CommandError(f"{options.spec}: {error}") from None
    if options.as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"A group of {found['devices']} devices, {found['images']} images a step; last layer: {found['features']:,} "
        f"features, {found['classes']:,} classes; {found['below']:,} parameters below it."
    )
    console.print(table(found))
    console.print(found["inequality"])
    console.print(f"Recommended: {found['recommended']}. {_sentence(found['reason'])}")


def table(found: dict[str, Any]) -> Table:
    """Both layouts side by side."""
    sides = [found["hybrid"], found["data_parallel"]]
    rows = Table("a device and step", "hybrid", "data-parallel", box=None, pad_edge=False)
    rows.add_row("sent for the last layer", *(amount(s["last_layer_bytes"]) for s in sides))
    rows.add_row("sent for the layers below", *(amount(s["other_bytes"]) for s in sides))
    rows.add_row("memory it works on", *(amount(s["memory_bytes"]) for s in sides))
    if sides[0]["step_seconds"] is not None:
        rows.add_row("time of a step, measured here", *(f"{s['step_seconds'] * 1e3:.1f} ms" for s in sides))
        for name, words in PHASES.items():
            rows.add_row(f"  {words}", *(_phase(s["phases"][name]) for s in sides))
    return rows


def _phase(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds else "–"


def amount(size: float) -> str:
    """`5.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("sizes end with GB")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
