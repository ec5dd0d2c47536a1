"""One device of a machine group: its part of every batch, its slice of the last layer, its part of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from workers.assignment import Cause
from workers.devices import HOST, Device
from workers.failures import Failure
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.methods.hybrid.base import Collectives, Phases, Slices
from workers.methods.hybrid.head import ShardedLinear
from workers.methods.hybrid.softmax import Cut
from workers.methods.hybrid.synced_layer import synchronise
from workers.problems.base import Problem
from workers.spec import RunSpec
from workers.trainer.group.gradients import GroupGradients, slices_of
from workers.trainer.group.heads import head_of, replaced
from workers.trainer.group.holding import Holding, Shared
from workers.trainer.steps import Steps


class ShardSteps(Steps):
    """Steps whose loss is the group's."""

    def __init__(
        self,
        problem: Problem,
        model: nn.Module,
        spec: RunSpec,
        worker: int,
        device: Device,
        *,
        rank: int,
        layer: ShardedLinear,
    ) -> None:
        super().__init__(problem, model, spec, worker, device, rank=(rank,))
        self._layer = layer

    def _measure(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        self._layer.begin()
        loss, metrics = super()._measure(batch)
        # The loss is every device's own copy of one number. A term beside it would be counted once for each device.
        if [id(one) for one in self._layer.losses] != [id(loss)]:
            raise Failure(
                Cause.USER_CODE,
                "with layout.kind hybrid, loss() returns functional.cross_entropy of the model's output, as it is",
            )
        return loss, metrics


class GroupDevice:
    """One device of a group, whatever it has of the model: its part of each batch, and its backward passes."""

    def __init__(self, spec: RunSpec, group: Collectives, phases: Phases) -> None:
        self._spec, self._group, self._phases = spec, group, phases
        self.images = Slices.even(spec.batch_size, group.size, "examples of a batch")
        self._gradients: GroupGradients

    @property
    def rows(self) -> slice:
        """This device's part of each batch."""
        return self.images.of(self._group.rank)

    def begin(self, steps: Steps, step: int, batch: Callable[[int], Any]) -> Any:
        """Begin gradient number `step`; returns its first batch. `batch` gives this device's part of one, by its
        number."""
        steps.begin(step)
        return batch(step * self._spec.accumulation)

    def _backward(
        self,
        steps: Steps,
        step: int,
        first: Any,
        batch: Callable[[int], Any],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """All batches of a step that has begun; what the last one finishes goes out at once."""
        self._gradients.begin()
        count = self._spec.accumulation
        for index in range(count):
            if index + 1 == count:
                self._gradients.send()
            given = batch(step * count + index) if index else first
            self._phases.mark("data")
            steps.add(given, meanwhile)
            self._phases.mark("conv_backward")


class Shard(GroupDevice):
    """Computes this device's part of a step. The model becomes its own: parts of it are views of what it holds."""

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        layout: Layout,
        rule: BatchNorm,
        shared: Shared,
        group: Collectives,
        phases: Phases,
        device: Device = HOST,
    ) -> None:
        """Takes the model as it was built, in host memory. Raises SpecError or Failure where it can't be cut."""
        super().__init__(spec, group, phases)
        self._device = device
        head = head_of(model)
        classes = head.slices(group.size)
        self._holding = holding = Holding(layout, head, classes, group.rank, shared, device)
        # In this order: all of the last layer never gets to a device that holds but a slice of it.
        self._layer = ShardedLinear(*head.rows_of(layout, holding.weights), Cut(group, self.images, classes, phases))
        self._model = replaced(model, head.name, self._layer).train().to(device.where)
        holding.bind(self._model, serves=rule.serves)
        self._cut_batch_norm(self._model, layout, rule, group)
        own = slices_of(self._layer, head, layout, shared.gradient)
        self._gradients = GroupGradients(self._model, layout, shared.gradient, group, own, device)

    @property
    def buffers(self) -> Tensor:
        """Batch norm's statistics, where this device computes."""
        return self._holding.buffers

    def _cut_batch_norm(self, model: nn.Module, layout: Layout, rule: BatchNorm, group: Collectives) -> None:
        holding = self._holding
        try:
            synchronise(model, layout.places, rule, holding.served, holding.buffers, group, self.images)
        except ValueError as error:
            raise Failure(Cause.SPEC, str(error)) from None

    def steps_of(self, problem: Problem, worker: int) -> ShardSteps:
        """The steps of trainer `worker`'s group on this device."""
        rank, layer = self._group.rank, self._layer
        return ShardSteps(problem, self._model, self._spec, worker, self._device, rank=rank, layer=layer)

    def bring(self) -> None:
        """New weights are there: compute with them from now on."""
        self._holding.bring()

    def step(
        self,
        steps: ShardSteps,
        step: int,
        first: Any,
        batch: Callable[[int], Any],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Leave this device's part of a gradient that has begun in the shared vector.

        `meanwhile` is called while a GPU computes, once a batch.
        """
        self._backward(steps, step, first, batch, meanwhile)
        self._holding.give(self._gradients.parts())
        self._phases.mark("gradient_exchange")


def pooled(metrics: Sequence[Sequence[float]], images: Slices) -> tuple[float, ...]:
    """Metrics of the group's batch from those of its devices, in the order of ranks."""
    return tuple(
        sum(value * count for value, count in zip(values, images.counts, strict=True)) / images.total
        for values in zip(*metrics, strict=True)
    )
