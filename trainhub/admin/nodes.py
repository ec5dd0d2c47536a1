"""Machines: what they have, what of it is in use, and whether they take more."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from trainhub.actions import nodes
from trainhub.actions.people import DRAIN_NODES
from trainhub.admin import show
from trainhub.admin.base import Looking, flat
from trainhub.admin.steps import Step, Stepping
from trainhub.models import MemberState, Node

MAY_DRAIN = f"trainhub.{DRAIN_NODES}"
DRAIN = Step(
    name="drain",
    title="Drain",
    question="Drain these nodes?",
    follows="They get no new members. Those they have work on to their end, so nothing that trains is lost.",
    done="Drained",
    do=nodes.drain,
    permission=MAY_DRAIN,
    fits=lambda node: not node.drained,
)
UNDRAIN = Step(
    name="undrain",
    title="Take back into use",
    question="Take these nodes back into use?",
    follows="They get new members again, beginning with what waits now.",
    done="Taken back into use",
    do=nodes.undrain,
    permission=MAY_DRAIN,
    fits=lambda node: node.drained,
)


def with_load(nodes: QuerySet[Any]) -> QuerySet[Any]:
    """Nodes with counts of their slots, of those in use, and of members that nobody there has taken up yet."""
    counted: QuerySet[Any] = nodes.annotate(
        total=Count("slots", filter=Q(slots__retired=False) | Q(slots__member__isnull=False)),
        used=Count("slots", filter=Q(slots__member__isnull=False)),
        unanswered=Count("slots", filter=Q(slots__member__state=MemberState.RESERVED)),
    )
    return counted


@admin.register(Node)
class NodeAdmin(Stepping, Looking):
    list_display = ("name", "state_word", "in_use", "unanswered", "cores", "memory", "seen", "torch")
    list_filter = ("online", "drained")
    search_fields = ("name",)
    ordering = ("name",)
    steps = (DRAIN, UNDRAIN)
    fieldsets = (
        (None, {"fields": (("name", "state_word", "in_use"), ("unanswered", "seen", "registered"))}),
        ("Its place among others", {"fields": (("reached_at", "labelled", "files"),)}),
        ("The machine", {"fields": (("cores", "memory", "processor"), ("system", "python", "commit"), "packages")}),
    )
    readonly_fields = flat(fieldsets)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_load(super().get_queryset(request))

    def about(self, row: Any) -> str:
        return f"{row.name} ({words_of(row)}, {row.used} of {row.total} slots in use)"

    @admin.display(description="state", ordering="online")
    def state_word(self, node: Node) -> SafeString:
        return show.state("drained" if node.drained and node.online else words_of(node), words_of(node))

    @admin.display(description="slots in use", ordering="used")
    def in_use(self, node: Any) -> str:
        return f"{node.used} of {node.total}"

    @admin.display(description="queue", ordering="unanswered")
    def unanswered(self, node: Any) -> str:
        """Members placed here that no supervisor has taken up yet."""
        return f"{node.unanswered} not taken up" if node.unanswered else "empty"

    @admin.display(ordering="memory_bytes")
    def memory(self, node: Node) -> str:
        return f"{node.memory_bytes / 2**30:.1f} GiB"

    @admin.display(description="last beat", ordering="seen_at")
    def seen(self, node: Node) -> SafeString | str:
        return show.age(node.seen_at)

    def registered(self, node: Node) -> SafeString | str:
        return show.moment(node.registered_at)

    @admin.display(description="address")
    def reached_at(self, node: Node) -> str:
        return node.address or "none: it takes whole runs only"

    @admin.display(description="labels")
    def labelled(self, node: Node) -> str:
        return ", ".join(f"{key}={value}" for key, value in sorted(node.labels.items())) or show.NOTHING

    @admin.display(description="files")
    def files(self, node: Node) -> str:
        if node.shares_home:
            return "the service's own"
        return "others than the service's: it trains, but serves no run and reads no uploaded data set"

    @admin.display(description="torch")
    def torch(self, node: Node) -> str:
        return str(node.environment.get("packages", {}).get("torch", show.NOTHING))

    def system(self, node: Node) -> str:
        return str(node.environment.get("system", show.NOTHING))

    def processor(self, node: Node) -> str:
        return str(node.environment.get("processor", show.NOTHING))

    def python(self, node: Node) -> str:
        return str(node.environment.get("python", show.NOTHING))

    def packages(self, node: Node) -> str:
        found = node.environment.get("packages", {})
        return ", ".join(f"{name} {version}" for name, version in found.items()) or show.NOTHING

    def commit(self, node: Node) -> str:
        return str(node.environment.get("commit") or show.NOTHING)


def words_of(node: Node) -> str:
    """`online`, `online, drained`, `offline`."""
    return ("online" if node.online else "offline") + (", drained" if node.drained else "")
