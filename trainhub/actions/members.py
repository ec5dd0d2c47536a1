"""Members of a gang: taken up by a supervisor, promoted, kept alive, ended.

Every write is conditional on who the writer is (member, epoch, reservation). Zero rows mean that somebody
else has moved on, and that the writer must stop: it is fenced.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from trainhub.actions import announce, events, runs, slots
from trainhub.models import Attempt, Credentials, Level, Member, MemberState, Run, RunState, Slot, Wish
from workers import assignment
from workers.assignment import Cause, Exit, Outcome, Role

if TYPE_CHECKING:  # The web never makes any, and needs no cryptography for it
    from workers.transport.credentials import Pair

LEASE = dt.timedelta(seconds=8)
"""How long a server that nobody renews is believed in."""
HEAD_START = dt.timedelta(milliseconds=500)
"""How long only the member ranked first may claim the server's place: it holds the slot that is cheapest to spend."""


class Fenced(Exception):
    """The database answered, and this member is no longer wanted: its child must end."""


class OutOfReach(Exception):
    """The server of this member's run opened no port, and is on another node."""


@dataclass(frozen=True)
class Orders:
    """What a beat brings back."""

    wish: Wish
    deadline: dt.datetime | None


@dataclass(frozen=True)
class Way:
    """How a trainer reaches its server: the endpoint, and what it shows there where a network is in between."""

    endpoint: str
    tls: assignment.Credentials | None = None


def take(member_id: int, node: str) -> Member | None:
    """Answer the doorbell. None: somebody has, or the member is no longer wanted."""
    held = Slot.objects.filter(pk=OuterRef("slot"), node__name=node, reservation=OuterRef("reservation"))
    mine = Member.objects.filter(Exists(held), pk=member_id, state=MemberState.RESERVED)
    with transaction.atomic():
        if not mine.update(state=MemberState.STARTING, started_at=timezone.now()):
            return None
        member = get(member_id)
        announce.run_changed(member.attempt.run_id)
        return member


def get(member_id: int) -> Member:
    return Member.objects.select_related("attempt__run__experiment", "slot__node").get(pk=member_id)


def trainers_of(attempt: Attempt) -> list[Member]:
    """The attempt's living trainers and those that will be: every member that has a trainer's number."""
    return list(Member.objects.filter(attempt=attempt, ended_at=None).exclude(worker=None).select_related("slot__node"))


def slots_of(member: Member) -> list[Slot]:
    """All that it has: its own first, then those of a machine group's other devices, by rank."""
    return sorted(Slot.objects.filter(member=member), key=lambda slot: (slot.pk != member.slot_id, slot.index))


def claim(member: Member, *, certify: Callable[[int, int], Pair] | None = None) -> int | None:
    """Promote this member to parameter server, or to its run's simulation, and return its epoch.

    `certify` makes the certificates of a run's epoch, in the same transaction. None: it will open no port.
    None: another holds the place, or this member may not serve.
    """
    if not member.may_serve:
        return None
    with transaction.atomic():
        run = Run.objects.filter(
            pk=member.attempt.run_id,
            attempt=member.attempt.number,
            state=RunState.STARTING,
            server_lease__lt=Now(),
        )
        if member.rank > 0:
            run = run.filter(started_at__lt=Now() - HEAD_START)
        won = run.update(server=member, epoch=F("epoch") + 1, server_lease=Now() + LEASE, endpoint="", address="")
        if not won:
            return None
        epoch = Run.objects.values_list("epoch", flat=True).get(pk=member.attempt.run_id)
        if certify is not None:
            _keep(member.attempt.run_id, epoch, certify(member.attempt.run_id, epoch))
        _hand_over_number(member)
        simulated = member.attempt.run.is_simulated
        role, became = (Role.SIMULATION, "the simulation") if simulated else (Role.SERVER, "parameter server")
        Member.objects.filter(pk=member.pk).update(role=role, worker=None, epoch=epoch)
        events.record(
            member.attempt.run,
            "promoted",
            f"{member.slot} became {became}, epoch {epoch}",
            member=member,
            data={"epoch": epoch, "rank": member.rank},
        )
        return int(epoch)


