"""Members of gangs: who does what on which slot."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from trainhub import words
from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.models import Member


@admin.register(Member)
class MemberAdmin(Looking):
    list_display = ("title", "run", "state_word", "role", "worker", "place", "beats", "beat_age", "started")
    list_filter = ("state", "role", ("slot__node", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("attempt__run", "slot__node")
    search_fields = ("=attempt__run__id", "attempt__run__name", "slot__node__name")
    search_help_text = "number or name of the run, name of the node"
    ordering = ("-id",)
    fields = (
        "run",
        "state_word",
        "role",
        "worker",
        "rank",
        "epoch",
        "place",
        "reservation",
        "beats",
        "beat_age",
        "rings",
        "reserved",
        "started",
        "ended",
        "end",
    )
    readonly_fields = fields

    @admin.display(description="state", ordering="state")
    def state_word(self, member: Member) -> SafeString:
        return show.state(member.state)

    @admin.display(ordering="attempt__run")
    def run(self, member: Member) -> SafeString | str:
        attempt = member.attempt
        return show.link(attempt.run, f"run {attempt.run_id}, attempt {attempt.number}")

    @admin.display(description="node and slot", ordering="slot")
    def place(self, member: Member) -> str:
        return str(member.slot) if member.slot else show.NOTHING

    @admin.display(description="beats", ordering="beat")
    def beats(self, member: Member) -> str:
        return f"{member.beat:,}"

    @admin.display(description="its node's beat")
    def beat_age(self, member: Member) -> SafeString | str:
        """A member's beat is a count that the scheduler watches; moments are kept of nodes alone."""
        alive = member.ended_at is None and member.slot is not None
        return show.age(member.slot.node.seen_at) if alive and member.slot else show.NOTHING

    @admin.display(description="reserved")
    def reserved(self, member: Member) -> SafeString | str:
        return show.moment(member.reserved_at)

    @admin.display(description="started", ordering="started_at")
    def started(self, member: Member) -> SafeString | str:
        return show.age(member.started_at)

    @admin.display(description="ended")
    def ended(self, member: Member) -> SafeString | str:
        return show.moment(member.ended_at)

    @admin.display(description="how it ended")
    def end(self, member: Member) -> str:
        return " ".join(p for p in (member.outcome, words.cause(member.cause), member.detail) if p) or show.NOTHING
