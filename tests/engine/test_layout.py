"""The flat vectors that a model's parameters are views of."""

import pytest
import torch
from torch import nn

from workers import spec
from workers.failures import Failure
from workers.layout import Layout
from workers.spec_errors import SpecError


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def sgd(**options: object) -> spec.Sgd:
    return spec.Sgd.model_validate({"kind": "sgd", "learning_rate": 0.1} | options)


def vectors(layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(layout.size), torch.zeros(layout.buffer_size)


def test_what_is_collected_is_what_a_bound_model_has() -> None:
    one, other = small(), small()
    layout = Layout.of(one, sgd())
    weights, buffers = vectors(layout)
    layout.collect(one, weights, buffers)
    layout.bind(other, weights, buffers)
    image = torch.randn(2, 1, 4, 4)
    assert torch.equal(one(image), other(image))


def test_parameters_of_a_bound_model_are_views() -> None:
    model = small()
    layout = Layout.of(model, sgd())
    weights, buffers = vectors(layout)
    layout.bind(model, weights, buffers)
    weights.fill_(2.0)
    assert all(bool((p == 2.0).all()) for p in model.parameters())


def test_a_bound_batch_norm_writes_its_statistics_into_the_buffers() -> None:
    model = small()
    layout = Layout.of(model, sgd())
    weights, buffers = vectors(layout)
    layout.collect(model, weights, buffers)
    layout.bind(model, weights, buffers)
    before = buffers.clone()
    model(torch.randn(2, 1, 4, 4))
    assert not torch.equal(before, buffers)


def test_biases_and_batch_norm_never_decay() -> None:
    layout = Layout.of(small(), sgd(weight_decay=0.1))
    decays = {s.name: g.weight_decay for g in layout.groups for s in layout.segments if g.start <= s.offset < g.stop}
    assert {n for n, d in decays.items() if d == 0.1} == {"0.weight", "3.weight"}
    assert {d for n, d in decays.items() if n not in {"0.weight", "3.weight"}} == {0.0}


def test_a_group_of_the_spec_may_say_otherwise_and_the_first_match_wins() -> None:
    groups = [{"match": "^3", "weight_decay": 0.5, "learning_rate_scale": 2}, {"match": "bias", "weight_decay": 9}]
    layout = Layout.of(small(), sgd(groups=groups))
    terms = {s.name: g for g in layout.groups for s in layout.segments if g.start <= s.offset < g.stop}
    assert (terms["3.bias"].weight_decay, terms["3.bias"].learning_rate_scale) == (0.5, 2)
    assert terms["0.bias"].weight_decay == 9


def test_groups_are_contiguous_and_cover_everything() -> None:
    layout = Layout.of(small(), sgd(weight_decay=0.1))
    assert [g.start for g in layout.groups] == [0, *[g.stop for g in layout.groups[:-1]]]
    assert layout.groups[-1].stop == layout.size


def test_frozen_parameters_are_left_out_and_tied_ones_are_in_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    model[2].weight = model[1].weight
    names = [s.name for s in Layout.of(model, sgd()).segments]
    assert names == ["0.bias", "1.weight", "1.bias", "2.bias"]


def test_the_memory_format_of_a_parameter_is_kept() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layout = Layout.of(model, sgd())
    weights, buffers = vectors(layout)
    values = model.weight.detach().clone()
    layout.collect(model, weights, buffers)
    layout.bind(model, weights, buffers)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.weight, values)


def test_manifests_differ_when_models_or_metrics_do() -> None:
    layout, wider = Layout.of(small(), sgd()), Layout.of(nn.Linear(3, 3), sgd())
    manifests = {layout.manifest(["accuracy"]), wider.manifest(["accuracy"]), layout.manifest(["loss"])}
    assert len(manifests) == 3
    assert Layout.of(small(), sgd()).manifest(["accuracy"]) in manifests


def test_a_group_that_is_no_regular_expression_is_named() -> None:
    with pytest.raises(SpecError, match=r"optimizer\.groups\.0\.match"):
        Layout.of(small(), sgd(groups=[{"match": "("}]))


def test_parameters_that_are_not_float32_are_refused_by_name() -> None:
    with pytest.raises(Failure, match=r"weight is torch\.float64"):
        Layout.of(nn.Linear(2, 2).double(), sgd())


def test_what_is_not_trained_travels_whatever_its_type() -> None:
    one, other = small(), small()
    for model in (one, other):
        model[0].requires_grad_(False)
        model.register_buffer("table", torch.arange(5))
    layout = Layout.of(one, sgd())
    one.get_buffer("table").mul_(2)
    packed = torch.zeros(layout.constants_bytes, dtype=torch.uint8)
    layout.give_constants(one, packed)
    layout.take_constants(other, packed)
    assert [c.name for c in layout.constants] == ["table", "0.weight", "0.bias"]
    assert torch.equal(other.get_buffer("table"), torch.arange(0, 10, 2))
    assert torch.equal(other.get_parameter("0.weight"), one.get_parameter("0.weight"))
