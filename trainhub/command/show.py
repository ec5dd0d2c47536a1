"""One run, in full."""

from __future__ import annotations

import argparse

from trainhub.client import Progress, Run
from trainhub.command import service, telling
from trainhub.command.errors import CANCELLED, FAILED, NOT_ENDED, Quiet
from trainhub.words import duration

HELP = "Show a run: its state and progress, its members, its checkpoints."
STATUSES = {"completed": 0, "failed": FAILED, "cancelled": CANCELLED}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=int, metavar="RUN", help="a run's number")
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 0 where it is completed, 1 failed, 3 cancelled, 5 not ended yet",
    )
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    with service.connected(options) as client:
        progress = client.progress(options.run)
    if options.as_json:
        telling.document(progress.run.as_data())
    else:
        tell(progress)
    if options.exit_code and (status := status_of(progress.run)):
        raise Quiet(status)


def status_of(run: Run) -> int:
    return STATUSES.get(run.state, NOT_ENDED)


def tell(progress: Progress) -> None:
    run = progress.run
    telling.out().print(f"{run.id}  {telling.titled(run.name, run.labels)}", style="bold")
    telling.facts(
        [
            ("state", telling.state(run.state, run.wish)),
            ("why", why(run)),
            ("project", run.project),
            ("owner", run.owner),
            ("experiment", f"{run.experiment.id} {run.experiment.name}" if run.experiment else None),
            ("problem", run.problem),
            ("method", run.method),
            ("trainers", run.trainers),
            ("budget", run.budget),
            ("progress", how_far(progress)),
            ("evaluation", telling.metrics(run.metrics)),
            ("restarts", str(run.restarts or "")),
            ("made", telling.ago(run.created_at, run.now)),
        ]
    )
    tell_members(run)
    tell_checkpoints(run)


def why(run: Run) -> str:
    """Why it waits, or failed."""
    return run.waiting_reason or ": ".join(part for part in (run.cause, run.detail) if part)


def how_far(progress: Progress) -> str:
    """`version 1,200, 40 %, 12 s left, loss 0.231, staleness 3.1 versions`."""
    run = progress.run
    parts = [f"version {run.version:,}", telling.percent(run.fraction)]
    if run.seconds_left is not None:
        parts.append(f"{duration(run.seconds_left)} left")
    if progress.loss is not None:
        parts.append(f"training loss {progress.loss:.4g}")
    if progress.staleness is not None:
        parts.append(f"staleness {progress.staleness:.1f} versions")
    return ", ".join(part for part in parts if part)


def tell_members(run: Run) -> None:
    if run.members:
        telling.out().print()
        rows: list[list[telling.Cell]] = [
            [each.title, telling.state(each.state), each.node, each.slot, each.cause] for each in run.members
        ]
        telling.table(("member", "state", "node", "slot", "cause"), rows)


def tell_checkpoints(run: Run) -> None:
    if run.checkpoints:
        telling.out().print()
        rows = [
            [
                f"{each.version:,}{' final' if each.final else ''}",
                telling.size(each.size_bytes),
                telling.metrics(each.metrics),
                each.sha256[:12],
            ]
            for each in run.checkpoints
        ]
        telling.table(("checkpoint", "size", "metrics", "sha-256"), rows, right=("size",))
