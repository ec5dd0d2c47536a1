"""Linear layers with ReLU between them. Plain PyTorch: this file needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(inputs: int, hidden: Sequence[int], outputs: int, *, batch_norm: bool) -> nn.Sequential:
    """Examples of any shape with `inputs` values in all → (n, outputs). `hidden` are the units of each hidden layer."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = inputs
    for width in hidden:
        layers.append(nn.Linear(size, width, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
