"""The whole of a run, and how the parts fit together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from workers import catalog, spec_yaml
from workers.spec.asynchrony import AsyncGate, Backup, Compensation, ConstantRate, Gate, NoCompensation, Rate, Softsync
from workers.spec.base import VERSION, Part, Positive, Tag
from workers.spec.brief import as_yaml
from workers.spec.course import Budget, Checkpoints, Delay, Evaluation, Fresh, FromCheckpoint, Workers
from workers.spec.execution import Crash, Live, Simulate, Straggler
from workers.spec.optimization import AdamW, Constant, Cosine, Muon, Sgd, Step
from workers.spec.placement import Placement
from workers.spec.problem import Problem
from workers.spec.trainers import (
    Blocking,
    Candidate,
    Hybrid,
    LayoutPart,
    LocalBatchNorm,
    NoAveraging,
    NoOuter,
    Outer,
    RecentMean,
    ServerBatchNorm,
    SingleDevice,
)
from workers.spec.transport import Transport
from workers.spec_errors import Finding, Misfits, SpecError, explain
from workers.spec_values import check_plain


class RunSpec(Part):
    """Everything a run is. Defaults are what a newcomer should want."""

    version: int = VERSION
    """Of this schema."""
    name: str = Field(min_length=1, max_length=120)
    """What the list of runs shows."""
    notes: str = Field(default="", max_length=10_000)
    """Anything worth remembering; shown with the experiment."""
    tags: list[Tag] = Field(default=[], max_length=20)
    """Words to find runs by: letters, digits, spaces and . : / - _"""
    problem: Problem
    """A model, its data, its loss and its metrics."""
    optimizer: Annotated[Sgd | AdamW | Muon, Field(discriminator="kind")]
    """How a gradient becomes a step."""
    schedule: Annotated[Constant | Cosine | Step, Field(discriminator="kind")] = Constant()
    """The learning rate over time; its clock is the number of gradients applied."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Examples in a trainer's batch."""
    accumulation: int = Field(default=1, ge=1, le=1024)
    """Batches whose mean gradient makes one push."""
    clip_norm: Positive | None = None
    """Largest norm of a pushed gradient; longer ones are shortened to it. Left out: none is."""
    data_loader_workers: int = Field(default=0, ge=0, le=32)
    """Processes that prepare a trainer's batches. 0: the trainer does it itself."""
    workers: Workers
    gate: Gate = AsyncGate()
    """Who waits for whom, and how many gradients make an update."""
    rate: Rate = ConstantRate()
    """How long a step a late gradient takes."""
    compensation: Compensation = NoCompensation()
    """How a late gradient is corrected, element by element."""
    batch_norm: Annotated[LocalBatchNorm | ServerBatchNorm, Field(discriminator="kind")] = LocalBatchNorm()
    """Whose statistics trainers normalise by."""
    averaging: Annotated[NoAveraging | RecentMean, Field(discriminator="kind")] = NoAveraging()
    """Which weights are evaluated and exported."""
    layout: LayoutPart = SingleDevice()
    """How a trainer spreads the model over devices."""
    waiting: Annotated[Blocking | Candidate, Field(discriminator="kind")] = Blocking()
    """What a trainer does until it is answered."""
    outer: Outer = NoOuter()
    """Whether trainers make several steps of their own for each push."""
    transport: Transport = Transport()
    """How gradients and weights travel between hosts."""
    budget: Budget
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()
    delays: list[Delay] = Field(default=[], max_length=64)
    """Make trainers slow on purpose, to see what asynchrony does."""
    execution: Annotated[Live | Simulate, Field(discriminator="kind")] = Live()
    """Real, or under a virtual clock."""
    start: Annotated[Fresh | FromCheckpoint, Field(discriminator="kind")] = Fresh()
    """The weights that training begins with."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Of initial weights and of the order of examples."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Runs with more of it start first; equal ones in the order they came."""
    device: Literal["cpu", "cuda"] = "cpu"
    """What trainers compute on. With `cuda`, each takes a GPU's slot, and the run waits until there are enough."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What forward and backward compute in. `bfloat16`: torch's autocast; weights, gradients and steps stay float32."""
    placement: Placement = Placement()
    restarts: int = Field(default=5, ge=0, le=1000)
    """How often a lost server or trainer is replaced before the run fails."""

    @field_validator("workers", mode="before")
    @classmethod
    def _a_plain_number_is_min_and_max(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "max": value}
        return value

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if found := list(self._misfits()):
            raise Misfits(found)
        return self

    def _misfits(self) -> Iterator[Finding]:
        for combination in catalog.COMBINATIONS:
            if refusal := combination.refusal(self):
                yield refusal
        yield from self._counts_of_trainers()
        if self.shards > self.batch_size:
            yield Finding("layout.shards", f"must be at most batch_size ({self.batch_size}), got {self.shards}")
        decays = self.schedule.kind != "constant"
        if decays and self.budget.passes is None and self.budget.updates is None:
            needs = f"{self.schedule.kind} needs budget.passes or budget.updates: the rate follows it"
            yield Finding("schedule.kind", needs)
        target = self.budget.target
        known = catalog.metrics_of(self.problem.kind)
        if target and known and target.metric not in known:
            yield Finding("budget.target.metric", f"must be one of {', '.join(known)}, got {target.metric!r}")

    def _counts_of_trainers(self) -> Iterator[Finding]:
        most = self.workers.max
        if isinstance(self.gate, Softsync) and self.gate.c > most:
            yield Finding("gate.c", f"must be at most workers.max ({most}), got {self.gate.c}")
        if isinstance(self.waiting, Candidate) and (self.waiting.k or 1) > most:
            yield Finding("waiting.k", f"must be at most workers.max ({most}), got {self.waiting.k}")
        if isinstance(self.gate, Backup) and self.gate.extra >= most:
            yield Finding("gate.extra", f"must be below workers.max ({most}), got {self.gate.extra}")
        for index, delay in enumerate(self.delays):
            if outside := [w for w in delay.workers or [] if w >= most]:
                yield Finding(f"delays.{index}.workers", f"names {outside}, but trainers are 0 to {most - 1}")
        if isinstance(self.execution, Simulate):
            yield from self._trainers_of_the_simulation(self.execution)

    def _trainers_of_the_simulation(self, execution: Simulate) -> Iterator[Finding]:
        named = [(f"slow.{i}", s.worker) for i, s in enumerate(execution.slow) if isinstance(s, Straggler)]
        named += [(f"faults.{i}", f.worker) for i, f in enumerate(execution.faults) if isinstance(f, Crash)]
        for field, worker in named:
            if worker >= self.workers.max:
                message = f"is {worker}, but trainers are 0 to {self.workers.max - 1}"
                yield Finding(f"execution.{field}.worker", message)

    @property
    def displaces(self) -> bool:
        """Whether trainers step by themselves and push where that led, instead of gradients."""
        return self.waiting.kind != "blocking" or self.outer.kind != "none"

    @property
    def outer_steps(self) -> int:
        """Local steps in a push, where there are outer ones."""
        return 1 if isinstance(self.outer, NoOuter) else self.outer.steps

    @property
    def shards(self) -> int:
        """Devices of a trainer, each of which takes a slot."""
        return self.layout.shards if isinstance(self.layout, Hybrid) else 1

    @property
    def slots(self) -> int:
        """Slots a full gang takes: its trainers and one server. A simulation of any size takes one."""
        return 1 if isinstance(self.execution, Simulate) else self.workers.max * self.shards + 1

    @property
    def least_slots(self) -> int:
        return 1 if isinstance(self.execution, Simulate) else self.workers.min * self.shards + 1

    def canonical(self) -> str:
        """The one text of this spec: every default written out, keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def as_yaml(self) -> str:
        """The shortest YAML that parses to this spec."""
        return as_yaml(self)

    @classmethod
    def parse(cls, data: object) -> RunSpec:
        """Check a spec that came as data. Raises SpecError, which names each field and what it may be."""
        if not isinstance(data, Mapping):
            raise SpecError.one("", f"a spec is a mapping of fields, got {type(data).__name__}")
        check_plain(data)
        version = data.get("version", VERSION)
        if isinstance(version, int) and version > VERSION:
            raise SpecError.one(
                "version", f"{version} is newer than this TrainHub understands ({VERSION}); upgrade TrainHub"
            )
        if version != VERSION:
            raise SpecError.one("version", f"must be {VERSION}, got {version!r}")
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise SpecError(explain(error, data)) from None

    @classmethod
    def parse_yaml(cls, text: str) -> RunSpec:
        """Check a spec that came as YAML (JSON is YAML too). Raises SpecError."""
        if len(text) > 256 * 1024:
            raise SpecError.one("", "a spec may have 256 KiB at most")
        try:
            data = spec_yaml.load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "unreadable"
            raise SpecError.one("", f"this is not YAML: {problem}{where}") from None
        return cls.parse(data)
