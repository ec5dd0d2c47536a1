"""Slots, promotion, leases and fencing: who may write what, when others have moved on."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from tests.control.conftest import make_node, spec
from tests.waiting import eventually
from trainhub.actions import members, nodes, placement, runs
from trainhub.actions.members import Fenced
from trainhub.models import Member, MemberState, Node, Project, Run, RunState, Slot
from trainhub.topology import Free
from workers.assignment import Cause, Exit, Outcome, Role

CRASH = Exit(Outcome.FAILED, Cause.CRASHED, "its process was killed by SIGKILL")


def test_admission_reserves_a_slot_a_member_and_raises_its_token(gang: list[Member]) -> None:
    held = Slot.objects.exclude(member=None)
    assert sorted(s.reservation for s in held) == [1, 1, 1]
    assert [(m.rank, m.worker) for m in gang] == [(0, None), (1, 0), (2, 1)]
    assert gang[0].attempt.run.state == RunState.STARTING


def test_a_machine_group_has_a_slot_for_each_device_and_gives_all_of_them_back(
    project: Project, alice: User, node: Node
) -> None:
    groups = {"problem": {"kind": "digits"}, "layout": {"kind": "hybrid", "shards": 3}}
    run = runs.submit(project=project, owner=alice, spec=spec(**groups))
    gang = placement.admit(run.pk, placement.idle_slots()[:7])
    assert [(m.rank, m.worker, m.devices, m.may_serve) for m in gang] == [
        (0, None, 1, True),
        (1, 0, 3, False),
        (2, 1, 3, False),
    ]
    assert [m.held_slots.count() for m in gang] == [1, 3, 3]
    assert gang[1].place == "one/cpu:1 and 2 more"
    taken = members.take(gang[2].pk, "one")
    assert taken is not None
    members.end(taken, CRASH)
    assert Slot.objects.exclude(member=None).count() == 4


def test_a_run_is_not_admitted_twice(gang: list[Member]) -> None:
    assert placement.admit(gang[0].attempt.run_id, placement.idle_slots()[:3]) == []


def test_a_slot_taken_meanwhile_admits_nobody(queued: Run, gang: list[Member], project: Project, alice: User) -> None:
    other = runs.submit(project=project, owner=alice, spec=spec())
    stale = [Free(m.slot_id or 0, "one", "cpu", 0) for m in gang]
    assert placement.admit(other.pk, stale) == []
    assert Run.objects.get(pk=other.pk).state == RunState.QUEUED


def test_a_drained_node_gets_no_members(node: Node) -> None:
    Node.objects.update(drained=True)
    assert placement.idle_slots() == []


def test_a_doorbell_that_rings_twice_is_answered_once(gang: list[Member]) -> None:
    assert members.take(gang[0].pk, "one") is not None
    assert members.take(gang[0].pk, "one") is None


def test_a_node_cannot_take_what_another_was_given(gang: list[Member]) -> None:
    assert members.take(gang[0].pk, "two") is None


def test_doorbells_ring_again_with_growing_pauses(gang: list[Member]) -> None:
    assert placement.due_doorbells() == [], "the first ring goes with the admission"
    waits = []
    for _ in range(3):
        Member.objects.update(ring_at=gang[0].reserved_at)
        placement.due_doorbells()
        first = Member.objects.earliest("pk")
        assert first.ring_at
        waits.append(round((first.ring_at - gang[0].reserved_at).total_seconds()))
    assert waits == [2, 4, 8]


def test_only_the_first_in_rank_may_claim_at_once(gang: list[Member]) -> None:
    second = members.take(gang[1].pk, "one")
    assert second is not None
    assert members.claim(second) is None
    Run.objects.update(started_at=gang[0].reserved_at - members.HEAD_START * 2)
    assert members.claim(second) == 1


def test_who_wins_out_of_turn_leaves_its_number_to_the_one_it_passed(gang: list[Member]) -> None:
    Run.objects.update(started_at=gang[0].reserved_at - members.HEAD_START * 2)
    winner = members.take(gang[2].pk, "one")
    assert winner is not None
    assert members.claim(winner)
    numbers = dict(Member.objects.values_list("rank", "worker"))
    assert numbers == {0: 1, 1: 0, 2: None}


@pytest.mark.django_db(transaction=True)
def test_of_many_that_claim_at_once_exactly_one_is_promoted() -> None:
    owner = User.objects.create_user("alice")
    node = make_node("one", 17)
    run = runs.submit(project=Project.objects.create(name="p"), owner=owner, spec=spec(workers=16))
    gang = placement.admit(run.pk, placement.idle_slots())
    Run.objects.update(started_at=gang[0].reserved_at - members.HEAD_START * 2)
    taken = [members.take(m.pk, node.name) for m in gang]
    barrier = threading.Barrier(len(gang), timeout=10)

    def race(member: Member) -> int | None:
        barrier.wait()
        try:
            return members.claim(member)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(gang)) as pool:
        epochs = list(pool.map(race, [m for m in taken if m]))
    assert [e for e in epochs if e] == [1]
    assert Member.objects.filter(role=Role.SERVER).count() == 1
    workers = Member.objects.exclude(worker=None).order_by("worker").values_list("worker", flat=True)
    assert list(workers) == list(range(16))


def test_a_trainer_joins_only_a_server_that_listens(gang: list[Member], server: Member) -> None:
    other = members.take(gang[1].pk, "one")
    assert other is not None
    assert members.become_trainer(other) is None
    members.listening(server, "/run/s.sock")
    joined = members.become_trainer(other)
    assert joined is not None
    assert (joined.role, joined.worker, joined.epoch) == (Role.TRAINER, 0, 1)


def test_a_beat_renews_the_servers_lease(server: Member) -> None:
    before = Run.objects.get().server_lease
    members.beat(server)
    assert Run.objects.get().server_lease >= before
    assert members.get(server.pk).beat == 1


def test_a_server_of_an_older_epoch_is_fenced(server: Member) -> None:
    Run.objects.update(epoch=2)
    for write in (lambda: members.beat(server), lambda: members.listening(server, "/run/old.sock")):
        with pytest.raises(Fenced):
            write()
    assert Run.objects.get().endpoint == ""


def test_a_member_whose_slot_was_given_away_is_fenced(trainer: Member) -> None:
    Slot.objects.filter(member=trainer).update(reservation=99)
    with pytest.raises(Fenced):
        members.beat(trainer)


def test_a_servers_end_releases_the_lease_in_the_same_transaction(server: Member) -> None:
    members.end(server, CRASH)
    run = Run.objects.get()
    assert (run.server_id, run.server_lease.year, run.state) == (None, 1970, RunState.QUEUED)
    assert not Slot.objects.filter(member=server).exists()


def test_an_end_is_written_once(server: Member) -> None:
    assert members.end(server, CRASH)
    assert not members.end(server, CRASH)
    assert Run.objects.get().restarts == 1


def test_a_lost_trainer_costs_the_others_nothing_and_is_replaced(trainer: Member) -> None:
    members.training(members.get(Member.objects.get(role=Role.SERVER).pk))
    Run.objects.update(fraction=0.5)
    members.end(trainer, CRASH)
    run = Run.objects.get()
    assert (run.state, run.restarts) == (RunState.RUNNING, 1)
    assert [(lack.run, lack.workers) for lack in placement.missing_trainers()] == [(run, [0])]
    heir = placement.replace(run, 0, placement.idle_slots()[:1])
    assert heir is not None
    assert heir.worker == 0
    assert placement.missing_trainers() == []


def test_a_trainer_that_is_lost_while_the_run_still_gathers_is_replaced_too(trainer: Member) -> None:
    """Else a run that needs all its trainers would wait for this one until its deadline."""
    members.end(trainer, CRASH)
    run = Run.objects.get()
    assert run.state == RunState.STARTING
    assert [(lack.run, lack.workers) for lack in placement.missing_trainers()] == [(run, [0])]
    assert placement.replace(run, 0, placement.idle_slots()[:1]) is not None
    assert placement.missing_trainers() == []


def test_a_trainer_that_was_told_the_run_is_over_is_not_replaced(trainer: Member) -> None:
    members.training(members.get(Member.objects.get(role=Role.SERVER).pk))
    Run.objects.update(fraction=0.99)
    members.end(trainer, Exit(Outcome.COMPLETED))
    assert placement.missing_trainers() == []


def test_trainers_that_keep_dying_fail_the_run(trainer: Member) -> None:
    Run.objects.update(restarts=5)
    members.end(trainer, CRASH)
    run = Run.objects.get()
    assert run.wish == "fail"
    members.end(members.get(run.server_id or 0), Exit(Outcome.STOPPED))
    run.refresh_from_db()
    assert (run.state, run.cause) == (RunState.FAILED, Cause.CRASHED)


def test_a_restarted_agent_keeps_slots_and_members(trainer: Member, node: Node) -> None:
    machine = nodes.Machine(name="one", cores=2, memory_bytes=2**30, slots={"cpu": 8})
    again = nodes.register(machine, uuid.uuid4())
    assert again.pk == node.pk
    assert Slot.objects.count() == 8
    assert Member.objects.get(pk=trainer.pk).held_slots.exists()
    assert not nodes.beat(node), "the agent before it has lost the name"
    assert nodes.beat(again)


def test_a_node_with_fewer_slots_retires_the_rest(node: Node) -> None:
    make_node("one", 3)
    assert len(placement.idle_slots()) == 3
    make_node("one", 5)
    assert len(placement.idle_slots()) == 5


def test_a_member_never_taken_up_gives_its_slot_back_when_the_attempt_ends(server: Member) -> None:
    members.end(server, CRASH)
    assert not Slot.objects.exclude(member=None).exists()
    assert set(Member.objects.values_list("state", flat=True)) == {MemberState.LOST, MemberState.FINISHED}


@pytest.mark.django_db(transaction=True)
def test_a_write_that_waited_for_the_members_end_does_not_raise_it_from_the_dead(server: Member) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def late() -> None:
        try:
            members.running(server)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            members.end(server, Exit(Outcome.COMPLETED))
            writing = pool.submit(late)
            eventually(lambda: count(waiting) == 1, seconds=3)
        writing.result(10)
    assert members.get(server.pk).state == MemberState.FINISHED


def count(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])
