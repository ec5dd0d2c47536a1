"""Projects and who is in them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest

from trainhub.admin.base import Audited, TabularInline, person
from trainhub.models import Membership, Project


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    fields = ("user", "role")
    verbose_name_plural = "people"

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None:  # its label is the head of the column, which a screen reader does not connect
            getattr(field.widget, "widget", field.widget).attrs["aria-label"] = db_field.name
        return field

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return person(request).is_superuser


@admin.register(Project)
class ProjectAdmin(Audited):
    """Made and renamed here. Not deleted: its experiments, runs and data sets would go with it."""

    list_display = ("name", "members", "experiments_count", "created_at")
    search_fields = ("name",)
    ordering = ("name",)
    fields = ("name",)
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found = super().get_queryset(request)
        people, experiments = Count("memberships", distinct=True), Count("experiments", distinct=True)
        counted: QuerySet[Any] = found.annotate(people_count=people, experiment_count=experiments)
        return counted

    @admin.display(description="people", ordering="people_count")
    def members(self, project: Any) -> int:
        return int(project.people_count)

    @admin.display(description="experiments", ordering="experiment_count")
    def experiments_count(self, project: Any) -> int:
        return int(project.experiment_count)
