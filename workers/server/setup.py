"""Builds a run's server side out of its spec: model, layout, rules, core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workers import catalog
from workers.assignment import Cause
from workers.devices import HOST
from workers.failures import user_code
from workers.layout import Layout
from workers.methods.averaging.recent import RecentMean
from workers.methods.batch_norm.base import BatchNorm
from workers.methods.compensation.base import Compensation, MomentumOwner
from workers.methods.compression.base import Compression
from workers.methods.gates.softsync import Softsync
from workers.methods.outer.base import Outer
from workers.methods.rates.constant import Constant
from workers.methods.rates.mean_staleness import MeanStaleness
from workers.methods.rates.window import Window, WindowRate
from workers.problems import registry
from workers.problems.base import Problem
from workers.server import muon, optimizers, schedule
from workers.server.budget import Budget
from workers.server.core import ParameterServer, Rules
from workers.spec import Candidate, Muon, NoOuter, Part, RunSpec, Sgd
from workers.spec_errors import SpecError

MOST_UNANSWERED = 1_000_000
"""Gradients that a trainer which never waits may make until it is answered."""


def build_rule(entries: dict[str, catalog.Entry], part: Part, spec: RunSpec | None = None) -> Any:
    """Make the method that a part of the spec names, with the part's fields as its parameters.

    `spec` is what the catalog's `takes` are read from; None where the method takes nothing.
    """
    fields = part.model_dump()
    entry = entries[fields.pop("kind")]
    taken = {name: _fact(spec, name) for name in entry.takes} if spec is not None else {}
    return entry.load()(**fields, **taken)


def _fact(spec: RunSpec, name: str) -> float:
    facts = {"batch_size": spec.batch_size * spec.accumulation, "learning_rate": spec.optimizer.learning_rate}
    return facts[name]


def build_window(spec: RunSpec) -> Window | None:
    """Make a trainer's staleness window, empty. None: its scale is the server's business."""
    rule = build_rule(catalog.RATES, spec.rate, spec)
    return rule.window(spec.workers.max) if isinstance(rule, WindowRate) else None


def build_compression(spec: RunSpec) -> Compression | None:
    """Make a trainer's or a reader's compression, with nothing kept in it yet. None: pushes travel as they are."""
    part = spec.transport.compression
    return None if part.kind == "none" else build_rule(catalog.COMPRESSIONS, part)


def build_model(problem: Problem, seed: int) -> nn.Module:
    """Build the model; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]), user_code("model()"):
        torch.manual_seed(seed)
        return problem.model()


@dataclass(frozen=True)
class Run:
    """A server's parts. `model` lends names and constants to checkpoints; the weights are the core's."""

    problem: Problem
    model: nn.Module
    layout: Layout
    core: ParameterServer
    budget: Budget
    examples: int
    data: Path | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.problem.metrics)


def build(spec: RunSpec, data: Path | None = None, device: torch.device = HOST.where) -> Run:
    """Build everything. `data` is the folder of the data set that the problem names; weights and everything that
    steps them are on `device`.

    Raises SpecError, or Failure from the problem's own code.
    """
    problem = registry.load(spec.problem, data)
    model = build_model(problem, spec.seed)
    layout = Layout.of(model, spec.optimizer)
    with user_code("dataset('train')", Cause.DATA):
        examples = len(problem.dataset("train"))  # type: ignore[arg-type]
    if examples < spec.workers.max:
        raise SpecError.one("workers.max", f"{spec.workers.max} trainers can't share {examples} examples")
    _check_target(spec, problem)
    weights = torch.zeros(layout.size, device=device)
    batch_norm: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
    buffers = torch.zeros(batch_norm.parts * layout.channels, device=device)
    layout.collect(model, weights, buffers)
    budget = Budget.of(spec, examples)
    core = _core(spec, layout, weights, buffers, batch_norm, examples)
    return Run(problem, model, layout, core, budget, examples, data)


