"""Runs move between states only as allowed, and every end says why."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from tests.control.conftest import make_node, spec
from trainhub.actions import members, placement, reconcile, runs
from trainhub.actions.errors import CannotPause, NoCheckpoint, NoDataset, NotAllowedToRunCode, NotSimulated, WrongState
from trainhub.models import Attempt, Dataset, Event, Member, Node, Project, Run, RunState, Slot, Wish
from workers.assignment import Cause, Exit, Outcome

CRASH = Exit(Outcome.FAILED, Cause.CRASHED, "its process was killed by SIGKILL")


def now(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def kinds(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("pk").values_list("kind", flat=True))


def test_a_submission_is_queued_with_its_whole_spec(queued: Run) -> None:
    assert queued.state == RunState.QUEUED
    assert now(queued).run_spec == spec()
    assert kinds(queued) == ["submitted"]


def test_a_submission_that_starts_from_an_unknown_checkpoint_is_refused(project: Project, alice: User) -> None:
    with pytest.raises(NoCheckpoint, match="run 99 has no checkpoint in project vision"):
        runs.submit(project=project, owner=alice, spec=spec(start={"kind": "checkpoint", "run": 99}))
    assert not Run.objects.exists()


def test_a_simulation_of_any_size_asks_for_one_slot(project: Project, alice: User) -> None:
    run = runs.submit(project=project, owner=alice, spec=spec(workers=500, execution={"kind": "simulate"}))
    assert (now(run).least_slots, now(run).most_slots) == (1, 1)


def test_a_simulation_of_other_weights_than_fresh_ones_is_refused(project: Project, alice: User) -> None:
    start = {"kind": "checkpoint", "run": 1}
    with pytest.raises(NotSimulated, match=r"start\.kind: must be fresh"):
        runs.submit(project=project, owner=alice, spec=spec(start=start, execution={"kind": "simulate"}))
    assert not Run.objects.exists()


def test_a_queued_run_pauses_and_resumes_at_once(queued: Run, alice: User) -> None:
    runs.ask_to_pause(queued, by=alice)
    assert now(queued).state == RunState.PAUSED
    runs.resume(queued, by=alice)
    assert now(queued).state == RunState.QUEUED


def test_a_running_run_keeps_the_wish_until_its_server_has_stopped(server: Member, alice: User) -> None:
    run = server.attempt.run
    runs.ask_to_pause(run, by=alice)
    assert (now(run).state, now(run).wish) == (RunState.STARTING, Wish.PAUSE)
    assert members.beat(server).wish == Wish.PAUSE
    members.end(server, Exit(Outcome.STOPPED))
    assert (now(run).state, now(run).wish) == (RunState.PAUSED, Wish.NONE)


def test_a_simulation_pauses_in_the_queue_and_not_under_way(project: Project, alice: User) -> None:
    make_node("one", 1)
    run = runs.submit(project=project, owner=alice, spec=spec(execution={"kind": "simulate"}))
    runs.ask_to_pause(run, by=alice)
    runs.resume(now(run), by=alice)
    placement.admit(run.pk, placement.idle_slots())
    with pytest.raises(CannotPause, match="cancel it instead"):
        runs.ask_to_pause(run, by=alice)
    assert now(run).wish == Wish.NONE


def test_a_run_killed_on_request_was_cancelled_and_not_failed(server: Member, alice: User) -> None:
    runs.ask_to_kill(server.attempt.run, by=alice)
    members.end(server, CRASH)
    assert now(server.attempt.run).state == RunState.CANCELLED


def test_an_ended_run_can_be_neither_paused_nor_cancelled(server: Member, alice: User) -> None:
    members.end(server, Exit(Outcome.COMPLETED))
    for ask in (runs.ask_to_pause, runs.ask_to_cancel, runs.ask_to_kill, runs.resume):
        with pytest.raises(WrongState, match="completed"):
            ask(server.attempt.run, by=alice)


def test_a_completed_server_completes_the_run(server: Member) -> None:
    members.end(server, Exit(Outcome.COMPLETED))
    run = now(server.attempt.run)
    assert (run.state, run.fraction, run.server_id) == (RunState.COMPLETED, 1.0, None)
    assert run.ended_at is not None


def test_a_crashed_server_queues_the_run_again_until_its_restarts_are_used_up(project: Project, alice: User) -> None:
    make_node("one", 8)
    run = runs.submit(project=project, owner=alice, spec=spec(restarts=1))
    for expected in (RunState.QUEUED, RunState.FAILED):
        gang = placement.admit(run.pk, placement.idle_slots()[:3])
        server = members.take(gang[0].pk, "one")
        assert server is not None
        assert members.claim(server)
        members.end(members.get(server.pk), CRASH)
        assert now(run).state == expected
    assert now(run).cause == Cause.CRASHED
    assert "restarted 1 times" in now(run).detail


def test_a_fault_in_the_users_code_is_not_tried_again(server: Member) -> None:
    members.end(server, Exit(Outcome.FAILED, Cause.USER_CODE, "KeyError: 'x'"))
    run = now(server.attempt.run)
    assert (run.state, run.cause, run.detail) == (RunState.FAILED, Cause.USER_CODE, "KeyError: 'x'")


def test_a_server_whose_node_shuts_down_leaves_its_run_in_the_queue(server: Member) -> None:
    before = now(server.attempt.run).queued_at
    members.end(server, Exit(Outcome.STOPPED))
    run = now(server.attempt.run)
    assert (run.state, run.restarts, run.queued_at) == (RunState.QUEUED, 0, before)


def test_an_unanswered_gang_is_given_up_and_its_slots_are_free(gang: list[Member]) -> None:
    Member.objects.update(reserved_at=gang[0].reserved_at - reconcile.UNANSWERED * 2)
    reconcile.stuck_runs()
    assert now(gang[0].attempt.run).state == RunState.QUEUED
    assert not Slot.objects.exclude(member=None).exists()


def test_a_run_whose_members_are_all_gone_does_not_stay_active(gang: list[Member]) -> None:
    for member in gang:
        members.end(members.get(member.pk), Exit(Outcome.STOPPED))
    reconcile.stuck_runs()
    assert now(gang[0].attempt.run).state == RunState.QUEUED


def test_an_overdue_wish_is_carried_out_without_the_supervisors(server: Member, alice: User) -> None:
    run = server.attempt.run
    runs.ask_to_cancel(run, by=alice)
    Run.objects.update(wish_deadline=now(run).created_at - reconcile.OVERDUE * 2)
    reconcile.stuck_runs()
    assert now(run).state == RunState.CANCELLED
    with pytest.raises(members.Fenced):
        members.beat(server)


def test_a_waiting_run_says_why(queued: Run, node: Node) -> None:
    placement.explain({queued.pk: "needs 3 slots, 2 idle"})
    assert now(queued).waiting_reason == "needs 3 slots, 2 idle"
    placement.admit(queued.pk, placement.idle_slots()[:3])
    assert now(queued).waiting_reason == ""


def test_a_run_of_code_is_not_queued_again_when_the_right_to_it_is_gone(project: Project, alice: User) -> None:
    right = Permission.objects.get(codename="run_code")
    alice.user_permissions.add(right)
    wanted = spec(problem={"kind": "python", "target": "os:system"})
    run = runs.submit(project=project, owner=User.objects.get(pk=alice.pk), spec=wanted)
    runs.ask_to_cancel(run, by=alice)
    alice.user_permissions.remove(right)
    with pytest.raises(NotAllowedToRunCode):
        runs.ask_to_requeue(run, by=User.objects.get(pk=alice.pk))
    runs.ask_to_requeue(run, by=User.objects.create_superuser("root"))
    assert now(run).state == RunState.QUEUED


def test_a_run_is_not_queued_again_on_other_data_than_it_had(project: Project, alice: User) -> None:
    made = Dataset.objects.create(
        project=project, owner=alice, name="iris", kind="table", sha256="0", size_bytes=1, examples=1, path="p"
    )
    run = runs.submit(project=project, owner=alice, spec=spec(problem={"kind": "table", "dataset": "iris"}))
    runs.ask_to_cancel(run, by=alice)
    Attempt.objects.create(run=run, number=1, started_at=timezone.now(), environment={"dataset": made.facts})
    Dataset.objects.filter(pk=made.pk).update(sha256="1")
    with pytest.raises(NoDataset, match="iris is not the data set it was trained on"):
        runs.ask_to_requeue(run, by=alice)
    made.delete()
    with pytest.raises(NoDataset, match="no data set named 'iris'"):
        runs.ask_to_requeue(run, by=alice)
    assert now(run).state == RunState.CANCELLED
