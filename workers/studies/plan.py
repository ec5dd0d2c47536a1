"""What a study file says: a base run, methods that change it, axes, how rates are tuned, and what to draw.

Every change is a mapping of dotted fields of the run's spec to values. A value takes the field's place: to change the
kind of an optimizer is to name the whole optimizer.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers.spec_errors import SpecError, explain
from workers.studies.measures.names import MEASURES

VERSION = 1
MAX_SEEDS = 1000
LEARNING_RATE = "optimizer.learning_rate"

Name = Annotated[str, Field(min_length=1, max_length=60)]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
Change = dict[str, Any]
Value = str | int | float
"""What a label of a cell may be."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Case(Part):
    """What a method sets besides at some points of the axes."""

    where: dict[str, list[Value]]
    set: Change


class Method(Part):
    label: Name
    set: Change = {}
    cases: list[Case] = []
    where: dict[str, list[Value]] = {}
    """Axes and the values of theirs that this method is for. An axis that is not named: all of it."""
    grid: list[float] | None = Field(default=None, min_length=1)
    """Instead of the study's grid of rates."""


class Point(Part):
    """A value on an axis, and what it changes."""

    value: Value
    set: Change


class Seeds(Part):
    first: int = Field(default=0, ge=0, le=2**31 - 1 - MAX_SEEDS)
    count: int = Field(ge=1, le=MAX_SEEDS)
    fields: list[str] = Field(default=["seed"], min_length=1)
    """What a seed is set for."""

    @property
    def all(self) -> range:
        return range(self.first, self.first + self.count)

    def change(self, seed: int) -> Change:
        return dict.fromkeys(self.fields, seed)


class Choose(Part):
    """Which rate of the grid is best: by a column of the results, over the seeds."""

    column: Name = "accuracy"
    direction: Literal["min", "max"] = "max"
    statistic: Literal["mean", "median"] = "mean"

    def score(self, values: list[float | None]) -> float:
        """The larger the better. A run without a value (a target that was never reached) counts as worst."""
        worst = float("inf") if self.direction == "min" else float("-inf")
        filled = [worst if v is None else v for v in values]
        middle = statistics.median(filled) if self.statistic == "median" else statistics.fmean(filled)
        return middle if self.direction == "max" else -middle


class Tune(Part):
    """A grid for one field, tried with seeds of its own."""

    field: str = LEARNING_RATE
    grid: list[float] = Field(min_length=1)
    seeds: Seeds
    set: Change = {}
    """For these runs only: to evaluate on the validation part of the data."""
    choose: Choose = Choose()


class Rate(Part):
    """Where a final run has the tuned field's value from."""

    label: Name
    tuned: bool = True
    """False: the value that the spec has."""
    at: dict[str, Value] = {}
    """The value is the best one at these points of the axes, wherever the run is. Empty: at the run's own point."""
    of: Name | None = None
    """The method whose best value it is. None: the run's own."""


class Final(Part):
    seeds: Seeds
    set: Change = {}
    rates: list[Rate] = Field(default=[], max_length=10)
    """Every run is made once with each. None named: tuned where the study tunes, else as the spec says."""


class Compare(Part):
    """Differences to one method, paired by seed."""

    to: Name
    columns: list[Name] = Field(default=["accuracy"], min_length=1)


class Figure(Part):
    name: FileName
    title: str = ""
    kind: Literal["lines", "bars", "traces"] = "lines"
    """`traces`: what a measure recorded in the run of the first seed, against time."""
    stage: Literal["tune", "final"] = "final"
    x: Name = "workers"
    y: Name = "accuracy"
    series: Name = "method"
    facets: Name | None = None
    where: dict[str, list[Value]] = {}
    statistic: Literal["mean", "median"] = "mean"
    x_title: str = ""
    y_title: str = ""
    x_log: bool = False
    y_log: bool = False
    y_range: tuple[float, float] | None = None


class Study(Part):
    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=120)
    about: str = ""
    base: dict[str, Any]
    """A run's spec; what methods and axes set may be missing."""
    methods: list[Method] = Field(min_length=1, max_length=100)
    axes: dict[Name, list[Value | Point]] = {}
    """By the field they set, or by any name where every point says what it sets."""
    measures: list[str] = []
    """What is measured besides what every run tells."""
    tune: Tune | None = None
    final: Final
    compare: Compare | None = None
    figures: list[Figure] = []

    @field_validator("measures")
    @classmethod
    def _measures_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in MEASURES:
                raise ValueError(f"{name!r} is none of {', '.join(sorted(MEASURES))}")
        return names

    @model_validator(mode="after")
    def _names_are_of_this_study(self) -> Self:
        labels = [m.label for m in self.methods]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"methods: {', '.join(twice)} is there more than once")
        for index, rate in enumerate(self.final.rates):
            self._check_rate(f"final.rates.{index}", rate, labels)
        if self.compare and self.compare.to not in labels:
            raise ValueError(f"compare.to must be one of the methods, got {self.compare.to!r}")
        for index, method in enumerate(self.methods):
            self._check_points(f"methods.{index}.where", method.where)
            for number, case in enumerate(method.cases):
                self._check_points(f"methods.{index}.cases.{number}.where", case.where)
        return self

    def _check_rate(self, field: str, rate: Rate, labels: list[str]) -> None:
        if rate.tuned and self.tune is None:
            raise ValueError(f"{field}.tuned needs a section `tune`")
        if rate.of is not None and rate.of not in labels:
            raise ValueError(f"{field}.of must be one of the methods, got {rate.of!r}")
        self._check_points(f"{field}.at", {axis: [value] for axis, value in rate.at.items()})

    def _check_points(self, field: str, points: Mapping[str, list[Value]]) -> None:
        for axis, values in points.items():
            if axis not in self.axes:
                raise ValueError(f"{field}.{axis} is no axis of this study")
            there = [p.value for p in self.points(axis)]
            for value in values:
                if value not in there:
                    raise ValueError(f"{field}.{axis} {value!r} is not on that axis: {there}")

    def points(self, axis: str) -> list[Point]:
        """The axis with what each of its values sets."""
        return [p if isinstance(p, Point) else Point(value=p, set={axis: p}) for p in self.axes[axis]]

    def in_order(self, name: str, values: Iterable[Value]) -> list[Value]:
        """Values of a label, each once: as the file lists them, or else by size."""
        match name:
            case "method":
                order = [m.label for m in self.methods]
            case "rate":
                order = [r.label for r in self.rates]
            case _:
                order = [str(p.value) for p in self.points(name)] if name in self.axes else []

        def place(value: Value) -> tuple[int, bool, Value]:
            at = order.index(str(value)) if str(value) in order else len(order)
            return at, isinstance(value, str), value

        return sorted(set(values), key=place)

    @property
    def tuned_field(self) -> str:
        return self.tune.field if self.tune else LEARNING_RATE

    @property
    def rates(self) -> list[Rate]:
        if self.final.rates:
            return self.final.rates
        return [Rate(label="tuned")] if self.tune else [Rate(label="as given", tuned=False)]

    @classmethod
    def parse(cls, data: object) -> Study:
        """Check a study that came as data. Raises SpecError, which names each field."""
        if not isinstance(data, Mapping):
            raise SpecError.one("", f"a study is a mapping of fields, got {type(data).__name__}")
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise SpecError(explain(error, data)) from None

    @classmethod
    def parse_yaml(cls, text: str) -> Study:
        """Check a study that came as YAML. Raises SpecError."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            raise SpecError.one("", f"this is not YAML: {getattr(error, 'problem', 'unreadable')}{where}") from None
        return cls.parse(data)
