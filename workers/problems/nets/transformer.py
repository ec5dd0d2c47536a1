"""A small decoder that predicts the next character. Plain PyTorch: this file needs nothing else.

As in GPT-2 (Radford et al., 2019): learned positions, layer norm in front of attention and of the two linear layers of
each block, weights of deviation 0.02 at first, and less in those that end a block, by the square root of how many there
are. We differ: no dropout, and the output layer has weights of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

INITIAL_DEVIATION = 0.02


class Attention(nn.Module):
    """Each place looks at itself and at those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        split = self.project(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(seen.transpose(1, 2).reshape(n, length, width))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        added: Tensor = self.out(functional.gelu(self.linear(self.norm2(x))))
        return x + added


class Transformer(nn.Module):
    """Characters (n, length) as numbers below `characters` → logits of the one behind each (n, length, characters)."""

    def __init__(self, characters: int, context: int, *, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, characters, bias=False)
        self.apply(_initialize)
        nn.init.normal_(self.positions, std=INITIAL_DEVIATION)
        for name, parameter in self.named_parameters():
            if name.endswith("out.weight"):
                nn.init.normal_(parameter, std=INITIAL_DEVIATION / math.sqrt(2 * layers))

    def forward(self, x: Tensor) -> Tensor:
        """`length` is at most `context`."""
        embedded = self.embedding(x) + self.positions[: x.shape[1]]
        logits: Tensor = self.linear(self.norm(self.blocks(embedded)))
        return logits


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def transformer(characters: int, context: int, *, layers: int, heads: int, width: int) -> Transformer:
    return Transformer(characters, context, layers=layers, heads=heads, width=width)
