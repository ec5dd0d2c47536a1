"""Gradients that are sent in pieces while the backward pass goes on."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.engine.harness import Gang, spec_of
from tests.engine.test_replay import final, log_of
from workers import catalog, checkpoint
from workers.assignment import Role
from workers.layout import Layout
from workers.problems import registry
from workers.process import StopSignal
from workers.server.setup import build_model, build_rule
from workers.simulator.replay import replay
from workers.spec import RunSpec
from workers.trainer import early
from workers.trainer.early import Early
from workers.transport.base import Report
from workers.transport.frames import FrameError
from workers.transport.network import NetworkSession
from workers.transport.pieces import Range, Received, Sender, gaps
from workers.transport.shared_memory import SlotSize

FLOATS = 300_000
SGD = spec_of().optimizer


# ------------------------------------------------------------ ranges


def test_what_has_not_been_sent_is_between_what_has() -> None:
    assert list(gaps([Range(60, 80), Range(10, 30)], 100)) == [Range(0, 10), Range(30, 60), Range(80, 100)]
    assert list(gaps([Range(0, 50), Range(50, 100)], 100)) == []


@pytest.mark.parametrize("piece", [Range(5, 5), Range(90, 101), Range(29, 40), Range(0, 100), Range(15, 16)])
def test_a_piece_outside_the_vector_or_over_another_is_refused(piece: Range) -> None:
    received = Received(100)
    received.take(Range(10, 30).pack())
    with pytest.raises(FrameError):
        received.take(piece.pack())


def test_a_gradient_is_complete_when_all_of_it_has_come_and_the_next_begins_empty() -> None:
    received = Received(100)
    received.take(Range(40, 100).pack())
    assert not received.all()
    received.take(Range(40, 100).pack())
    received.take(Range(0, 40).pack())
    assert received.all()


def test_a_failure_to_send_is_raised_where_the_pieces_are_counted() -> None:
    def broken(piece: Range) -> None:
        raise ConnectionError(f"{piece.start}")

    sender = Sender(broken)
    sender.give(Range(1, 2))
    sender.give(Range(2, 3))
    with pytest.raises(ConnectionError, match="1"):
        sender.finish()
    assert sender.finish() == []


def test_pieces_are_sent_in_a_thread_of_their_own_in_the_order_they_were_given() -> None:
    sent: list[tuple[Range, int]] = []
    sender = Sender(lambda piece: sent.append((piece, threading.get_ident())))
    pieces = [Range(i, i + 1) for i in range(50)]
    for piece in pieces:
        sender.give(piece)
    assert sender.finish() == pieces
    assert [piece for piece, _ in sent] == pieces
    assert threading.get_ident() not in {thread for _, thread in sent}


# ------------------------------------------------------------ hooks


class Recorder:
    """Takes pieces as a session does, with what they held at that moment."""

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat
        self.pieces: list[tuple[Range, Tensor]] = []
        self.spoiled = 0

    def piece(self, piece: Range) -> None:
        self.pieces.append((piece, self.flat[piece.start : piece.stop].clone()))

    def spoil(self) -> None:
        self.spoiled += 1


def hooked(monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Layout, Recorder, Early]:
    torch.manual_seed(0)
    monkeypatch.setattr(early, "PIECE_FLOATS", 50)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    layout = Layout.of(model, SGD)
    recorder = Recorder(torch.zeros(layout.size))
    return model, layout, recorder, Early(model, layout, recorder.flat, recorder)


def test_the_last_layers_gradient_is_given_first_and_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout, recorder, early_ = hooked(monkeypatch)
    early_.begin()
    model(torch.randn(4, 8)).square().sum().backward()
    early_.complete()
    expected = torch.zeros(layout.size)
    named = dict(model.named_parameters())
    for segment in layout.segments:
        segment.of(expected).copy_(named[segment.name].grad)  # type: ignore[arg-type]
    assert torch.equal(recorder.flat, expected)
    starts = [piece.start for piece, _ in recorder.pieces]
    assert len(starts) >= 2
    assert starts == sorted(starts, reverse=True)
    for piece, held in recorder.pieces:
        assert torch.equal(held, expected[piece.start : piece.stop])
    assert recorder.spoiled == 0


def test_a_parameter_that_was_not_used_counts_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout, recorder, early_ = hooked(monkeypatch)
    recorder.flat.fill_(9.0)
    early_.begin()
    model[0](torch.randn(4, 8)).sum().backward()  # type: ignore[index]
    early_.complete()
    unused = next(s for s in layout.segments if s.name == "4.weight")
    assert not unused.of(recorder.flat).any()


def test_a_gradient_that_grows_after_it_was_given_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, recorder, early_ = hooked(monkeypatch)
    early_.begin()
    for _ in range(2):
        model(torch.randn(4, 8)).square().sum().backward()
    assert recorder.spoiled > 0
    # The server takes no float of a gradient twice.
    ranges = sorted(piece for piece, _ in recorder.pieces)
    assert all(one.stop <= other.start for one, other in pairwise(ranges))


# ------------------------------------------------------------ sessions


def session_of(gang: Gang, spec: RunSpec) -> NetworkSession:
    """A session of this process with the gang's server."""
    problem = registry.load(spec.problem)
    layout = Layout.of(build_model(problem, spec.seed), spec.optimizer)
    size = SlotSize.trainer(layout, build_rule(catalog.BATCH_NORMS, spec.batch_norm))
    manifest = layout.manifest([m.name for m in problem.metrics])
    mine = gang.assignment(Role.TRAINER, 0, endpoint=gang._find_server())
    return NetworkSession(mine, StopSignal(), manifest, size, spec=spec)


