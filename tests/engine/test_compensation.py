"""Compensations against plain loops that say the same, and on numbers anyone can redo."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from workers import spec
from workers.layout import Group
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.compensation.base import Compensation, MomentumOwner
from workers.methods.compensation.dana_zero import DanaZero
from workers.methods.compensation.dc_asgd import DcAsgd, DcAsgdAdaptive
from workers.methods.compensation.gap_aware import GapAware
from workers.methods.compensation.multi_asgd import MultiAsgd
from workers.methods.gates.asynchronous import Asynchronous
from workers.methods.gates.sync import Synchronous
from workers.methods.rates.constant import Constant
from workers.server.core import ParameterServer, Rules
from workers.server.optimizers import Tiling, build
from workers.server.passes import HandOver
from workers.server.pushes import Push

SIZE, CUT, WORKERS, ETA, DECAY = 10, 6, 3, 0.1, 0.05
DECAYS = torch.tensor([DECAY] * CUT + [0.0] * (SIZE - CUT))


def core_of(compensation: Compensation, *, workers: int = WORKERS, start: Tensor | None = None) -> ParameterServer:
    tiling = Tiling([Group(1.0, DECAY, 0, CUT), Group(1.0, 0.0, CUT, SIZE)], tile_floats=4)
    weights = torch.zeros(SIZE) if start is None else start.clone()
    steps = tiling.without_decay() if isinstance(compensation, MomentumOwner) else tiling
    optimizer = build(spec.Sgd(kind="sgd", learning_rate=ETA), steps, weights)
    rules = Rules(
        optimizer, Constant(), Asynchronous(), LocalBatchNorm(rho=0.5), lambda gradients: ETA, compensation=compensation
    )
    return ParameterServer(weights, torch.zeros(0), tiling, rules, workers=workers)


class Workers:
    """Pushes random gradients from random workers, which hold what they were sent."""

    def __init__(self, core: ParameterServer) -> None:
        self.core = core
        self.sent = [torch.zeros(SIZE) for _ in range(WORKERS)]
        self.gradients = [torch.zeros(SIZE) for _ in range(WORKERS)]
        self.places = [
            HandOver.of(core.tiling, gradient=g, weights=w, buffers=torch.zeros(0))
            for g, w in zip(self.gradients, self.sent, strict=True)
        ]
        self.read, self.steps = [0] * WORKERS, [0] * WORKERS
        for index, place in enumerate(self.places):
            core.join(index)
            core.send(place)

    def rounds(self, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Worker, gradient and the weights it was computed on, of each push; then the push is made."""
        generator = torch.Generator().manual_seed(4)
        for _ in range(count):
            index = int(torch.randint(WORKERS, (), generator=generator))
            self.gradients[index].copy_(torch.randn(SIZE, generator=generator))
            yield index, self.gradients[index].clone(), self.sent[index].clone()
            self.core.receive(Push(index, self.places[index], self.read[index], self.steps[index]))
            self.read[index], self.steps[index] = self.core.version, self.steps[index] + 1


Step = Callable[[Tensor, int, Tensor, Tensor, dict[Any, Any]], Tensor]
"""Weights, worker, gradient, base, memory → new weights; what is sent lies in memory['send'] where it differs."""


def zeros(memory: dict[Any, Any], key: Any) -> Tensor:
    found: Tensor = memory.setdefault(key, torch.zeros(SIZE))
    return found


def dc_c(w: Tensor, i: int, g: Tensor, base: Tensor, memory: dict[Any, Any]) -> Tensor:
    new: Tensor = w - ETA * (g + 0.04 * g * g * (w - base) + DECAYS * w)
    return new


def dc_a(w: Tensor, i: int, g: Tensor, base: Tensor, memory: dict[Any, Any]) -> Tensor:
    memory[i] = 0.95 * zeros(memory, i) + 0.05 * g * g
    new: Tensor = w - ETA * (g + 2.0 / (memory[i] + 1e-7).sqrt() * g * g * (w - base) + DECAYS * w)
    return new


def gap_aware(momentum: float, nesterov: bool) -> Step:
    def step(w: Tensor, i: int, g: Tensor, base: Tensor, memory: dict[Any, Any]) -> Tensor:
        g = g + DECAYS * w
        v = zeros(memory, "v")
        memory["t"] = memory.get("t", 0) + 1
        memory["ra"] = 0.999 * zeros(memory, "ra") + 0.001 * (v if momentum else g).square()
        c = ETA * ((memory["ra"] / (1 - 0.999 ** memory["t"])).sqrt() + 1e-8)
        g = g / (1 + (w - base).abs() / c)
        memory["v"] = momentum * v + g
        new: Tensor = w - ETA * (g + momentum * memory["v"] if nesterov else memory["v"])
        return new

    return step


def multi(w: Tensor, i: int, g: Tensor, base: Tensor, memory: dict[Any, Any]) -> Tensor:
    g = g + DECAYS * w
    memory[i] = 0.9 * zeros(memory, i) + g
    new: Tensor = w - ETA * (g + 0.9 * memory[i])
    return new


def dana(w: Tensor, i: int, g: Tensor, base: Tensor, memory: dict[Any, Any]) -> Tensor:
    g = g + DECAYS * w
    memory[i] = 0.9 * zeros(memory, i) + g
    w = w - ETA * memory[i]
    memory["send"] = w - ETA * 0.9 * sum(zeros(memory, j) for j in range(WORKERS))
    return w


