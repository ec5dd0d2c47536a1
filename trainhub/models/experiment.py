"""An experiment: one to many runs that belong together (seeds, a sweep, a study)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse

from trainhub.models.access import Project


class Experiment(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="experiments")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="experiments")
    name = models.CharField(max_length=120)
    notes = models.TextField(blank=True)
    tags = models.JSONField(default=list)
    axes = models.JSONField(default=list)
    """Names of what its runs' labels tell apart, in the order a table shows them."""
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("experiment", args=[self.pk])