@pytest.mark.parametrize("way", ["inline", "fabric"])
def test_a_gradient_in_pieces_changes_the_weights_as_a_whole_one_does(tmp_path: Path, way: str) -> None:
    spec = spec_of(
        problem={"kind": "ledger", "coordinates": FLOATS},
        transport={"between_hosts": way},
        optimizer={"kind": "sgd", "learning_rate": 0.5},
    )
    report = Report(1.0, 1.0, 0.0, 0.0, 0.0, (1.0,))
    with Gang(spec, tmp_path, transport="tls", trainers=0, evaluator=False) as gang:
        session = session_of(gang, spec)
        answer = session.answer()
        expected = session.weights.clone()
        for pieces in ([], [Range(200_000, FLOATS), Range(50_000, 150_000)], [Range(0, FLOATS)]):
            session.gradient.normal_()
            expected -= 0.5 * session.gradient
            for piece in pieces:
                session.piece(piece)
            session.push(report, step=answer.step)
            answer = session.answer()
            assert torch.equal(session.weights, expected)
        session.piece(Range(0, 200_000))
        session.spoil()
        session.gradient.fill_(2.0)
        session.push(report, step=answer.step)
        session.answer()
        assert torch.equal(session.weights, expected - 1.0)
        session.leave()


def weights_of(spec: RunSpec, folder: Path, transport: str) -> dict[str, Tensor]:
    with Gang(spec, folder, transport=transport) as gang:  # type: ignore[arg-type]
        gang.end()
        saved = final(gang)
        assert replay(log_of(gang)).differences(saved) == []
        return checkpoint.model_state(checkpoint.read(saved)[0])


def test_one_trainer_comes_to_the_same_bits_whether_it_sends_early_or_not_at_all(tmp_path: Path) -> None:
    spec = spec_of(
        problem={"kind": "digits", "model": {"kind": "mlp", "hidden": [1024, 1024]}},  # more than one piece
        optimizer={"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        budget={"updates": 15},
    )
    shared, sent = (weights_of(spec, tmp_path / t[:3], t) for t in ("shared memory", "tls"))
    assert all(torch.equal(shared[name], sent[name]) for name in shared)
