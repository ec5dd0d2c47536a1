"""What trainers normalise by, against what they should: the statistics of the whole training set at the same weights.

The truth for a layer is the mean and variance of its input when all training examples pass in one batch, each layer
before it normalising by that batch. It is computed for every 25th gradient.

Besides, each trainer keeps a running aggregate of its own batches only, by the server's rule for local batch norm: at
the end the weights are evaluated with each of these, as if each trainer exported the model by itself.
"""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from workers.evaluator import evaluate
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.server.pushes import Push
from workers.server.setup import build_model
from workers.simulator.simulation import Simulation
from workers.simulator.trainers import Measured
from workers.studies.measures.base import Measure
from workers.trainer.batches import fetch

EVERY = 25
FLOOR = 1e-5


class BatchNormError(Measure):
    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        parts = simulation.run_parts
        self._rule, self._channels = parts.core.rules.batch_norm, parts.layout.channels
        self._model = build_model(parts.problem, simulation.spec.seed)
        self._weights, self._truth = torch.zeros(parts.layout.size), torch.zeros(2 * self._channels)
        parts.layout.bind(self._model, self._weights, self._truth)
        LocalBatchNorm(rho=1.0).prepare(self._model, parts.layout.places, self._truth, self._truth)
        dataset = parts.problem.dataset("train")
        self._everything = fetch(dataset, range(len(dataset)), parts.problem.collate)  # type: ignore[arg-type]
        self._used = torch.cat([torch.arange(p.offset, p.offset + p.size) for p in parts.layout.places])
        """Channels, without the gaps between layers."""
        self._count = 0
        self._errors: list[float] = []
        self._own: dict[int, tuple[Tensor, int]] = {}

    def arrived(self, push: Push, measured: Measured) -> None:
        self._keep(push)
        self._count += 1
        if self._count % EVERY == 0:
            self._compare(push)

    def _keep(self, push: Push) -> None:
        rho = self.simulation.spec.batch_norm.rho
        mean, variance, *_ = push.place.buffers.view(self._rule.parts, -1)
        own, seen = self._own.get(push.worker, (torch.zeros(2 * self._channels), 0))
        own.lerp_(torch.cat([mean, variance]), max(rho, 1.0 / (seen + 1)))
        self._own[push.worker] = own, seen + 1

    def _compare(self, push: Push) -> None:
        """Squared error of the normalising mean in units of the true variance, averaged over all channels."""
        for own, read in zip(self._core_tiles(), push.place.weights, strict=True):
            own.copy_(read)
        self._model.train()
        with torch.no_grad():
            self.simulation.run_parts.problem.loss(self._model, self._everything)
        true_mean, true_variance = self._truth.view(2, -1)
        error = (self._normalising(push) - true_mean).square() / (true_variance + FLOOR)
        self._errors.append(float(error[self._used].mean()))

    def _core_tiles(self) -> tuple[Tensor, ...]:
        return self.simulation.core.tiling.of(self._weights)

    def _normalising(self, push: Push) -> Tensor:
        """mu_a: the batch's mean, and where the server's counts too, both by the rule's weights."""
        mean = push.place.buffers.view(self._rule.parts, -1)[0]
        if not self._rule.serves:
            return mean
        samples = push.place.buffers.view(self._rule.parts, -1)[2]
        served = push.place.served.view(self._rule.parts, -1)
        n0 = float(getattr(self._rule, "n0", 0))
        alpha = samples / (samples + served[2].clamp(max=n0)).clamp(min=1.0)
        return torch.lerp(served[0], mean, alpha)

    def columns(self) -> dict[str, float]:
        """`mean_error`, and the spread of what trainers' own statistics are worth: standard deviations over trainers.

        Where the server's statistics are what everybody normalises and exports by, there is one value: spread 0.
        """
        found = {"mean_error": statistics.fmean(self._errors) if self._errors else math.nan}
        values = [self._worth(own) for own, _ in self._own.values()] if not self._rule.serves else []
        if len(values) > 1:
            losses, accuracies = [v[0] for v in values], [v[1] for v in values]
            return found | {
                "spread_loss": statistics.stdev(losses),
                "spread_accuracy": statistics.stdev(accuracies),
                "worst_accuracy": min(accuracies),
            }
        last = self.simulation.evaluations[-1] if self.simulation.evaluations else None
        worst = last.metrics.get("accuracy", math.nan) if last else math.nan
        return found | {"spread_loss": 0.0, "spread_accuracy": 0.0, "worst_accuracy": worst}

    def _worth(self, own: Tensor) -> list[float]:
        s = self.simulation
        self._weights.copy_(s.core.weights)
        self._truth.copy_(own)
        problem = s.run_parts.problem
        return evaluate(problem, self._model, problem.dataset("test"), s.spec.evaluation.batch_size)
