"""Run a study: a grid of simulations out of one file, with what they came to as tables and figures."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainhub.command.errors import CommandError, read_text
from workers.failures import Failure
from workers.spec_errors import SpecError
from workers.studies.cells import cells
from workers.studies.plan import Study

if TYPE_CHECKING:
    from workers.studies import running
    from workers.studies.results import Results

HELP = (
    "Run a study: simulate every cell of its grid that results.csv does not have yet, then write summary.csv, tables "
    "and figures. A study that was stopped goes on where it was."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the study (a YAML file)")
    parser.add_argument("--out", type=Path, help="folder of the results; default: beside the file, by its name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once; default: one a core")
    parser.add_argument(
        "--only", action="append", default=[], metavar="METHOD", help="only this method; may be repeated"
    )
    parser.add_argument("--list", action="store_true", dest="only_list", help="say how many runs there are, run none")
    parser.add_argument("--report", action="store_true", help="write tables and figures of what is there, run nothing")


def run(options: argparse.Namespace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    try:
        study = chosen(Study.parse_yaml(read_text(options.file)), options.only)
        if options.only_list:
            tell_size(study, console)
            return
        from workers.studies.results import Results

        folder = options.out or options.file.with_suffix("")
        results = Results(folder)
        if not options.report:
            compute(study, results, options.jobs, console)
        tell_report(study, results, folder, console)
    except (SpecError, Failure, OSError) as error:
        raise CommandError(f"{options.file}: {error}") from None


def chosen(study: Study, only: list[str]) -> Study:
    """The study of the named methods alone. Raises CommandError."""
    labels = [m.label for m in study.methods]
    for name in only:
        if name not in labels:
            raise CommandError(f"no method is called {name!r}; there are: {', '.join(labels)}")
    if not only:
        return study
    return study.model_copy(update={"methods": [m for m in study.methods if m.label in only]})


def tell_size(study: Study, console: Console) -> None:
    found = cells(study)
    tune = sum(c.labels["stage"] == "tune" for c in found)
    console.print(f"{study.name}: {tune} runs to tune, {len(found) - tune} final ones known before that")


def compute(study: Study, results: Results, jobs: int, console: Console) -> None:
    from workers.studies import running

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    tasks = {stage: bar.add_task(stage, total=None, start=False, visible=False) for stage in ("tune", "final")}

    def watch(progress: running.Progress) -> None:
        bar.start_task(tasks[progress.stage])
        visible = progress.total > 0
        bar.update(tasks[progress.stage], completed=progress.done, total=progress.total, visible=visible)
        if not console.is_terminal and progress.done % 50 == 0:
            console.print(f"{progress.stage}: {progress.done} of {progress.total}")

    try:
        with bar if console.is_terminal else nullcontext():
            running.run(study, results, jobs=jobs, watch=watch)
    except KeyboardInterrupt:
        console.print("Stopped. What is finished is kept, and the same command goes on.")
        raise
    results.end()


def tell_report(study: Study, results: Results, folder: Path, console: Console) -> None:
    from workers.studies import report

    problem = report.write(study, results, folder)
    console.print(f"{len(results.rows)} results in {folder}")
    if problem:
        console.print(f"No SVG files: {problem}")
