"""`manage.py scheduler`: decides which run gets which slots, and puts right what died."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from trainhub.scheduler import Scheduler


class Command(BaseCommand):
    help = "Run the scheduler. Several may run; one works, the others wait for its lock."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Scheduler(stop).run()
