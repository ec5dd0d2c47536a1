"""What differs between CPU and GPU, as far as a CPU can show it: order of hand-overs, handles, precision."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.engine.harness import Gang, spec_of
from tests.engine.late import LateDevice
from workers import checkpoint
from workers.assignment import Outcome, Role
from workers.devices import HOST, autocast, mapped
from workers.layout import Layout
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.problems import registry
from workers.process import StopSignal
from workers.server.setup import build_model
from workers.trainer.steps import Steps
from workers.transport import cuda_ipc
from workers.transport.base import Answer, Report
from workers.transport.frames import FrameError
from workers.transport.mirror import Mirror, MirroredSession, Same, mirror, on_device
from workers.transport.shared_memory import SharedMemorySession, SlotSize

ROOT = Path(__file__).resolve().parents[2]


def test_vectors_come_and_go_and_nothing_moves_by_itself() -> None:
    host = torch.ones(3)
    there = Mirror([host], LateDevice())
    [vector] = there.vectors
    assert_close(vector, torch.zeros(3))
    there.bring()
    assert_close(vector, torch.ones(3))
    vector.fill_(2.0)
    assert_close(host, torch.ones(3))
    there.give()
    assert_close(host, torch.full((3,), 2.0))


def test_host_memory_is_pinned_for_as_long_as_its_mirror_lives() -> None:
    device, hosts = LateDevice(), [torch.ones(3), torch.ones(5)]
    there = Mirror(hosts, device)
    assert device.pinned == [h.data_ptr() for h in hosts]
    del there
    assert device.pinned == []


def test_on_a_cpu_they_are_the_same_vectors() -> None:
    host = torch.ones(3)
    there = mirror([host], HOST)
    assert isinstance(there, Same)
    assert there.vectors[0] is host


# ------------------------------------------------------------ a trainer whose vectors are elsewhere, with a real server


class Hand:
    """A trainer of the ledger that is moved by hand."""

    def __init__(self, gang: Gang) -> None:
        problem = registry.load(gang.spec.problem)
        layout = Layout.of(build_model(problem, gang.spec.seed), gang.spec.optimizer)
        manifest, size = layout.manifest([m.name for m in problem.metrics]), SlotSize.trainer(layout, RULE)
        slot = SharedMemorySession(gang.assignment(Role.TRAINER, 0), StopSignal(), manifest, size)
        self.slot = slot
        self.session = MirroredSession(slot, LateDevice())

    def push(self, answer: Answer) -> Answer:
        self.session.push(Report(0.0, 1.0, 0.1, 0.1, 0.0, (0.0,)), step=answer.step)
        return self.session.answer()


RULE = LocalBatchNorm(rho=0.1)


def test_a_push_is_told_of_only_when_all_of_it_is_in_the_slot(tmp_path: Path) -> None:
    with Gang(spec_of(budget={"updates": 50}), tmp_path, trainers=0, evaluator=False) as gang:
        hand = Hand(gang)
        answer = hand.session.answer()
        for number in range(1, 50):
            hand.session.gradient.zero_()
            hand.session.gradient[number % 7] = -1.0
            answer = hand.push(answer)
            assert answer.version == number
            # Had the frame gone first, the server would have applied the gradient before, or weights would be old.
            assert float(hand.session.weights.sum()) == number
        expected = torch.zeros_like(hand.session.weights)
        for number in range(1, 50):
            expected[number % 7] += 1.0
        assert_close(hand.session.weights, expected)
        assert_close(hand.slot.weights, expected)


def test_a_session_is_mirrored_only_where_its_vectors_are_elsewhere() -> None:
    class Plain:
        weights = torch.zeros(3)

    plain: Any = Plain()
    assert on_device(plain, HOST) is plain


# ------------------------------------------------------------ handles


SHARED = (0, b"\x01" * 65, 4096, 512, b"/torch_12_34_0", 7, b"\x02" * 64, True)


def test_a_handle_of_gpu_memory_travels_as_it_is() -> None:
    assert cuda_ipc.unpack(cuda_ipc.pack(SHARED)) == SHARED


@pytest.mark.parametrize("cut", [0, 1, 10, 26, 60, 100])
def test_a_handle_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(FrameError, match="cut off"):
        cuda_ipc.unpack(cuda_ipc.pack(SHARED)[:cut])


def test_a_handle_with_something_behind_it_is_refused() -> None:
    with pytest.raises(FrameError, match="something behind it"):
        cuda_ipc.unpack(cuda_ipc.pack(SHARED) + b"x")


def test_memory_smaller_than_agreed_is_refused_before_it_is_touched() -> None:
    with pytest.raises(FrameError, match="GPU memory of 4096 bytes came where 4100 were agreed"):
        cuda_ipc.attach(cuda_ipc.pack(SHARED), 1025)


def test_the_blocks_of_one_allocation_do_not_overlap() -> None:
    size = SlotSize(gradient=1030, weights=1030, buffers=12, served=12, constants_bytes=100)
    block = torch.zeros(size.floats)
    for number, part in enumerate(size.cut(block), start=1):
        part.add_(number)
    assert [p.numel() for p in size.cut(block)] == [1030, 1030, 12, 12]
    assert [set(p.tolist()) for p in size.cut(block)] == [{1.0}, {2.0}, {3.0}, {4.0}]


# ------------------------------------------------------------ batches


Pair = namedtuple("Pair", "x y")


def test_every_tensor_of_a_batch_is_moved_however_it_is_nested() -> None:
    one = torch.ones(1)
    batch = {"a": [one, (one, "word")], "b": Pair(one, 3)}
    doubled = mapped(batch, lambda t: t * 2)
    assert doubled == {"a": [2 * one, (2 * one, "word")], "b": Pair(2 * one, 3)}
    assert type(doubled["b"]) is Pair


def test_the_next_batch_is_prepared_between_asking_for_work_and_reading_its_result() -> None:
    spec = spec_of(problem={"kind": "digits"})
    problem = registry.load(spec.problem)
    steps = Steps(problem, build_model(problem, 0), spec, 0)
    told: list[str] = []
    steps.begin(0)
    steps.add((torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)), lambda: told.append("prepared"))
    assert told == ["prepared"]
    assert steps.means()[0] > 0.0


def test_what_goes_wrong_in_fetching_ahead_is_not_blamed_on_the_loss() -> None:
    spec = spec_of(problem={"kind": "digits"})
    problem = registry.load(spec.problem)
    steps = Steps(problem, build_model(problem, 0), spec, 0)

    def fail() -> None:
        raise LookupError("no such example")

    steps.begin(0)
    with pytest.raises(LookupError, match="no such example"):
        steps.add((torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)), fail)


# ------------------------------------------------------------ precision


def test_bfloat16_computes_in_it_and_leaves_parameters_and_gradients_alone() -> None:
    linear = torch.nn.Linear(8, 8)
    with autocast(HOST.where, "bfloat16"):
        y = linear(torch.ones(1, 8))
    y.float().sum().backward()
    assert (y.dtype, linear.weight.dtype) == (torch.bfloat16, torch.float32)
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
    with autocast(HOST.where, "float32"):
        assert linear(torch.ones(1, 8)).dtype == torch.float32


DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "batch_size": 32,
    "precision": "bfloat16",
}


@pytest.mark.parametrize("rule", ["local", "server"])
def test_a_run_in_bfloat16_learns_and_keeps_its_weights_in_float32(tmp_path: Path, rule: str) -> None:
    work = spec_of(**DIGITS, batch_norm={"kind": rule}, workers=2, budget={"passes": 6})
    with Gang(work, tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        [saved] = [e.data for e in gang.server.events("checkpoint") if e.data["final"]]
        assert saved["metrics"]["accuracy"] > 0.8
        kept = checkpoint.model_state(checkpoint.read(Path(saved["path"]))[0])
        assert {t.dtype for n, t in kept.items() if not n.endswith("num_batches_tracked")} == {torch.float32}


# ------------------------------------------------------------ CUDA


def test_a_child_that_is_sent_to_a_gpu_that_torch_cannot_use_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU here")
    with Gang(spec_of(), tmp_path, trainers=0, evaluator=False) as gang:
        word = gang.start(Role.TRAINER, 0, device="cuda:0", gpu="GPU-1").end()
        assert word is not None
        assert f"torch {torch.__version__} can't use the GPU GPU-1" in word.detail


def printed(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=50).stdout


LOOK = """
import os
import workers.preload
import torch
assert not torch.cuda.is_initialized()
print([to for fd in os.listdir("/proc/self/fd") if os.path.exists(at := f"/proc/self/fd/{fd}")
       and "nvidia" in (to := os.readlink(at))])
"""


def test_what_the_forkserver_holds_ready_does_not_touch_cuda() -> None:
    assert printed(LOOK) == "[]\n"


def test_float32_on_a_gpu_is_not_rounded_to_less() -> None:
    look = (
        "from workers import devices; import torch; devices._compute_in_float32(); b = torch.backends; "
        "print(b.cuda.matmul.fp32_precision, b.cudnn.conv.fp32_precision, b.cudnn.rnn.fp32_precision)"
    )
    assert printed(look) == "ieee ieee ieee\n"
