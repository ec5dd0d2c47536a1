"""Runs: submitted, wished upon, ended. State moves only here, under the run's row lock."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from trainhub.actions import announce, audit, events, slots
from trainhub.actions.errors import (
    CannotPause,
    NoCheckpoint,
    NoDataset,
    NotAllowedToRunCode,
    NotSimulated,
    WrongExperiment,
    WrongState,
)
from trainhub.models import (
    UNCLAIMED,
    Artifact,
    ArtifactKind,
    Attempt,
    Credentials,
    Dataset,
    Event,
    Experiment,
    Level,
    Member,
    Project,
    Run,
    RunState,
    Wish,
)
from trainhub.topology import Demand
from workers.assignment import Cause, Exit, Outcome
from workers.spec import FromCheckpoint, PythonTarget, RunSpec
from workers.spec_errors import SpecError

STOP_SECONDS = 30
"""How long a run may take to stop in order before it is killed."""

# Starting over may help: what failed was a machine or a process, not the spec or the code.
RESTARTABLE = {
    Cause.CRASHED,
    Cause.NODE_LOST,
    Cause.FENCED,
    Cause.OUT_OF_MEMORY,
    Cause.SHARED_MEMORY,
    Cause.DEADLINE,
}


MOST_RUNS = 5000
"""How many runs an experiment may have: they are written in one transaction, and shown on one page."""
BATCH_ROWS = 500
NAME_CHARACTERS = 120

Label = str | int | float | bool | None


class Cell(Protocol):
    """One run of an experiment to be, and what tells it from the others: axis → value."""

    @property
    def spec(self) -> RunSpec: ...

    @property
    def labels(self) -> Mapping[str, Label]: ...


@transaction.atomic
def submit(*, project: Project, owner: User, spec: RunSpec) -> Run:
    """Write an experiment of one run, queued. Once this returns, the submission cannot be lost.

    Raises what `check` raises.
    """
    _hold_data(project, [spec])
    check(project, owner, [spec])
    experiment = Experiment.objects.create(
        project=project, owner=owner, name=spec.name, notes=spec.notes, tags=spec.tags
    )
    [run] = _queue(experiment, [(spec, {})])
    return run


@transaction.atomic
def submit_many(
    *,
    project: Project,
    owner: User,
    name: str,
    cells: Sequence[Cell],
    notes: str = "",
    tags: Sequence[str] = (),
) -> Experiment:
    """Write an experiment and a queued run for each cell, all or none, in the order of the cells.

    Raises WrongExperiment, and for any cell what `submit` raises.
    """
    if not 1 <= len(cells) <= MOST_RUNS:
        raise WrongExperiment(f"an experiment has 1 to {MOST_RUNS} runs; this one would have {len(cells)}")
    if not 1 <= len(name) <= NAME_CHARACTERS:
        raise WrongExperiment(f"an experiment's name has 1 to {NAME_CHARACTERS} characters; this one has {len(name)}")
    _hold_data(project, [cell.spec for cell in cells])
    check(project, owner, [cell.spec for cell in cells])
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.labels))
    experiment = Experiment.objects.create(
        project=project, owner=owner, name=name, notes=notes, tags=list(tags), axes=axes
    )
    _queue(experiment, [(cell.spec, cell.labels) for cell in cells])
    return experiment


def _queue(experiment: Experiment, cells: Sequence[tuple[RunSpec, Mapping[str, Label]]]) -> list[Run]:
    """Write the runs of a new experiment. In the caller's transaction; nobody can be looking at them yet."""
    now = timezone.now()
    runs = [
        Run(
            experiment=experiment,
            number=number,
            name=spec.name,
            spec=json.loads(spec.canonical()),
            labels=dict(labels),
            least_slots=spec.least_slots,
            most_slots=spec.slots,
            placement=Demand.of(spec).as_row(),
            priority=spec.priority,
            queued_at=now,
        )
        for number, (spec, labels) in enumerate(cells, start=1)
    ]
    written = Run.objects.bulk_create(runs, batch_size=BATCH_ROWS)
    message = f"Submitted by {experiment.owner.username}"
    Event.objects.bulk_create(
        [Event(run=run, at=now, kind="submitted", message=message) for run in written], batch_size=BATCH_ROWS
    )
    noun = "run" if len(written) == 1 else "runs"
    audit.record(
        experiment.owner,
        "submit",
        "experiment",
        f"Submitted {experiment.name}: {len(written)} {noun}",
        subject_id=experiment.pk,
        project=experiment.project,
    )
    announce.wake_scheduler()
    return written


