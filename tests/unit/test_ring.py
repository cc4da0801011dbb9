"""One ring, both ends in one thread: every step is exact here. Two processes: tests/system/test_shm_ring.py."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heros.exceptions import DecodeError
from heros.shm import layout
from heros.shm.ring import Reader, Writer

CAPACITY = 1024


def make(capacity: int = CAPACITY, ordered: bool = True) -> tuple[memoryview, Writer, Reader]:
    memory = memoryview(bytearray(layout.ring_bytes(capacity)))
    return memory, Writer(memory, ordered), Reader(memory, ordered)


def store(memory: memoryview, offset: int, value: int) -> None:
    struct.pack_into("=Q", memory, offset, value)


def test_empty_ring_reads_none() -> None:
    _, _, reader = make()
    assert reader.read() is None
    assert not reader.ready()
    assert not reader.spin(3)


@pytest.mark.parametrize("ordered", [True, False])
def test_records_come_out_as_they_went_in(ordered: bool) -> None:
    _, writer, reader = make(ordered=ordered)
    longest = b"x" * writer.max_record
    for tag, body in [(2, b""), (3, b"a"), (4, b"1234567"), (2, b"12345678"), (2, longest)]:
        assert writer.write(tag, body)
        assert reader.ready()
        assert reader.read() == (tag, body)
    assert writer.consumed


def test_full_ring_takes_nothing_until_read() -> None:
    _, writer, reader = make()
    written = 0
    while writer.write(2, b"%03d" % written + b"." * 53):
        written += 1
    assert written == CAPACITY // 64
    assert reader.read() == (2, b"000" + b"." * 53)
    assert writer.write(2, b"!" * 56)
    assert not writer.write(2, b"")


def test_a_record_that_is_too_long_is_refused() -> None:
    _, writer, _ = make()
    with pytest.raises(ValueError, match="maximum"):
        writer.write(2, b"x" * (writer.max_record + 1))


@given(st.lists(st.one_of(st.none(), st.binary(max_size=layout.max_record(256))), max_size=200), st.booleans())
def test_any_sequence_of_writes_and_reads(steps: list[bytes | None], ordered: bool) -> None:
    _, writer, reader = make(256, ordered)
    expected: list[bytes] = []
    for step in steps:
        if step is None:
            item = reader.read()
            assert item == ((2, expected.pop(0)) if expected else None)
        elif writer.write(2, step):
            expected.append(step)
    for body in expected:
        assert reader.read() == (2, body)
    assert reader.read() is None


def test_any_record_fits_once_the_reader_has_caught_up() -> None:
    _, writer, reader = make(256)
    random.seed(1)
    for _ in range(5000):
        body = random.randbytes(random.randrange(writer.max_record + 1))
        assert writer.write(2, body)
        assert reader.read() == (2, body)


def test_the_writer_rings_once_an_epoch() -> None:
    _, writer, reader = make()
    writer.write(2, b"")
    assert not writer.must_ring()  # awake
    assert not reader.sleep()  # there is something to read
    assert reader.read() is not None
    assert reader.sleep()
    writer.write(2, b"")
    assert writer.must_ring()
    writer.write(2, b"")
    assert not writer.must_ring()
    reader.wake()
    assert not writer.must_ring()
    while reader.read():
        pass
    assert reader.sleep()
    writer.write(2, b"")
    assert writer.must_ring()


def test_without_ordered_stores_the_writer_always_rings() -> None:
    _, writer, _ = make(ordered=False)
    for _ in range(3):
        writer.write(2, b"")
        assert writer.must_ring()


def test_both_ends_start_at_the_beginning_whatever_the_other_has_stored() -> None:
    memory, _, _ = make()
    for word in (layout.TAIL, layout.HEAD, layout.SLEEPING):
        store(memory, word, (1 << 64) - 8)
    with pytest.raises(DecodeError):
        Reader(memory).read()
    writer = Writer(memory)
    assert writer.write(2, b"first")
    with pytest.raises(DecodeError):
        [writer.write(2, bytes(writer.max_record)) for _ in range(5)]


@pytest.mark.parametrize("tail", [1, 7, CAPACITY + 8, 1 << 63, (1 << 64) - 8])
def test_reader_refuses_a_nonsense_tail(tail: int) -> None:
    memory, _, reader = make()
    store(memory, layout.TAIL, tail)
    with pytest.raises(DecodeError):
        reader.read()


def test_reader_refuses_a_tail_that_goes_back() -> None:
    memory, writer, reader = make()
    writer.write(2, b"x" * 56)
    reader.read()
    store(memory, layout.TAIL, 8)
    with pytest.raises(DecodeError):
        reader.read()


@pytest.mark.parametrize("head", [2 * CAPACITY, 1 << 63])
def test_writer_refuses_a_nonsense_head(head: int) -> None:
    memory, writer, _ = make()
    store(memory, layout.HEAD, head)
    for _ in range(CAPACITY // 16):
        assert writer.write(2, b"x")
    with pytest.raises(DecodeError):
        writer.write(2, b"x")


@pytest.mark.parametrize("prefix", [57, 1 << 31, (1 << 32) - 1, (2 << 32) | 500])
def test_reader_refuses_a_length_beyond_what_was_written(prefix: int) -> None:
    memory, writer, reader = make()
    writer.write(2, b"x" * 56)
    store(memory, layout.DATA, prefix)
    with pytest.raises(DecodeError):
        reader.read()


def test_reader_refuses_a_wrap_beyond_what_was_written() -> None:
    memory, writer, reader = make()
    writer.write(2, b"x" * 56)
    store(memory, layout.DATA, layout.WRAP << layout.TAG_SHIFT)
    with pytest.raises(DecodeError):
        reader.read()


@given(st.binary(min_size=256, max_size=256), st.integers(0, 300))
def test_whatever_the_bytes_only_decode_errors(data: bytes, tail: int) -> None:
    memory = memoryview(bytearray(layout.ring_bytes(256)))
    memory[layout.DATA :] = data
    store(memory, layout.TAIL, tail)
    reader = Reader(memory)
    try:
        while reader.read() is not None:
            pass
    except DecodeError:
        pass


@pytest.mark.parametrize("size", [0, 63, 65, 1000])
def test_a_ring_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Writer(memoryview(bytearray(layout.DATA + size)))
