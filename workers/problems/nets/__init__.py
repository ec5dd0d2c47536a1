"""Networks as files of plain PyTorch, and which of them a spec means.

Each file imports torch and the standard library only: a copy of it goes with every downloaded checkpoint. What is here
loads no torch, so that who makes the download can tell file and arguments without it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers import spec

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path(__file__).parent
DIGITS_SHAPE = (1, 8, 8)
DIGITS_CLASSES = 10
GLYPHS_SIZE = 16


@dataclass(frozen=True)
class Recipe:
    """How to build a network: a function of one file here, and its arguments."""

    module: str
    builder: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    """Of one example."""
    tokens: bool = False
    """Whether examples are whole numbers (int64) instead of float32."""

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        found: nn.Module = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.builder)(**self.arguments)
        return found

    def source(self) -> str:
        """The text of its file."""
        return (FOLDER / f"{self.module}.py").read_text()


def of_digits(part: spec.Digits) -> Recipe:
    match part.model:
        case spec.DigitsMlp() as model:
            return _mlp(DIGITS_SHAPE, model.hidden, DIGITS_CLASSES, batch_norm=model.batch_norm)
        case spec.DigitsCnn(width=width):
            return _cnn(DIGITS_SHAPE, DIGITS_CLASSES, filters=width)


def of_glyphs(part: spec.Glyphs) -> Recipe:
    arguments = {"size": GLYPHS_SIZE, "classes": part.classes, "filters": part.width, "features": part.features}
    return Recipe("glyphs", "glyphs", arguments, (1, GLYPHS_SIZE, GLYPHS_SIZE))


def of_images(part: spec.Images, shape: tuple[int, ...], classes: int) -> Recipe:
    """`shape` is (channels, height, width)."""
    match part.model:
        case spec.Mlp() as model:
            return _mlp(shape, model.hidden, classes, batch_norm=model.batch_norm)
        case spec.Cnn(width=width):
            return _cnn(shape, classes, filters=width)
        case spec.ResNet20(width=width):
            arguments = {"channels": shape[0], "classes": classes, "width": width}
            return Recipe("resnet", "resnet20", arguments, shape)
        case spec.ResNet18():
            return Recipe("resnet", "resnet18", {"channels": shape[0], "classes": classes}, shape)


def of_table(part: spec.Table, features: int, outputs: int) -> Recipe:
    return _mlp((features,), part.model.hidden, outputs, batch_norm=part.model.batch_norm)


def of_text(part: spec.Text, characters: int) -> Recipe:
    model = part.model
    arguments = {
        "characters": characters,
        "context": model.context,
        "layers": model.layers,
        "heads": model.heads,
        "width": model.width,
    }
    return Recipe("transformer", "transformer", arguments, (model.context,), tokens=True)


def _mlp(shape: tuple[int, ...], hidden: list[int], outputs: int, *, batch_norm: bool) -> Recipe:
    arguments = {"inputs": prod(shape), "hidden": list(hidden), "outputs": outputs, "batch_norm": batch_norm}
    return Recipe("mlp", "mlp", arguments, shape)


def _cnn(shape: tuple[int, ...], classes: int, *, filters: int) -> Recipe:
    arguments = dict(zip(("channels", "height", "width"), shape, strict=True))
    return Recipe("cnn", "cnn", arguments | {"classes": classes, "filters": filters}, shape)