def check(project: Project, owner: User, specs: Sequence[RunSpec]) -> None:
    """Whether all of these can be queued by this person.

    Raises NotSimulated, NoCheckpoint, NoDataset and NotAllowedToRunCode, each with the field to change.
    """
    for spec in specs:
        check_execution(spec)
    for spec in {spec.start.model_dump_json(): spec for spec in specs}.values():
        check_start(project, spec)
    for spec in {spec.problem.model_dump_json(): spec for spec in specs}.values():
        check_code(owner, spec)
        check_data(project, spec)


def check_execution(spec: RunSpec) -> None:
    if spec.execution.kind == "simulate" and spec.start.kind != "fresh":
        raise NotSimulated("start.kind", "must be fresh: a simulation starts with fresh weights")


def check_start(project: Project, spec: RunSpec) -> None:
    if isinstance(spec.start, FromCheckpoint) and start_checkpoint(project, spec.start) is None:
        version = "" if spec.start.version is None else f" at version {spec.start.version}"
        raise NoCheckpoint("start.run", f"run {spec.start.run} has no checkpoint{version} in project {project.name}")


def check_code(owner: User, spec: RunSpec) -> None:
    """An import path runs code of its author's choice on the nodes; installed problems were let in by their admin."""
    if isinstance(spec.problem, PythonTarget) and not owner.has_perm("trainhub.run_code"):
        raise NotAllowedToRunCode(
            "problem.kind", "python runs code of your choice, and you may not; ask an admin for the right run_code"
        )


def check_data(project: Project, spec: RunSpec) -> None:
    """Whether the project has the data that the problem names, of the kind it takes."""
    name = getattr(spec.problem, "dataset", None)
    if name is None:
        return
    found = Dataset.objects.filter(project=project, name=name).first()
    if found is None:
        raise NoDataset("problem.dataset", f"project {project.name} has no data set named {name!r}; upload it first")
    if found.kind != spec.problem.kind:
        raise NoDataset("problem.dataset", f"{name} holds {found.kind}; problem.kind {found.kind} takes it")


def _hold_data(project: Project, specs: Sequence[RunSpec]) -> None:
    """Until the transaction's end nobody deletes the data sets that these name."""
    names = {getattr(spec.problem, "dataset", None) for spec in specs} - {None}
    list(Dataset.objects.select_for_update(no_key=True).filter(project=project, name__in=names).order_by("pk"))


def start_checkpoint(project: Project, start: FromCheckpoint) -> Artifact | None:
    found = Artifact.objects.filter(run_id=start.run, run__experiment__project=project, kind=ArtifactKind.CHECKPOINT)
    if start.version is not None:
        found = found.filter(version=start.version)
    return found.order_by("-version", "-epoch").first()


@transaction.atomic
def ask_to_pause(run: Run, *, by: User) -> None:
    """Checkpoint and give the slots back. A run that waits just leaves the queue.

    Raises CannotPause for a simulation that is under way: it could only begin again.
    """
    locked = lock(run)
    match locked.state:
        case RunState.QUEUED:
            move(locked, RunState.PAUSED)
            _tell(locked, by, "pause", "paused", f"Paused by {by.username} before it started")
        case RunState.STARTING | RunState.RUNNING if locked.is_simulated:
            raise CannotPause("a simulation can't go on from its middle, so it can't be paused; cancel it instead")
        case RunState.STARTING | RunState.RUNNING:
            _wish(locked, Wish.PAUSE, by)
        case _:
            raise WrongState(f"a run that is {locked.state} can't be paused")


