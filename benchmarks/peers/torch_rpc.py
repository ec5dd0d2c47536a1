"""torch.distributed.rpc over TensorPipe: the parameter server of PyTorch's own tutorials.

Its best way: one remote call for push, step and pull; TensorPipe moves tensors beside the pickled call, between
processes of one machine through shared memory or process_vm_readv where the kernel lets it. Channels are warm before
anything counts. Not pinned: with all its threads on one core a small call took 4 ms instead of 0.7.
"""

from __future__ import annotations

import os
import tempfile

import torch
from torch import Tensor, multiprocessing
from torch.distributed import rpc

from benchmarks.peers.common import LOOPBACK, Plan, apply, plans, tell, timed

NAMES = ("server", "trainer")
DEADLINE_SECONDS = 60.0
WORKER_THREADS = 4
"""The best of 1, 2, 4 and the default of 16."""

weights = torch.empty(0)
"""The server's."""


def join(rank: int, store: str) -> None:
    os.environ["TP_SOCKET_IFNAME"] = LOOPBACK
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"file://{store}", rpc_timeout=DEADLINE_SECONDS, num_worker_threads=WORKER_THREADS
    )
    rpc.init_rpc(NAMES[rank], rank=rank, world_size=2, rpc_backend_options=options)  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)


def serve(store: str) -> None:
    join(0, store)
    rpc.shutdown()


def begin(parameters: int) -> None:
    global weights
    weights = torch.randn(parameters)


def push_and_pull(gradient: Tensor) -> Tensor:
    apply(weights, gradient)
    return weights


def measure(plan: Plan) -> list[float]:
    rpc.rpc_sync("server", begin, args=(plan.parameters,))
    return timed(lambda gradient: rpc.rpc_sync("server", push_and_pull, args=(gradient,)), plan)


def main() -> None:
    asked = plans()
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(f"{folder}/store",))
        server.start()
        join(1, f"{folder}/store")
        tell({plan.parameters: measure(plan) for plan in asked})
        rpc.shutdown()
        server.join()


if __name__ == "__main__":
    main()
