"""Data that people upload, prepared for training. A data set never changes: a changed one is another one."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from trainhub.models.access import Project

FACTS = ("kind", "shape", "dtype", "classes", "features", "target", "mean", "std", "vocabulary", "vocabulary_size")


class DatasetKind(models.TextChoices):
    """What a data set can be trained as: the kind of problem that takes it."""

    IMAGES = "images"
    TABLE = "table"
    TEXT = "text"


class Dataset(models.Model):
    """`path` is its folder below the home; `sha256` and `size_bytes` are those of the uploaded file."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="datasets")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=DatasetKind.choices)
    format = models.CharField(max_length=20)
    """What the uploaded file was: npz, csv, image-folder, ..."""
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    examples = models.BigIntegerField()
    """Of all its parts together."""
    info = models.JSONField(default=dict)
    """Shapes, classes, columns: what its preparation found."""
    path = models.CharField(max_length=400)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_dataset_a_name")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dataset", args=[self.pk])

    @property
    def facts(self) -> dict[str, Any]:
        """What the use of a model must know of the data it was trained on."""
        known = {key: self.info[key] for key in FACTS if key in self.info}
        return {"name": self.name, "sha256": self.sha256, **known}
