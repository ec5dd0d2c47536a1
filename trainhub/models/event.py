"""What happened to a run, and what its children printed."""

from __future__ import annotations

from django.db import models

from trainhub.models.run import Member, Run


class Level(models.TextChoices):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.IntegerField(default=0)
    member = models.ForeignKey(Member, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    level = models.CharField(max_length=10, choices=Level.choices, default=Level.INFO)
    message = models.TextField()
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["run", "id"], name="event_order")]

    def __str__(self) -> str:
        return self.message


class LogLine(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_lines")
    member = models.ForeignKey(Member, on_delete=models.CASCADE, related_name="log_lines")
    at = models.DateTimeField()
    text = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["run", "id"], name="log_order")]

    def __str__(self) -> str:
        return self.text
