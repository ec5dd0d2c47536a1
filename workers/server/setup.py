"""Builds a run's server side out of its spec: model, layout, rules, core."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workers import catalog
from workers.assignment import Cause
from workers.failures import user_code
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.methods.compensation.base import Compensation, MomentumOwner
from workers.methods.rates.window import Window, WindowRate
from workers.problems import registry
from workers.problems.base import Problem
from workers.server import optimizers, schedule
from workers.server.budget import Budget
from workers.server.core import ParameterServer, Rules
from workers.spec import Part, RunSpec
from workers.spec_errors import SpecError


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

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.problem.metrics)


def build(spec: RunSpec) -> Run:
    """Build everything. Raises SpecError, or Failure from the problem's own code."""
    problem = registry.load(spec.problem)
    model = build_model(problem, spec.seed)
    layout = Layout.of(model, spec.optimizer)
    with user_code("dataset('train')", Cause.DATA):
        examples = len(problem.dataset("train"))  # type: ignore[arg-type]
    if examples < spec.workers.max:
        raise SpecError.one("workers.max", f"{spec.workers.max} trainers can't share {examples} examples")
    _check_target(spec, problem)
    weights = torch.zeros(layout.size)
    batch_norm: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
    buffers = torch.zeros(batch_norm.parts * layout.channels)
    layout.collect(model, weights, buffers)
    budget = Budget.of(spec, examples)
    core = _core(spec, layout, weights, buffers, batch_norm, budget, examples)
    return Run(problem, model, layout, core, budget, examples)


def _core(
    spec: RunSpec,
    layout: Layout,
    weights: Tensor,
    buffers: Tensor,
    batch_norm: BatchNorm,
    budget: Budget,
    examples: int,
) -> ParameterServer:
    tiling = optimizers.Tiling(layout.groups)
    compensation = _compensation(spec)
    # Who owns the momentum adds the weight decay too: to what the momentum is made of.
    steps = tiling.without_decay() if isinstance(compensation, MomentumOwner) else tiling
    rules = Rules(
        optimizer=optimizers.build(spec.optimizer, steps, weights),
        rate=build_rule(catalog.RATES, spec.rate, spec),
        gate=build_rule(catalog.GATES, spec.gate),
        batch_norm=batch_norm,
        schedule=partial(
            schedule.rate_at,
            base=spec.optimizer.learning_rate,
            schedule=spec.schedule,
            clock=budget.clock(spec, examples),
        ),
        compensation=compensation,
    )
    return ParameterServer(weights, buffers, tiling, rules, workers=spec.workers.max)


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
