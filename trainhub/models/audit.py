"""Who did what, for whoever has to answer for the installation. Entries are only ever added."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from trainhub.models.access import Project


class AuditEntry(models.Model):
    at = models.DateTimeField(auto_now_add=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    username = models.CharField(max_length=150)
    """Kept when the account is gone."""
    action = models.CharField(max_length=40)
    subject = models.CharField(max_length=40)
    """What it was done to: run, node, token, ..."""
    subject_id = models.BigIntegerField(null=True)
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL, related_name="+")
    message = models.TextField()

    class Meta:
        indexes = [
            models.Index(fields=["-at"], name="audit_newest"),
            models.Index(fields=["subject", "subject_id"], name="audit_subject"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return self.message
