"""The spool: everything comes through once and in order, and nothing of it reaches training."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest

from workers import events
from workers.events import Batch, Progress
from workers.reporting import Reporter, Spool


def read(folder: Path) -> list[Batch]:
    found = []
    for path in sorted(folder.glob("spool-*")):
        data, offset = path.read_bytes(), 0
        while (step := events.decode(data, offset)) is not None:
            found.append(step[0])
            offset = step[1]
        assert offset == len(data)
    return found


def test_points_and_events_come_through(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, clock=lambda: 12.5)
    reporter.table(3, ("loss", "staleness")).add(1, 2.0, 0.5, 4)
    reporter.event("joined", "trainer 3 joined", worker=3)
    reporter.flush()
    [batch] = read(tmp_path)
    assert [(p.worker, p.key, struct.unpack("<d", p.y)) for p in batch.points] == [
        (3, "loss", (0.5,)),
        (3, "staleness", (4.0,)),
    ]
    assert (batch.events[0].kind, batch.events[0].at, batch.events[0].data) == ("joined", 12.5, {"worker": 3})


def test_sequences_rise_by_one_and_nothing_new_writes_nothing(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path)
    for _ in range(3):
        reporter.point(-1, "loss", 1, 1.0)
        reporter.flush()
        reporter.flush()
    assert [b.sequence for b in read(tmp_path)] == [1, 2, 3]


def test_progress_is_written_when_it_changes(tmp_path: Path) -> None:
    reporter, at = Reporter(tmp_path), [1]
    reporter.watch(lambda: Progress(at[0], at[0], 0.1))
    reporter.flush()
    reporter.flush()
    at[0] = 2
    reporter.flush()
    assert [b.progress.version for b in read(tmp_path) if b.progress] == [1, 2]


def test_files_rotate(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, spool=Spool(tmp_path, file_bytes=200))
    for x in range(5):
        reporter.point(0, "loss", x, 1.0)
        reporter.flush()
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"spool-{i:06d}" for i in range(1, 4)]
    assert [b.sequence for b in read(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_full_spool_drops_points_counts_them_and_keeps_events(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, spool=Spool(tmp_path, total_bytes=1))
    for x in range(3):
        reporter.point(0, "loss", x, 1.0)
        reporter.event("warning", "x")
        reporter.flush()
    batches = read(tmp_path)
    assert [len(b.points) for b in batches] == [1, 0, 0]
    assert [b.dropped for b in batches] == [0, 1, 1]
    assert [len(b.events) for b in batches] == [1, 1, 1]


def test_room_made_by_the_reader_is_used_again(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, spool=Spool(tmp_path, file_bytes=1, total_bytes=100))
    for x in range(4):
        reporter.point(0, "loss", x, 1.0)
        reporter.flush()
    for path in sorted(tmp_path.glob("spool-*"))[:-1]:
        path.unlink()
    reporter.point(0, "loss", 5, 1.0)
    reporter.flush()
    assert len(read(tmp_path)[-1].points) == 1


def test_a_write_that_fails_does_not_raise_and_loses_no_event(tmp_path: Path) -> None:
    class Full(Spool):
        broken = True

        def write(self, frame: bytes) -> None:
            if self.broken:
                raise OSError(28, "No space left on device")
            super().write(frame)

    spool = Full(tmp_path)
    reporter = Reporter(tmp_path, spool=spool)
    reporter.point(0, "loss", 1, 1.0)
    reporter.event("warning", "kept")
    reporter.flush()
    spool.broken = False
    reporter.flush()
    [batch] = read(tmp_path)
    assert (batch.sequence, batch.dropped, [e.message for e in batch.events]) == (1, 1, ["kept"])


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path)
    reporter.start()
    reporter.event("left", "bye")
    reporter.close()
    assert [e.message for b in read(tmp_path) for e in b.events] == ["bye"]


def test_recording_a_gradient_costs_microseconds(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path)
    table = reporter.table(0, tuple(f"key{i}" for i in range(9)))
    reporter.start()
    costs = []
    for x in range(20_000):
        began = time.perf_counter()
        table.add(x, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
        costs.append(time.perf_counter() - began)
    reporter.close()
    assert np.percentile(costs, 99) < 50e-6
    assert sum(p.count for b in read(tmp_path) for p in b.points) == 9 * 20_000


@pytest.mark.parametrize("damage", [0, 12, 40])
def test_a_damaged_frame_is_told_apart_from_an_unfinished_one(damage: int, tmp_path: Path) -> None:
    frame = bytearray(events.encode(Batch(1, events=[events.Event("warning", 1.0, "x" * 50)])))
    assert events.decode(bytes(frame[:-1])) is None
    frame[damage] ^= 0xFF
    if damage == 12:  # a longer length: still to come, as far as one can tell
        assert events.decode(bytes(frame)) is None
    else:
        with pytest.raises(events.SpoolError):
            events.decode(bytes(frame))
