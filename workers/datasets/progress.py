"""How far a preparation is, as lines of JSON for whoever started it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TextIO

EVERY_SECONDS = 0.2


class Progress:
    """Writes `{"done": n, "total": m}`, a few times a second at most."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._done = self._total = 0
        self._next = 0.0

    def begin(self, total: int) -> None:
        """`total` are examples."""
        self._done, self._total, self._next = 0, total, 0.0
        self._tell()

    def advance(self, count: int) -> None:
        self._done += count
        if self._done >= self._total or self._clock() >= self._next:
            self._tell()

    def _tell(self) -> None:
        self._next = self._clock() + EVERY_SECONDS
        print(json.dumps({"done": self._done, "total": self._total}), file=self._out, flush=True)
