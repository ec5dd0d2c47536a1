"""What happened to runs, and what their children printed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.models import Event, LogLine

LOOKED_AT = 5000
"""Kinds to choose from are those of so many newest events: reading all of a long table for them takes seconds."""


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = Event.objects.order_by("-pk").values("pk")[:LOOKED_AT]
        kinds = Event.objects.filter(pk__in=newest).order_by("kind").values_list("kind", flat=True).distinct()
        return [(kind, kind) for kind in kinds]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(Looking):
    list_display = ("when", "level_word", "kind", "run_link", "attempt", "what")
    list_filter = ("level", KindFilter)
    list_select_related = ("run", "member")
    search_fields = ("=run__id", "message")
    search_help_text = "number of the run, or words of the message"
    ordering = ("-id",)
    show_full_result_count = False  # these tables are the long ones
    fields = ("moment", "level_word", "kind", "run_link", "attempt", "member", "message", "details")
    readonly_fields = fields

    @admin.display(description="when", ordering="at")
    def when(self, event: Event) -> Any:
        return show.age(event.at)

    @admin.display(description="when")
    def moment(self, event: Event) -> Any:
        return show.moment(event.at)

    @admin.display(description="level", ordering="level")
    def level_word(self, event: Event) -> SafeString:
        return show.state(event.level)

    @admin.display(description="run", ordering="run")
    def run_link(self, event: Event) -> SafeString | str:
        return show.link(event.run)

    @admin.display(description="message")
    def what(self, event: Event) -> str:
        return show.text(event.message)

    @admin.display(description="data")
    def details(self, event: Event) -> SafeString | str:
        return show.block(json.dumps(event.data, indent=2)) if event.data else show.NOTHING


@admin.register(LogLine)
class LogLineAdmin(Looking):
    list_display = ("when", "run_link", "who", "line")
    list_select_related = ("run", "member")
    search_fields = ("=run__id", "text")
    search_help_text = "number of the run, or words of the line"
    ordering = ("-id",)
    show_full_result_count = False  # these tables are the long ones
    fields = ("moment", "run_link", "who", "whole")
    readonly_fields = fields

    @admin.display(description="when", ordering="at")
    def when(self, line: LogLine) -> Any:
        return show.age(line.at)

    @admin.display(description="when")
    def moment(self, line: LogLine) -> Any:
        return show.moment(line.at)

    @admin.display(description="run", ordering="run")
    def run_link(self, line: LogLine) -> SafeString | str:
        return show.link(line.run)

    @admin.display(description="printed by")
    def who(self, line: LogLine) -> str:
        return line.member.title

    @admin.display(description="line")
    def line(self, line: LogLine) -> str:
        return show.text(line.text)

    @admin.display(description="line")
    def whole(self, line: LogLine) -> SafeString:
        return show.block(line.text)
