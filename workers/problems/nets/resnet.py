"""Residual networks for small images (He et al., 2015, arXiv:1512.03385). Plain PyTorch: this file needs nothing else.

`resnet20` is the paper's network for CIFAR-10 (section 4.2, n = 3): a 3×3 convolution, then three stages of three
blocks with 16, 32 and 64 channels. Shortcuts have no weights (option A): where a stage halves the image, a shortcut
takes every second pixel and fills new channels with zeros. We put half of the zeros before the others and half behind;
the paper does not say.

`resnet18` is that of table 1 made for small images: a 3×3 convolution in front instead of the 7×7 one with stride 2,
and no pooling behind it; then four stages of two blocks with 64, 128, 256 and 512 channels. Shortcuts that change the
shape are 1×1 convolutions with batch norm (option B).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


class Thinned(nn.Module):
    """Option A: every second pixel where `stride` is 2, zeros in `added` new channels."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.before, self.behind, self.stride = added // 2, added - added // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        thin = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(thin, (0, 0, 0, 0, self.before, self.behind))


def option_a(channels: int, out: int, stride: int) -> nn.Module:
    return nn.Identity() if (channels, stride) == (out, 1) else Thinned(out - channels, stride)


def option_b(channels: int, out: int, stride: int) -> nn.Module:
    if (channels, stride) == (out, 1):
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    """Two 3×3 convolutions, each with batch norm, and a way around them."""

    def __init__(self, channels: int, out: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images (n, channels, height, width) → logits (n, classes)."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        stages: tuple[int, ...],
        blocks: int,
        shortcut: Callable[[int, int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, stages[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(stages[0])
        layers, width = [], stages[0]
        for stage, out in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Block(width, out, stride, shortcut(width, out, stride)))
                width = out
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(width, classes)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(functional.relu(self.bn(self.conv(x))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


def _he(module: nn.Module) -> None:
    """Initial weights of convolutions as in He et al., 2015, arXiv:1502.01852, counted over outputs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet20(channels: int, classes: int, *, width: int = 1) -> ResNet:
    """`width` is a factor on the 16, 32 and 64 channels of the stages."""
    return ResNet(channels, classes, stages=(16 * width, 32 * width, 64 * width), blocks=3, shortcut=option_a)


def resnet18(channels: int, classes: int) -> ResNet:
    return ResNet(channels, classes, stages=(64, 128, 256, 512), blocks=2, shortcut=option_b)
