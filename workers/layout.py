"""One flat fp32 vector for all trained parameters, and one for the batch-norm statistics.

Parameters of one group (same learning-rate scale, same weight decay) lie together, so that an optimizer runs over
plain ranges. Frozen parameters are left out, tied ones are in once. The server's and the trainers' models are bound
to such vectors: their parameters *are* views of them, and nothing is copied to step or to read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workers import spec
from workers.assignment import Cause
from workers.failures import Failure
from workers.methods.batch_norm.base import Place
from workers.spec_errors import SpecError

ALIGNMENT = 16
"""Segments start on multiples of 16 floats, a cache line. What lies between is 0 and stays 0."""
CONSTANT_ALIGNMENT = 64


@dataclass(frozen=True)
class Group:
    """Values `start` to `stop` of the vector. A step takes `learning_rate_scale` of the learning rate there."""

    learning_rate_scale: float
    weight_decay: float
    start: int
    stop: int


@dataclass(frozen=True)
class Segment:
    """One parameter's place. `stride` keeps its memory format."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    size: int

    def of(self, flat: Tensor) -> Tensor:
        return flat.as_strided(self.shape, self.stride, flat.storage_offset() + self.offset)


@dataclass(frozen=True)
class Statistic:
    """One batch-norm buffer's place in the buffer vector: all means come first, then all variances."""

    layer: str
    kind: Literal["running_mean", "running_var"]
    offset: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.kind}" if self.layer else self.kind

    def of(self, flat: Tensor) -> Tensor:
        return flat[self.offset : self.offset + self.size]


