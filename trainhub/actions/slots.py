"""Slots: given to members, taken back. Every giving raises the slot's fencing token.

Whoever locks several slots does so by `lock`: in one order everywhere, so that no two wait for each other.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db.models import F, QuerySet
from django.utils import timezone

from trainhub.models import Attempt, Member, MemberState, Run, Slot
from workers.assignment import Outcome

FIRST_RING = dt.timedelta(seconds=1)
"""How long after the first ring a silent node is rung again."""


def lock(slots: QuerySet[Slot]) -> list[Slot]:
    """Lock these slots in the caller's transaction."""
    return list(slots.select_for_update(of=("self",)).order_by("pk"))


def reserve(
    taken: Sequence[Slot], attempt: Attempt, *, rank: int, worker: int | None, may_serve: bool, now: dt.datetime
) -> Member:
    """Give free, locked slots of one node to a new member of `attempt`. The caller rings its node after the commit.

    The first is the member's own, by whose token it is fenced: they are given and taken back together.
    """
    slot = taken[0]
    member = Member.objects.create(
        attempt=attempt,
        slot=slot,
        devices=len(taken),
        reservation=slot.reservation + 1,
        rank=rank,
        worker=worker,
        may_serve=may_serve,
        reserved_at=now,
        rings=1,
        ring_at=now + FIRST_RING,
    )
    pks = [each.pk for each in taken]
    Slot.objects.filter(pk__in=pks).update(member=member, reservation=F("reservation") + 1)
    return member


def free(member: Member) -> None:
    """Give the member's slots back, unless they belong to somebody else by now."""
    held = Slot.objects.filter(member=member)
    lock(held)
    held.update(member=None)


def release_unanswered(run: Run) -> None:
    """Give back the slots of members that no supervisor has taken up. In the caller's transaction."""
    for member in Member.objects.filter(attempt__run=run, state=MemberState.RESERVED):
        Member.objects.filter(pk=member.pk).update(
            state=MemberState.FINISHED, ended_at=timezone.now(), outcome=Outcome.STOPPED
        )
        free(member)
