"""What no spec may be made of, in whatever field it stands, however it came."""

from __future__ import annotations

import pytest

from tests.web.rest import YAML
from workers.spec import RunSpec
from workers.spec_errors import SpecError

INSTALLED = YAML.replace("{kind: ledger}", "{kind: installed, name: mine, parameters: {%s}}")


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ("x: .nan", "problem.parameters.x", "must be a finite number, got nan"),
        ("x: -.inf", "problem.parameters.x", "must be a finite number, got -inf"),
        ("x: 2020-01-01", "problem.parameters.x", "put it in quotes"),
        ("x: !!binary aGVsbG8=", "problem.parameters.x", "must be plain data, got bytes"),
        ("x: !!set {a, b}", "problem.parameters.x", "must be plain data, got set"),
        ("x: 0x10000000000000000", "problem.parameters.x", "is too large a number"),
        ("x: [1, {y: 0x%s}]" % ("f" * 9000), "problem.parameters.x.1.y", "is too large a number"),
        ('x: "zero \\0"', "problem.parameters.x", "can't be stored"),
        ('"half \\ud800": 1', "problem.parameters", "can't be stored"),
        ("2: 1", "problem.parameters", "has a key that is no text: 2"),
    ],
)
def test_what_json_cannot_say_or_postgresql_cannot_store_is_refused(value: str, field: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        RunSpec.parse_yaml(INSTALLED % value)
    [finding] = refused.value.findings
    assert finding.field == field
    assert said in finding.message


@pytest.mark.parametrize("value", ["x: 1, y: [a, true, null, 0.5]", "x: '2020-01-01'", "x: {y: {z: 日本}}", "x: -9e18"])
def test_plain_data_are_taken(value: str) -> None:
    assert RunSpec.parse_yaml(INSTALLED % value).problem.kind == "installed"


def test_a_value_within_itself_is_refused() -> None:
    with pytest.raises(SpecError, match="nested 40 levels deep at most"):
        RunSpec.parse_yaml(INSTALLED % "x: &a [*a]")


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_at_once() -> None:
    laughs = ", ".join(f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))
    with pytest.raises(SpecError, match="50,000 values at most"):
        RunSpec.parse_yaml(INSTALLED % f"x0: &a0 [1], {laughs}")
