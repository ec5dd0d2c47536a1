"""Ray's actor parameter server.

Its best way: one call for push, step and pull, arrays as numpy. Ray puts a large argument into its object store in one
copy, the actor reads it there without another, and the same for what it returns; small ones travel in the call. The
object store is given room for all that is alive at once, and the dashboard stays off. Not pinned: its processes have
many threads of their own, and on one core all sizes were slower.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would call home

import ray
import torch
from torch import Tensor

from benchmarks.peers.common import Plan, apply, plans, tell, timed

STORE_BYTES = 2 * 2**30
DEADLINE_SECONDS = 60.0


class Server:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._weights = torch.empty(0)

    def begin(self, parameters: int) -> None:
        self._weights = torch.randn(parameters)

    def push_and_pull(self, gradient: Any) -> Any:
        apply(self._weights, readable(gradient))
        return self._weights.numpy()


def readable(array: Any) -> Tensor:
    """A tensor over an array of the object store, which is read only; nobody writes to it here."""
    return torch.frombuffer(memoryview(array), dtype=torch.float32)


def measure(server: Any, plan: Plan) -> list[float]:
    ray.get(server.begin.remote(plan.parameters))

    def cycle(gradient: Tensor) -> Tensor:
        asked = server.push_and_pull.remote(gradient.numpy())
        return readable(ray.get(asked, timeout=DEADLINE_SECONDS))

    return timed(cycle, plan)


def main() -> None:
    asked = plans()
    with tempfile.TemporaryDirectory(prefix="th-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES, log_to_driver=False, _temp_dir=folder
        )
        server = ray.remote(Server).remote()
        torch.set_num_threads(1)
        tell({plan.parameters: measure(server, plan) for plan in asked})
        ray.shutdown()


if __name__ == "__main__":
    main()
