"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 40.0


def eventually(true: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `true()` is; fails loudly when it does not become so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.02)
