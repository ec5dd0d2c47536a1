"""The audit: who did what. Nobody changes it, superusers neither."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.models import AuditEntry


@admin.register(AuditEntry)
class AuditAdmin(Looking):
    list_display = ("when", "who", "action", "about", "what", "project")
    list_filter = ("action", "subject", ("project", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("project",)
    search_fields = ("username", "message", "=subject_id")
    search_help_text = "name of who did it, words of what was done, number of what it was done to"
    ordering = ("-at", "-id")
    fields = ("moment", "who", "action", "about", "project", "message")
    readonly_fields = fields
    actions = None

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    @admin.display(description="when", ordering="at")
    def when(self, entry: AuditEntry) -> Any:
        return show.moment(entry.at)

    @admin.display(description="when")
    def moment(self, entry: AuditEntry) -> Any:
        return show.moment(entry.at)

    @admin.display(description="who", ordering="username")
    def who(self, entry: AuditEntry) -> str:
        return entry.username

    @admin.display(description="to", ordering="subject")
    def about(self, entry: AuditEntry) -> str:
        return f"{entry.subject} {entry.subject_id}" if entry.subject_id else entry.subject

    @admin.display(description="what was done")
    def what(self, entry: AuditEntry) -> str:
        return show.text(entry.message, 160)
