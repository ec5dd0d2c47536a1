"""`manage.py agent`: this machine's Celery worker, whose threads supervise the children of runs."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery.signals import worker_shutting_down
from django.conf import settings
from django.core.management.base import BaseCommand

from trainhub.celery import app
from workers import agent

STOP_SECONDS = 18.0


class Command(BaseCommand):
    help = "Run this machine's node agent: it registers slots and supervises the processes of runs."

    def handle(self, *args: Any, **options: Any) -> None:
        agent.current = agent.NodeAgent()
        worker_shutting_down.connect(self._ask_to_stop, weak=False)
        agent.current.start()
        worker = app.Worker(
            hostname=f"{settings.NODE_NAME}@trainhub",
            pool="threads",
            # A thread for each member, and some so that a doorbell is answered while all are busy.
            concurrency=agent.current.machine.slots_in_all + 2,
            queues=[f"node.{settings.NODE_NAME}"],
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        worker.start()
        agent.current.stop(STOP_SECONDS)
        logging.shutdown()
        # Not sys.exit: multiprocessing would wait for children, which may well outlive a broken agent.
        os._exit(worker.exitcode or 0)

    def _ask_to_stop(self, **_: Any) -> None:
        if agent.current is not None:
            agent.current.shutdown.set()