def _core(
    spec: RunSpec,
    layout: Layout,
    weights: Tensor,
    buffers: Tensor,
    batch_norm: BatchNorm,
    examples: int,
) -> ParameterServer:
    tiling = optimizers.Tiling(layout.groups, optimizers.tile_floats(weights.device))
    if spec.displaces:
        rules = _displaced(spec, tiling.without_scales(), weights, batch_norm)
        return ParameterServer(weights, buffers, tiling, rules, workers=spec.workers.max)
    compensation = _compensation(spec)
    # Who owns the momentum adds the weight decay too: to what the momentum is made of.
    steps = tiling.without_decay() if isinstance(compensation, MomentumOwner) else tiling
    rules = Rules(
        optimizer=_optimizer(spec, steps, weights, layout),
        rate=build_rule(catalog.RATES, spec.rate, spec),
        gate=build_rule(catalog.GATES, spec.gate),
        batch_norm=batch_norm,
        schedule=build_schedule(spec, examples),
        compensation=compensation,
        averaging=_averaging(spec),
    )
    return ParameterServer(weights, buffers, tiling, rules, workers=spec.workers.max)


def _optimizer(spec: RunSpec, tiling: optimizers.Tiling, weights: Tensor, layout: Layout) -> optimizers.Optimizer:
    if isinstance(spec.optimizer, Muon):
        return muon.Muon(spec.optimizer, tiling, weights, layout.segments)
    return optimizers.build(spec.optimizer, tiling, weights)


def _averaging(spec: RunSpec) -> RecentMean | None:
    return None if spec.averaging.kind == "none" else build_rule(catalog.AVERAGINGS, spec.averaging)


def build_schedule(spec: RunSpec, examples: int) -> Callable[[int], float]:
    """The scheduled learning rate by gradients applied; `examples` is the size of the whole training part."""
    clock = Budget.of(spec, examples).clock(spec, examples)
    return partial(schedule.rate_at, base=spec.optimizer.learning_rate, schedule=spec.schedule, clock=clock)


def build_outer(spec: RunSpec) -> Outer | None:
    """Make the outer optimizer. None: trainers do not step by themselves, or they never wait."""
    if isinstance(spec.outer, NoOuter):
        return None
    fields = spec.outer.model_dump(exclude={"kind", "steps"})
    outer: Outer = catalog.OUTERS[spec.outer.kind].load()(**fields)
    return outer


def _displaced(spec: RunSpec, tiling: optimizers.Tiling, weights: Tensor, batch_norm: BatchNorm) -> Rules:
    """Rules for trainers that step by themselves: the learning rate and its schedule are theirs."""
    outer = build_outer(spec)
    if outer is not None:
        outer.prepare(tiling.space(weights, spec.workers.max))
        gate = build_rule(catalog.GATES, spec.gate)
        rules = Rules(outer, Constant(), gate, batch_norm, _full_step, most_gradients=spec.outer_steps)
        return replace(rules, averaging=_averaging(spec))
    assert isinstance(spec.waiting, Candidate)
    gate = Softsync(c=spec.waiting.k or spec.workers.max, waiting=True)
    adds = optimizers.Sgd(Sgd(kind="sgd", learning_rate=1.0), tiling, weights)
    rules = Rules(adds, MeanStaleness(), gate, batch_norm, _full_step, most_gradients=MOST_UNANSWERED)
    return replace(rules, averaging=_averaging(spec))


def _full_step(gradients: int) -> float:
    return 1.0


def _compensation(spec: RunSpec) -> Compensation | None:
    if spec.compensation.kind == "none":
        return None
    compensation: Compensation = build_rule(catalog.COMPENSATIONS, spec.compensation, spec)
    return compensation


def _check_target(spec: RunSpec, problem: Problem) -> None:
    target = spec.budget.target
    known = [m.name for m in problem.metrics]
    if target and target.metric not in known:
        raise SpecError.one("budget.target.metric", f"must be one of {', '.join(known)}, got {target.metric!r}")
