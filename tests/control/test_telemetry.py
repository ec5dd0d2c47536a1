"""What a child spooled is stored exactly once, in order, whatever happens in between."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from trainhub.actions import artifacts, telemetry
from trainhub.actions.members import Fenced
from trainhub.actions.telemetry import Position
from trainhub.models import Artifact, Event, LogLine, Member, Run, RunState, SeriesChunk
from workers.events import Batch, Points, Progress, SpoolError, encode
from workers.events import Event as Happening
from workers.log_reader import LogReader
from workers.spec import Checkpoints, Target
from workers.spool_reader import SpoolReader


def points(key: str, worker: int, x: list[int], y: list[float]) -> Points:
    t = np.arange(len(x), dtype="<f8")
    return Points(worker, key, np.array(x, "<i8").tobytes(), t.tobytes(), np.array(y, "<f8").tobytes())


def happened(kind: str, **data: object) -> Happening:
    return Happening(kind, time.time(), kind, data=data)


def store(member: Member, batch: Batch) -> bool:
    return telemetry.store(member, batch, Position(1, 100 * batch.sequence))


def values(key: str, worker: int) -> list[float]:
    chunks = SeriesChunk.objects.filter(key=key, worker=worker).order_by("index")
    return [y for c in chunks for y in np.frombuffer(c.y, "<f8").tolist()]


def test_points_of_many_batches_make_one_series(server: Member) -> None:
    for sequence in (1, 2, 3):
        store(server, Batch(sequence, [points("loss", 0, [sequence], [sequence / 2])]))
    chunk = SeriesChunk.objects.get()
    assert values("loss", 0) == [0.5, 1.0, 1.5]
    assert (chunk.first_x, chunk.last_x, chunk.low, chunk.high, chunk.last, chunk.count) == (1, 3, 0.5, 1.5, 1.5, 3)


def test_a_batch_that_comes_twice_is_stored_once(server: Member) -> None:
    batch = Batch(1, [points("loss", 0, [1], [2.0])], [happened("warning")])
    assert store(server, batch)
    assert not store(server, batch)
    assert values("loss", 0) == [2.0]
    assert Event.objects.filter(kind="warning").count() == 1


def test_the_place_in_the_spool_moves_in_the_same_transaction(server: Member) -> None:
    store(server, Batch(7, []))
    member = Member.objects.get(pk=server.pk)
    assert (member.spool_sequence, member.spool_file, member.spool_offset) == (7, 1, 700)


def test_a_full_chunk_is_left_alone(server: Member) -> None:
    for sequence in range(1, 5):
        x = list(range(400 * (sequence - 1), 400 * sequence))
        store(server, Batch(sequence, [points("loss", 0, x, [float(v) for v in x])]))
    counts = SeriesChunk.objects.order_by("index").values_list("count", flat=True)
    assert list(counts) == [1200, 400]
    assert values("loss", 0) == [float(v) for v in range(1600)]


def test_what_is_not_finite_is_kept_and_counted(server: Member) -> None:
    store(server, Batch(1, [points("loss", 0, [1, 2, 3], [1.0, float("nan"), float("inf")])]))
    chunk = SeriesChunk.objects.get()
    assert (chunk.nonfinite, chunk.low, chunk.high) == (2, 1.0, 1.0)
    store(server, Batch(2, [points("gap", 0, [1], [float("nan")])]))
    assert SeriesChunk.objects.get(key="gap").low is None


def test_an_evaluation_that_is_not_finite_goes_by_its_name(server: Member) -> None:
    found = happened("evaluated", version=3, metrics={"accuracy": -math.inf}, loss=math.nan)
    assert store(server, Batch(1, events=[found]))
    assert Run.objects.get().metrics == {"loss": "NaN", "accuracy": "-Infinity", "version": 3}
    assert Event.objects.get(kind="evaluated").data["loss"] == "NaN"


def test_each_batch_raises_the_live_sequence(server: Member) -> None:
    store(server, Batch(1, [points("loss", 0, [1], [1.0])]))
    store(server, Batch(2, [points("loss", 1, [2], [1.0])]))
    assert Run.objects.get().live_sequence == 2
    assert dict(SeriesChunk.objects.values_list("worker", "sequence")) == {0: 1, 1: 2}


def test_progress_of_an_older_epoch_changes_nothing(server: Member) -> None:
    store(server, Batch(1, progress=Progress(5, 5, 0.5)))
    Run.objects.update(epoch=2)
    store(server, Batch(2, progress=Progress(9, 9, 0.9)))
    assert (Run.objects.get().version, Run.objects.get().fraction) == (5, 0.5)


def test_the_first_version_makes_the_run_running(server: Member) -> None:
    store(server, Batch(1, events=[happened("listening", endpoint="/run/s.sock"), happened("training")]))
    run = Run.objects.get()
    assert (run.endpoint, run.state) == ("/run/s.sock", RunState.RUNNING)


def test_a_fenced_server_publishes_nothing(server: Member) -> None:
    Run.objects.update(epoch=2)
    with pytest.raises(Fenced):
        store(server, Batch(1, [points("loss", 0, [1], [1.0])], [happened("listening", endpoint="/old.sock")]))
    assert not SeriesChunk.objects.exists()
    assert Run.objects.get().endpoint == ""


def checkpoint(path: Path, version: int, **more: object) -> Happening:
    path.touch()
    described = {"path": str(path), "sha256": "0" * 64, "size_bytes": 10, "version": version}
    return happened("checkpoint", **described, **more)


def test_a_checkpoint_becomes_a_row(server: Member, tmp_path: Path) -> None:
    store(server, Batch(1, events=[checkpoint(tmp_path / "a", 4, metrics={"loss": 0.5}, final=True)]))
    row = Artifact.objects.get()
    assert (row.version, row.epoch, row.metrics, row.final) == (4, 1, {"loss": 0.5}, True)


def test_a_final_checkpoint_takes_the_place_of_a_periodic_one_of_its_version(server: Member, tmp_path: Path) -> None:
    store(server, Batch(1, events=[checkpoint(tmp_path / "a", 4)]))
    last = checkpoint(tmp_path / "a", 4, final=True)
    last.data["sha256"] = "1" * 64
    store(server, Batch(2, events=[last]))
    row = Artifact.objects.get()
    assert (row.final, row.sha256) == (True, "1" * 64)


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_of_an_older_epoch_is_deleted(server: Member, tmp_path: Path) -> None:
    Run.objects.update(epoch=2)
    store(server, Batch(1, events=[checkpoint(tmp_path / "a", 4)]))
    assert not Artifact.objects.exists()
    assert not (tmp_path / "a").exists()


def test_retention_keeps_the_newest_the_best_and_the_final_ones() -> None:
    rows = [Artifact(version=v, metrics={"loss": loss}, final=v == 1) for v, loss in
            [(6, 0.6), (5, 0.5), (4, 0.1), (3, 0.2), (2, 0.9), (1, 0.8)]]  # fmt: skip
    rule = Checkpoints(keep_last=2, keep_best=1)
    assert sorted({a.version for a in artifacts.to_keep(rows, rule, None)}) == [1, 4, 5, 6]
    highest = Target(metric="loss", value=1, direction="max")
    assert sorted({a.version for a in artifacts.to_keep(rows, rule, highest)}) == [1, 2, 5, 6]


def write(folder: Path, number: int, *sequences: int, torn: bool = False) -> None:
    frames = b"".join(encode(Batch(s)) for s in sequences)
    (folder / f"spool-{number:06d}").write_bytes(frames[:-3] if torn else frames)


def read(reader: SpoolReader) -> list[int]:
    return [batch.sequence for batch, _, _ in reader.read()]


def test_the_reader_goes_from_file_to_file_and_drops_what_is_behind(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 2)
    write(tmp_path, 2, 3)
    reader = SpoolReader(tmp_path)
    assert read(reader) == [1, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["spool-000002"]
    assert read(reader) == []


def test_a_frame_half_written_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 2, torn=True)
    reader = SpoolReader(tmp_path)
    assert read(reader) == [1]
    write(tmp_path, 1, 1, 2)
    assert read(reader) == [2]


def test_a_batch_whose_storing_failed_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 2)
    reader = SpoolReader(tmp_path)
    next(iter(reader.read()))
    assert read(reader) == [1, 2]


def test_a_new_reader_goes_on_where_the_last_one_stored(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 2)
    _, file, offset = next(iter(SpoolReader(tmp_path).read()))
    assert read(SpoolReader(tmp_path, file=file, offset=offset)) == [2]


def test_damage_is_named_and_can_be_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 1, 1)
    path = tmp_path / "spool-000001"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    write(tmp_path, 2, 2)
    reader = SpoolReader(tmp_path)
    with pytest.raises(SpoolError, match="frame 1 at byte 0 is damaged"):
        read(reader)
    reader.skip_damage()
    assert read(reader) == [2]


def test_the_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    log = LogReader(tmp_path / "output.log")
    assert log.read() == ([], 0)
    log.path.write_bytes(b"one\ntwo\nthr")
    lines, log.offset = log.read()
    assert lines == ["one", "two"]
    with log.path.open("ab") as file:
        file.write(b"ee\xff\x00\n")
    assert log.read()[0] == ["three\ufffd\ufffd"]


def test_log_lines_are_stored_once(server: Member) -> None:
    telemetry.store_log(server, ["one"], 4)
    telemetry.store_log(server, ["one"], 4)
    assert list(LogLine.objects.values_list("text", flat=True)) == ["one"]
