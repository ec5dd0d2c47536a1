"""Where a device's time goes in a step, and its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from workers.devices import HOST, Device
from workers.events import PHASES, TRAFFIC

KINDS = {
    "features": "last_layer",
    "labels": "last_layer",
    "softmax": "last_layer",
    "loss": "last_layer",
    "feature gradients": "last_layer",
    "convolution gradients": "convolutions",
    "batch norm": "batch_norm",
    "metrics": "metrics",
}
"""What each exchange counts as."""


class Stopwatch:
    """`workers.methods.hybrid.base.Phases`: seconds of each phase since the last `take`, as the device spends them."""

    def __init__(self, device: Device = HOST) -> None:
        self._device = device
        self._phases: list[str] = []
        self._stamps = [device.stamp()]

    def mark(self, phase: str) -> None:
        self._phases.append(phase)
        self._stamps.append(self._device.stamp())

    def take(self) -> list[float]:
        """A step is over: hand out its seconds, in the order of `workers.events.PHASES`, and begin the next one's."""
        found = dict.fromkeys(PHASES, 0.0)
        for phase, seconds in zip(self._phases, self._device.seconds(self._stamps), strict=True):
            found[phase] += seconds
        self._phases, self._stamps = [], self._stamps[-1:]
        return list(found.values())


class Traffic:
    """Bytes that a device sent, by what they were for."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()

    def since_last(self, sent: Mapping[str, int]) -> list[int]:
        """In the order of `workers.events.TRAFFIC`."""
        total: Counter[str] = Counter()
        for what, count in sent.items():
            total[KINDS.get(what, what)] += count
        found = [total[kind] - self._before[kind] for kind in TRAFFIC]
        self._before = total
        return found
