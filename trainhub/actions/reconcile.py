"""Puts right what nobody else will: members without a supervisor, runs that nobody ends."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from trainhub.actions import members, runs
from trainhub.models import Member, MemberState, Run, RunState
from workers.assignment import Cause, Exit, Outcome

UNANSWERED = dt.timedelta(seconds=30)
"""How long a node may leave its doorbell unanswered before the gang is given up."""
OVERDUE = dt.timedelta(seconds=10)
"""How long past its deadline a wish is left to the supervisors."""
START = dt.timedelta(minutes=10)
"""How long a gang may take to load its data and begin to train."""


def member_lost(member_id: int) -> None:
    """Its supervisor is silent: end the member, and let go of the server's place if it held it."""
    members.end(members.get(member_id), Exit(Outcome.FAILED, Cause.NODE_LOST, "its node does not answer"))


def stuck_runs() -> None:
    """End the attempts of runs that can't go on by themselves."""
    active = Run.objects.filter(state__in=RunState.active())
    for run in active:
        with transaction.atomic():
            locked = runs.lock(run)
            if locked.state in RunState.active() and (reason := _stuck(locked)):
                # Its members are fenced by this, and their supervisors end their children
                runs.end_attempt(locked, reason)


def _stuck(run: Run) -> Exit | None:
    now = timezone.now()
    gang = Member.objects.filter(attempt__run=run, attempt__number=run.attempt, ended_at=None)
    if not gang.exists():
        return Exit(Outcome.STOPPED) if run.wish else Exit(Outcome.FAILED, Cause.NODE_LOST, "nobody is left")
    if run.wish_deadline and run.wish_deadline + OVERDUE < now:
        return Exit(Outcome.FAILED, Cause.DEADLINE, f"did not {run.wish} within its deadline")
    if run.state != RunState.STARTING:
        return None
    unanswered = Q(state=MemberState.RESERVED, reserved_at__lt=now - UNANSWERED)
    if silent := gang.filter(unanswered).select_related("slot__node").first():
        return Exit(Outcome.FAILED, Cause.NODE_LOST, f"{silent.slot} did not answer")
    if run.started_at and run.started_at + START < now:
        minutes = START.total_seconds() / 60
        return Exit(Outcome.FAILED, Cause.DEADLINE, f"did not begin to train within {minutes:.0f} minutes")
    return None
