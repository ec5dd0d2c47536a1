"""How far from a layer's true statistics trainers normalise, with batch norm through the server and with local.

    python -m benchmarks.batch_norm

Workers take turns on digits, each on the weights of a few updates ago. For each layer: the squared error of the mean
that it normalises by, against the mean over all training images under the same weights; local divided by server.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workers import spec
from workers.layout import Layout
from workers.methods.batch_norm.server import ServerBatchNorm
from workers.methods.batch_norm.statistics import Statistics
from workers.problems.digits import Digits

WORKERS = 4
N0 = 4
WARM_UP = 100
EVERY = 10
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "batch_norm": True},
    "cnn": {"kind": "cnn", "width": 16},
}


class Bench:
    """A run in one process: the server's vectors, and one model that every worker's turn is made with."""

    def __init__(self, model: dict[str, Any], *, batch_size: int, learning_rate: float, seed: int) -> None:
        self._problem = Digits(spec.Digits.model_validate({"kind": "digits", "model": model}))
        self._train: Any = self._problem.dataset("train")
        self._batch_size, self._learning_rate = batch_size, learning_rate
        torch.manual_seed(seed)
        self._model, self._plain = self._problem.model(), self._problem.model()
        self._layout = Layout.of(self._model, spec.Sgd(kind="sgd", learning_rate=learning_rate))
        self._rule = ServerBatchNorm(rho=0.02, n0=N0)
        self._weights, self._read = torch.zeros(2, self._layout.size).unbind()
        statistics = self._rule.parts * self._layout.channels
        self._aggregate, self._served, self._reported = torch.zeros(3, statistics).unbind()
        self._layout.collect(self._model, self._weights, self._aggregate)
        self._layout.bind(self._model, self._read, self._served)
        self._rule.prepare(self._model, self._layout.places, self._served, self._reported)
        self._true = self._bind_plain()
        self._random = torch.Generator().manual_seed(seed)

    def _bind_plain(self) -> Tensor:
        """torch's own layers under the workers' weights: their buffers take the statistics of what passes."""
        true = torch.zeros(self._layout.buffer_size)
        self._layout.bind(self._plain, self._read, true)
        for module in self._plain.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 1.0
        return true

    def gains(self, updates: int) -> dict[str, float]:
        """Local's squared error over the server's, by layer."""
        local = {p.layer: 0.0 for p in self._layout.places}
        server = dict(local)
        versions = deque([(self._weights.clone(), self._aggregate.clone())] * WORKERS)
        for t in range(updates):
            self._work(*versions.popleft(), t)
            if t >= WARM_UP and t % EVERY == 0:
                self._compare(local, server)
            self._rule.merge(self._aggregate, self._reported, t)
            self._step()
            versions.append((self._weights.clone(), self._aggregate.clone()))
        return {layer: local[layer] / server[layer] for layer in local}

    def _work(self, weights: Tensor, aggregate: Tensor, t: int) -> None:
        self._read.copy_(weights)
        self._served.copy_(aggregate)
        self._rule.begin(self._reported)
        self._model.zero_grad()
        chosen = torch.randint(len(self._train), (self._batch_size,), generator=self._random)
        loss, _ = self._problem.loss(self._model, (self._train.images[chosen], self._train.labels[chosen]))
        loss.backward()  # type: ignore[no-untyped-call]

    def _compare(self, local: dict[str, float], server: dict[str, float]) -> None:
        with torch.no_grad():
            self._plain(self._train.images)
        true = self._true[: self._layout.channels]
        found, known = Statistics.of(self._reported), Statistics.of(self._served)
        actual = torch.lerp(known.mean, found.mean, self._batch_size / (self._batch_size + N0))
        for place in self._layout.places:
            local[place.layer] += float((place.of(found.mean) - place.of(true)).square().sum())
            server[place.layer] += float((place.of(actual) - place.of(true)).square().sum())

    def _step(self) -> None:
        parameters: dict[str, nn.Parameter] = dict(self._model.named_parameters())
        for segment in self._layout.segments:
            gradient = parameters[segment.name].grad
            assert gradient is not None
            segment.of(self._weights).add_(gradient, alpha=-self._learning_rate)


def main() -> None:
    torch.set_num_threads(1)
    print("local / server, squared error of the normalising mean, by layer from the input on")
    for name, model in MODELS.items():
        for batch_size in (2, 4, 16):
            for learning_rate in (0.001, 0.005, 0.02):
                bench = Bench(model, batch_size=batch_size, learning_rate=learning_rate, seed=0)
                gains = " ".join(f"{gain:5.2f}" for gain in bench.gains(600).values())
                print(f"{name}  b={batch_size:<3} rate={learning_rate:<6} {gains}")


if __name__ == "__main__":
    main()
