"""Which layout a machine group should take: what each moves and holds, and how long its step takes on this machine.

    python -m workers.planning      a request on standard input, a plan on standard output, both JSON

A process of its own, since it loads torch, forks, and computes for some seconds: the command line and the pages ask it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.failures import Failure
from workers.spec import RunSpec
from workers.spec_errors import SpecError
from workers.traffic import Work

STEPS = 7
SHARDS = 2
"""Devices of a group where the spec does not say."""


@dataclass(frozen=True)
class Side:
    """One layout. `step_seconds` and `phases` were measured on this machine; None: they were not asked for."""

    last_layer_bytes: int
    other_bytes: int
    memory_bytes: int
    step_seconds: float | None
    phases: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """Both layouts of one group. Bytes are what a device sends in a step; memory is what it works on."""

    devices: int
    images: int
    features: int
    classes: int
    below: int
    hybrid: Side
    data_parallel: Side
    inequality: str
    recommended: str
    reason: str


def plan(spec: RunSpec, *, shards: int | None = None, measured: bool = True, data: Path | None = None) -> Plan:
    """Plan a spec's group. Raises SpecError or Failure, also where its model can't be cut."""
    import torch

    torch.set_num_threads(1)  # before anything is computed: the trial forks
    from workers.problems import registry
    from workers.server.setup import build_model
    from workers.trainer.group.heads import check_output, head_of

    devices = shards or (spec.shards if spec.shards > 1 else SHARDS)
    spec = RunSpec.parse(spec.model_dump() | {"layout": {"kind": "hybrid", "shards": devices}})
    problem = registry.load(spec.problem, data)
    model = build_model(problem, spec.seed)
    head = head_of(model)
    head.slices(devices)
    check_output(problem, model, head, problem.dataset("train"))
    below = sum(p.numel() for n, p in model.named_parameters() if n not in head.parameters)
    work = Work(devices, spec.batch_size, head.features, head.classes, below, head.bias)
    return told(work, spec, problem if measured else None)


def told(work: Work, spec: RunSpec, problem: Any) -> Plan:
    """The plan of this work; with a problem, its steps are measured, if it computes on CPUs."""
    tried = problem if spec.device == "cpu" else None
    times = {kind: _measured(spec, tried, kind, work.devices) for kind in ("hybrid", "single")}
    hybrid = Side(work.hybrid_bytes, work.below_bytes, work.hybrid_memory_bytes, *times["hybrid"])
    whole = Side(work.data_parallel_bytes, work.below_bytes, work.data_parallel_memory_bytes, *times["single"])
    recommended, reason = recommendation(work, hybrid.step_seconds, whole.step_seconds)
    if tried is not problem:
        reason += "; no step was measured, since that is done on CPUs and this spec computes on GPUs"
    sizes = (work.devices, work.images, work.features, work.classes, work.below)
    return Plan(*sizes, hybrid, whole, work.inequality, recommended, reason)


def _measured(spec: RunSpec, problem: Any, kind: Any, devices: int) -> tuple[float | None, dict[str, float]]:
    if problem is None:
        return None, {}
    from workers.trainer.group.trial import measure

    found = measure(spec, problem, kind, devices, STEPS)
    return found.step_seconds, {n: max(d[n] for d in found.phases) for n in found.phases[0]}


def recommendation(work: Work, hybrid: float | None, whole: float | None) -> tuple[str, str]:
    """Which layout, and why. A measured step decides over what is moved: moving is not all that costs."""
    less = f"moves {'less' if work.pays else 'more'} for the last layer"
    if hybrid is None or whole is None:
        return ("hybrid" if work.pays else "data-parallel"), f"hybrid {less}"
    ratio = whole / hybrid
    faster = f"its step takes {hybrid * 1e3:.1f} ms where data-parallel takes {whole * 1e3:.1f} ms ({ratio:.2f} times)"
    if (ratio > 1.0) == work.pays:
        return ("hybrid" if ratio > 1.0 else "data-parallel"), f"hybrid {less}, and {faster}"
    return ("hybrid" if ratio > 1.0 else "data-parallel"), f"hybrid {less}, but {faster} on this machine"


def main() -> int:
    asked = json.load(sys.stdin)
    try:
        spec = RunSpec.parse(asked["spec"])
        folder = Path(asked["data"]) if asked.get("data") else None
        found = plan(spec, shards=asked.get("shards"), measured=asked.get("measured", True), data=folder)
    except SpecError as error:
        print(json.dumps({"findings": [asdict(f) for f in error.findings]}))
        return 2
    except Failure as failure:
        print(json.dumps({"failure": str(failure)}))
        return 1
    print(json.dumps({"plan": asdict(found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