def _keep(run_id: int, epoch: int, pair: Pair) -> None:
    kept = {
        "epoch": epoch,
        "server_certificate": pair.server.certificate,
        "server_key": pair.server.key,
        "trainer_certificate": pair.trainers.certificate,
        "trainer_key": pair.trainers.key,
    }
    Credentials.objects.update_or_create(run_id=run_id, defaults=kept)


def credentials_of_server(member: Member) -> assignment.Credentials | None:
    """What this member's epoch was given at its promotion. None: it opens no port."""
    kept = Credentials.objects.filter(run=member.attempt.run_id, epoch=member.epoch).first()
    if kept is None:
        return None
    return assignment.Credentials(
        bytes(kept.server_certificate), bytes(kept.server_key), bytes(kept.trainer_certificate)
    )


def way_to_server(member: Member) -> Way:
    """How this trainer reaches the server of its epoch: through memory on one node, over TLS from another.

    Raises Fenced when the epoch is over, OutOfReach when its server can't be reached from this node.
    """
    run = Run.objects.select_related("server__slot").filter(pk=member.attempt.run_id, epoch=member.epoch).first()
    if run is None or run.server is None or run.server.slot is None or not run.endpoint:
        raise Fenced(f"{member}: epoch {member.epoch} is over")
    assert member.slot is not None
    if run.server.slot.node_id == member.slot.node_id:
        return Way(run.endpoint)
    kept = Credentials.objects.filter(run=run, epoch=member.epoch).first()
    if not run.address or kept is None:
        raise OutOfReach(
            f"the server is on {run.server.slot.node}, which opened no port, so that {member.slot.node} can't reach it"
        )
    shown = assignment.Credentials(
        bytes(kept.trainer_certificate), bytes(kept.trainer_key), bytes(kept.server_certificate)
    )
    return Way(f"tls://{run.address}", shown)


def _hand_over_number(winner: Member) -> None:
    """The one who was to be server becomes the trainer that the winner was to be."""
    number = Member.objects.values_list("worker", flat=True).get(pk=winner.pk)
    if number is None:
        return
    spare = Member.objects.filter(attempt=winner.attempt, worker=None, role="", ended_at=None)
    heir = spare.exclude(pk=winner.pk).order_by("rank").first()
    if heir:
        Member.objects.filter(pk=heir.pk).update(worker=number)


def become_trainer(member: Member) -> Member | None:
    """Join the epoch whose server listens. None: there is no such server yet."""
    with transaction.atomic():
        run = Run.objects.get(pk=member.attempt.run_id)
        if run.attempt != member.attempt.number or not run.endpoint:
            return None
        mine = Member.objects.filter(pk=member.pk, ended_at=None).exclude(worker=None)
        if not mine.update(role=Role.TRAINER, epoch=run.epoch):
            return None
        return get(member.pk)


def launching(member: Member, work_dir: str) -> None:
    """Where the child works; written before it is started, so that a later supervisor finds it."""
    _alive(member).update(work_dir=work_dir)


def running(member: Member) -> None:
    if _alive(member).update(state=MemberState.RUNNING):
        with transaction.atomic():
            announce.run_changed(member.attempt.run_id)


def listening(member: Member, endpoint: str, address: str = "") -> None:
    """Publish where the server of this epoch answers: on its own node, and at an address. Raises Fenced."""
    with transaction.atomic():
        if not Run.objects.filter(pk=member.attempt.run_id, epoch=member.epoch, server=member).update(
            endpoint=endpoint, address=address
        ):
            raise Fenced(f"{member}: epoch {member.epoch} is over")
        for name in runs.nodes_of(member.attempt.run):
            announce.wake_node(name)


def training(member: Member) -> None:
    """All trainers have joined, and the first weights are out; simulated ones are there at once."""
    with transaction.atomic():
        run = runs.lock(member.attempt.run)
        if run.epoch != member.epoch or run.state != RunState.STARTING:
            return
        run.state, run.training_at = RunState.RUNNING, timezone.now()
        run.save(update_fields=["state", "training_at"])
        announce.run_changed(run.pk)


