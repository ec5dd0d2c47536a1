"""Compiled passes beside tensor code: the same numbers within rounding, for every rule; several gradients in one walk
beside one after another: the same to the bit."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.waiting import eventually
from workers import spec
from workers.kernels import compiling
from workers.kernels.fused import FusedPass, text_of
from workers.layout import Group
from workers.methods.compensation.base import Compensation, MomentumOwner
from workers.methods.compensation.dana_zero import DanaZero
from workers.methods.compensation.dc_asgd import DcAsgd, DcAsgdAdaptive
from workers.methods.compensation.gap_aware import GapAware
from workers.methods.compensation.multi_asgd import MultiAsgd
from workers.server.optimizers import AdamW, Elementwise, Sgd, Tiling, build
from workers.server.passes import EagerPass, HandOver, Pass, Step

# Two blocks of the kernel and a bit, three groups of other terms, aligned as layouts are.
SIZE = 5008
GROUPS = (Group(1.0, 0.05, 0, 2400), Group(0.5, 0.0, 2400, 4800), Group(2.0, 0.01, 4800, SIZE))
WORKERS = 3
RATE, AHEAD = 0.1, 0.07

pytestmark = pytest.mark.skipif(compiling.compiler() is None, reason="no C++ compiler on the PATH")


def sgd(**changes: float | bool) -> Callable[[Tiling, Tensor], Elementwise]:
    part = spec.Sgd.model_validate({"kind": "sgd", "learning_rate": RATE} | changes)
    return lambda tiling, weights: Sgd(part, tiling, weights)


def adamw(tiling: Tiling, weights: Tensor) -> Elementwise:
    made = build(spec.AdamW(kind="adamw", learning_rate=RATE), tiling, weights)
    assert isinstance(made, AdamW)
    return made


CASES: dict[str, tuple[Callable[[Tiling, Tensor], Elementwise], Callable[[], Compensation] | None]] = {
    "sgd": (sgd(), None),
    "momentum": (sgd(momentum=0.9), None),
    "nesterov": (sgd(momentum=0.9, nesterov=True), None),
    "adamw": (adamw, None),
    "dc-asgd-c": (sgd(momentum=0.9), lambda: DcAsgd(lam=0.5)),
    "dc-asgd-a": (sgd(), lambda: DcAsgdAdaptive(lam0=2.0)),
    "dc-asgd-a adamw": (adamw, lambda: DcAsgdAdaptive(lam0=2.0)),
    "gap-aware": (sgd(), lambda: GapAware(momentum=0.9, nesterov=True, learning_rate=RATE)),
    "gap-aware plain": (sgd(), lambda: GapAware(momentum=0.0, nesterov=False, learning_rate=RATE)),
    "multi-asgd": (sgd(), lambda: MultiAsgd(momentum=0.9)),
    "dana-zero": (sgd(), lambda: DanaZero(momentum=0.9)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


class Rig:
    """A server's vectors and rules with one kind of pass, and workers with slots."""

    def __init__(self, name: str, folder: Path | None, *, threads: int = 1) -> None:
        make, compensates = CASES[name]
        random = torch.Generator().manual_seed(1)
        self.weights = torch.randn(SIZE, generator=random)
        tiling = Tiling(GROUPS, 700)
        self.compensation = compensates() if compensates else None
        if self.compensation is not None:
            self.compensation.prepare(tiling.space(self.weights, WORKERS))
        owner = isinstance(self.compensation, MomentumOwner)
        self.optimizer = make(tiling.without_decay() if owner else tiling, self.weights)
        self.walk = self._walk(tiling, folder, threads)
        self.gradients = torch.randn(WORKERS, SIZE, generator=random)
        self.slots = self.weights + 0.1 * torch.randn(WORKERS, SIZE, generator=random)
        self.places = [
            HandOver.of(tiling, gradient=g, weights=w, buffers=torch.zeros(0))
            for g, w in zip(self.gradients, self.slots, strict=True)
        ]

    def _walk(self, tiling: Tiling, folder: Path | None, threads: int) -> Pass:
        rules = self.optimizer, self.compensation
        if folder is None:
            return EagerPass(self.weights, tiling, *rules)
        text = text_of(self.weights, *rules)
        assert text is not None
        path = compiling.build(text, folder)
        assert path is not None
        return FusedPass(path, self.weights, tiling, *rules, threads=threads)

    def step(self, worker: int, rate: float = RATE) -> Step:
        return Step(self.places[worker], worker, rate)

    def everything(self) -> list[Tensor]:
        own = {} if self.compensation is None else self.compensation.state()
        return [self.weights, self.slots, *self.optimizer.state().values(), *own.values()]


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_pass_says_the_same_as_tensor_code(name: str, folder: Path) -> None:
    eager, fused = Rig(name, None), Rig(name, folder)
    for rig in (eager, fused):
        for turn in range(5):
            rig.walk.one(rig.step(turn % WORKERS), AHEAD)
    for one, other in zip(eager.everything(), fused.everything(), strict=True):
        if "plain" not in name or one.shape != (SIZE,) or bool(one.any()):  # momentum 0 keeps no velocity
            assert_close(other, one, rtol=2e-5, atol=2e-6)
    assert fused.walk.kernel.startswith("cpp-")


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_mean_says_the_same_as_tensor_code(name: str, folder: Path) -> None:
    eager, fused = Rig(name, None), Rig(name, folder)
    for rig in (eager, fused):
        parts = [(rig.step(0), 0.5), (rig.step(2), 0.3), (rig.step(1), 0.2)]
        rig.walk.mean(parts, rig.places[1], RATE, AHEAD)
    assert_close(fused.weights, eager.weights, rtol=2e-5, atol=2e-6)
    assert_close(fused.slots, eager.slots, rtol=2e-5, atol=2e-6)
    assert not torch.equal(eager.slots[1], eager.slots[0])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", CASES)