@transaction.atomic
def resume(run: Run, *, by: User) -> None:
    """Queue a paused run again; it goes on from its newest checkpoint."""
    locked = lock(run)
    if locked.state != RunState.PAUSED:
        raise WrongState(f"only a paused run can be resumed; this one is {locked.state}")
    locked.queued_at = timezone.now()
    requeue(locked)
    _tell(locked, by, "resume", "resumed", f"Resumed by {by.username}")


@transaction.atomic
def ask_to_cancel(run: Run, *, by: User) -> None:
    """Stop in order, keeping a last checkpoint."""
    _end_early(run, Wish.CANCEL, by)


@transaction.atomic
def ask_to_kill(run: Run, *, by: User) -> None:
    """End every process of the run at once. What came after the last checkpoint is gone."""
    _end_early(run, Wish.KILL, by)


@transaction.atomic
def ask_to_requeue(run: Run, *, by: User) -> None:
    """Queue a failed or cancelled run again. It goes on from its newest checkpoint where it has one.

    Raises WrongState, and NoDataset and NotAllowedToRunCode for what has changed since it was submitted.
    """
    locked = lock(run)
    if locked.state not in (RunState.FAILED, RunState.CANCELLED):
        raise WrongState(f"only a failed or cancelled run can be queued again; this one is {locked.state}")
    _check_again(locked, by)
    locked.queued_at, locked.ended_at, locked.restarts = timezone.now(), None, 0
    requeue(locked)
    _tell(locked, by, "requeue", "requeued", f"Queued again by {by.username}")


def _check_again(run: Run, by: User) -> None:
    """Whether its code may still be run, by whoever chose it or whoever asks now, and its data are still the same."""
    try:
        spec = run.run_spec
    except SpecError as error:
        raise WrongState(f"this version can't read its spec: {error}") from None
    owner, project = run.experiment.owner, run.experiment.project
    check_code(by if by.has_perm("trainhub.run_code") else owner, spec)
    _hold_data(project, [spec])
    check_data(project, spec)
    last = Attempt.objects.filter(run=run).order_by("-number").first()
    noted = last.environment.get("dataset") if last else None
    if noted and not Dataset.objects.filter(project=project, name=noted["name"], sha256=noted["sha256"]).exists():
        raise NoDataset("problem.dataset", f"{noted['name']} is not the data set it was trained on; submit it anew")


@transaction.atomic
def set_priority(run: Run, priority: int, *, by: User) -> None:
    """Move a queued run forward or back: the highest number is admitted first. Raises WrongState."""
    locked = lock(run)
    if locked.state != RunState.QUEUED:
        raise WrongState(f"only a queued run has a place in the queue; this one is {locked.state}")
    before, locked.priority = locked.priority, priority
    if before == priority:
        return
    locked.save(update_fields=["priority"])
    _tell(locked, by, "priority", "priority", f"Priority {before} became {priority}, by {by.username}")
    announce.wake_scheduler()


def _tell(run: Run, by: User, action: str, kind: str, message: str) -> None:
    """Into the run's timeline, and into the audit."""
    events.record(run, kind, message)
    audit.of_run(by, action, run, f"{message}: run {run.pk} {run.name}"[:500])


def _end_early(run: Run, wish: Wish, by: User) -> None:
    locked = lock(run)
    match locked.state:
        case RunState.QUEUED | RunState.PAUSED:
            move(locked, RunState.CANCELLED)
            _tell(locked, by, wish, "cancelled", f"Cancelled by {by.username}")
        case RunState.STARTING | RunState.RUNNING:
            _wish(locked, wish, by)
        case _:
            raise WrongState(f"this run has already ended: it is {locked.state}")


def _wish(run: Run, wish: Wish, by: User | None) -> None:
    run.wish, run.wish_by = wish, by
    run.wish_deadline = timezone.now() + dt.timedelta(seconds=0 if wish == Wish.KILL else STOP_SECONDS)
    run.save(update_fields=["wish", "wish_by", "wish_deadline"])
    if by:
        _tell(run, by, wish, f"asked-to-{wish}", f"{by.username} asked to {wish}")
    for name in nodes_of(run):
        announce.wake_node(name)


