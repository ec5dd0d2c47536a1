"""RunSpec: the one schema of a run, behind the form, YAML files, the REST API, the command line and the engine.

Every choice is a tagged union on `kind`, so a new method is a new member here and a new file in its room, and
nothing else learns about it. Unknown fields are refused: a misspelt option must not train in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers import catalog
from workers.spec_errors import SpecError, explain

VERSION = 1
MAX_TRAINERS = 1024

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Tag = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\w.:/ -]+$")]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# ---------------------------------------------------------------- problem


class DigitsCnn(Part):
    kind: Literal["cnn"] = "cnn"
    width: int = Field(default=16, ge=1, le=512)
    """Channels of the first convolution; the second has twice as many."""


class DigitsMlp(Part):
    kind: Literal["mlp"] = "mlp"
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default=[64, 64, 64], min_length=1, max_length=8)
    batch_norm: bool = False
    initial: Literal["torch", "he"] = "torch"
    """Initial weights: torch's own, or normal with variance 2/inputs and no biases (He et al., 2015, section 2.2)."""


class Digits(Part):
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels, 10 classes."""

    kind: Literal["digits"]
    model: Annotated[DigitsCnn | DigitsMlp, Field(discriminator="kind")] = DigitsCnn()
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps a fifth of the training examples out of the training and evaluates on them: to tune on."""


class Ledger(Part):
    """One coordinate per trainer, to which each of its gradients adds exactly 1: it counts what was applied."""

    kind: Literal["ledger"]
    coordinates: int = Field(default=8, ge=1, le=100_000_000)
    compute_seconds: NotNegative = 0.0


class Installed(Part):
    """A problem that an installed package announces through the entry point group `trainhub.problems`."""

    kind: Literal["installed"]
    name: str = Field(min_length=1, max_length=100)
    parameters: dict[str, Any] = {}


class PythonTarget(Part):
    """A problem named by its import path, `package.module:name`, importable on the nodes."""

    kind: Literal["python"]
    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=200)
    parameters: dict[str, Any] = {}


Problem = Annotated[Digits | Ledger | Installed | PythonTarget, Field(discriminator="kind")]


# ---------------------------------------------------------------- optimizer and schedule


class ParameterGroup(Part):
    """Parameters whose name matches the regular expression; the first matching group wins."""

    match: str = Field(min_length=1, max_length=200)
    learning_rate_scale: NotNegative = 1.0
    weight_decay: NotNegative | None = None
    """None: the optimizer's own."""


class Optimizer(Part):
    learning_rate: Positive
    weight_decay: NotNegative = 0.0
    """Batch-norm parameters and biases never decay, unless a group says so."""
    groups: list[ParameterGroup] = Field(default=[], max_length=32)


class Sgd(Optimizer):
    kind: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_looks_ahead_by_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set momentum, or nesterov: false")
        return self


class AdamW(Optimizer):
    kind: Literal["adamw"]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8


class Schedule(Part):
    """The learning rate over time. Its clock is the number of gradients applied."""

    warmup_passes: NotNegative = 0.0
    """Passes over the data in which the rate rises from `warmup_from` times itself to itself."""
    warmup_from: float = Field(default=0.1, ge=0, le=1)


class Constant(Schedule):
    kind: Literal["constant"] = "constant"


class Cosine(Schedule):
    kind: Literal["cosine"]
    final: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate that is left at the end of the budget."""


class Step(Schedule):
    kind: Literal["step"]
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.5, 0.75], min_length=1, max_length=20)
    """Shares of the budget after which the rate is multiplied by `factor`."""
    factor: float = Field(default=0.1, gt=0, le=1)


# ---------------------------------------------------------------- how asynchrony is handled


class AsyncGate(Part):
    """Each gradient is applied as it comes; nobody waits for anybody."""

    kind: Literal["async"] = "async"


class Softsync(Part):
    """An update for every c gradients, whoever sent them."""

    kind: Literal["softsync"]
    c: int = Field(ge=1, le=MAX_TRAINERS)
    """Gradients in an update."""
    waiting: bool = True
    """Whether the trainers of an update wait for it. If not, each goes on at once from the weights there are."""


class SyncGate(Part):
    """Every update waits for a gradient of every trainer."""

    kind: Literal["sync"]


class Backup(Part):
    """An update takes the first gradients of a round, all but `extra`; those that come later are dropped."""

    kind: Literal["backup"]
    extra: int = Field(ge=1, le=MAX_TRAINERS)
    """Trainers that a round does without."""


class Ssp(Part):
    """Stale synchronous parallel: nobody works more than `bound` rounds ahead of the slowest."""

    kind: Literal["ssp"]
    bound: int = Field(ge=0, le=1_000_000)
    """In rounds, which are a trainer's own gradients."""


