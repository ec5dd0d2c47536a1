"""A small encoder and a large last layer, for images of very many classes. Plain PyTorch: this file needs nothing else.

The last layer is nearly all of the network: 64 features for 20,000 classes are 1.3 million weights, what is below it
some ten thousand.
"""

from __future__ import annotations

from torch import nn


def glyphs(size: int, classes: int, *, filters: int, features: int) -> nn.Sequential:
    """Images (n, 1, size, size) → logits (n, classes). `filters` are those of the first convolution."""
    return nn.Sequential(
        nn.Conv2d(1, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        nn.Conv2d(filters, 2 * filters, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * filters),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * filters * (size // 4) ** 2, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Linear(features, classes),
    )