def test_several_gradients_in_one_walk_come_to_the_same_bits_as_one_by_one(
    name: str, compiled: bool, folder: Path
) -> None:
    rates = (0.1, 0.03, 0.2)
    apart, together = (Rig(name, folder if compiled else None) for _ in range(2))
    for worker, rate in enumerate(rates):
        apart.walk.one(apart.step(worker, rate), AHEAD)
    together.walk.several([together.step(worker, rate) for worker, rate in enumerate(rates)], AHEAD)
    assert torch.equal(together.weights, apart.weights)
    vectors = zip(apart.everything()[2:], together.everything()[2:], strict=True)
    assert all(torch.equal(one, other) for one, other in vectors)
    # Whoever took part reads what the last one made.
    assert all(torch.equal(slot, apart.slots[2]) for slot in together.slots)


def test_threads_share_a_walk_and_come_to_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.kernels.fused.THREADED_FROM_FLOATS", 1)
    alone, shared = Rig("gap-aware", folder), Rig("gap-aware", folder, threads=2)
    before = threading.active_count()
    for rig in (alone, shared):
        rig.walk.one(rig.step(0), AHEAD)
    assert threading.active_count() > before
    assert all(torch.equal(a, b) for a, b in zip(alone.everything(), shared.everything(), strict=True))


def test_a_kernel_is_compiled_once_and_then_found(folder: Path) -> None:
    rig = Rig("sgd", folder)
    text = text_of(rig.weights, rig.optimizer, None)
    assert text is not None
    found = compiling.find(text, folder)
    assert found is not None
    assert found.stem == compiling.name_of(text)
    assert compiling.find(text + "// another text\n", folder) is None


def test_a_text_that_does_not_compile_costs_the_kernel_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert compiling.build("this is no C++", tmp_path) is None
    assert "compiler failed" in capfd.readouterr().err
    assert [p.suffix for p in tmp_path.iterdir()] == []


def test_without_a_compiler_there_is_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert compiling.build("int x;", tmp_path) is None
    assert not compiling.begin("int x;", tmp_path)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ["sgd", "dana-zero"])
def test_what_is_sent_apart_is_what_is_sent_beside_a_step(name: str, compiled: bool, folder: Path) -> None:
    rig = Rig(name, folder if compiled else None)
    rig.walk.one(rig.step(0), AHEAD)
    rig.walk.send(rig.places[1], AHEAD)
    assert torch.equal(rig.slots[1], rig.slots[0])


def test_while_somebody_compiles_nobody_else_does(tmp_path: Path) -> None:
    text = 'extern "C" int number() { return 7; }'
    assert compiling.begin(text, tmp_path)
    mark = tmp_path / f"{compiling.name_of(text)}.making"
    made_at = mark.stat().st_mtime_ns
    assert compiling.begin(text, tmp_path)
    assert mark.stat().st_mtime_ns == made_at
    eventually(lambda: compiling.find(text, tmp_path) is not None)
    os.utime(mark, (0, 0))  # long ago: whoever was at it has died
    assert compiling.begin(text, tmp_path)
    assert mark.stat().st_mtime_ns != 0
