"""Compute the weights of a run again from its gradient log, and compare them with a checkpoint."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trainhub.command.errors import CommandError
from workers.failures import Failure
from workers.spec_errors import SpecError

if TYPE_CHECKING:
    from workers.simulator.files import Comparison

HELP = "Compute the weights of a run again from its gradient log, to the bit, and compare them with a checkpoint."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=Path, help="gradients.log in the folder of the run's server")
    parser.add_argument("--checkpoint", type=Path, help="compare with this one: the last of the log's attempt")
    parser.add_argument("--restored", type=Path, help="the checkpoint the attempt went on from, if it did")
    parser.add_argument("--data", type=Path, help="folder of the data set that the problem names")
    parser.add_argument("--list", action="store_true", dest="only_list", help="print the records, compute nothing")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON only")


def run(options: argparse.Namespace) -> None:
    try:
        if options.only_list:
            from workers.simulator import files

            for line in files.records(options.log):
                print(line)
            return
        done = compare(options)
    except (SpecError, Failure, OSError) as error:
        raise CommandError(f"{options.log}: {error}") from None
    tell(done, options)
    if done.differences:
        raise CommandError(f"these tensors differ from {options.checkpoint}: {', '.join(done.differences)}")


def compare(options: argparse.Namespace) -> Comparison:
    from workers.simulator import files

    console = Console(highlight=False, soft_wrap=True, stderr=options.as_json)
    bar = Progress(TextColumn("replaying"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
    task = bar.add_task("replaying", total=None)
    with bar if console.is_terminal else nullcontext():
        return files.replay_file(
            options.log,
            checkpoint=options.checkpoint,
            restored=options.restored,
            data=options.data,
            watch=lambda count, total: bar.update(task, completed=count, total=total),
        )


def tell(done: Comparison, options: argparse.Namespace) -> None:
    if options.as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"version {done.version} after {done.gradients} gradients; log {done.log_hash}")
    if not done.complete:
        console.print("The log has no end: its server was killed, and what came last may be missing.")
    if done.differences == []:
        console.print(f"The weights are those of {options.checkpoint}, bit for bit.")
