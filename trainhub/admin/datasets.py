"""Data sets that people uploaded."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString

from trainhub import words
from trainhub.admin import show
from trainhub.admin.base import Looking
from trainhub.models import Dataset


@admin.register(Dataset)
class DatasetAdmin(Looking):
    list_display = ("name", "kind", "format", "examples_count", "size", "project", "owner", "age")
    list_filter = ("kind", ("project", admin.RelatedOnlyFieldListFilter), ("owner", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("project", "owner")
    search_fields = ("name", "project__name", "owner__username", "sha256")
    ordering = ("-id",)
    fields = (
        "name",
        "kind",
        "format",
        "project",
        "owner",
        "examples_count",
        "size",
        "sha256",
        "path",
        "found",
        "created",
    )
    readonly_fields = fields

    @admin.display(description="examples", ordering="examples")
    def examples_count(self, dataset: Dataset) -> str:
        return f"{dataset.examples:,}"

    @admin.display(description="uploaded size", ordering="size_bytes")
    def size(self, dataset: Dataset) -> str:
        return words.size(dataset.size_bytes)

    @admin.display(description="what was found in it")
    def found(self, dataset: Dataset) -> SafeString:
        return show.block(json.dumps(dataset.info, indent=2, ensure_ascii=False))

    @admin.display(ordering="created_at")
    def age(self, dataset: Dataset) -> Any:
        return show.age_alone(dataset.created_at)

    @admin.display(description="uploaded")
    def created(self, dataset: Dataset) -> Any:
        return show.moment(dataset.created_at)
