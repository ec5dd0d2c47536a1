"""Nodes: registered by their agents, kept alive by beats, found missing by the scheduler."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from trainhub.actions import announce, audit, slots
from trainhub.models import Node, Slot


@dataclass(frozen=True)
class Machine:
    """What an agent says of its machine. `slots` maps a kind to how many there are.

    `gpus` has the slots that come with a GPU: number → facts of that GPU.
    `address`: where members on other nodes reach its members; empty: nowhere. `home`: identity of the home it sees.
    """

    name: str
    cores: int
    memory_bytes: int
    slots: dict[str, int]
    environment: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    home: str = ""
    gpus: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def slots_in_all(self) -> int:
        return sum(self.slots.values()) + len(self.gpus)


@transaction.atomic
def register(machine: Machine, agent: uuid.UUID) -> Node:
    """Write the node and its slots. A slot that a member still holds stays its own: the child may live on."""
    now = timezone.now()
    told = {
        "agent": agent,
        "online": True,
        "cores": machine.cores,
        "memory_bytes": machine.memory_bytes,
        "environment": machine.environment,
        "address": machine.address,
        "labels": machine.labels,
        "home": machine.home,
        "seen_at": now,
    }
    node, _ = Node.objects.update_or_create(
        name=machine.name, defaults=told, create_defaults=told | {"registered_at": now}
    )
    slots.lock(Slot.objects.filter(node=node))
    for kind, count in machine.slots.items():
        for index in range(count):
            Slot.objects.update_or_create(node=node, kind=kind, index=index, defaults={"retired": False})
        Slot.objects.filter(node=node, kind=kind, index__gte=count).update(retired=True)
    for index, gpu in machine.gpus.items():
        offer = {"retired": False, "device": gpu}
        Slot.objects.update_or_create(node=node, kind="cuda", index=index, defaults=offer)
    Slot.objects.filter(node=node, kind="cuda").exclude(index__in=list(machine.gpus)).update(retired=True)
    announce.wake_scheduler()
    return node


def beat(node: Node) -> bool:
    """Say that the agent lives. False: another agent has taken this node's name."""
    mine = Node.objects.filter(pk=node.pk, agent=node.agent)
    return bool(mine.update(beat=F("beat") + 1, seen_at=timezone.now(), online=True))


@transaction.atomic
def sign_off(node: Node) -> None:
    """The agent shuts down in order: no new members until it is back."""
    Node.objects.filter(pk=node.pk, agent=node.agent).update(online=False)
    announce.wake_scheduler()


@transaction.atomic
def drain(node: Node, *, by: User) -> None:
    """Give it no new members. Those it has work on to their end."""
    if Node.objects.filter(pk=node.pk, drained=False).update(drained=True):
        audit.of_node(by, "drain", node, f"Drained node {node.name}")
    announce.wake_scheduler()


@transaction.atomic
def undrain(node: Node, *, by: User) -> None:
    """Give it members again."""
    if Node.objects.filter(pk=node.pk, drained=True).update(drained=False):
        audit.of_node(by, "undrain", node, f"Took node {node.name} back into use")
    announce.wake_scheduler()


def missing(node_id: int) -> None:
    """The scheduler has not seen this node's beat rise for too long."""
    Node.objects.filter(pk=node_id).update(online=False)