Gate = Annotated[AsyncGate | Softsync | SyncGate | Backup | Ssp, Field(discriminator="kind")]


class ConstantRate(Part):
    """Every gradient takes a full step: plain asynchronous SGD."""

    kind: Literal["constant"] = "constant"


class StalenessInverse(Part):
    """A gradient d versions late takes 1/max(1, d) of a step."""

    kind: Literal["staleness-inverse"]


class Balanced(Part):
    """Gradients of an update weighed against each other by their staleness (CN112861991A; a reconstruction)."""

    kind: Literal["balanced"]


class BalancedMse(Part):
    """Weighed so that noise and staleness bias together are least (for CN112861991A; a reconstruction)."""

    kind: Literal["balanced-mse"]
    kappa: Positive
    """Squared drift a version over the variance of one example's gradient: the larger, the less late ones count."""


class MeanStaleness(Part):
    """Every gradient takes 1/N of a step, N being the trainers that live."""

    kind: Literal["mean-staleness"]


class DelayAdaptive(Part):
    """A gradient more than N versions late takes N/d of a step."""

    kind: Literal["delay-adaptive"]


class AdaDelay(Part):
    """Steps that fall with time t and staleness d: 1/(1 + kappa sqrt(t + d))."""

    kind: Literal["adadelay"]
    kappa: Positive


class Ringmaster(Part):
    """Gradients R or more versions late are dropped; the others take a full step."""

    kind: Literal["ringmaster"]
    R: int = Field(ge=1, le=1_000_000)
    """In versions. From twice the number of trainers on, equally fast ones lose nothing."""


class WindowRate(Part):
    """Each trainer forecasts its staleness from its last rounds, and asks for 1/(1 + forecast) of a step
    (CN106779093A; a reconstruction)."""

    kind: Literal["window"]
    size: int = Field(default=16, ge=1, le=10_000)
    """Rounds in the window."""
    context: Literal["mean", "ema", "p75"] = "mean"
    """What is made of them: their mean, a moving average as long, or their upper quartile."""
    cap: bool = False
    """Whether the server lowers a scale to 1/(1 + d) where the gradient met more staleness d than forecast."""


Rate = Annotated[
    ConstantRate
    | StalenessInverse
    | Balanced
    | BalancedMse
    | MeanStaleness
    | DelayAdaptive
    | AdaDelay
    | Ringmaster
    | WindowRate,
    Field(discriminator="kind"),
]


class NoCompensation(Part):
    kind: Literal["none"] = "none"


class DcAsgd(Part):
    """A late gradient is moved along the drift of the weights, by its own square for the curvature."""

    kind: Literal["dc-asgd-c"]
    lam: NotNegative = 0.04


class DcAsgdAdaptive(Part):
    """As dc-asgd-c, with less of it where gradients are large."""

    kind: Literal["dc-asgd-a"]
    lam0: NotNegative = 2.0


class GapAware(Part):
    """Every element of a gradient is divided by how far its weight has drifted, in steps. Owns its momentum."""

    kind: Literal["gap-aware"]
    momentum: Fraction = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_looks_ahead_by_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set momentum, or nesterov: false")
        return self


class MultiAsgd(Part):
    """A momentum for each trainer, of its own gradients only."""

    kind: Literal["multi-asgd"]
    momentum: Fraction = 0.9


class DanaZero(Part):
    """A momentum for each trainer; trainers compute on an estimate of the weights after everybody's next step."""

    kind: Literal["dana-zero"]
    momentum: Fraction = 0.9


Compensation = Annotated[
    NoCompensation | DcAsgd | DcAsgdAdaptive | GapAware | MultiAsgd | DanaZero, Field(discriminator="kind")
]


class LocalBatchNorm(Part):
    """Trainers normalise by their own batch; the server averages what they report, for evaluation."""

    kind: Literal["local"] = "local"
    rho: float = Field(default=0.02, gt=0, le=1)
    """Weight of a new batch statistic in the server's running aggregate: 0.02 remembers about 50 batches."""


class ServerBatchNorm(Part):
    """Trainers normalise by their batch and the server's statistics together (CN112016699A; a reconstruction)."""

    kind: Literal["server"]
    rho: float = Field(default=0.02, gt=0, le=1)
    """Weight of a new batch statistic in the server's: 0.02 remembers about 50 batches."""
    n0: int = Field(default=4, ge=0, le=65536)
    """Images that the server's statistics count for beside a batch, at most. 0: trainers use their batch alone."""


