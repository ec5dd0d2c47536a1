"""Following runs to their ends: a live line in a terminal, a line now and then elsewhere, JSON lines on request."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from trainhub.client import Client, Run
from trainhub.client import Progress as Standing
from trainhub.command import show, telling
from trainhub.command.errors import CANCELLED, FAILED, INTERRUPTED, Quiet
from trainhub.words import duration

QUIET_SECONDS = 10.0
"""How often a line is written where no terminal shows a live one."""
MOST_BARS = 8


def follow_run(client: Client, run_id: int, *, as_json: bool) -> int:
    """Until it has ended; returns the status to exit with. Ctrl-C leaves the run as it is, and says so."""
    run: Run | None = None
    with leaving_them_be(f"Run {run_id} goes on", f"trainhub show {run_id}"), OneLine(live=not as_json) as line:
        for standing in client.follow(run_id):
            run = standing.run
            if as_json:
                telling.line(standing.as_data())
            line.tell(standing)
    assert run is not None  # following ends with the run's end, or by an exception
    if not as_json:
        tell_end(run)
    return show.status_of(run)


def follow_experiment(client: Client, experiment_id: int, *, as_json: bool) -> int:
    """Until all of its runs have ended. The status is 1 where one failed, else 3 where one was cancelled."""
    last: dict[int, Run] = {}
    leaving = leaving_them_be("The runs go on", f"trainhub runs --experiment {experiment_id}")
    with leaving, ManyLines(live=not as_json) as lines:
        for runs in client.follow_experiment(experiment_id):
            if as_json:
                for run in runs:
                    if run != last.get(run.id):
                        telling.line(Standing(run).as_data())
            lines.tell(runs)
            last = {run.id: run for run in runs}
    if not as_json:
        for run in last.values():
            tell_end(run)
    statuses = {show.status_of(run) for run in last.values()}
    return next((status for status in (FAILED, CANCELLED) if status in statuses), 0)


@contextmanager
def leaving_them_be(what: str, command: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        telling.say(f"{what} without you. `{command}` tells how far.")
        raise Quiet(INTERRUPTED) from None


def tell_end(run: Run) -> None:
    """How it ended, on stdout."""
    told = [f"version {run.version:,}", telling.metrics(run.metrics), show.why(run)]
    title = f"{run.id}  {telling.titled(run.name, run.labels)}: "
    rest = "".join(f", {each}" for each in told if each)
    telling.out().print(Text(title).append_text(telling.state(run.state)).append(rest))


def words_of(standing: Standing) -> str:
    """`v 1,200, loss 0.231, accuracy 0.97, staleness 3.1, 45 updates/s`."""
    run = standing.run
    parts = [f"v {run.version:,}"] if run.version else []
    if run.waiting_reason:
        parts.append(run.waiting_reason)
    if standing.loss is not None:
        parts.append(f"loss {standing.loss:.4g}")
    parts += [
        f"{name} {telling.number(value)}" for name, value in run.metrics.items() if name not in {"loss", "version"}
    ]
    if standing.staleness is not None:
        parts.append(f"staleness {standing.staleness:.1f}")
    if standing.updates_per_second is not None:
        parts.append(f"{standing.updates_per_second:.3g} updates/s")
    return ", ".join(parts)


def how_far(run: Run) -> str:
    """`45 %, 12 s left`."""
    left = "" if run.seconds_left is None else f"{duration(math.ceil(run.seconds_left))} left"
    return ", ".join(part for part in (telling.percent(run.fraction), left) if part)


class Lines:
    """On stderr: bars in a terminal, lines elsewhere. Not `live`: nothing."""

    def __init__(self, *, live: bool) -> None:
        console = telling.err()
        self.live = live
        self.has_bars = live and console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(20, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[done]}"),
            TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
        )
        self._context = self.bars if self.has_bars else nullcontext()
        self._said_at = 0.0
        self._said = ""

    def __enter__(self) -> Lines:
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    def show(self, task: TaskID, run: Run, standing: Standing) -> None:
        """A run's bar. It only swings until an end is in sight."""
        total = 1.0 if run.fraction is not None or run.has_ended else None  # None changes nothing
        self.bars.update(
            task,
            description=f"run {run.id} {run.state}",
            total=total,
            completed=run.fraction or 0.0,
            done=how_far(run),
            words=words_of(standing),
        )

    def say(self, moment: str, text: str) -> None:
        """A line, where the moment is another than the last line's, or that was said long enough ago."""
        now = time.monotonic()
        if not self.live or self.has_bars:
            return
        if moment != self._said or now - self._said_at >= QUIET_SECONDS:
            telling.say(text)
            self._said, self._said_at = moment, now


class OneLine(Lines):
    def __enter__(self) -> OneLine:
        super().__enter__()
        self.task = self.bars.add_task("", total=None, done="", words="")
        return self

    def tell(self, standing: Standing) -> None:
        run = standing.run
        self.show(self.task, run, standing)
        told = ", ".join(part for part in (how_far(run), words_of(standing)) if part)
        self.say(f"{run.state} {run.waiting_reason}", f"run {run.id} {run.state}{': ' if told else ''}{told}")


class ManyLines(Lines):
    """A bar for all, and one for each run that trains, as many as fit."""

    def __enter__(self) -> ManyLines:
        super().__enter__()
        self.all = self.bars.add_task("all runs", total=None, done="", words="")
        self.tasks: dict[int, TaskID] = {}
        return self

    def tell(self, runs: list[Run]) -> None:
        ended = sum(run.has_ended for run in runs)
        states = Counter(run.state for run in runs)
        words = ", ".join(f"{count} {state}" for state, count in states.items())
        done = sum(1.0 if run.has_ended else run.fraction or 0.0 for run in runs)
        self.bars.update(self.all, total=len(runs), completed=done, done=f"{ended} of {len(runs)}", words=words)
        self.say(words, f"{ended} of {len(runs)} ended: {words}")
        active = [run for run in runs if run.state in {"starting", "running"}][:MOST_BARS]
        for gone in self.tasks.keys() - {run.id for run in active}:
            self.bars.remove_task(self.tasks.pop(gone))
        for run in active:
            if run.id not in self.tasks:
                self.tasks[run.id] = self.bars.add_task("", total=None, done="", words="")
            self.show(self.tasks[run.id], run, Standing(run))
