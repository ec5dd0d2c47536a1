"""Judges who is silent by beats that no longer rise, seen by one observer's own clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class BeatWatch:
    """Remembers each beat and when it last rose. Clocks of other machines play no part.

    `look` must be called often. After a pause of the observer itself (a lost database, a stopped process)
    everybody starts afresh: who could not be seen can't be called silent.
    """

    def __init__(self, *, longest_blink_seconds: float = 3.0) -> None:
        self._longest_blink = longest_blink_seconds
        self._last_look: float | None = None
        self._rose: dict[int, tuple[int, float]] = {}

    def look(self, beats: Mapping[int, int], now: float) -> None:
        """Take in the present beats, by id. Whoever is missing is forgotten."""
        if self._last_look is None or now - self._last_look > self._longest_blink:
            self._rose = {}
        self._last_look = now
        self._rose = {
            key: self._rose[key] if key in self._rose and self._rose[key][0] == beat else (beat, now)
            for key, beat in beats.items()
        }

    def silent(self, seconds: float) -> Iterable[int]:
        """Ids whose beat has not risen for so long."""
        assert self._last_look is not None, "look first"
        return [key for key, (_, since) in self._rose.items() if self._last_look - since >= seconds]