class SingleDevice(Part):
    kind: Literal["single"] = "single"


class Blocking(Part):
    """A trainer waits for the server's answer before its next batch."""

    kind: Literal["blocking"] = "blocking"


class Candidate(Part):
    """A trainer never waits: it goes on from a candidate of its own (CN114254756A; a reconstruction).

    Trainers push displacements. The server averages them as they are, over all live trainers.
    """

    kind: Literal["candidate"]
    mode: Literal["compensate", "overwrite"] = "compensate"
    """Whether what the server has not seen yet is kept when its weights come, or overwritten by them."""
    k: int | None = Field(default=None, ge=1, le=MAX_TRAINERS)
    """Trainers whose displacements make an update. None: all that live."""


class NoOuter(Part):
    kind: Literal["none"] = "none"


class OuterPart(Part):
    steps: int = Field(default=10, ge=1, le=100_000)
    """Local steps between two pushes: each is a batch, or as many as are accumulated."""


class LocalSgd(OuterPart):
    """Everybody makes `steps` local steps, then all go on from the mean of their weights."""

    kind: Literal["local-sgd"]


class DiLoCo(OuterPart):
    """The mean displacement of all trainers' local steps is the gradient of an outer Nesterov step."""

    kind: Literal["diloco"]
    learning_rate: Positive = 0.7
    """Of the outer step."""
    momentum: Fraction = 0.9


class Easgd(OuterPart):
    """Elastic averaging: each trainer keeps weights of its own, drawn to the server's after every `steps` steps."""

    kind: Literal["easgd"]
    beta: float = Field(default=0.9, gt=0, lt=1)
    """Share of their distance that all trainers and the centre move together; beta / N for one trainer."""


class DelayedNesterov(OuterPart):
    """Displacements are applied as they come; the outer momentum moves once in as many as there are trainers."""

    kind: Literal["delayed-nesterov"]
    learning_rate: Positive = 0.7
    """Of the outer step."""
    momentum: Fraction = 0.9


Outer = Annotated[NoOuter | LocalSgd | DiLoCo | Easgd | DelayedNesterov, Field(discriminator="kind")]


# ---------------------------------------------------------------- workers, budget, start, delays


class Workers(Part):
    min: int = Field(ge=1, le=MAX_TRAINERS)
    max: int = Field(ge=1, le=MAX_TRAINERS)

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Target(Part):
    metric: str = Field(min_length=1, max_length=80)
    value: float = Field(allow_inf_nan=False)
    direction: Literal["min", "max"]


class Budget(Part):
    """When to stop: at whichever limit comes first."""

    passes: Positive | None = None
    updates: int | None = Field(default=None, ge=1)
    seconds: Positive | None = None
    target: Target | None = None

    @model_validator(mode="after")
    def _something_ends_the_run(self) -> Self:
        if all(v is None for v in (self.passes, self.updates, self.seconds, self.target)):
            raise ValueError("needs at least one of passes, updates, seconds, target")
        return self


class Fresh(Part):
    kind: Literal["fresh"] = "fresh"


class FromCheckpoint(Part):
    kind: Literal["checkpoint"]
    run: int = Field(ge=1)
    version: int | None = Field(default=None, ge=0)
    """None: the newest one."""
    take: Literal["weights", "all"] = "weights"
    """`all` goes on with optimizer, clocks and data position too."""


class FactorDelay(Part):
    """Each batch takes `factor` times as long as it would."""

    kind: Literal["factor"]
    factor: float = Field(ge=1, le=1000)
    workers: list[Annotated[int, Field(ge=0)]] | None = None
    """Trainers it falls on, from 0. None: all."""


class GammaDelay(Part):
    """Each batch takes a Gamma-distributed time of the given mean; shape 100 is the DANA protocol."""

    kind: Literal["gamma"]
    mean_seconds: float = Field(gt=0, le=60)
    shape: float = Field(default=100.0, gt=0, le=1e6)
    workers: list[Annotated[int, Field(ge=0)]] | None = None


class Latency(Part):
    """A slow line: what a trainer sends and what it is answered are held back. Times are one way."""

    kind: Literal["latency"]
    push_seconds: float = Field(default=0.0, ge=0, le=60)
    pull_seconds: float = Field(default=0.0, ge=0, le=60)
    workers: list[Annotated[int, Field(ge=0)]] | None = None


