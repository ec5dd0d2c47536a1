"""A rule's arithmetic on one element, as C++ text: what a compiled pass fuses with other rules' into one loop.

It says the same as the rule's own tensor code, within rounding; a test holds the two side by side for every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Terms = tuple[float, ...]
"""A rule's numbers for one gradient, in the order of its fragment's `scalars`."""


@dataclass(frozen=True)
class Fragment:
    """C++ statements over floats.

    They find `g`, the direction so far; `w`, the server's weight; `base`, what the gradient was computed on; `decay`
    and `scale` of the element's group; and by their names the rule's scalars and its vectors' elements. A compensation
    leaves its direction in `g`; an optimizer steps `w`. Whatever they leave in a vector's element is kept.
    """

    code: str
    scalars: tuple[str, ...] = ()
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """Vectors that all workers' gradients share, as long as the weights."""
    own: Mapping[str, Tensor] = field(default_factory=dict)
    """Vectors of each worker's own: (workers, size)."""
    reads_base: bool = False
    sends: str = ""
    """Expression of what workers are sent, which may use `ahead`, the learning rate at that moment, besides the scalars
    and `shared`. Empty: `w`."""