def nodes_of(run: Run) -> list[str]:
    alive = Member.objects.filter(attempt__run=run, attempt__number=run.attempt, ended_at=None)
    return list(alive.values_list("slot__node__name", flat=True).distinct())


def fail_soon(run: Run, cause: Cause, detail: str) -> None:
    """A member found that the run can't succeed: stop it and fail it with this cause. In the caller's transaction."""
    if run.wish not in (Wish.KILL, Wish.FAIL):
        run.cause, run.detail = cause, detail
        run.save(update_fields=["cause", "detail"])
        _wish(run, Wish.FAIL, None)


def lock(run: Run) -> Run:
    return Run.objects.select_for_update(of=("self",)).select_related("experiment").get(pk=run.pk)


def move(run: Run, state: RunState) -> None:
    """Set a state and what follows from it. The caller holds the row lock."""
    run.state = state
    run.wish, run.wish_by, run.wish_deadline = Wish.NONE, None, None
    run.waiting_reason = ""
    if state in RunState.ended():
        run.ended_at = timezone.now()
    if state not in RunState.active():
        run.server, run.server_lease, run.endpoint, run.address = None, UNCLAIMED, "", ""
        Credentials.objects.filter(run=run).delete()
    run.save()
    announce.run_changed(run.pk)
    announce.wake_scheduler()


def requeue(run: Run) -> None:
    """Back into the queue, at the place its age gives it. The caller holds the row lock."""
    run.cause, run.detail = "", ""
    move(run, RunState.QUEUED)


def end_attempt(run: Run, ending: Exit) -> None:
    """The server of the present attempt is gone: write what becomes of the run. The caller holds the row lock.

    A wish outranks how the server ended: a run killed on request was cancelled, not failed.
    """
    Attempt.objects.filter(run=run, number=run.attempt, ended_at=None).update(
        ended_at=timezone.now(), outcome=ending.outcome, cause=ending.cause or "", detail=ending.detail
    )
    if ending.outcome == Outcome.COMPLETED:
        _complete(run)
    elif run.wish == Wish.PAUSE:
        move(run, RunState.PAUSED)
        events.record(run, "paused", f"Paused at version {run.version:,}")
    elif run.wish in (Wish.CANCEL, Wish.KILL):
        move(run, RunState.CANCELLED)
        events.record(run, "cancelled", f"Cancelled at version {run.version:,}")
    elif run.wish == Wish.FAIL:
        _fail(run, Cause(run.cause or Cause.ENGINE), run.detail)
    elif ending.outcome == Outcome.STOPPED:
        requeue(run)
        goes_on = "begins again" if run.is_simulated else "goes on"
        events.record(run, "requeued", f"Its node shut down; it {goes_on} when slots are free")
    else:
        _restart_or_fail(run, ending)
    slots.release_unanswered(run)
    for name in nodes_of(run):
        announce.wake_node(name)


def _complete(run: Run) -> None:
    run.fraction = 1.0
    run.cause, run.detail = "", ""
    move(run, RunState.COMPLETED)
    events.record(run, "completed", f"Completed at version {run.version:,}")


def _fail(run: Run, cause: Cause, detail: str) -> None:
    run.cause, run.detail = cause, detail
    move(run, RunState.FAILED)
    events.record(run, "failed", f"Failed: {cause}", level=Level.ERROR, data={"detail": detail})


def _restart_or_fail(run: Run, ending: Exit) -> None:
    cause = ending.cause or Cause.CRASHED
    allowed = run.run_spec.restarts
    if cause not in RESTARTABLE or run.restarts >= allowed:
        detail = ending.detail
        if cause in RESTARTABLE and allowed:
            detail = f"{detail}\nIt was restarted {run.restarts} times, as often as its spec allows.".strip()
        _fail(run, cause, detail)
        return
    run.restarts += 1
    requeue(run)
    what = (
        "The simulation was lost ({}); it begins again"
        if run.is_simulated
        else ("The parameter server was lost ({}); starting again")
    )
    events.record(
        run,
        "restarting",
        f"{what.format(cause)}, restart {run.restarts} of {allowed}",
        level=Level.WARNING,
        data={"detail": ending.detail},
    )
