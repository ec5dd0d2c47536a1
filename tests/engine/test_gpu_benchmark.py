"""The benchmark of GPUs, in small on a CPU: every part of it runs, so that it can be trusted where a GPU is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from workers.gpus import Gpu

ROOT = Path(__file__).resolve().parents[2]
# In an interpreter of its own: children are forked from it, and must not find Django there.
MEASURE = """
import json
from dataclasses import replace
from benchmarks import gpu
small = replace(gpu.IN_SMALL, sizes=(1000,), cycles=5, rounds=1, steps=12, warm_up=2)
print(json.dumps(gpu.measure(small)))
"""


def test_every_part_is_measured_beside_its_floor() -> None:
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=50)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [row["what"] for row in found] == [
        "cycle, in place", "1 trainer, Small, float32, in place", "2 trainers, Small, float32, in place"
    ]  # fmt: skip
    assert all(float(row["ratio"]) > 0 for row in found)
    assert {tuple(row) for row in found} == {("what", "device", "size", "measured", "beside", "ratio", "rate")}


def test_on_a_gpu_both_ways_and_up_to_four_trainers_are_measured() -> None:
    plan = gpu.on_gpu(Gpu(0, "GPU-1", "NVIDIA H100", 80 << 30, "580", "9.0"))
    assert plan.ways == (gpu.IN_PLACE, gpu.PINNED)
    assert (plan.trainers, plan.model, plan.device) == ((1, 2, 3, 4), "ResNet18", "NVIDIA H100")


def test_a_machine_without_a_gpu_gets_the_small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.plan() == gpu.IN_SMALL