def beat(member: Member) -> Orders:
    """Say that this member lives, renew the lease if its run rests on it, and bring back what is wished.

    Raises Fenced when the run has moved on without it.
    """
    with transaction.atomic():
        if not _alive(member).update(beat=F("beat") + 1):
            raise Fenced(f"{member} was given up")
        run = Run.objects.filter(pk=member.attempt.run_id, attempt=member.attempt.number, state__in=RunState.active())
        if member.leads:
            run = run.filter(server=member, epoch=member.epoch)
            current = run.update(server_lease=Now() + LEASE)
        else:
            current = run.count()
        if not current:
            raise Fenced(f"{member}: epoch {member.epoch} is over")
        wish, deadline = run.values_list("wish", "wish_deadline").get()
        return Orders(Wish(wish), deadline)


def _alive(member: Member) -> QuerySet[Member]:
    """The member's row, while it is wanted and its slot is still its own.

    No join here: PostgreSQL would look at `ended_at` before it waits for the row, and not again behind whoever
    ended the member meanwhile.
    """
    held = Slot.objects.filter(pk=OuterRef("slot"), reservation=member.reservation)
    return Member.objects.filter(Q(slot=None) | Exists(held), pk=member.pk, ended_at=None)


def end(member: Member, ending: Exit) -> bool:
    """Write how a member ended, give its slot back, and let the run feel it. False: somebody else has.

    A server's end releases the lease in this same transaction, so that nobody waits for it to run out.
    """
    with transaction.atomic():
        run = runs.lock(member.attempt.run)
        state = MemberState.FINISHED if ending.outcome != Outcome.FAILED else MemberState.FAILED
        if ending.cause in (Cause.CRASHED, Cause.NODE_LOST, Cause.FENCED):
            state = MemberState.LOST
        if not Member.objects.filter(pk=member.pk, ended_at=None).update(
            state=state,
            ended_at=timezone.now(),
            outcome=ending.outcome,
            cause=ending.cause or "",
            detail=ending.detail,
        ):
            return False
        slots.free(member)
        if run.server_id == member.pk and run.state in RunState.active():
            runs.end_attempt(run, ending)
        elif ending.outcome == Outcome.FAILED:
            _trainer_lost(run, get(member.pk), ending)
        announce.run_changed(run.pk)
        announce.wake_scheduler()
        return True


def _trainer_lost(run: Run, member: Member, ending: Exit) -> None:
    """The others train on. The run fails only for a cause that would come again, or has come too often."""
    if run.attempt != member.attempt.number or run.state not in RunState.active() or run.wish:
        return
    cause = ending.cause or Cause.CRASHED
    events.record(
        run,
        "lost",
        f"Lost {member.title} on {member.place}: {ending.detail.splitlines()[0] if ending.detail else cause}",
        level=Level.WARNING,
        member=member,
        data={"cause": cause, "detail": ending.detail},
    )
    run.restarts += 1
    run.save(update_fields=["restarts"])
    if cause not in runs.RESTARTABLE:
        runs.fail_soon(run, cause, ending.detail)
    elif run.restarts > run.run_spec.restarts:
        runs.fail_soon(
            run,
            cause,
            f"{ending.detail}\nMembers were lost {run.restarts} times; the spec allows {run.restarts - 1}.",
        )


def joined(server: Member, joining: int, transport: str, peer: str) -> None:
    """A trainer of this server's gang has joined it, over this transport."""
    gang = Member.objects.filter(attempt=server.attempt_id, pk=joining)
    gang.update(transport=transport, peer=peer)


def note_environment(attempt: Attempt, environment: dict[str, object]) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(environment=environment)


def note_restored(attempt: Attempt, version: int) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(restored_version=version)


def evaluator_failed(member: Member, ending: Exit) -> None:
    """The evaluator of this server can't evaluate, and starting it again does not help: the run fails."""
    with transaction.atomic():
        run = runs.lock(member.attempt.run)
        if run.epoch == member.epoch and run.state in RunState.active() and not run.wish:
            detail = f"The evaluator failed.\n{ending.detail}"
            runs.fail_soon(run, ending.cause or Cause.CRASHED, detail)
