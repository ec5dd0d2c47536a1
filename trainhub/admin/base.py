"""What all of these pages share: rows are looked at here, and written by trainhub.actions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest

from trainhub.actions import people

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as _ModelAdmin
    from django.contrib.admin import TabularInline as _TabularInline

    ModelAdmin = _ModelAdmin[Any]
    TabularInline = _TabularInline[Any, Any]
else:  # unfold has no types of its own
    from unfold.admin import ModelAdmin, TabularInline

__all__ = ["Audited", "Looking", "ModelAdmin", "TabularInline", "flat", "person"]

SECRET_FIELDS = {"digest", "key", "password"}
"""Never shown, and never asked about either: `?key__startswith=a` would tell them letter by letter."""


def person(request: HttpRequest) -> User:
    """Who asks. The admin lets nobody else in."""
    assert isinstance(request.user, User)
    return request.user


def flat(fieldsets: Iterable[tuple[Any, Any]]) -> tuple[str, ...]:
    """The names of all fields in fieldsets, whose lines may have several."""
    lines = [line for _, options in fieldsets for line in options["fields"]]
    return tuple(name for line in lines for name in ([line] if isinstance(line, str) else line))


class Looking(ModelAdmin):
    """Rows that are only looked at here, by whoever has the permission to view them."""

    list_per_page = 50
    empty_value_display = "–"
    compressed_fields = False
    list_fullwidth = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        if SECRET_FIELDS & set(lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


class Audited(ModelAdmin):
    """Rows that superusers edit in a form. What they do goes into the audit, in the same transaction."""

    list_per_page = 50
    compressed_fields = False
    list_fullwidth = True
    save_on_top = False
    actions = None  # deleting many at once is how training data gets lost

    def has_add_permission(self, request: HttpRequest) -> bool:
        return person(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        if SECRET_FIELDS & set(lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self._told(request, super().log_addition(request, obj, message), f"Added {self._name} {obj}", obj)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        entry = super().log_change(request, obj, message)
        return self._told(request, entry, f"Changed {self._name} {obj}: {entry.get_change_message()}", obj)

    def _told(self, request: HttpRequest, entry: LogEntry, message: str, obj: Model) -> LogEntry:
        people.changed(person(request), self._name, obj.pk, message)
        return entry

    @property
    def _name(self) -> str:
        return str(self.opts.verbose_name)