@dataclass(frozen=True)
class Constant:
    """A tensor of the model's state that is not trained: its place, in bytes, in what a child gets at its join."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies. Both ends of a session derive it from the model, and compare its `manifest`."""

    groups: tuple[Group, ...]
    segments: tuple[Segment, ...]
    statistics: tuple[Statistic, ...]
    size: int
    channels: int
    """Of all batch-norm layers, the gaps between them included: floats in one part of a vector of statistics."""
    constants: tuple[Constant, ...]

    @property
    def buffer_size(self) -> int:
        """Floats of all running means and variances."""
        return 2 * self.channels

    @property
    def places(self) -> tuple[Place, ...]:
        """Where each batch-norm layer lies within each part."""
        return tuple(Place(s.layer, s.offset, s.size) for s in self.statistics if s.kind == "running_mean")

    @property
    def constants_bytes(self) -> int:
        return self.constants[-1].offset + self.constants[-1].size if self.constants else 0

    @classmethod
    def of(cls, model: nn.Module, optimizer: spec.Optimizer) -> Layout:
        """Lay out `model`. Raises SpecError for a bad group, Failure for parameters that are not fp32."""
        groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
        batch_norms = {id(p) for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
        matchers = _matchers(optimizer)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                _check_type(name, parameter)
                never_decays = id(parameter) in batch_norms or name.rpartition(".")[2] == "bias"
                groups.setdefault(_terms(name, never_decays, optimizer, matchers), []).append((name, parameter))
        if not groups:
            raise Failure(Cause.USER_CODE, "the model has no parameters to train")
        return cls._place(groups, model)

    @classmethod
    def _place(cls, groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]], model: nn.Module) -> Layout:
        placed, segments, offset = [], [], 0
        for (scale, decay), members in groups.items():
            start = offset
            for name, parameter in members:
                segments.append(Segment(name, tuple(parameter.shape), _stride(parameter), offset, parameter.numel()))
                offset += aligned(parameter.numel())
            placed.append(Group(scale, decay, start, offset))
        statistics, channels = _statistics(model)
        constants = _constants(model, {s.name for s in segments}, {s.name for s in statistics})
        return cls(tuple(placed), tuple(segments), statistics, offset, channels, constants)

    def manifest(self, metrics: Sequence[str]) -> bytes:
        """32 bytes that are equal at both ends if and only if they mean the same by every float."""
        text = json.dumps([asdict(self), list(metrics)], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()

    def bind(self, model: nn.Module, weights: Tensor, buffers: Tensor) -> None:
        """Make the model's parameters and batch-norm buffers views of the two vectors, whose values they take."""
        self.bind_parameters(model, lambda segment: segment.of(weights))
        self.bind_statistics(model, buffers)

    def bind_parameters(self, model: nn.Module, place: Callable[[Segment], Tensor]) -> None:
        """Make each of the model's parameters a view of its `place`."""
        parameters = dict(model.named_parameters())
        for segment in self.segments:
            parameters[segment.name].data = place(segment)

    def bind_statistics(self, model: nn.Module, buffers: Tensor) -> None:
        """Make the model's batch-norm buffers views of that vector."""
        for statistic in self.statistics:
            model.get_submodule(statistic.layer)._buffers[statistic.kind] = statistic.of(buffers)

    def give_constants(self, model: nn.Module, packed: Tensor) -> None:
        """Copy the tensors that are not trained out of the model; `packed` holds bytes."""
        state = model.state_dict()
        for c in self.constants:
            packed[c.offset : c.offset + c.size].copy_(state[c.name].contiguous().reshape(-1).view(torch.uint8))

    def take_constants(self, model: nn.Module, packed: Tensor) -> None:
        """Copy them into the model: a checkpoint's frozen layers are every child's, not only the server's."""
        state = model.state_dict()
        for c in self.constants:
            target = state[c.name]
            target.copy_(packed[c.offset : c.offset + c.size].view(target.dtype).reshape(target.shape))

    def collect(self, model: nn.Module, weights: Tensor, buffers: Tensor) -> None:
        """Copy the model's parameters and batch-norm buffers into the two vectors."""
        parameters = dict(model.named_parameters())
        for segment in self.segments:
            segment.of(weights).copy_(parameters[segment.name].detach())
        for statistic in self.statistics:
            statistic.of(buffers).copy_(model.get_buffer(statistic.name))


def _constants(model: nn.Module, trained: set[str], statistics: set[str]) -> tuple[Constant, ...]:
    named = dict(model.named_parameters())
    places = {id(named[name]) for name in trained}  # by identity: tied ones have several names
    found, offset = [], 0
    for name, tensor in model.state_dict(keep_vars=True).items():
        counts = name.rpartition(".")[2] == "num_batches_tracked"  # the server counts for all
        if id(tensor) not in places and name not in statistics and not counts and tensor.numel():
            size = tensor.numel() * tensor.element_size()
            found.append(Constant(name, tuple(tensor.shape), str(tensor.dtype), offset, size))
            offset += -(-size // CONSTANT_ALIGNMENT) * CONSTANT_ALIGNMENT
    return tuple(found)


def aligned(size: int) -> int:
    """Floats that a segment of this size takes, with the gap behind it."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _stride(parameter: Tensor) -> tuple[int, ...]:
    """The parameter's own strides where they fill its memory exactly (any memory format), else plain ones."""
    dense = sorted(zip(parameter.stride(), parameter.shape, strict=True))
    expected = 1
    for stride, length in dense:
        if length > 1 and stride != expected:
            return torch.empty(parameter.shape, device="meta").stride()
        expected *= length
    return parameter.stride()


def _statistics(model: nn.Module) -> tuple[tuple[Statistic, ...], int]:
    """The buffers' places, and how many channels they take."""
    means, offset = [], 0
    for layer, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            means.append(Statistic(layer, "running_mean", offset, module.num_features))
            offset += aligned(module.num_features)
    variances = [Statistic(m.layer, "running_var", offset + m.offset, m.size) for m in means]
    return (*means, *variances), offset


def _matchers(optimizer: spec.Optimizer) -> list[tuple[re.Pattern[str], spec.ParameterGroup]]:
    compiled = []
    for index, group in enumerate(optimizer.groups):
        try:
            compiled.append((re.compile(group.match), group))
        except re.error as error:
            raise SpecError.one(f"optimizer.groups.{index}.match", f"is no regular expression: {error}") from None
    return compiled


def _terms(
    name: str,
    never_decays: bool,
    optimizer: spec.Optimizer,
    matchers: list[tuple[re.Pattern[str], spec.ParameterGroup]],
) -> tuple[float, float]:
    own = 0.0 if never_decays else optimizer.weight_decay
    for pattern, group in matchers:
        if pattern.search(name):
            return group.learning_rate_scale, own if group.weight_decay is None else group.weight_decay
    return 1.0, own


def _check_type(name: str, parameter: Tensor) -> None:
    if parameter.dtype != torch.float32:
        raise Failure(Cause.USER_CODE, f"parameter {name} is {parameter.dtype}; trained parameters must be float32")
