"""The last layer as one device of a group has it, and what it gives where an ordinary one gives logits.

No device ever holds all logits. What comes out of the layer stands for them in what a loss and its metrics ask of
logits: `functional.cross_entropy`, `argmax` and `topk` over the classes. So a problem's `loss()` need not know that
its last layer is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.methods.hybrid.softmax import CrossEntropy, Cut, Scores, best_classes, scores, top_classes


class Unsupported(ValueError):
    """A loss asked something of the last layer's outputs that a device which has a slice of them can't answer."""


class ShardedLinear(nn.Module):
    """A Linear of which this device has the rows of its own classes: `weight` (C_k, D) and `bias` (C_k,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, cut: Cut) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias) if bias is not None else None
        self.cut = cut
        self.losses: list[Tensor] = []
        """Of the outputs since the last `begin`, those that became losses."""

    @classmethod
    def of(cls, dense: nn.Linear, cut: Cut) -> ShardedLinear:
        """This device's slice of an ordinary one. Weight and bias are views of the whole ones."""
        mine = cut.classes.of(cut.group.rank)
        return cls(dense.weight.detach()[mine], None if dense.bias is None else dense.bias.detach()[mine], cut)

    def begin(self) -> None:
        self.losses.clear()

    def forward(self, features: Tensor) -> ShardedLogits:
        images = self.cut.images.counts[self.cut.group.rank]
        if features.dim() != 2 or len(features) != images:
            raise Unsupported(
                f"a layer that is cut over devices takes one row of features for each of its {images} images, "
                f"got {tuple(features.shape)}"
            )
        self.cut.phases.mark("conv_forward")
        # What the devices exchange is summed in the precision of the weights, whatever the layers below compute in.
        features = features.to(self.weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            return ShardedLogits(self, features, scores(self.cut, features.detach(), self.weight, self.bias))


class ShardedLogits:
    """Stands for the logits (B, C) of this device's images."""

    def __init__(self, layer: ShardedLinear, features: Tensor, found: Scores) -> None:
        self._layer, self._features, self._found = layer, features, found

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self._features), self._layer.cut.classes.total))

    @property
    def device(self) -> torch.device:
        return self._features.device

    @property
    def dtype(self) -> torch.dtype:
        return self._features.dtype

    def __len__(self) -> int:
        return len(self._features)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return 2

    def detach(self) -> ShardedLogits:
        """Metrics need no gradient, and get none."""
        return self

    def argmax(self, dim: int | None = None) -> Tensor:
        _over_classes(dim, "argmax")
        return best_classes(self._layer.cut, self._found)

    def topk(self, k: int, dim: int = -1) -> tuple[Tensor, Tensor]:
        _over_classes(dim, "topk")
        return top_classes(self._layer.cut, self._found, k)

    def cross_entropy(self, target: Tensor, **options: Any) -> Tensor:
        others = {name for name, value in options.items() if value != USUAL.get(name)}
        if others or target.dim() != 1 or target.is_floating_point():
            what = ", ".join(sorted(others)) or "targets that are not one class an image"
            raise Unsupported(f"over a layer that is cut over devices, cross_entropy does not take {what}")
        layer = self._layer
        loss: Tensor = CrossEntropy.apply(  # type: ignore[no-untyped-call]
            self._features, layer.weight, layer.bias, target, self._found, layer.cut
        )
        layer.losses.append(loss)
        return loss

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        name = next((name for known, name in ANSWERED.items() if known is function), None)
        if name is None or not isinstance(arguments[0], ShardedLogits):
            raise Unsupported(
                f"layout.kind hybrid cuts the last layer over devices: its outputs take cross_entropy, argmax and "
                f"topk, but not {getattr(function, '__name__', function)}"
            )
        return getattr(arguments[0], name)(*arguments[1:], **(options or {}))


USUAL = {
    "weight": None,
    "size_average": None,
    "ignore_index": -100,
    "reduce": None,
    "reduction": "mean",
    "label_smoothing": 0.0,
}
ANSWERED: dict[Callable[..., Any], str] = {
    functional.cross_entropy: "cross_entropy",
    torch.argmax: "argmax",
    torch.topk: "topk",
}


def _over_classes(dim: int | None, what: str) -> None:
    if dim not in (1, -1):
        raise Unsupported(f"{what} of outputs that are cut over devices goes over the classes: dim 1, got {dim}")
