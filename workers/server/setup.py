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
from workers.problems import registry
from workers.problems.base import Problem
from workers.server import optimizers, schedule
from workers.server.budget import Budget
from workers.server.core import ParameterServer, Rules
from workers.spec import Part, RunSpec
from workers.spec_errors import SpecError


def build_rule(entries: dict[str, catalog.Entry], part: Part) -> Any:
    """Make the method that a part of the spec names, with the part's fields as its parameters."""
    fields = part.model_dump()
    return entries[fields.pop("kind")].load()(**fields)


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
    weights, buffers = torch.zeros(layout.size), torch.zeros(layout.buffer_size)
    layout.collect(model, weights, buffers)
    budget = Budget.of(spec, examples)
    core = _core(spec, layout, weights, buffers, budget, examples)
    return Run(problem, model, layout, core, budget, examples)


def _core(
    spec: RunSpec, layout: Layout, weights: Tensor, buffers: Tensor, budget: Budget, examples: int
) -> ParameterServer:
    tiling = optimizers.Tiling(layout.groups)
    rules = Rules(
        optimizer=optimizers.build(spec.optimizer, tiling, weights),
        rate=build_rule(catalog.RATES, spec.rate),
        gate=build_rule(catalog.GATES, spec.gate),
        batch_norm=build_rule(catalog.BATCH_NORMS, spec.batch_norm),
        schedule=partial(
            schedule.rate_at,
            base=spec.optimizer.learning_rate,
            schedule=spec.schedule,
            clock=budget.clock(spec, examples),
        ),
    )
    return ParameterServer(weights, buffers, tiling, rules, workers=spec.workers.max)


def _check_target(spec: RunSpec, problem: Problem) -> None:
    target = spec.budget.target
    known = [m.name for m in problem.metrics]
    if target and target.metric not in known:
        raise SpecError.one("budget.target.metric", f"must be one of {', '.join(known)}, got {target.metric!r}")