Delay = Annotated[FactorDelay | GammaDelay | Latency, Field(discriminator="kind")]


class Checkpoints(Part):
    every_seconds: Positive | None = 10.0
    """None: only when the run pauses or ends."""
    keep_last: int = Field(default=3, ge=1, le=1000)
    keep_best: int = Field(default=1, ge=0, le=100)


class Evaluation(Part):
    every_passes: Positive = 1.0
    batch_size: int = Field(default=256, ge=1, le=65536)


# ---------------------------------------------------------------- execution


class Live(Part):
    """Real trainers on real slots, in real time."""

    kind: Literal["live"] = "live"


class ConstantTimes(Part):
    """Every push takes `mean_seconds` to compute."""

    kind: Literal["constant"]
    mean_seconds: Positive = 1.0


class GammaTimes(Part):
    """Gamma-distributed; shape 100 is the DANA protocol (Hakimi et al., 2019, arXiv:1907.11612, section 5)."""

    kind: Literal["gamma"] = "gamma"
    mean_seconds: Positive = 1.0
    shape: float = Field(default=100.0, gt=0, le=1e6)


class LognormalTimes(Part):
    """Lognormal of the given mean: long tails to the right."""

    kind: Literal["lognormal"]
    mean_seconds: Positive = 1.0
    sigma: float = Field(default=0.3, ge=0, le=5)
    """Standard deviation of the logarithm."""


class TraceTimes(Part):
    """Recorded times of pushes, one list for each trainer; a list that ends starts over."""

    kind: Literal["trace"]
    seconds: list[Annotated[list[Positive], Field(min_length=1)]] = Field(min_length=1, max_length=MAX_TRAINERS)
    """Trainer i takes list i, or i modulo the number of lists."""


class Bursts(Part):
    """A share of all pushes takes `factor` times as long."""

    kind: Literal["bursts"]
    share: float = Field(default=0.08, ge=0, le=1)
    factor: float = Field(default=6.0, gt=0, le=1e6)


class Straggler(Part):
    """One trainer takes `factor` times as long for everything."""

    kind: Literal["straggler"]
    factor: float = Field(default=4.0, gt=0, le=1e6)
    worker: int = Field(default=0, ge=0)


class HalfSlow(Part):
    """The second half of the trainers takes `factor` times as long."""

    kind: Literal["half"]
    factor: float = Field(gt=0, le=1e6)


class Machines(Part):
    """Each trainer has a speed of its own: its mean is Gamma-distributed with this coefficient of variation
    (Ali et al., 2000, "Representing task and machine heterogeneities", section 4; DANA takes 0.6)."""

    kind: Literal["machines"]
    variation: float = Field(default=0.6, gt=0, le=5)


class Crash(Part):
    """A trainer is lost at a virtual time, with the gradient it is computing or sending."""

    kind: Literal["crash"]
    worker: int = Field(ge=0)
    at_seconds: NotNegative
    back_after_seconds: NotNegative | None = None
    """None: it does not come back."""


class RandomCrashes(Part):
    """Each trainer is lost after an exponentially distributed time up, and is back after `down_seconds`."""

    kind: Literal["random-crashes"]
    mean_up_seconds: Positive
    down_seconds: NotNegative = 10.0


class Simulate(Part):
    """The same server, methods and data under a virtual clock, in one process: `manage.py simulate SPEC`."""

    kind: Literal["simulate"]
    compute: Annotated[ConstantTimes | GammaTimes | LognormalTimes | TraceTimes, Field(discriminator="kind")] = (
        GammaTimes()
    )
    """How long a trainer computes for one push, in virtual seconds."""
    slow: list[Annotated[Bursts | Straggler | HalfSlow | Machines, Field(discriminator="kind")]] = Field(
        default=[], max_length=16
    )
    """Each multiplies what the others left."""
    push_seconds: NotNegative = 0.0
    """From the end of a computation to the gradient's arrival at the server."""
    pull_seconds: NotNegative = 0.0
    """From the server's answer to the start of the next computation."""
    faults: list[Annotated[Crash | RandomCrashes, Field(discriminator="kind")]] = Field(default=[], max_length=1000)


