"""What every peer's program does alike: the same cycle, timed in the same way, on the same two cores.

One cycle of a trainer: it pushes a float32 gradient; the server makes w -= lr g; the trainer can read the new w. Timed
from the call that pushes to the moment at which w is readable as a tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SERVER_CORE, TRAINER_CORE = 0, 1
LEARNING_RATE = 1e-6
LOOPBACK = "lo"

Cycle = Callable[[Tensor], Tensor]
"""Pushes a gradient, returns the new weights."""


class Plan(NamedTuple):
    """What one turn of a peer measures: parameters, cycles that count, and those before them that don't."""

    parameters: int
    cycles: int
    warm_up: int

    @classmethod
    def parse(cls, text: str) -> Plan:
        return cls(*map(int, text.split(":")))

    def __str__(self) -> str:
        return ":".join(map(str, self))


def plans() -> list[Plan]:
    """The plans that the program was started with, as `parameters:cycles:warm_up`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("plans", nargs="+", type=Plan.parse)
    found: list[Plan] = parser.parse_args().plans
    return found


def pin(core: int) -> None:
    """Keep this process on one core, threads that its libraries have started included, and torch at one thread.

    Not for libraries whose own threads poll: on one core these take turns with the work, by the scheduler's clock.
    """
    torch.set_num_threads(1)
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def apply(weights: Tensor, gradient: Tensor) -> None:
    weights.add_(gradient, alpha=-LEARNING_RATE)


def timed(cycle: Cycle, plan: Plan) -> list[float]:
    """Seconds of each cycle that counts."""
    gradient = torch.randn(plan.parameters)
    found = []
    for _ in range(plan.warm_up + plan.cycles):
        gradient.mul_(1.0)  # as in training, where a backward pass has just written it
        began = time.perf_counter()
        weights = cycle(gradient)
        found.append(time.perf_counter() - began)
        assert weights.numel() == plan.parameters
    return found[plan.warm_up :]


def tell(found: dict[int, list[float]]) -> None:
    """Print seconds of cycles by parameters, as the last line."""
    print(json.dumps(found), flush=True)
