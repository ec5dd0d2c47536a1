"""Softmax cross-entropy over slices of the classes (CN108460457A; completed after arXiv:1404.5997 and 2010.05222).

The patent states the method: the last layer is cut into one slice per device, whose parameters are never exchanged;
an all-gather gives every device all features, so each slice trains on all the data. How the loss and the gradients are
put together is our completion [R], after Krizhevsky (2014), section 4, and Partial FC (An et al., 2020), section 3.1:

    F = all-gather(F_g), labels y too        (N, D), N images of the whole group
    Z_k = F W_k^T + b_k                      (N, C_k), device k's classes
    m = all-reduce-max rowmax(Z_k);   q = all-reduce-sum rowsum exp(Z_k - m)
    L = mean(log q + m - z_y)                each device sums z_y over its own classes; one scalar from each
    dZ_k = (exp(Z_k - m) / q - onehot_k) / N
    dW_k = dZ_k^T F,   db_k = colsum dZ_k    complete: no reduction
    dF_g = reduce-scatter sum of dZ_k W_k
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workers.methods.hybrid.base import (
    Collectives,
    Phases,
    Slices,
    all_gather,
    all_reduce_max,
    all_reduce_sum,
    in_rank_order,
    reduce_scatter,
)


@dataclass(frozen=True)
class Cut:
    """How a group shares its work: images by device, and classes by device."""

    group: Collectives
    images: Slices
    classes: Slices
    phases: Phases


@dataclass(frozen=True)
class Scores:
    """What a device knows after the forward of its slice: all features, and the scores of its own classes."""

    features: Tensor
    """(N, D)"""
    values: Tensor
    """(N, C_k)"""
    greatest: Tensor
    """(N,): the best score of each image among this device's classes."""
    best: Tensor
    """(N,): its class, by the number it has in the whole layer."""


def scores(cut: Cut, features: Tensor, weight: Tensor, bias: Tensor | None) -> Scores:
    """All features, gathered, and their scores for this device's classes. `features` are this device's (B, D)."""
    gathered = all_gather(cut.group, features, cut.images, "features")
    cut.phases.mark("all_gather")
    values = torch.nn.functional.linear(gathered, weight, bias)
    greatest, best = values.max(1)
    best += cut.classes.starts[cut.group.rank]
    cut.phases.mark("slice_forward")
    return Scores(gathered, values, greatest, best)


def gather_labels(cut: Cut, labels: Tensor) -> Tensor:
    """(B,) → (N,) int64; they travel as 32 bits."""
    return all_gather(cut.group, labels.to(torch.int32), cut.images, "labels").long()


def _own(cut: Cut, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows whose label is of this device's classes, and the class's place in the slice."""
    mine = cut.classes.of(cut.group.rank)
    rows = ((labels >= mine.start) & (labels < mine.stop)).nonzero().squeeze(1)
    return rows, labels[rows] - mine.start


class CrossEntropy(torch.autograd.Function):
    """The group's mean loss, the same number on every device. Its backward leaves this device's share of each
    gradient: features of its own images, weight and bias of its own classes."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        found: Scores,
        cut: Cut,
    ) -> Tensor:
        group, count = cut.group, cut.images.total
        all_labels = gather_labels(cut, labels)
        greatest = all_reduce_max(group, found.greatest, "softmax")
        shares = (found.values - greatest.unsqueeze(1)).exp_()
        total = all_reduce_sum(group, shares.sum(1), "softmax")
        rows, columns = _own(cut, all_labels)
        right = found.values[rows, columns].sum()
        one = torch.zeros(1, dtype=right.dtype, device=right.device) + right
        sums = group.exchange([one] * group.size, [(1,)] * group.size, "loss").wait()
        loss = (total.log() + greatest).sum() / count - in_rank_order(sums).squeeze(0) / count
        cut.phases.mark("softmax_exchange")
        ctx.save_for_backward(found.features, weight, shares, total, rows, columns)
        ctx.cut, ctx.has_bias = cut, bias is not None
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_loss: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, shares, total, rows, columns = ctx.saved_tensors
        cut: Cut = ctx.cut
        slope = shares.div_(total.unsqueeze(1))
        slope[rows, columns] -= 1.0
        slope *= at_loss / cut.images.total
        # First what the others wait for; their parts travel while this device computes its own weights' gradient.
        coming = reduce_scatter(cut.group, slope @ weight, cut.images, "feature gradients")
        at_weight = slope.t() @ features
        at_bias = slope.sum(0) if ctx.has_bias else None
        cut.phases.mark("slice_backward")
        at_features = coming.wait()
        cut.phases.mark("reduce_scatter")
        return at_features, at_weight, at_bias, None, None, None


def best_classes(cut: Cut, found: Scores) -> Tensor:
    """The class of the best score over all slices, for each of this device's images: (B,) int64.

    Of equal scores the first class has it, as in `torch.argmax`.
    """
    group = cut.group
    shape = (2, cut.images.counts[group.rank])
    pairs = torch.stack((found.greatest.double(), found.best.double()))
    parts = [p.contiguous() for p in pairs.split(cut.images.counts, 1)]  # type: ignore[no-untyped-call]
    theirs = torch.stack(group.exchange(parts, [shape] * group.size, "metrics").wait())
    winner = theirs[:, 0].argmax(0, keepdim=True)
    return theirs[:, 1].gather(0, winner).squeeze(0).long()


def top_classes(cut: Cut, found: Scores, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores over all slices and their classes, for each of this device's images: (B, k) both."""
    group, mine = cut.group, cut.images.counts[cut.group.rank]
    counts = [min(k, c) for c in cut.classes.counts]
    values, places = found.values.topk(counts[group.rank], 1)
    both = torch.stack((values.double(), (places + cut.classes.starts[group.rank]).double()))
    parts = [p.contiguous() for p in both.split(cut.images.counts, 1)]  # type: ignore[no-untyped-call]
    theirs = torch.cat(group.exchange(parts, [(2, mine, c) for c in counts], "metrics").wait(), 2)
    best, where = theirs[0].topk(k, 1)
    return best.to(values.dtype), theirs[1].gather(1, where).long()
