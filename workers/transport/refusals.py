"""Tells a run of who was turned away, without being flooded by it: a port scan is one line in ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from workers.reporting import Reporter

BURST = 20
"""Told one by one before we go over to counting."""
EVERY_SECONDS = 10.0


class Refusals:
    """Reports `refused` events, from any thread. Nothing is told twice, and nobody is forgotten: they are counted."""

    def __init__(self, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter, self._clock = reporter, clock
        self._lock = threading.Lock()
        self._left = float(BURST)
        self._looked_at = clock()
        self._untold = 0

    def tell(self, who: str, reason: str, *, peer: str = "") -> None:
        """`who` was turned away for `reason`; `peer` is the address it came from, if it came from elsewhere."""
        with self._lock:
            now = self._clock()
            self._left = min(BURST, self._left + (now - self._looked_at) / EVERY_SECONDS)
            self._looked_at = now
            if self._left < 1.0:
                self._untold += 1
                return
            self._left -= 1.0
            untold, self._untold = self._untold, 0
        came = f"{who} from {peer}" if peer else who
        more = f" ({untold} more were refused since the last time this was told)" if untold else ""
        self._reporter.event(
            "refused", f"{came} was refused: {reason}{more}", level="warning", peer=peer, reason=reason, untold=untold
        )

    def close(self) -> None:
        """Tell of those who were only counted."""
        with self._lock:
            untold, self._untold = self._untold, 0
        if untold:
            self._reporter.event("refused", f"{untold} more were refused", level="warning", untold=untold)
