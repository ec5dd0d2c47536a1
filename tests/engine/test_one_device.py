"""A server whose weights are elsewhere keeps everything there: shown without another device, by torch's own `meta`.

Tensors on `meta` have a place and a shape and no values. Whatever a rule allocates on the CPU by mistake meets them in
some operation, and is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.engine.harness import spec_of
from tests.gpu.rules import RULES
from workers.server import optimizers, setup
from workers.server.passes import HandOver
from workers.server.pushes import Push

META = torch.device("meta")
BETWEEN = ("copy", "_to_copy")
"""Operations that may go from one device to another."""


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where an operation has tensors of two devices. Numbers, tensors of no dimension, may come from a CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor) and t.dim() > 0 and t.numel()]
        met = {t.device.type for t in tensors}
        if len(met) > 1 and not any(word in func.__name__ for word in BETWEEN):
            raise AssertionError(f"{func} has tensors on {sorted(met)}")
        return func(*args, **(kwargs or {}))


def test_two_devices_in_one_operation_are_found() -> None:
    with pytest.raises(AssertionError, match=r"cpu.*meta"), OneDevice():  # type: ignore[no-untyped-call]
        torch.ones(3, device=META).add_(torch.ones(3))


def places(run: setup.Run, workers: int) -> Sequence[HandOver]:
    layout, rule = run.layout, run.core.rules.batch_norm
    statistics = rule.parts * layout.channels

    def zeros(count: int) -> Tensor:
        return torch.zeros(count, device=META)

    return [
        HandOver.of(
            run.core.tiling,
            gradient=zeros(layout.size),
            weights=zeros(layout.size),
            buffers=zeros(statistics),
            served=zeros(statistics if rule.serves else 0),
        )
        for _ in range(workers)
    ]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_keeps_its_vectors_where_the_weights_are(rule: str) -> None:
    base = {"problem": {"kind": "digits"}, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
    spec = spec_of(**base | RULES[rule], workers=2)
    run = setup.build(spec, device=META)
    core, steps = run.core, spec.outer_steps
    with OneDevice():  # type: ignore[no-untyped-call]
        there = places(run, 2)
        read = [0, 0]
        for worker in (0, 1):
            core.join(worker)
            core.send(there[worker])
        for _ in range(4):
            for worker in (0, 1):
                asked = 0.5 if spec.rate.kind == "window" else None
                push = Push(worker, there[worker], read[worker], core.next_step(worker), asked, steps)
                for answered in core.receive(push).answers:
                    read[answered] = core.version
        core.leave(1)
    assert core.version >= 2
    large = {name: t.device.type for name, t in core.vectors().items() if t.numel() > 1}
    assert set(large.values()) <= {"meta"}


def test_elsewhere_a_group_is_one_tile() -> None:
    assert optimizers.tile_floats(META) > 2**40 > optimizers.tile_floats(torch.device("cpu"))
