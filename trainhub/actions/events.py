"""The timeline of a run."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from trainhub.actions import announce
from trainhub.models import Event, Level, Member, Run


def record(
    run: Run,
    kind: str,
    message: str,
    *,
    level: Level = Level.INFO,
    member: Member | None = None,
    at: dt.datetime | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write one line of a run's timeline, in the caller's transaction."""
    Event.objects.create(
        run=run,
        attempt=run.attempt,
        member=member,
        at=at or timezone.now(),
        kind=kind,
        level=level,
        message=message,
        data=data or {},
    )
    announce.run_changed(run.pk)
