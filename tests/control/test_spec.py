"""The one schema: its defaults, its errors, its canonical text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.control.conftest import SPEC, spec
from workers.spec import RunSpec
from workers.spec_errors import SpecError


def findings(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        RunSpec.parse(SPEC | changes)
    return [str(f) for f in caught.value.findings]


def test_a_plain_number_of_workers_is_min_and_max() -> None:
    assert spec(workers=4) == spec(workers={"min": 4, "max": 4})


def test_the_canonical_text_is_the_same_whatever_the_order_and_the_defaults() -> None:
    text = spec().canonical()
    shuffled = dict(reversed(json.loads(text).items()))
    assert RunSpec.parse(shuffled).canonical() == text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"workers": 0}, "workers.min: must be greater than or equal to 1, got 0"),
        ({"rate": {"kind": "magic"}}, "rate.kind: must be one of constant, staleness-inverse, "),
        ({"clip_norm": -1}, "clip_norm: must be greater than 0, got -1"),
        ({"version": 2}, "version: 2 is newer than this TrainHub understands (1); upgrade TrainHub"),
        ({"version": "new"}, "version: must be 1, got 'new'"),
        ({"lerning_rate": 1}, "lerning_rate: no such field; check its spelling"),
        ({"problem": {"kind": "digits", "model": {"kind": "cnn", "width": 0}}},
         "problem.model.width: must be greater than or equal to 1, got 0"),
        ({"delays": [{"kind": "factor", "factor": 0.5}]},
         "delays.0.factor: must be greater than or equal to 1, got 0.5"),
        ({"delays": [{"kind": "factor", "factor": 2, "workers": [9]}]},
         "delays.0.workers: names [9], but trainers are 0 to 1"),
        ({"budget": {}}, "budget: needs at least one of passes, updates, seconds, target"),
        ({"workers": {"min": 3, "max": 1}}, "workers: min (3) is above max (1)"),
        ({"gate": {"kind": "hurry"}}, "gate.kind: must be one of async, "),
        ({"rate": "staleness"}, "rate: must be a mapping of fields, got 'staleness'"),
        ({"rate": {}}, "rate.kind: is required: it says which one is meant"),
        ({"schedule": {"kind": "cosine"}, "budget": {"seconds": 5}},
         "schedule.kind: cosine needs budget.passes or budget.updates: the rate follows it"),
        ({"budget": {"target": {"metric": "f1", "value": 1, "direction": "max"}}},
         "budget.target.metric: must be one of total, got 'f1'"),
        ({"compensation": {"kind": "gap-aware"}, "optimizer": {"kind": "adamw", "learning_rate": 1}},
         "optimizer.kind: must be sgd, got adamw: compensation.kind gap-aware owns its momentum"),
        ({"rate": {"kind": "window"}, "gate": {"kind": "sync"}},
         "gate.kind: must be async or ssp, got sync: rate.kind window takes each learner's own scale"),
        ({"rate": {"kind": "balanced-mse"}}, "rate.kappa: is required"),
        ({"device": "gpu"}, "device: must be cpu or cuda, got 'gpu'"),
        ({"precision": "half"}, "precision: must be float32 or bfloat16, got 'half'"),
        ({"device": "cuda", "execution": {"kind": "simulate"}},
         "device: must be cpu, got cuda: execution.kind simulate computes in one slot, on a CPU"),
        ({"evaluation": {"device": "cuda"}, "execution": {"kind": "simulate"}},
         "evaluation.device: must be cpu, got cuda: execution.kind simulate computes in one slot, on a CPU"),
        ({"waiting": {"kind": "candidate"}, "rate": {"kind": "window"}},
         "rate.kind: must be constant, got window: waiting.kind candidate pushes displacements, which the server"),
        ({"waiting": {"kind": "candidate"}, "gate": {"kind": "sync"}},
         "gate.kind: must be async, got sync: waiting.kind candidate has waiting.k to say who makes an update"),
        ({"waiting": {"kind": "candidate", "k": 3}}, "waiting.k: must be at most workers.max (2), got 3"),
        ({"waiting": {"kind": "candidate"}, "optimizer": {"kind": "muon", "learning_rate": 1}},
         "optimizer.kind: must be sgd or adamw, got muon: waiting.kind candidate steps in the trainers"),
        ({"outer": {"kind": "diloco"}},
         "gate.kind: must be sync, got async: outer.kind diloco takes the mean over all trainers"),
        ({"outer": {"kind": "easgd"}, "compensation": {"kind": "dc-asgd-c"}},
         "compensation.kind: must be none, got dc-asgd-c: outer.kind easgd pushes displacements, which the server"),
        ({"problem": {"kind": "python", "target": "no colon"}},
         "problem.target: String should match pattern"),
    ],
)  # fmt: skip
def test_it_names_the_field_and_what_it_may_be(changes: dict[str, Any], error: str) -> None:
    assert findings(**changes)[0].startswith(error)


def test_it_finds_everything_that_is_wrong_at_once() -> None:
    assert len(findings(workers=0, seed=-1, batch_size="big")) == 4  # workers is min and max


def test_it_finds_every_pair_that_does_not_fit() -> None:
    changes = {"compensation": {"kind": "gap-aware"}, "gate": {"kind": "softsync", "c": 3}}
    assert [f.partition(":")[0] for f in findings(**changes)] == ["gate.kind", "gate.c"]


@pytest.mark.parametrize("file", sorted(Path("examples").rglob("*.yaml")), ids=str)
def test_the_short_yaml_of_a_spec_is_the_same_spec(file: Path) -> None:
    told = RunSpec.parse_yaml(file.read_text())
    assert RunSpec.parse_yaml(told.as_yaml()).canonical() == told.canonical()


def test_the_short_yaml_leaves_out_what_goes_without_saying() -> None:
    assert "gate" not in spec().as_yaml()
    assert "workers: 2" in spec().as_yaml()
    cnn = spec(problem={"kind": "digits", "model": {"kind": "cnn", "width": 4}})
    assert "{kind: cnn, width: 4}" in cnn.as_yaml()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [", "this is not YAML: expected the node content, but found '<stream end>' in line 1, column 5"),
        ("just words", "a spec is a mapping of fields, got str"),
        ("- 1", "a spec is a mapping of fields, got list"),
        ("", "a spec is a mapping of fields, got NoneType"),
        ("a: " + "x" * 300_000, "a spec may have 256 KiB at most"),
        ("[" * 5000, "this is not YAML: unreadable"),
    ],
)
def test_it_says_what_is_wrong_with_a_text(text: str, error: str) -> None:
    with pytest.raises(SpecError, match="^" + error.replace("(", r"\(").replace("[", r"\[")):
        RunSpec.parse_yaml(text)


def test_no_python_object_comes_out_of_yaml() -> None:
    with pytest.raises(SpecError, match="this is not YAML"):
        RunSpec.parse_yaml("name: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    "value", ["2026-13-45", "!!int abc", "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "9" * 6000]
)
def test_a_value_that_yaml_can_t_make_is_refused_with_its_line(value: str) -> None:
    with pytest.raises(SpecError, match=r"a value that can't be read .* in line 2"):
        RunSpec.parse_yaml(f"name: a\nnotes: {value}\n")


def test_merge_keys_are_refused_before_they_multiply() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}]}}" for n in range(1, 12)]
    with pytest.raises(SpecError, match=r"merge keys .* in line 2"):
        RunSpec.parse_yaml("\n".join(lines))
