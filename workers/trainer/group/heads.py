"""Which layer of a model is cut over the devices of a group: its last one, a Linear whose output is the model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workers.assignment import Cause
from workers.failures import user_code
from workers.layout import Layout, Segment
from workers.methods.hybrid.base import Slices
from workers.problems.base import Problem
from workers.spec_errors import SpecError
from workers.trainer.batches import fetch

TRIED_EXAMPLES = 2


class Head(NamedTuple):
    """The layer's name in the model, and its size."""

    name: str
    features: int
    classes: int
    bias: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        """Their names in the model."""
        prefix = f"{self.name}." if self.name else ""
        return (f"{prefix}weight", f"{prefix}bias") if self.bias else (f"{prefix}weight",)

    def rows_of(self, layout: Layout, weights: Callable[[Segment], Tensor]) -> tuple[Tensor, Tensor | None]:
        """A device's rows of weight and bias, as `weights` gives them."""
        placed = {s.name: s for s in layout.segments}
        weight, *bias = [weights(placed[name]) for name in self.parameters]
        return weight, bias[0] if bias else None

    def slices(self, shards: int) -> Slices:
        """Raises SpecError where there are fewer classes than devices."""
        try:
            return Slices.even(self.classes, shards, "classes")
        except ValueError as error:
            raise SpecError.one("layout.shards", str(error)) from None


def head_of(model: nn.Module) -> Head:
    """The model's last Linear. Raises SpecError where there is none, or where it can't be cut."""
    linears = [(name, m) for name, m in model.named_modules() if type(m) is nn.Linear]
    if not linears:
        raise _unfit("the model has no Linear layer to cut")
    name, last = linears[-1]
    uses = sum(p is last.weight for m in model.modules() for p in m._parameters.values())
    if uses > 1:
        raise _unfit(f"the weight of its last Linear, {name}, is another layer's too")
    if not all(p.requires_grad for p in last.parameters()):
        raise _unfit(f"its last Linear, {name}, is frozen")
    return Head(name, last.in_features, last.out_features, last.bias is not None)


def check_output(problem: Problem, model: nn.Module, head: Head, dataset: Any) -> None:
    """Try the whole model on two examples: what its last Linear gives must be what the model gives.

    Raises SpecError where it is not, Failure where the problem itself fails.
    """
    made: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, given, output: made.__setitem__(name, output)

    layer = model.get_submodule(head.name)
    hooks = [layer.register_forward_hook(keep("layer")), model.register_forward_hook(keep("model"))]
    was_training = model.training
    try:
        with user_code("fetching training examples", Cause.DATA):
            batch = fetch(dataset, list(range(min(TRIED_EXAMPLES, len(dataset)))), problem.collate)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), user_code("loss()"):
            problem.loss(model.eval(), batch)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    output = made.get("layer")
    if output is None or made.get("model") is not output or not isinstance(output, Tensor):
        raise _unfit(f"what the model gives is not what its last Linear, {head.name}, gives")
    if output.dim() != 2:
        raise _unfit(f"its last Linear, {head.name}, gives {output.dim()}-dimensional outputs, not one row an image")


def replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with another module under that name; the module itself where it is the whole model."""
    if not name:
        return module
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
    return model


def _unfit(why: str) -> SpecError:
    return SpecError.one("layout.kind", f"must be single: hybrid cuts the last layer over devices, and {why}")
