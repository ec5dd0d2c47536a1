"""Two convolutions with batch norm, one pooling, one linear layer. Plain PyTorch: this file needs nothing else."""

from __future__ import annotations

from torch import nn


def cnn(channels: int, height: int, width: int, classes: int, *, filters: int) -> nn.Sequential:
    """Images (n, channels, height, width) → logits (n, classes). `filters` are those of the first convolution."""
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
        nn.Conv2d(filters, 2 * filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * filters),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * filters * (height // 2) * (width // 2), classes),
    )
