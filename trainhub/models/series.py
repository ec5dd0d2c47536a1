"""Series: what a run measured, in chunks of about a thousand points."""

from __future__ import annotations

from django.db import models

from trainhub.models.run import Run

CHUNK_POINTS = 1000


class SeriesChunk(models.Model):
    """Points of one series: x int64 (versions, rising), t float64 (seconds since 1970), y float64, little-endian.

    `worker` -1 is the run as a whole. `sequence` is the run's live sequence when points were last appended,
    so that a dashboard that missed some asks for what is newer.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="series_chunks")
    attempt = models.IntegerField()
    worker = models.IntegerField()
    key = models.CharField(max_length=120)
    index = models.IntegerField()
    sequence = models.BigIntegerField()
    count = models.IntegerField()
    nonfinite = models.IntegerField(default=0)
    first_x = models.BigIntegerField()
    last_x = models.BigIntegerField()
    low = models.FloatField(null=True)
    """Smallest finite value. None: there is none."""
    high = models.FloatField(null=True)
    last = models.FloatField()
    x = models.BinaryField()
    t = models.BinaryField()
    y = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "worker", "key", "index"], name="one_chunk_an_index")
        ]
        indexes = [models.Index(fields=["run", "sequence"], name="chunk_newer")]

    def __str__(self) -> str:
        return f"{self.key} of worker {self.worker}, chunk {self.index}"
