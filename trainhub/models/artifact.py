"""Files a run made. A checkpoint is one kind."""

from __future__ import annotations

from django.db import models

from trainhub.models.run import Run


class ArtifactKind(models.TextChoices):
    CHECKPOINT = "checkpoint"


class Artifact(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    attempt = models.IntegerField()
    kind = models.CharField(max_length=20, choices=ArtifactKind.choices)
    epoch = models.BigIntegerField()
    version = models.BigIntegerField()
    path = models.CharField(max_length=400)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    metrics = models.JSONField(default=dict)
    final = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "kind", "epoch", "version"], name="one_artifact_a_version")
        ]
        indexes = [models.Index(fields=["run", "kind", "-version"], name="artifact_newest")]

    def __str__(self) -> str:
        return f"{self.kind} of run {self.run_id} at version {self.version}"
