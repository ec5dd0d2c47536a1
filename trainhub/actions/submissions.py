"""What comes in at any door, form, REST, command line, is written here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import connection, transaction

from trainhub.actions import runs
from trainhub.actions.errors import KeyReused, WrongKey
from trainhub.models import Experiment, Project, Receipt
from trainhub.submissions import Draft, understand

MOST_KEY = 200


@dataclass(frozen=True)
class Submitted:
    experiment: Experiment
    replayed: bool
    """Whether it was there already, under the same idempotency key."""


@transaction.atomic
def submit(*, project: Project, owner: User, draft: Draft, key: str = "") -> Submitted:
    """Write an experiment and its queued runs. Once this returns, the submission cannot be lost.

    The same key with the same draft finds what the first one wrote. Raises SpecError, KeyReused, WrongKey and what
    `runs.check` raises.
    """
    digest = hashlib.sha256(f"{project.pk} {draft.digest}".encode()).hexdigest()
    if key and (receipt := _receipt(owner, key)):
        if receipt.digest != digest:
            raise KeyReused("this Idempotency-Key was used for another submission; take a new one")
        return Submitted(receipt.experiment, replayed=True)
    submission = understand(draft)
    experiment = runs.submit_many(
        project=project,
        owner=owner,
        name=submission.name,
        cells=submission.cells,
        notes=submission.spec.notes,
        tags=submission.spec.tags,
    )
    if key:
        Receipt.objects.create(user=owner, key=key, digest=digest, experiment=experiment)
    return Submitted(experiment, replayed=False)


def _receipt(owner: User, key: str) -> Receipt | None:
    """What this key came to before. Two submissions under one key at once: the second waits for the first."""
    if len(key) > MOST_KEY or not key.isprintable():
        raise WrongKey("Idempotency-Key", f"must be at most {MOST_KEY} printable characters")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"receipt {owner.pk} {key}"])
    return Receipt.objects.select_related("experiment").filter(user=owner, key=key).first()
