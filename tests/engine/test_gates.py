"""Gates and the core: which gradients make an update, who goes on when, and what the bookkeeping says of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from workers import spec
from workers.layout import Group
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.gates.asynchronous import Asynchronous
from workers.methods.gates.backup import Backup
from workers.methods.gates.base import Gate
from workers.methods.gates.softsync import Softsync
from workers.methods.gates.ssp import StaleSynchronous
from workers.methods.gates.sync import Synchronous
from workers.methods.rates.base import Rate
from workers.methods.rates.constant import Constant
from workers.methods.rates.ringmaster import Ringmaster
from workers.server.core import ParameterServer, Rules
from workers.server.optimizers import Tiling, build
from workers.server.passes import HandOver
from workers.server.pushes import Push, Reaction, Stale

SIZE = 8


@dataclass
class Worker:
    place: HandOver
    gradient: torch.Tensor
    weights: torch.Tensor
    read: int = 0
    step: int = 0
    computing: bool = True


@dataclass
class Rig:
    """N workers around a core. Worker i's gradient is -1 on coordinate i: the weights count what was applied."""

    gate: Gate
    rate: Rate = field(default_factory=Constant)
    workers: int = 4
    momentum: float = 0.0

    def __post_init__(self) -> None:
        tiling, weights = Tiling([Group(1.0, 0.0, 0, SIZE)], tile_floats=3), torch.zeros(SIZE)
        part = spec.Sgd(kind="sgd", learning_rate=1.0, momentum=self.momentum)
        optimizer = build(part, tiling, weights)
        rules = Rules(optimizer, self.rate, self.gate, LocalBatchNorm(rho=0.5), lambda gradients: 1.0)
        self.core = ParameterServer(weights, torch.zeros(0), tiling, rules, workers=self.workers)
        self.all = [self._worker(i) for i in range(self.workers)]

    def _worker(self, index: int) -> Worker:
        gradient, weights = torch.zeros(SIZE), torch.zeros(SIZE)
        gradient[index] = -1.0
        place = HandOver.of(self.core.tiling, gradient=gradient, weights=weights, buffers=torch.zeros(0))
        self.core.join(index)
        self.core.send(place)
        return Worker(place, gradient, weights)

    def push(self, index: int) -> Reaction:
        worker = self.all[index]
        assert worker.computing, f"{index} waits"
        worker.computing = False
        return self.settle(self.core.receive(Push(index, worker.place, worker.read, worker.step)))

    def settle(self, reaction: Reaction) -> Reaction:
        for index in reaction.answers:
            worker = self.all[index]
            assert torch.equal(worker.weights, self.core.weights)
            worker.read, worker.step, worker.computing = self.core.version, self.core.next_step(index), True
        return reaction

    @property
    def free(self) -> list[int]:
        return [i for i, w in enumerate(self.all) if w.computing]


def applied(reaction: Reaction) -> list[int]:
    return [a.worker for a in reaction.applied]


def test_a_waiting_softsync_releases_the_finishers_of_a_round_at_its_end() -> None:
    rig = Rig(Softsync(c=2, waiting=True))
    assert rig.push(2) == ([], [], [], [])
    reaction = rig.push(0)
    assert (applied(reaction), reaction.answers, rig.core.version) == ([2, 0], [2, 0], 1)
    assert [a.group for a in reaction.applied] == [0, 0]
    assert rig.core.weights[:4].tolist() == [0.5, 0.0, 0.5, 0.0]
    assert [s.skip for s in reaction.skips] == [0, 0]


def test_a_softsync_that_does_not_wait_answers_at_once_with_the_weights_there_are() -> None:
    rig = Rig(Softsync(c=3, waiting=False))
    assert (rig.push(1).answers, rig.core.version) == ([1], 0)
    rig.all[1].gradient.zero_().sub_(7.0)  # it is at its next gradient; the one that waits is a copy
    assert rig.push(3).answers == [3]
    reaction = rig.push(0)
    assert (applied(reaction), reaction.answers) == ([1, 3, 0], [0])
    assert rig.core.weights[:4].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])
    assert {s.worker: s.skip for s in reaction.skips} == {1: -1, 3: -1, 0: 0}


def test_one_worker_may_fill_an_update_alone_where_nobody_waits() -> None:
    rig = Rig(Softsync(c=3, waiting=False))
    assert [rig.push(0).answers for _ in range(3)] == [[0], [0], [0]]
    assert (rig.core.version, rig.core.clocks.steps[0], float(rig.core.weights[0])) == (1, 3, 1.0)


def test_sync_takes_everybody_once() -> None:
    rig = Rig(Synchronous())
    assert [rig.push(i).answers for i in (3, 1, 0)] == [[], [], []]
    assert sorted(rig.push(2).answers) == [0, 1, 2, 3]
    assert rig.core.weights[:4].tolist() == [0.25] * 4


def test_backup_drops_what_comes_after_its_round_and_nothing_else() -> None:
    rig = Rig(Backup(extra=1))
    rig.push(0), rig.push(1)
    assert sorted(rig.push(2).answers) == [0, 1, 2]
    late = rig.push(3)
    assert (late.applied, late.dropped, late.answers) == ([], [3], [3])
    assert (rig.core.version, rig.core.clocks.dropped, rig.core.clocks.steps) == (1, 1, [1, 1, 1, 1])
    rig.push(3), rig.push(0)
    assert applied(rig.push(1)) == [3, 0, 1]
    assert rig.core.clocks.dropped == 1


