"""ZeroMQ over a Unix socket: what parameter servers made by hand often are.

Its best way: a PAIR of sockets, messages that are sent from the tensor's own memory and read where they were received.
Sent memory must rest until ZeroMQ has let go of it; here it does, since each side waits for the other's answer.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from typing import Any

import torch
import zmq
from torch import Tensor

from benchmarks.peers.common import SERVER_CORE, TRAINER_CORE, Plan, apply, pin, plans, tell, timed

DEADLINE_MS = 60_000


def open_pair(address: str, *, bind: bool) -> Any:
    pair = zmq.Context.instance().socket(zmq.PAIR)
    pair.setsockopt(zmq.RCVTIMEO, DEADLINE_MS)
    pair.setsockopt(zmq.SNDTIMEO, DEADLINE_MS)
    pair.bind(address) if bind else pair.connect(address)
    pin(SERVER_CORE if bind else TRAINER_CORE)
    return pair


def send(pair: Any, tensor: Tensor) -> None:
    pair.send(tensor.numpy(), copy=False)


def receive(pair: Any) -> Tensor:
    return torch.frombuffer(pair.recv(copy=False).buffer, dtype=torch.float32)


def serve(address: str, asked: list[Plan]) -> None:
    pair = open_pair(address, bind=True)
    for plan in asked:
        weights = torch.randn(plan.parameters)
        for _ in range(plan.warm_up + plan.cycles):
            apply(weights, receive(pair))
            send(pair, weights)
    pair.close()


def measure(pair: Any, plan: Plan) -> list[float]:
    def cycle(gradient: Tensor) -> Tensor:
        send(pair, gradient)
        return receive(pair)

    return timed(cycle, plan)


def main() -> None:
    asked = plans()
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        address = f"ipc://{folder}/pair"
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(address, asked))
        server.start()
        pair = open_pair(address, bind=False)
        tell({plan.parameters: measure(pair, plan) for plan in asked})
        server.join()
        pair.close()


if __name__ == "__main__":
    main()
