"""Plain send and recv over torch.distributed's gloo.

Its best way: both ends keep their buffers, so that nothing is allocated or copied besides what gloo itself does; the
server receives into its gradient, steps, and sends its weights; the trainer receives into the weights it computes with.
"""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from benchmarks.peers.common import LOOPBACK, SERVER_CORE, TRAINER_CORE, Plan, apply, pin, plans, tell, timed

SERVER, TRAINER = 0, 1
DEADLINE = timedelta(seconds=60)


def join(rank: int, store: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=DEADLINE)
    pin(SERVER_CORE if rank == SERVER else TRAINER_CORE)


def serve(store: str, asked: list[Plan]) -> None:
    join(SERVER, store)
    for plan in asked:
        weights, gradient = torch.randn(plan.parameters), torch.empty(plan.parameters)
        for _ in range(plan.warm_up + plan.cycles):
            dist.recv(gradient, TRAINER)
            apply(weights, gradient)
            dist.send(weights, TRAINER)
    dist.destroy_process_group()


def measure(plan: Plan) -> list[float]:
    weights = torch.empty(plan.parameters)

    def cycle(gradient: Tensor) -> Tensor:
        dist.send(gradient, SERVER)
        dist.recv(weights, SERVER)
        return weights

    return timed(cycle, plan)


def main() -> None:
    asked = plans()
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(f"{folder}/store", asked))
        server.start()
        join(TRAINER, f"{folder}/store")
        tell({plan.parameters: measure(plan) for plan in asked})
        dist.destroy_process_group()
        server.join()


if __name__ == "__main__":
    main()
