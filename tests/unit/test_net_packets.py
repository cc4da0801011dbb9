from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heros import limits, wire
from heros.exceptions import DecodeError, EncodeError
from heros.net import packets
from heros.net.packets import HEAD, PIECE_BYTES, WHOLE_BYTES, Body, Kind, framed, head, parse, split_body, split_frames


def fields_of(header: bytes, count: int) -> wire.Fields:
    return (wire.Kind.CALL, 0, 1, 2, 3, 4, 5, len(header), count)


def frame_of(header: bytes, count: int) -> bytes:
    return wire.FRAME.pack(*fields_of(header, count))


@given(st.binary(max_size=40), st.lists(st.binary(max_size=40), max_size=4))
def test_a_body_arrives_as_it_was_sent(header: bytes, buffers: list[bytes]) -> None:
    data = Body(header, buffers).joined()
    got_header, got = split_body(fields_of(header, len(buffers)), memoryview(data))
    assert bytes(got_header) == header
    assert [bytes(buffer) for buffer in got] == buffers


@given(st.lists(st.tuples(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=3)), max_size=5))
def test_frames_share_a_packet(frames: list[tuple[bytes, list[bytes]]]) -> None:
    packet = head(Kind.FRAMES, 0, 7, 1) + b"".join(
        framed(frame_of(header, len(buffers)), Body(header, buffers).joined()) for header, buffers in frames
    )
    got = [(bytes(header), [bytes(b) for b in buffers]) for _, header, buffers in split_frames(packet)]
    assert got == frames


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_first_buffer_is_aligned_and_read_only(before: int, header_length: int) -> None:
    array = np.arange(5.0)
    first = framed(frame_of(bytes(before), 0), bytes(before))
    second = framed(frame_of(bytes(header_length), 1), Body(bytes(header_length), [array]).joined())
    _, (_, _, (buffer,)) = split_frames(head(Kind.FRAMES, 0, 7, 1) + first + second)
    assert isinstance(buffer, np.ndarray)
    assert buffer.ctypes.data % packets.ALIGNMENT == 0
    assert not buffer.flags.writeable
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        buffer.setflags(write=True)
    assert np.array_equal(buffer.view(np.float64), array)


ARRAYS = [
    np.arange(12, dtype=np.int16).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    np.arange(24)[::2],
    np.arange(24).reshape(4, 6)[:, 1:3],
    np.array(3.5),
    np.zeros((0, 3)),
    np.array(["2026-01-01"], dtype="datetime64[D]"),
    np.zeros(3, dtype=[("a", "<i4"), ("b", ">f8")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_are_sent_in_their_order(array: np.ndarray) -> None:
    data = Body(b"", [array]).joined()
    _, (buffer,) = split_body(fields_of(b"", 1), memoryview(data))
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    assert bytes(buffer) == array.tobytes(order)


@pytest.mark.parametrize("nbytes", [0, 1, PIECE_BYTES, WHOLE_BYTES - 32, WHOLE_BYTES + 1, 3 * PIECE_BYTES - 16])
def test_a_large_body_is_cut_into_pieces(nbytes: int) -> None:
    array = (np.arange(nbytes, dtype=np.uint32) * 2654435761).astype(np.uint8)
    body = Body(b"head", [array, b"tail"])
    pieces = [bytes(piece) for piece in body.pieces()]  # each is overwritten by the next
    assert sum(map(len, pieces)) == body.nbytes
    assert len(pieces) == 1 or all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
    assert (len(pieces) == 1) == (body.nbytes <= WHOLE_BYTES)
    _, (first, second) = split_body(fields_of(b"head", 2), memoryview(b"".join(pieces)))
    assert bytes(first) == array.tobytes()
    assert bytes(second) == b"tail"


def test_what_is_too_large_is_refused_at_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_FRAME_BYTES", 100)
    with pytest.raises(EncodeError, match="Send it in parts"):
        Body(b"", [bytes(200)])
    with pytest.raises(EncodeError, match=re.escape(str(limits.MAX_BUFFERS))):
        Body(b"", [b""] * (limits.MAX_BUFFERS + 1))


MALFORMED = {
    "header too long": (b"abc", (1, 0, 0, 0, 0, 0, 0, 4, 0)),
    "header too short": (b"abc", (1, 0, 0, 0, 0, 0, 0, 2, 0)),
    "buffer lengths missing": (b"", (1, 0, 0, 0, 0, 0, 0, 0, 1)),
    "header passes the limit": (b"", (1, 0, 0, 0, 0, 0, 0, limits.MAX_HEADER_BYTES + 1, 0)),
    "too many buffers": (b"", (1, 0, 0, 0, 0, 0, 0, 0, limits.MAX_BUFFERS + 1)),
    "buffer too long": (bytes(8) + b"\xff" * 8, (1, 0, 0, 0, 0, 0, 0, 0, 1)),
    "bytes too many": (bytes(17), (1, 0, 0, 0, 0, 0, 0, 0, 1)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_body_is_a_decode_error(case: str) -> None:
    data, fields = MALFORMED[case]
    with pytest.raises(DecodeError):
        split_body(fields, memoryview(data))


@given(st.binary(max_size=200))
def test_whatever_the_bytes_it_is_a_decode_error_or_frames(data: bytes) -> None:
    for packet in (data, head(Kind.FRAMES, 0, 7, 1) + data):
        try:
            parse(packet, None)
            split_frames(packet)
        except DecodeError:
            pass


def test_a_head_is_read_from_the_attachment_when_there_is_one() -> None:
    attachment = head(Kind.BEGIN, 1, 9, 3, 100)
    packet = parse(b"body", attachment)
    assert packet[:6] == (Kind.BEGIN, 1, wire.PROTOCOL, 9, 3, 100)
    assert packet.payload == b"body"
    with pytest.raises(DecodeError, match="shorter"):
        parse(attachment[: HEAD.size - 1], None)
