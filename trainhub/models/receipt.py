"""What a submission under an idempotency key came to, so that sending it again finds it instead of doubling it."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from trainhub.models.experiment import Experiment


class Receipt(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="receipts")
    key = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    """SHA-256 of what was submitted: the same key with something else is a mistake."""
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="receipts")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_receipt_a_key")]

    def __str__(self) -> str:
        return self.key