def test_ringmaster_drops_exactly_from_its_bound_on() -> None:
    rig = Rig(Asynchronous(), rate=Ringmaster(R=3), workers=3)
    rig.push(0), rig.push(0)
    assert [a.staleness for a in rig.push(1).applied] == [2]
    late = rig.push(2)
    assert (late.dropped, rig.core.version, rig.core.clocks.applied) == ([2], 3, [2, 1, 0])
    assert rig.push(2).dropped == []


def test_ssp_holds_who_is_too_far_ahead_until_the_slowest_moves() -> None:
    rig = Rig(StaleSynchronous(bound=1), workers=2)
    assert rig.push(0).answers == [0]
    held = rig.push(0)
    assert (applied(held), held.answers, held.skips) == ([0], [], [])
    released = rig.push(1)
    assert released.answers == [0, 1]
    # It reads version 3, one beyond the one its own gradient made.
    assert [(s.worker, s.version, s.skip) for s in released.skips] == [(0, 2, 1), (1, 3, 0)]


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_ssp_never_lets_anybody_work_further_ahead_than_its_bound(bound: int) -> None:
    gate = StaleSynchronous(bound=bound)
    rig, draw, most = Rig(gate), random.Random(3), 0
    for _ in range(600):
        # The last one is slow.
        index = draw.choice([i for i in rig.free for _ in range(1 if i == 3 else 8)])
        most = max(most, gate.clocks[index] - min(gate.clocks.values()))
        rig.push(index)
    assert most == bound


GATES: dict[str, Callable[[], Gate]] = {
    "async": Asynchronous,
    "softsync 1": lambda: Softsync(c=1, waiting=True),
    "softsync 3": lambda: Softsync(c=3, waiting=True),
    "softsync at once": lambda: Softsync(c=3, waiting=False),
    "sync": Synchronous,
    "ssp": lambda: StaleSynchronous(bound=2),
}


@pytest.mark.parametrize("name", GATES)
def test_staleness_is_conserved_in_integers_at_every_instant(name: str) -> None:
    """A gradient counts once both are known: what it met, and what its worker read after it."""
    rig, draw = Rig(GATES[name]()), random.Random(1)
    total, unread = 0, dict[tuple[int, int], int]()
    for _ in range(500):
        reaction = rig.push(draw.choice([i for i in rig.free for _ in range(1 + 3 * i)]))
        for one in reaction.applied:
            total += one.staleness + 1
            unread[one.worker, one.version_before + 1] = one.staleness + 1
        for skip in reaction.skips:
            total += skip.skip
            unread.pop((skip.worker, skip.version), None)
        # Those whose workers went on without them have been read past already.
        ahead = sum(w.read - w.push.base_version for w in rig.core._waiting if w.read is not None)
        behind = sum(rig.core.version - w.read for w in rig.all)
        assert total - sum(unread.values()) + ahead + behind == 4 * rig.core.version
    if name != "ssp":
        assert rig.core.version > 100


@pytest.mark.parametrize("name", GATES)
def test_whoever_is_lost_the_others_go_on(name: str) -> None:
    rig = Rig(GATES[name]())
    for index in (0, 1):
        if rig.all[index].computing:
            rig.push(index)
    for lost in (3, 0):
        rig.settle(rig.core.leave(lost))
        rig.all[lost].computing = False
    before = rig.core.clocks.gradients
    for _ in range(20):
        rig.push(rig.free[0])
    assert rig.core.clocks.gradients > before + 10


def test_a_lost_workers_waiting_gradient_is_forgotten_for_its_successor_to_compute_again() -> None:
    rig = Rig(Synchronous())
    rig.push(0)
    rig.settle(rig.core.leave(0))
    assert rig.core.next_step(0) == 0
    for index in (1, 2):
        rig.push(index)
    assert applied(rig.push(3)) == [1, 2, 3]


def test_an_update_waits_for_nobody_who_has_left() -> None:
    rig = Rig(Synchronous())
    for index in (0, 1, 2):
        rig.push(index)
    reaction = rig.settle(rig.core.leave(3))
    assert (applied(reaction), rig.core.version) == ([0, 1, 2], 1)


def test_who_joins_under_ssp_starts_beside_the_slowest() -> None:
    gate = StaleSynchronous(bound=0)
    for worker in (0, 1):
        gate.join(worker)
    for worker in (0, 0, 1):
        gate.taken(worker)
    gate.join(2)
    assert gate.clocks == {0: 2, 1: 1, 2: 1}


def test_a_step_twice_is_refused_while_the_first_still_waits() -> None:
    rig = Rig(Softsync(c=2, waiting=False))
    rig.push(0)
    with pytest.raises(Stale, match="step 1 is its next"):
        rig.core.receive(Push(0, rig.all[0].place, 0, 0))


def test_sync_equals_one_worker_with_the_mean_gradient_and_momentum() -> None:
    rig, one = Rig(Synchronous(), momentum=0.9), Rig(Asynchronous(), workers=1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for worker in rig.all:
            worker.gradient.copy_(torch.randn(SIZE, generator=generator))
        one.all[0].gradient.copy_(torch.stack([w.gradient for w in rig.all]).mean(0))
        for index in range(4):
            rig.push(index)
        one.push(0)
    torch.testing.assert_close(rig.core.weights, one.core.weights)


def test_mixed_scales_step_along_their_mean_by_their_sum() -> None:
    class Fixed(Rate):
        def scales(self, staleness: object, workers: object, version: int = 0, live: int = 1) -> list[float]:
            return [0.5, 0.0, 0.25]

    rig = Rig(Softsync(c=3, waiting=True), rate=Fixed())
    for index in (0, 1, 2):
        rig.push(index)
    assert rig.core.weights[:3].tolist() == pytest.approx([0.5, 0.0, 0.25])
