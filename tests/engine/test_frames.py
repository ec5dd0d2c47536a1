"""The wire format: what goes in comes out, and anything else is refused without harm."""

import random

import pytest

from workers.transport import frames
from workers.transport.frames import HEADER, MAX_BODY_BYTES, Decoder, Frame, FrameError, Kind


def packed(sequence: int = 1, body: bytes = b"") -> bytes:
    return frames.pack(
        Kind.PUSH,
        run=7,
        epoch=2,
        member=3,
        worker=-1,
        sequence=sequence,
        base_version=5,
        version=6,
        step=8,
        staleness=9,
        gradients=10,
        scale=0.25,
        body=body,
    )


def test_a_frame_comes_out_as_it_went_in() -> None:
    expected = Frame(Kind.PUSH, 0, 7, 2, 3, -1, 1, 5, 6, 8, 9, 10, 0.25, b"abc")
    assert Decoder().feed(packed(body=b"abc")) == [expected]


def test_frames_come_out_however_the_stream_is_cut() -> None:
    stream = b"".join(packed(i, bytes(i)) for i in range(1, 20))
    decoder, found, cuts, at = Decoder(), [], random.Random(0), 0
    while at < len(stream):
        size = cuts.randint(1, 150)
        found += decoder.feed(stream[at : at + size])
        at += size
    assert [(f.sequence, len(f.body)) for f in found] == [(i, i) for i in range(1, 20)]


def test_a_body_longer_than_allowed_is_refused_before_it_comes() -> None:
    header = bytearray(packed())
    header[8:12] = (MAX_BODY_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(FrameError):
        Decoder().feed(bytes(header))


def test_a_kind_that_does_not_exist_is_refused() -> None:
    header = bytearray(packed())
    header[4] = 99
    with pytest.raises(FrameError):
        Decoder().feed(bytes(header))


@pytest.mark.parametrize("seed", range(50))
def test_garbage_is_refused_and_nothing_else_happens(seed: int) -> None:
    garbage = random.Random(seed).randbytes(4 * HEADER.size)
    with pytest.raises(FrameError):
        Decoder().feed(garbage)


def test_a_decoder_holds_no_more_than_an_unfinished_frame() -> None:
    decoder = Decoder()
    assert decoder.feed(packed(body=bytes(1000))[:-1]) == []
    assert len(decoder._rest) == HEADER.size + 999
    assert len(decoder.feed(b"\0")) == 1
    assert decoder._rest == b""
