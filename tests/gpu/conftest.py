"""These tests train on a real GPU. Where there is none they are skipped, and say so."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import Gang
from workers import gpus
from workers.assignment import Assignment, Role
from workers.gpus import Gpu

HERE = Path(__file__).parent
WAYS = ("in-place", "pinned")
"""Server on the trainers' GPU, or on a CPU."""


def found() -> list[Gpu]:
    """By NVIDIA's library, so that the tests' own process holds no context."""
    return gpus.usable(gpus.discover(os.environ), metadata.version("torch"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if found():
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


class GpuGang(Gang):
    """Trainers on the first GPU; the server there too, or on a CPU. `on_cpus` are trainers that stay on CPUs; `group`
    are the GPUs of each machine group's devices."""

    def __init__(
        self, *args: Any, way: str, on_cpus: tuple[int, ...] = (), group: tuple[str, ...] = (), **options: Any
    ) -> None:
        self._gpu, self._way, self._on_cpus, self._group = found()[0].uuid, way, on_cpus, group
        super().__init__(*args, **options)

    def assignment(self, role: Role, worker: int = -1, **changes: Any) -> Assignment:
        there = {
            Role.TRAINER: worker not in self._on_cpus,
            Role.SERVER: self._way == "in-place",
            Role.EVALUATOR: self.spec.evaluation.device == "cuda",
        }
        placed: dict[str, Any] = {"device": "cuda:0", "gpu": self._gpu} if there[role] else {}
        if self._group and placed and role is Role.TRAINER:
            placed |= {"gpu": self._group[0], "gpus": self._group}
        return super().assignment(role, worker, **placed | changes)
