"""Finding a problem by its spec, and the built-in ones."""

import sys
from collections import Counter

import pytest
import torch

from workers import spec
from workers.problems import registry
from workers.problems.digits import Digits, read_digits, stratified_split
from workers.problems.ledger import Ledger
from workers.spec_errors import SpecError

HERE = "tests.engine.problems"


def python(target: str, **parameters: object) -> spec.PythonTarget:
    return spec.PythonTarget(kind="python", target=target, parameters=dict(parameters))


def test_a_problem_is_found_by_its_import_path_and_given_its_parameters() -> None:
    problem = registry.load(python(f"{HERE}:NotFinite", first=1, last=2))
    assert problem.metrics[0].name == "error"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (python("no.such.module:Thing"), "problem.target"),
        (python(f"{HERE}:Nothing"), "problem.target"),
        (python(f"{HERE}:NotFinite", wrong=1), "problem.parameters"),
        (python(f"{HERE}:not_a_problem"), "problem"),
        (spec.Installed(kind="installed", name="absent"), "problem.name"),
    ],
)
def test_what_is_wrong_with_a_problem_is_said_by_field(part: spec.Problem, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        registry.load(part)
    assert [f.field for f in caught.value.findings] == [field]


def test_the_digits_are_read_without_importing_scikit_learn() -> None:
    before = "sklearn" in sys.modules
    images, labels = read_digits()
    assert (images.shape, labels.shape) == ((1797, 1, 8, 8), (1797,))
    assert ("sklearn" in sys.modules) == before


def test_a_fifth_of_each_class_is_held_out() -> None:
    _, labels = read_digits()
    train, test = stratified_split(labels)
    assert sorted([*train, *test]) == list(range(1797))
    everywhere, held_out = Counter(labels.tolist()), Counter(labels[test].tolist())
    assert all(abs(held_out[c] - everywhere[c] / 5) < 1 for c in range(10))


@pytest.mark.parametrize("model", [{"kind": "cnn"}, {"kind": "mlp"}, {"kind": "mlp", "batch_norm": True}])
def test_digits_models_give_a_loss_and_an_accuracy(model: dict[str, object]) -> None:
    problem = Digits(spec.Digits.model_validate({"kind": "digits", "model": model}))
    data = problem.dataset("train")
    batch = problem.collate(data.__getitems__(range(8)))  # type: ignore[attr-defined]
    loss, metrics = problem.loss(problem.model(), batch)
    assert loss.isfinite()
    assert 0.0 <= float(metrics["accuracy"]) <= 1.0


def test_a_ledger_gradient_is_minus_one_on_its_trainer_and_nothing_elsewhere() -> None:
    problem = Ledger(spec.Ledger(kind="ledger", coordinates=4))
    problem.placed(2, 4)
    model, data = problem.model(), problem.dataset("train")
    loss, _ = problem.loss(model, problem.collate([data[0], data[1]]))
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = next(model.parameters()).grad
    assert gradient is not None
    assert torch.equal(gradient, torch.tensor([0.0, 0.0, -1.0, 0.0]))


def test_a_ledger_with_too_few_coordinates_says_so() -> None:
    with pytest.raises(SpecError, match=r"problem\.coordinates"):
        Ledger(spec.Ledger(kind="ledger", coordinates=2)).placed(0, 3)
