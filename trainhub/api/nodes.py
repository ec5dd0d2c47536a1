"""Nodes: what there is to train on, and taking machines out of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router
from pydantic import WithJsonSchema

from trainhub import access, summary
from trainhub.actions import nodes
from trainhub.api.auth import asker
from trainhub.api.pages import Asked, Page, page
from trainhub.api.shapes import Moment, Shape, Text
from trainhub.models import Node

router = Router(tags=["Nodes"])

ACTIONS = {"drain": nodes.drain, "undrain": nodes.undrain}


class NodeSlots(Shape):
    total: int
    busy: int
    idle: int
    """Of a node that is offline or drained none is."""


class GpuShape(Shape):
    index: int
    """Its number on the machine, as `nvidia-smi` has it."""
    name: str
    memory_bytes: int
    driver: str
    capability: str
    """CUDA's compute capability."""


class NodeShape(Shape):
    """A machine with a node agent."""

    name: str
    online: bool
    drained: bool
    """It gets no new members."""
    cores: int
    memory_bytes: int
    gpus: list[GpuShape]
    """Those that it offers slots of."""
    address: str
    """Where members on other nodes reach its members. Empty: nowhere, and it takes whole runs only."""
    labels: dict[str, str]
    shares_home: bool
    """Whether it sees the service's files. If not, it trains, but serves no run and reads no uploaded data set."""
    slots: NodeSlots
    registered_at: Moment | None
    seen_at: Moment | None


@router.get("/nodes", response=Page[NodeShape], operation_id="list_nodes", summary="List nodes")
def list_nodes(request: HttpRequest, asked: Query[Asked]) -> dict[str, Any]:
    """Machines and their slots, the newest first."""
    return page(counted(Node.objects.all()), asked, lines)


@router.post(
    "/nodes/{name}/actions/{action}",
    response={202: NodeShape},
    operation_id="act_on_node",
    summary="Drain a node, or take it back into use",
)
def act(
    request: HttpRequest,
    name: Text,
    action: Annotated[str, WithJsonSchema({"type": "string", "enum": list(ACTIONS)})],
) -> dict[str, Any]:
    """For operators. A drained node gets no new members; those it has work on to their end."""
    if action not in ACTIONS:
        raise Http404
    if not access.is_operator(request.user):
        raise PermissionDenied("Only operators drain nodes.")
    ACTIONS[action](get_object_or_404(Node, name=name), by=asker(request))
    return lines([counted(Node.objects.all()).get(name=name)])[0]


def counted(found: QuerySet[Node]) -> QuerySet[Node]:
    here = Q(slots__retired=False)
    return found.annotate(slots_total=Count("slots", here), slots_busy=Count("slots__member", here))


def lines(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [_line(node) for node in found]


def _line(node: Any) -> dict[str, Any]:
    usable = node.online and not node.drained
    idle = node.slots_total - node.slots_busy if usable else 0
    return {
        "name": node.name,
        "online": node.online,
        "drained": node.drained,
        "cores": node.cores,
        "memory_bytes": node.memory_bytes,
        "gpus": node.environment.get("gpus") or [],
        "address": node.address,
        "labels": node.labels,
        "shares_home": node.shares_home,
        "slots": {"total": node.slots_total, "busy": node.slots_busy, "idle": idle},
        "registered_at": summary.moment(node.registered_at),
        "seen_at": summary.moment(node.seen_at),
    }
