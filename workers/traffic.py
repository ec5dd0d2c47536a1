"""What a machine group moves, holds and gains: the arithmetic of its two layouts. No torch.

    data-parallel: every device has the whole last layer, and its gradient is all-reduced
                   2 (G - 1) / G D C floats a device and step
    hybrid:        every device has the classes of its slice; features, their gradients and two numbers an image travel
                   2 (G - 1) B D + 4 (G - 1) B floats, and (G - 1) B labels

so that hybrid moves less where, roughly, C > B G: more classes than images in the group's batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_BYTES = 4
LAYOUTS: tuple[Literal["hybrid", "single"], ...] = ("hybrid", "single")


@dataclass(frozen=True)
class Work:
    """A step of one machine group."""

    devices: int
    images: int
    """Of the whole group's batch, B G."""
    features: int
    """D: what the last layer takes of an image."""
    classes: int
    """C: what it gives."""
    below: int
    """Parameters below the last layer."""
    bias: bool = True

    @property
    def images_each(self) -> int:
        """B, of a device that has most."""
        return -(-self.images // self.devices)

    @property
    def classes_each(self) -> int:
        return -(-self.classes // self.devices)

    @property
    def last_layer(self) -> int:
        """Its parameters."""
        return self.classes * (self.features + self.bias)

    # ------------------------------------------------------------ bytes that a device sends in a step

    @property
    def hybrid_bytes(self) -> int:
        """For the last layer."""
        others, each = self.devices - 1, self.images_each
        return FLOAT_BYTES * others * (2 * each * self.features + 4 * each + each + 1)

    @property
    def data_parallel_bytes(self) -> int:
        """For the last layer."""
        return round(FLOAT_BYTES * 2 * (self.devices - 1) / self.devices * self.last_layer)

    @property
    def below_bytes(self) -> int:
        """For all other layers, in either layout: a reduce-scatter, since weights come back from the server."""
        return round(FLOAT_BYTES * (self.devices - 1) / self.devices * self.below)

    # ------------------------------------------------------------ what a device holds

    @property
    def hybrid_memory_bytes(self) -> int:
        """Weights and gradients that it works on, all features, and the scores of its classes twice."""
        own = self.classes_each * (self.features + self.bias)
        passing = self.images * self.features + 2 * self.images * self.classes_each
        return FLOAT_BYTES * (2 * (self.below + own) + passing)

    @property
    def data_parallel_memory_bytes(self) -> int:
        """The same with the whole last layer, for its own images."""
        passing = self.images_each * self.features + 2 * self.images_each * self.classes
        return FLOAT_BYTES * (2 * (self.below + self.last_layer) + passing)

    # ------------------------------------------------------------ which to take

    @property
    def break_even_classes(self) -> float:
        """Classes from which on hybrid moves less. Near B G."""
        each = self.images_each
        per_class = 2 / self.devices * (self.features + self.bias)
        return (2 * each * self.features + 5 * each + 1) / per_class

    @property
    def pays(self) -> bool:
        """Whether hybrid moves less for the last layer."""
        return self.hybrid_bytes < self.data_parallel_bytes

    @property
    def inequality(self) -> str:
        """`C > B·G: 20,000 classes > 32 · 2 = 64 images, so hybrid moves less (exactly: from 66 classes on)`."""
        sign, verdict = (">", "less") if self.classes > self.images else ("≤", "more")
        if (self.classes > self.images) != self.pays:
            verdict = ("less" if self.pays else "more") + " all the same"
        return (
            f"C {sign} B·G: {self.classes:,} classes {sign} {self.images_each:,} · {self.devices} = {self.images:,} "
            f"images, so hybrid moves {verdict} (exactly: it pays from {self.break_even_classes:,.0f} classes on)"
        )
