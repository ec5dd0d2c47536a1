"""Start all of TrainHub, train one run on it, and show how it goes."""

import argparse
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trainhub import queries
from trainhub.actions import runs
from trainhub.actions.access import first_admin
from trainhub.embedded import EmbeddedError
from trainhub.management.specs import read_spec
from trainhub.management.stack import add_options, link, make_stack
from trainhub.models import Run, RunState
from trainhub.stack import Stack, StackError
from workers.spec import RunSpec

LOOK_SECONDS = 0.5
PLAIN_LINE_SECONDS = 5.0
"""How often a terminal that can't redraw gets a line."""


class Command(BaseCommand):
    help = "Start everything as `up` does, train a run, show its progress, and keep serving until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_options(parser)
        parser.add_argument("--spec", default="examples/digits-async.yaml", help="the run to train (a YAML file)")
        parser.add_argument(
            "--once", action="store_true", help="stop everything afterwards, and exit 0 only when the run completed"
        )

    def handle(
        self, *args: Any, spec: str, once: bool, host: str, port: int, slots: int | None, **options: Any
    ) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        wanted = read_spec(spec)
        began = time.monotonic()
        try:
            stack = make_stack(host=host, port=port, slots=slots, say=self.console.print, any_port_when_busy=once)
            with stack.running():
                state = self.train(stack, wanted, began)
                if not once and not stack.asked_to_stop.is_set():
                    self.console.print("The pages stay open until Ctrl-C.")
                    stack.watch()
                self.console.print("Stopping.")
        except (StackError, EmbeddedError) as error:
            raise CommandError(str(error)) from None
        if once and state != RunState.COMPLETED:
            raise CommandError(f"The run did not complete: it is {state}.")

    def train(self, stack: Stack, spec: RunSpec, began: float) -> str:
        """Submit, follow, and tell the result. The state in which the run was seen last."""
        admin, project = first_admin()
        run = runs.submit(project=project, owner=admin, spec=spec)
        where = stack.address
        self.console.print(f"TrainHub is at {where}")
        self.console.print(f"Watch the run in a browser: {link(where, admin, to=f'/runs/{run.pk}/')}")
        self.follow(stack, run)
        run.refresh_from_db()
        if run.has_ended:
            self.console.print(result(run, time.monotonic() - began))
        return run.state

    def follow(self, stack: Stack, run: Run) -> None:
        """Show a line that moves, or a line now and then where the terminal can't redraw."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        task = bar.add_task("queued", total=1.0)
        spoken_at = -PLAIN_LINE_SECONDS
        with Live(bar, console=self.console, refresh_per_second=4, transient=True):
            while True:
                now = queries.progress(run.pk)
                bar.update(task, description=line(now, run), completed=now.fraction or 0.0)
                if not self.console.is_terminal and time.monotonic() - spoken_at >= PLAIN_LINE_SECONDS:
                    spoken_at = time.monotonic()
                    self.console.print(f"{100 * (now.fraction or 0):3.0f} %  {line(now, run)}")
                if now.state in RunState.ended() or stack.watch(LOOK_SECONDS):
                    return


def line(now: queries.Progress, run: Run) -> str:
    """What a person wants to see of a run in one line."""
    if now.state == RunState.QUEUED:
        reason = Run.objects.values_list("waiting_reason", flat=True).get(pk=run.pk)
        return f"queued: {reason}" if reason else "queued"
    parts = [now.state, f"version {now.version}"]
    if now.loss is not None:
        parts.append(f"loss {now.loss:.3f}")
    parts += [f"{name} {value:.3f}" for name, value in now.metrics.items() if name != "loss"]
    if now.mean_staleness is not None:
        parts.append(f"staleness {now.mean_staleness:.1f}")
    if now.updates_per_second is not None:
        parts.append(f"{now.updates_per_second:.0f} updates/s")
    return "  ".join(parts)


def result(run: Run, seconds: float) -> Table:
    """How the run ended, and what asynchrony did to each worker."""
    now = queries.progress(run.pk)
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in now.metrics.items())
    title = f"{run.name} {run.state} at version {run.version}, {seconds:.1f} s after the start\n{metrics}"
    if run.state == RunState.FAILED:
        title += f"\n{run.cause}: {run.detail.strip()}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("worker")
    table.add_column("mean staleness (versions)", justify="right")
    table.add_column("mean scale of the learning rate", justify="right")
    for worker, staleness in sorted(now.staleness.items()):
        scale = now.scale.get(worker)
        table.add_row(f"trainer {worker}", f"{staleness:.2f}", "" if scale is None else f"{scale:.3f}")
    return table
