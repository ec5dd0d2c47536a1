"""Forward, backward, and the way of the gradients into a flat vector: what live trainers and simulated ones share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workers.assignment import Cause
from workers.devices import HOST, Device, autocast
from workers.failures import Failure, user_code
from workers.layout import Layout
from workers.problems.base import Problem
from workers.spec import RunSpec
from workers.trainer.batches import STEP, number
from workers.trainer.early import Early


class Steps:
    """Forward and backward of the batches of one push. Gradients of their mean loss are in `parameter.grad`.

    The model is on `device` already, and so are the batches.
    """

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        spec: RunSpec,
        worker: int,
        device: Device = HOST,
        *,
        rank: tuple[int, ...] = (),
    ) -> None:
        """`rank`: which device of a machine group this is. Each has random numbers of its own."""
        self._problem, self._model, self._spec, self._worker = problem, model, spec, worker
        self._device, self._rank = device, rank
        self._autocast = autocast(device.where, spec.precision)
        self._parameters = list(model.parameters())
        self._names = [m.name for m in problem.metrics]
        self._loss = 0.0
        self._metrics = [0.0] * len(self._names)

    def begin(self, step: int) -> None:
        """Start a step with nothing but its number to go by, random numbers included: it can be made again."""
        seed = number(self._spec.seed, STEP, self._worker, step, *self._rank)
        self._device.seed(seed)
        random.seed(seed)
        for parameter in self._parameters:
            parameter.grad = None  # as zero_grad does, which walks all modules to find them: 40 µs
        self._loss = 0.0
        self._metrics = [0.0] * len(self._names)

    def add(self, batch: Any, meanwhile: Callable[[], None] | None = None) -> None:
        """Forward and backward of one batch. `meanwhile` is called while a GPU is at it."""
        with user_code("loss()"):
            loss, metrics = self._ask_for(batch)
        if meanwhile is not None:
            meanwhile()
        with user_code("loss()"):
            # Waits for the device: only what is done has taken its time, and delays build on that.
            self._loss += float(loss)
            for index, name in enumerate(self._names):
                self._metrics[index] += float(metrics.get(name, math.nan))

    def _ask_for(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        with self._autocast:
            loss, metrics = self._measure(batch)
        mean = loss / self._spec.accumulation if self._spec.accumulation > 1 else loss
        mean.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), metrics

    def _measure(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        return self._problem.loss(self._model, batch)

    def means(self) -> tuple[float, tuple[float, ...]]:
        count = self._spec.accumulation
        return self._loss / count, tuple(m / count for m in self._metrics)


def shorten(gradient: Tensor, norm: float, longest: float | None) -> None:
    """Make it as long as it may be, where it is longer."""
    if longest is not None and norm > longest:
        gradient.mul_(longest / norm)


class Gradients:
    """Moves gradients from the model into a flat vector, such as a slot's."""

    def __init__(
        self, model: nn.Module, layout: Layout, flat: Tensor, clip_norm: float | None, early: Early | None = None
    ) -> None:
        """`early` copies each gradient when it is complete, in place of all of them at the end."""
        self._early = early
        named = dict(model.named_parameters())
        self._parameters = [named[s.name] for s in layout.segments]
        self._addresses = [p.data_ptr() for p in self._parameters]
        self._targets = [s.of(flat) for s in layout.segments]
        self._flat = flat
        self._clip_norm = clip_norm
        self._flat.zero_()

    def hand_over(self) -> float:
        """Copy the gradients into the vector, clipped; returns their norm before clipping."""
        if any(p.data_ptr() != address for p, address in zip(self._parameters, self._addresses, strict=True)):
            raise Failure(Cause.USER_CODE, "a parameter was replaced in training; change its values in place instead")
        if self._early is None:
            self._copy()
        else:
            self._early.complete()
        norm = float(torch.linalg.vector_norm(self._flat))
        shorten(self._flat, norm, self._clip_norm)
        return norm

    def _copy(self) -> None:
        gradients: list[Tensor] = []
        targets: list[Tensor] = []
        for parameter, target in zip(self._parameters, self._targets, strict=True):
            if parameter.grad is None:
                target.zero_()  # not used in this batch
            else:
                gradients.append(parameter.grad)
                targets.append(target)
        torch._foreach_copy_(targets, gradients)
