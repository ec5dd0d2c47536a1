"""Experiments: runs that belong together."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.models import Experiment


@admin.register(Experiment)
class ExperimentAdmin(Looking):
    list_display = ("name", "runs_count", "project", "owner", "tag_words", "age")
    list_filter = (("project", admin.RelatedOnlyFieldListFilter), ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("project", "owner")
    search_fields = ("=id", "name", "project__name", "owner__username")
    ordering = ("-id",)
    fields = ("name", "runs_link", "page", "project", "owner", "notes", "tag_words", "axis_words", "created")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        counted: QuerySet[Any] = super().get_queryset(request).annotate(run_count=Count("runs"))
        return counted

    @admin.display(description="runs", ordering="run_count")
    def runs_count(self, experiment: Any) -> int:
        return int(experiment.run_count)

    @admin.display(description="runs")
    def runs_link(self, experiment: Any) -> SafeString:
        address = f"{reverse('admin:trainhub_run_changelist')}?experiment__id__exact={experiment.pk}"
        return format_html('<a class="th-link" href="{}">{} to look at</a>', address, experiment.run_count)

    @admin.display(description="its page")
    def page(self, experiment: Experiment) -> SafeString:
        return show.out(experiment, f"experiment {experiment.pk}: results side by side")

    @admin.display(description="tags")
    def tag_words(self, experiment: Experiment) -> str:
        return ", ".join(experiment.tags) or show.NOTHING

    @admin.display(description="axes")
    def axis_words(self, experiment: Experiment) -> str:
        return ", ".join(experiment.axes) or show.NOTHING

    @admin.display(ordering="created_at")
    def age(self, experiment: Experiment) -> Any:
        return show.age_alone(experiment.created_at)

    @admin.display(description="created")
    def created(self, experiment: Experiment) -> Any:
        return show.moment(experiment.created_at)
