"""Finding a problem by its spec, and the built-in ones."""

import sys
from collections import Counter

import pytest
import torch

from workers import spec
from workers.problems import registry
from workers.problems.base import Split
from workers.problems.digits import Digits, read_digits
from workers.problems.ledger import Ledger
from workers.problems.splits import stratified_split
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


def examples(of: Split, **fields: object) -> set[bytes]:
    """The images of a part of the digits."""
    data = Digits(spec.Digits.model_validate({"kind": "digits"} | fields)).dataset(of)
    return {data[i][0].numpy().tobytes() for i in range(len(data))}  # type: ignore[arg-type]


def test_a_validation_part_is_a_fifth_of_the_training_examples_and_out_of_the_training() -> None:
    whole, test = examples("train"), examples("test")
    fit, held_out = examples("train", evaluate_on="validation"), examples("test", evaluate_on="validation")
    assert fit | held_out == whole
    assert not fit & held_out
    assert not (fit | held_out) & test
    assert len(held_out) == pytest.approx(len(whole) / 5, abs=5)


def test_another_split_has_other_test_examples_and_the_same_one_the_same() -> None:
    assert examples("test", split=1) == examples("test", split=1)
    assert examples("test", split=1) != examples("test")
    assert len(examples("test", split=1)) == len(examples("test"))


def test_initial_weights_are_he_s_where_they_are_asked_for() -> None:
    torch.manual_seed(0)
    part = {"kind": "digits", "model": {"kind": "mlp", "hidden": [2048], "initial": "he"}}
    model = Digits(spec.Digits.model_validate(part)).model()
    first, *_ = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert float(first.weight.detach().var()) == pytest.approx(2 / 64, rel=0.02)  # 64 inputs
    assert not first.bias.any()


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
