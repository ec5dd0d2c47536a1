"""Simulates one cell of a study and says what it came to. Loads torch."""

from __future__ import annotations

import gc
import importlib
import math
import time
from typing import Any

import torch

from workers.failures import Failure
from workers.simulator.replay import threads
from workers.simulator.simulation import Result, Simulation
from workers.spec import RunSpec, Target
from workers.spec_errors import SpecError
from workers.studies.measures.base import All, Measure, Trace
from workers.studies.measures.names import MEASURES

Traces = dict[str, Trace]


def prepare() -> None:
    """What a process does once that will simulate run after run."""
    torch.set_num_threads(1)  # also for what comes before the first run
    gc.freeze()  # torch's own objects are looked through at every collection: 5 % of the time


def measure(spec: RunSpec, measures: tuple[str, ...] = ()) -> tuple[dict[str, Any], Traces]:
    """Columns and traces of a run. A run that fails is a result too; what it can't tell is None."""
    began = time.monotonic()
    try:
        with threads(1):
            columns, traces = _simulate(spec, measures)
    except (Failure, SpecError) as error:
        columns, traces = {"outcome": "failed", "message": " ".join(str(error).split())}, {}
    columns["wall_seconds"] = round(time.monotonic() - began, 3)
    return {name: _told(value) for name, value in columns.items()}, traces


def _simulate(spec: RunSpec, measures: tuple[str, ...]) -> tuple[dict[str, Any], Traces]:
    simulation = Simulation(spec)
    watching = All(simulation, [_load(name)(simulation) for name in measures])
    if measures:
        simulation.observer = watching
    result = simulation.run()
    return _columns(spec, result) | watching.columns(), watching.traces()


def _load(name: str) -> type[Measure]:
    module, _, attribute = MEASURES[name].partition(":")
    found: type[Measure] = getattr(importlib.import_module(module), attribute)
    return found


def _columns(spec: RunSpec, result: Result) -> dict[str, Any]:
    last = result.evaluations[-1]
    return {
        "outcome": result.outcome.value,
        "message": result.message,
        **last.metrics,
        "evaluation_loss": last.loss,
        "loss": result.loss,
        "target_seconds": None if spec.budget.target is None else seconds_to(spec.budget.target, result),
        "seconds": result.seconds,
        "gradients": result.gradients,
        "version": result.version,
        "mean_staleness": result.totals.mean_staleness,
        "mean_rounds": result.totals.mean_rounds,
        "dropped": result.totals.dropped,
        "refused": result.refused,
        "weights_hash": result.weights_hash[:16],
    }


def seconds_to(target: Target, result: Result) -> float | None:
    """Virtual seconds to the first evaluation that reached the target. None: none did."""
    for evaluation in result.evaluations:
        if target.reached_by(evaluation.metrics[target.metric]):
            return evaluation.seconds
    return None


def _told(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
