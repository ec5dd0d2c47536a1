"""What one device of a machine group holds: on a CPU the group's vectors, elsewhere its own part and no more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.engine.late import LateDevice
from workers.layout import Layout
from workers.methods.hybrid.base import Slices
from workers.spec import Sgd
from workers.spec_errors import SpecError
from workers.trainer.group.heads import head_of
from workers.trainer.group.holding import Holding, Range, Shared, ranges

FEATURES, CLASSES = 32, 9


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(FEATURES, CLASSES))


def laid_out(model: nn.Module) -> Layout:
    return Layout.of(model, Sgd(kind="sgd", learning_rate=0.1, weight_decay=1e-3))


def shared(layout: Layout) -> Shared:
    return Shared(
        torch.arange(layout.size, dtype=torch.float32),
        torch.zeros(layout.size),
        torch.zeros(layout.buffer_size),
        torch.arange(layout.buffer_size, dtype=torch.float32),
    )


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_device_apart_has_what_lies_below_and_its_own_rows(rank: int) -> None:
    model, classes = network(), Slices((4, 3, 2))
    layout, head = laid_out(model), head_of(model)
    ours = shared(layout)
    held = Holding(layout, head, classes, rank, ours, LateDevice())
    held.bring()
    for segment in layout.segments:
        whole = segment.of(ours.weights)
        expected = whole[classes.of(rank)] if segment.name in head.parameters else whole
        assert torch.equal(held.weights(segment), expected), segment.name
    assert torch.equal(held.served, ours.served)
    below = sum(s.size for s in layout.segments if s.name not in head.parameters)
    own = (FEATURES + 1) * classes.counts[rank]
    assert 4 * (below + own) <= held.size_bytes < 4 * (below + own + 64 * 6)  # with what alignment takes


def test_on_a_cpu_nothing_is_held_twice() -> None:
    model = network()
    layout = laid_out(model)
    ours = shared(layout)
    held = Holding(layout, head_of(model), Slices((5, 4)), 1, ours)
    assert held.size_bytes == 0
    assert {held.weights(s).untyped_storage().data_ptr() for s in layout.segments} == {ours.weights.data_ptr()}


def test_what_it_gives_is_there_when_it_returns_and_only_the_first_reports_statistics() -> None:
    model = network()
    layout = laid_out(model)
    for rank, reported in ((0, 7.0), (1, 0.0)):
        ours = shared(layout)
        held = Holding(layout, head_of(model), Slices((5, 4)), rank, ours, LateDevice())
        held.buffers.fill_(7.0)
        held.give([(ours.gradient[:3], torch.ones(3))])
        assert ours.gradient[:4].tolist() == [1.0, 1.0, 1.0, 0.0]
        assert set(ours.buffers.tolist()) == {reported}


def test_neighbours_become_one_range() -> None:
    # Segments start on multiples of 16 floats; the device's ranges on multiples of 64.
    assert list(ranges([(0, 10), (16, 32), (48, 50)])) == [Range(0, 32, 0), Range(48, 50, 64)]
    assert list(ranges([])) == []


def test_rows_that_do_not_lie_one_after_another_are_refused() -> None:
    model = network()
    model[3].weight = nn.Parameter(torch.zeros(FEATURES, CLASSES).t())
    layout = laid_out(model)
    with pytest.raises(SpecError, match="do not lie one after another in memory"):
        Holding(layout, head_of(model), Slices((5, 4)), 0, shared(layout), LateDevice())
