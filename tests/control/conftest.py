"""A project, a person, a machine with slots, and a spec that needs three of them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from trainhub import places
from trainhub.actions import members, nodes, placement, runs
from trainhub.models import Member, Membership, Node, Project, Role, Run
from workers.spec import RunSpec

OUR_HOME = places.identity(settings.HOME)
SPEC: dict[str, Any] = {
    "name": "a ledger",
    "problem": {"kind": "ledger"},
    "optimizer": {"kind": "sgd", "learning_rate": 1.0},
    "workers": 2,
    "budget": {"updates": 100},
}


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def project(alice: User) -> Project:
    project = Project.objects.create(name="vision")
    Membership.objects.create(project=project, user=alice, role=Role.MEMBER)
    return project


@pytest.fixture
def node(db: None) -> Node:
    return make_node("one", 8)


def make_node(name: str, slots: int, **more: Any) -> Node:
    machine = nodes.Machine(name=name, cores=2, memory_bytes=2**30, slots={"cpu": slots}, home=OUR_HOME)
    return nodes.register(replace(machine, **more), uuid.uuid4())


def spec(**changes: Any) -> RunSpec:
    return RunSpec.parse(SPEC | changes)


@pytest.fixture
def queued(project: Project, alice: User) -> Run:
    return runs.submit(project=project, owner=alice, spec=spec())


@pytest.fixture
def gang(queued: Run, node: Node) -> list[Member]:
    """The queued run, admitted to three slots of the node."""
    return placement.admit(queued.pk, placement.idle_slots()[:3])


@pytest.fixture
def server(gang: list[Member]) -> Member:
    """The gang's first member, taken up and promoted."""
    member = members.take(gang[0].pk, "one")
    assert member is not None
    assert members.claim(member) == 1
    return members.get(member.pk)


@pytest.fixture
def trainer(gang: list[Member], server: Member) -> Member:
    """The gang's second member, joined to the promoted server."""
    members.listening(server, "/run/s.sock")
    taken = members.take(gang[1].pk, "one")
    assert taken is not None
    joined = members.become_trainer(taken)
    assert joined is not None
    return joined