class RunSpec(Part):
    """Everything a run is. Defaults are what a newcomer should want."""

    version: int = VERSION
    name: str = Field(min_length=1, max_length=120)
    notes: str = Field(default="", max_length=10_000)
    tags: list[Tag] = Field(default=[], max_length=20)
    problem: Problem
    optimizer: Annotated[Sgd | AdamW, Field(discriminator="kind")]
    schedule: Annotated[Constant | Cosine | Step, Field(discriminator="kind")] = Constant()
    batch_size: int = Field(default=32, ge=1, le=65536)
    accumulation: int = Field(default=1, ge=1, le=1024)
    """Batches whose mean gradient makes one push."""
    clip_norm: Positive | None = None
    """Largest norm of a pushed gradient; longer ones are shortened to it by their trainer."""
    data_loader_workers: int = Field(default=0, ge=0, le=32)
    workers: Workers
    gate: Gate = AsyncGate()
    rate: Rate = ConstantRate()
    compensation: Compensation = NoCompensation()
    batch_norm: Annotated[LocalBatchNorm | ServerBatchNorm, Field(discriminator="kind")] = LocalBatchNorm()
    layout: SingleDevice = SingleDevice()
    waiting: Annotated[Blocking | Candidate, Field(discriminator="kind")] = Blocking()
    outer: Outer = NoOuter()
    budget: Budget
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()
    delays: list[Delay] = Field(default=[], max_length=64)
    execution: Annotated[Live | Simulate, Field(discriminator="kind")] = Live()
    start: Annotated[Fresh | FromCheckpoint, Field(discriminator="kind")] = Fresh()
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    priority: int = Field(default=0, ge=-100, le=100)
    device: Literal["cpu"] = "cpu"
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
        for combination in catalog.COMBINATIONS:
            if refusal := combination.refusal(self):
                raise ValueError(refusal)
        if isinstance(self.gate, Softsync) and self.gate.c > self.workers.max:
            raise ValueError(f"gate.c must be at most workers.max ({self.workers.max}), got {self.gate.c}")
        if isinstance(self.waiting, Candidate) and (self.waiting.k or 1) > self.workers.max:
            raise ValueError(f"waiting.k must be at most workers.max ({self.workers.max}), got {self.waiting.k}")
        if isinstance(self.gate, Backup) and self.gate.extra >= self.workers.max:
            raise ValueError(f"gate.extra must be below workers.max ({self.workers.max}), got {self.gate.extra}")
        decays = self.schedule.kind != "constant"
        if decays and self.budget.passes is None and self.budget.updates is None:
            raise ValueError(
                f"schedule.kind {self.schedule.kind} needs budget.passes or budget.updates: the rate follows it"
            )
        for index, delay in enumerate(self.delays):
            outside = [w for w in delay.workers or [] if w >= self.workers.max]
            if outside:
                raise ValueError(
                    f"delays.{index}.workers names {outside}, but trainers are 0 to {self.workers.max - 1}"
                )
        if isinstance(self.execution, Simulate):
            self._trainers_of_the_simulation_exist(self.execution)
        target = self.budget.target
        known = catalog.metrics_of(self.problem.kind)
        if target and known and target.metric not in known:
            raise ValueError(f"budget.target.metric must be one of {', '.join(known)}, got {target.metric!r}")
        return self

    def _trainers_of_the_simulation_exist(self, execution: Simulate) -> None:
        named = [(f"slow.{i}", s.worker) for i, s in enumerate(execution.slow) if isinstance(s, Straggler)]
        named += [(f"faults.{i}", f.worker) for i, f in enumerate(execution.faults) if isinstance(f, Crash)]
        for field, worker in named:
            if worker >= self.workers.max:
                raise ValueError(f"execution.{field}.worker is {worker}, but trainers are 0 to {self.workers.max - 1}")

    @property
    def displaces(self) -> bool:
        """Whether trainers step by themselves and push where that led, instead of gradients."""
        return self.waiting.kind != "blocking" or self.outer.kind != "none"

    @property
    def outer_steps(self) -> int:
        """Local steps in a push, where there are outer ones."""
        return 1 if isinstance(self.outer, NoOuter) else self.outer.steps

    @property
    def slots(self) -> int:
        """Slots a full gang takes: its trainers and one server. A simulation of any size takes one."""
        return 1 if isinstance(self.execution, Simulate) else self.workers.max + 1

    @property
    def least_slots(self) -> int:
        return 1 if isinstance(self.execution, Simulate) else self.workers.min + 1

    def canonical(self) -> str:
        """The one text of this spec: every default written out, keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, data: object) -> RunSpec:
        """Check a spec that came as data. Raises SpecError, which names each field and what it may be."""
        if not isinstance(data, Mapping):
            raise SpecError.one("", f"a spec is a mapping of fields, got {type(data).__name__}")
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
            data = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "unreadable"
            raise SpecError.one("", f"this is not YAML: {problem}{where}") from None
        return cls.parse(data)
