"""Celery's only task: a doorbell with a member's number on it."""

from __future__ import annotations

from celery import shared_task

from workers import agent


@shared_task(name="workers.tasks.supervise", ignore_result=True)
def supervise(member_id: int) -> None:
    """Keep this member until it ends, in a thread of the pool. Acknowledged before; arriving twice is harmless."""
    if agent.current is not None:
        agent.current.supervise(member_id)
