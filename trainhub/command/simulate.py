"""Simulate a run under a virtual clock, in this process, with no service around it."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from trainhub.command.errors import CommandError, read_text
from workers.failures import Failure
from workers.spec import RunSpec
from workers.spec_errors import SpecError

if TYPE_CHECKING:
    from workers.simulator.simulation import Result, Simulation

HELP = "Simulate a run (a spec with `execution: {kind: simulate}`) under a virtual clock, and print how it ends."
LOOK_EVENTS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, help="the run (a YAML file)")
    parser.add_argument("--seed", type=int, help="instead of the spec's")
    parser.add_argument("--log", type=Path, help="write the gradient log to this file; `trainhub replay` reads it")
    parser.add_argument("--data", type=Path, help="folder of the data set that the problem names")
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="print the result as JSON, and nothing else"
    )


def run(options: argparse.Namespace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    try:
        wanted = RunSpec.parse_yaml(read_text(options.spec))
        if options.seed is not None:
            wanted = RunSpec.parse(wanted.model_dump() | {"seed": options.seed})
        # Loads torch, which takes seconds that a wrong spec need not wait for.
        from workers.simulator import files

        with files.simulation(wanted, options.log, data=options.data) as simulation:
            result = simulation.run() if options.as_json else follow(simulation, console)
    except (SpecError, Failure, OSError) as error:
        raise CommandError(f"{options.spec}: {error}") from None
    if options.as_json:
        print(json.dumps(result.as_data(), indent=2))
    else:
        console.print(*lines(result, time.monotonic() - began), sep="\n")
    if result.outcome != "completed":
        raise CommandError(f"The simulation did not complete: {result.message}.")


def follow(simulation: Simulation, console: Console) -> Result:
    """Run to the end under a bar."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("version 0", total=1.0)
    events = 0

    def watch(simulation: Simulation) -> None:
        nonlocal events
        events += 1
        if events % LOOK_EVENTS == 0:
            text = f"version {simulation.core.version}  {simulation.seconds:.1f} virtual s"
            bar.update(task, description=text, completed=simulation.fraction or 0.0)

    with bar if console.is_terminal else nullcontext():
        return simulation.run(watch)


def lines(result: Result, seconds: float) -> list[str]:
    """How it ended, in words and units."""
    totals, last = result.totals, result.evaluations[-1]
    metrics = "".join(f"  {name} {value:.4f}" for name, value in last.metrics.items())
    found = [
        f"{result.outcome}: {result.message}",
        f"version {result.version}, {result.gradients} gradients in {result.seconds:.1f} virtual s ({seconds:.1f} s)",
        f"training loss {result.loss:.4f}, evaluation loss {last.loss:.4f}{metrics}",
        f"mean staleness {totals.mean_staleness:.3f} versions, mean of d + 1 + skip {totals.mean_rounds:.3f}",
    ]
    if totals.dropped or result.refused or totals.crashes:
        found.append(f"{totals.dropped} dropped, {result.refused} not finite, {totals.crashes} crashes")
    return [*found, f"log     {result.log_hash}", f"weights {result.weights_hash}"]
