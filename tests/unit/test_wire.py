"""Frames: bytes and back; lengths that do not add up are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heros import limits, wire
from heros.exceptions import DecodeError

QUICK = settings(max_examples=200, deadline=None)

words = st.integers(0, 2**64 - 1)
frames = st.tuples(
    st.integers(0, 255),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    words,
    words,
    words,
    st.binary(max_size=50),
    st.lists(st.binary(max_size=30), max_size=5),
)


def joined(*arguments: object) -> bytes:
    return b"".join(wire.join(*arguments))  # type: ignore[arg-type]


@given(frames)
@QUICK
def test_a_frame_arrives_as_it_was(frame: tuple) -> None:
    kind, op, member, ident, first, second, header, buffers = frame
    for data in (joined(*frame), memoryview(joined(*frame))):
        fields, arrived_header, arrived_buffers = wire.split(data)
        assert fields == (kind, 0, op, member, ident, first, second, len(header), len(buffers))
        assert arrived_header == header
        assert arrived_buffers == buffers


def test_the_layout_of_a_frame() -> None:
    assert wire.FRAME.size == 40
    data = joined(wire.Kind.CALL, wire.Op.SET, 7, 1, 2, 3, b"ab", [b"xyz", memoryview(b"")])
    assert data == (
        b"\x01\x00\x02\x00\x07\x00\x00\x00"
        + struct.pack("<QQQII", 1, 2, 3, 2, 2)
        + b"ab"
        + struct.pack("<QQ", 3, 0)
        + b"xyz"
    )


@given(frames)
@QUICK
def test_every_cut_and_every_extra_byte_is_refused(frame: tuple) -> None:
    data = joined(*frame)
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            wire.split(data[:end])
    with pytest.raises(DecodeError, match="followed by 1 bytes too many"):
        wire.split(data + b"\0")


@given(frames, st.data())
@QUICK
def test_a_damaged_frame_is_split_or_refused(frame: tuple, data: st.DataObject) -> None:
    damaged = bytearray(joined(*frame))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        fields, header, buffers = wire.split(bytes(damaged))
    except DecodeError:
        return
    sizes = [len(buffer) for buffer in buffers]
    assert wire.FRAME.size + len(header) + 8 * len(sizes) + sum(sizes) == len(damaged)
    assert (len(header), len(buffers)) == fields[7:]


@given(st.binary(max_size=120))
@QUICK
def test_garbage_is_split_or_refused(data: bytes) -> None:
    try:
        wire.split(data)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("header_length", "buffer_count"),
    [(limits.MAX_HEADER_BYTES + 1, 0), (2**32 - 1, 2**32 - 1), (0, limits.MAX_BUFFERS + 1), (10, 0), (0, 1)],
)
def test_lengths_beyond_the_frame_are_refused(header_length: int, buffer_count: int) -> None:
    with pytest.raises(DecodeError):
        wire.split(wire.FRAME.pack(1, 0, 0, 0, 0, 0, 0, header_length, buffer_count))


def test_a_buffer_longer_than_the_frame_is_refused() -> None:
    frame = wire.FRAME.pack(1, 0, 0, 0, 0, 0, 0, 0, 1) + struct.pack("<Q", 2**64 - 1) + b"abc"
    with pytest.raises(DecodeError, match="declares a buffer of 18446744073709551615 bytes"):
        wire.split(frame)