CASES: dict[str, tuple[Callable[[], Compensation], Step]] = {
    "dc-asgd-c": (lambda: DcAsgd(lam=0.04), dc_c),
    "dc-asgd-a": (lambda: DcAsgdAdaptive(lam0=2.0), dc_a),
    "gap-aware": (lambda: GapAware(momentum=0.9, nesterov=False, learning_rate=ETA), gap_aware(0.9, False)),
    "gap-aware, Nesterov": (lambda: GapAware(momentum=0.9, nesterov=True, learning_rate=ETA), gap_aware(0.9, True)),
    "gap-aware, no momentum": (
        lambda: GapAware(momentum=0.0, nesterov=False, learning_rate=ETA),
        gap_aware(0.0, False),
    ),
    "multi-asgd": (lambda: MultiAsgd(momentum=0.9), multi),
    "dana-zero": (lambda: DanaZero(momentum=0.9), dana),
}


@pytest.mark.parametrize("name", CASES)
def test_it_does_what_the_formula_says_for_whole_vectors(name: str) -> None:
    make, step = CASES[name]
    start = torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    core = core_of(make(), start=start)
    workers, memory = Workers(core), dict[Any, Any]()
    expected, sent, last, late = start, start, 0, list[int]()
    for index, gradient, base in workers.rounds(60):
        assert_close(core.weights, expected, rtol=1e-4, atol=1e-5)
        assert_close(workers.sent[last], sent, rtol=1e-4, atol=1e-5)
        late.append(core.version - workers.read[index])
        # From the core's own weights: gaps are small differences of large numbers, whose rounding would add up.
        expected, last = step(core.weights.clone(), index, gradient, base, memory), index
        sent = memory.get("send", expected)
    assert_close(core.weights, expected, rtol=1e-4, atol=1e-5)
    assert_close(workers.sent[last], sent, rtol=1e-4, atol=1e-5)
    assert {0, 1, 2, 3} < set(late)


@pytest.mark.parametrize("name", CASES)
def test_its_state_is_all_it_goes_on_from(name: str) -> None:
    make, _ = CASES[name]
    core, other = core_of(make()), core_of(make())
    workers = Workers(core)
    for _ in workers.rounds(20):
        pass
    other.weights.copy_(core.weights)
    for vector, saved in zip(other.vectors().values(), core.vectors().values(), strict=True):
        vector.copy_(saved)
    other.clocks = core.clocks.__class__(**{**vars(core.clocks), "steps": list(core.clocks.steps)})
    gradient, base = torch.ones(SIZE), torch.full((SIZE,), 0.5)
    for target in (core, other):
        place = HandOver.of(target.tiling, gradient=gradient, weights=base.clone(), buffers=torch.zeros(0))
        target.receive(Push(1, place, 0, target.next_step(1)))
    assert torch.equal(core.weights, other.weights)


def test_delay_compensation_adds_curvature_for_the_drift() -> None:
    compensation = DcAsgd(lam=0.5)
    core = core_of(compensation, start=torch.full((SIZE,), 2.0))
    # 3 + 0.5 * 9 * (2 - 1) = 7.5
    adjusted = compensation.adjust(0, 0, torch.full((4,), 3.0), torch.ones(4), compensation.begin())
    assert_close(adjusted, torch.full((4,), 7.5))
    assert float(core.weights[0]) == 2.0


def test_a_gap_of_one_step_halves_a_gradient() -> None:
    compensation = GapAware(momentum=0.0, nesterov=False, learning_rate=0.5)
    core_of(compensation, start=torch.ones(SIZE))
    # Tile 2 has no decay. The first average is g * g = 4: C = .5 * 2 = 1; |w - base| = 1: g / 2
    terms = compensation.begin()
    adjusted = compensation.adjust(2, 0, torch.full((4,), 2.0), torch.zeros(4), terms)
    assert_close(adjusted, torch.ones(4))


def test_without_staleness_dana_is_sgd_with_momentum_and_looks_ahead() -> None:
    core = core_of(DanaZero(momentum=0.5), workers=1)
    weights = torch.zeros(SIZE)
    place = HandOver.of(core.tiling, gradient=torch.ones(SIZE), weights=weights, buffers=torch.zeros(0))
    core.receive(Push(0, place, 0, 0))
    # v = 1: w = -.1, sent -.1 - .1 * .5 * 1
    assert_close(core.weights, torch.full((SIZE,), -0.1))
    assert_close(weights, torch.full((SIZE,), -0.15))


def test_gradients_of_one_update_are_compensated_each_by_its_own_drift() -> None:
    compensation = DcAsgd(lam=1.0)
    core = core_of(compensation, workers=2, start=torch.ones(SIZE))
    rules = Rules(
        core.rules.optimizer,
        Constant(),
        Synchronous(),
        LocalBatchNorm(rho=0.5),
        lambda g: ETA,
        compensation=compensation,
    )
    core = ParameterServer(core.weights, torch.zeros(0), core.tiling, rules, workers=2)
    before = core.weights.clone()
    for index in range(2):
        core.join(index)
    for index, base in enumerate((1.0, 0.0)):
        place = HandOver.of(
            core.tiling, gradient=torch.full((SIZE,), 2.0), weights=torch.full((SIZE,), base), buffers=torch.zeros(0)
        )
        core.receive(Push(index, place, 0, 0))
    # (2 + 4 * 0 + 2 + 4 * 1) / 2 = 4
    assert_close(core.weights, before - ETA * (4.0 + DECAYS))
