"""Compute the weights of a run again from its gradient log, and compare them with a checkpoint."""

import argparse
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from workers.failures import Failure
from workers.spec_errors import SpecError


class Command(BaseCommand):
    help = "Compute the weights of a run again from its gradient log, to the bit, and compare them with a checkpoint."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("log", type=Path, help="gradients.log in the folder of the run's server")
        parser.add_argument("--checkpoint", type=Path, help="compare with this one: the last of the log's attempt")
        parser.add_argument("--restored", type=Path, help="the checkpoint the attempt went on from, if it did")
        parser.add_argument("--list", action="store_true", dest="only_list", help="print the records, compute nothing")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON only")

    def handle(self, *args: Any, log: Path, only_list: bool, as_json: bool, **options: Any) -> None:
        try:
            # Loads torch, which the other commands stay free of.
            from workers.simulator import files

            if only_list:
                self.stdout.writelines(f"{line}\n" for line in files.records(log))
                return
            self.replay(log, options["checkpoint"], options["restored"], as_json=as_json)
        except (SpecError, Failure, OSError) as error:
            raise CommandError(f"{log}: {error}") from None

    def replay(self, log: Path, checkpoint: Path | None, restored: Path | None, *, as_json: bool) -> None:
        from workers.simulator import files

        console = Console(highlight=False, soft_wrap=True, stderr=as_json)
        bar = Progress(
            TextColumn("replaying"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        task = bar.add_task("replaying", total=None)
        with bar if console.is_terminal else nullcontext():
            done = files.replay_file(
                log,
                checkpoint=checkpoint,
                restored=restored,
                watch=lambda count, total: bar.update(task, completed=count, total=total),
            )
        if as_json:
            self.stdout.write(json.dumps(asdict(done), indent=2))
        else:
            console.print(f"version {done.version} after {done.gradients} gradients; log {done.log_hash}")
            if not done.complete:
                console.print("The log has no end: its server was killed, and what came last may be missing.")
            if done.differences == []:
                console.print(f"The weights are those of {checkpoint}, bit for bit.")
        if done.differences:
            raise CommandError(f"these tensors differ from {checkpoint}: {', '.join(done.differences)}")
