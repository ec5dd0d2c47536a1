"""Promotion where a gang may span nodes: who may serve, who is told what, and what becomes of the secrets."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.control.conftest import make_node, spec
from trainhub import topology
from trainhub.actions import members, placement, runs, telemetry
from trainhub.actions.members import Fenced, OutOfReach
from trainhub.models import Credentials, Member, Node, Project, Run, RunState
from workers.assignment import Assignment, Exit, Outcome
from workers.bridge import Place, Supervisor
from workers.events import Batch, Event
from workers.transport import credentials

NEAR, FAR = "10.7.0.1", "10.7.0.2"


def certify(run: int, epoch: int) -> credentials.Pair:
    return credentials.make(run=run, epoch=epoch)


@pytest.fixture
def two(db: None) -> list[Node]:
    """A node that shares the home, with room for two, and one that does not, with room for three."""
    return [make_node("near", 2, address=NEAR), make_node("far", 3, address=FAR, home="another")]


@pytest.fixture
def spanning(project: Project, alice: User, two: list[Node]) -> list[Member]:
    run = runs.submit(project=project, owner=alice, spec=spec(workers=4))
    idle, hosts = placement.idle_slots(), placement.hosts()
    return placement.admit(run.pk, topology.choose(idle, hosts, topology.Demand(), least=5, most=5))


@pytest.fixture
def server(spanning: list[Member]) -> Member:
    taken = members.take(spanning[0].pk, "near")
    assert taken is not None
    assert members.claim(taken, certify=certify) == 1
    return members.get(taken.pk)


def joined(member: Member, node: str) -> Member:
    taken = members.take(member.pk, node)
    assert taken is not None
    trainer = members.become_trainer(taken)
    assert trainer is not None
    return trainer


def assignment(member: Member, node: str, address: str, folder: Path) -> Assignment:
    place = Place(node, folder, folder, "trainhub-x-", 1, {}, address=address)
    return Supervisor(member, place, threading.Event())._assignment(folder, folder)


def test_only_who_shares_the_home_may_serve(spanning: list[Member]) -> None:
    told = [(m.slot.node.name, m.may_serve) for m in spanning if m.slot]
    assert told == [("near", True), ("near", True), ("far", False), ("far", False), ("far", False)]
    Run.objects.update(started_at=spanning[0].reserved_at - members.HEAD_START * 2)
    away = members.take(spanning[4].pk, "far")
    assert away is not None
    assert members.claim(away, certify=certify) is None
    heir = members.take(spanning[1].pk, "near")
    assert heir is not None
    assert members.claim(heir, certify=certify) == 1


def test_the_server_listens_with_its_certificate_and_trainers_elsewhere_show_theirs(
    spanning: list[Member], server: Member, tmp_path: Path
) -> None:
    served = assignment(server, "near", NEAR, tmp_path)
    assert served.listen == NEAR
    assert served.tls is not None
    members.listening(server, served.endpoint, f"{NEAR}:4000")
    beside = assignment(joined(spanning[1], "near"), "near", NEAR, tmp_path)
    assert (beside.endpoint, beside.tls, beside.listen) == (served.endpoint, None, "")
    away = assignment(joined(spanning[2], "far"), "far", FAR, tmp_path)
    assert (away.endpoint, away.listen) == (f"tls://{NEAR}:4000", "")
    assert away.tls is not None
    assert (away.tls.certificate, away.tls.peer_certificate) == (served.tls.peer_certificate, served.tls.certificate)
    assert away.tls.key != served.tls.key


def test_a_node_without_an_address_makes_no_certificates_and_opens_no_port(
    spanning: list[Member], tmp_path: Path
) -> None:
    taken = members.take(spanning[0].pk, "near")
    assert taken is not None
    supervisor = Supervisor(taken, Place("near", tmp_path, tmp_path, "trainhub-x-", 1, {}), threading.Event())
    assert supervisor._get_a_role()
    assert not Credentials.objects.exists()
    told = assignment(members.get(taken.pk), "near", "", tmp_path)
    assert (told.listen, told.tls) == ("", None)


def test_a_trainer_that_can_not_reach_its_server_says_so_instead_of_waiting(
    spanning: list[Member], server: Member
) -> None:
    members.listening(server, "/run/s.sock")
    trainer = joined(spanning[2], "far")
    with pytest.raises(OutOfReach, match=r"the server is on near, which opened no port, so that far can't reach it"):
        members.way_to_server(trainer)


def test_a_trainer_of_an_epoch_that_is_over_is_told_nothing(spanning: list[Member], server: Member) -> None:
    members.listening(server, "/run/s.sock", f"{NEAR}:4000")
    trainer = joined(spanning[2], "far")
    Run.objects.update(epoch=2)
    with pytest.raises(Fenced):
        members.way_to_server(trainer)


def test_credentials_and_address_go_with_the_attempt(server: Member) -> None:
    members.listening(server, "/run/s.sock", f"{NEAR}:4000")
    assert Credentials.objects.get().epoch == 1
    members.end(server, Exit(Outcome.COMPLETED))
    run = Run.objects.get()
    assert (run.state, run.address, run.endpoint) == (RunState.COMPLETED, "", "")
    assert not Credentials.objects.exists()


def test_no_page_no_answer_and_no_admin_shows_a_key(server: Member, alice: User) -> None:
    kept = Credentials.objects.get()
    secrets = [bytes(kept.server_key), bytes(kept.trainer_key)]
    lines = {line for secret in secrets for line in secret.splitlines() if line and not line.startswith(b"--")}
    assert lines
    alice.is_staff = alice.is_superuser = True
    alice.save()
    client = Client()
    client.force_login(alice)
    run = server.attempt.run_id
    for address in (
        f"/runs/{run}/",
        f"/api/v1/runs/{run}/",
        f"/api/v1/runs/{run}/events",
        f"/api/v1/runs/{run}/log",
        f"/api/v1/runs/{run}/spec",
        "/api/v1/nodes",
        "/nodes/",
        "/admin/",
        f"/admin/trainhub/run/{run}/change/",
        f"/admin/trainhub/member/{server.pk}/change/",
    ):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert not [line for line in lines if line in answer.content], address
        assert b"PRIVATE KEY" not in answer.content, address


def test_an_assignment_that_is_logged_shows_no_key(server: Member, tmp_path: Path) -> None:
    assert "PRIVATE KEY" not in repr(assignment(server, "near", NEAR, tmp_path))


def test_how_a_trainer_joined_is_kept_with_it(spanning: list[Member], server: Member) -> None:
    data = {"member": spanning[2].pk, "worker": 1, "transport": "tls", "peer": f"{FAR}:50000", "version": 0}
    event = Event("joined", 1.0, "trainer 1 joined", "info", data)
    assert telemetry.store(server, Batch(1, events=[event]), telemetry.Position(1, 1))
    found = Member.objects.get(pk=spanning[2].pk)
    assert (found.transport, found.peer) == ("tls", f"{FAR}:50000")


def test_a_server_s_word_on_another_run_s_members_is_not_believed(
    spanning: list[Member], server: Member, project: Project, alice: User
) -> None:
    make_node("third", 3)
    other = runs.submit(project=project, owner=alice, spec=spec())
    [stranger, *_] = placement.admit(other.pk, [f for f in placement.idle_slots() if f.node == "third"])
    members.joined(server, stranger.pk, "tls", "1.2.3.4:5")
    assert Member.objects.get(pk=stranger.pk).transport == ""


def test_a_gang_knows_where_it_lacks_trainers_and_who_may_come(spanning: list[Member], server: Member) -> None:
    members.listening(server, "/run/s.sock", f"{NEAR}:4000")
    trainer = joined(spanning[2], "far")
    members.end(trainer, Exit(Outcome.STOPPED))
    [lack] = placement.missing_trainers()
    assert lack.workers == [1]
    assert lack.gang == topology.Gang("near", open=True, others=frozenset({"near", "far"}))
    Run.objects.update(address="")
    [lack] = placement.missing_trainers()
    assert not lack.gang.open, "its server opened no port"


def test_trainers_on_other_nodes_than_their_server_are_waited_for(spanning: list[Member], server: Member) -> None:
    members.listening(server, "/run/s.sock", f"{NEAR}:4000")
    beside, away = joined(spanning[1], "near"), joined(spanning[2], "far")
    assert placement.far_from_their_servers([server.pk, beside.pk, away.pk]) == {away.pk}
    assert placement.far_from_their_servers([]) == set()
