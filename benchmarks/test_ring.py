"""Rings: a record through one in one process, and between two processes, awake and asleep."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.conftest import Compare
from benchmarks.echo import MESSAGE
from benchmarks.measure import each, loop
from benchmarks.references import bells, ring_bells, spin_ring, spin_word
from heros.codec import encode_arguments
from heros.shm import layout
from heros.shm.inbox import Inbox
from heros.shm.outbox import Outbox
from heros.shm.ring import Reader, Writer
from heros.wire import Kind
from heros.workers import Workers

LOOPS = 400
TURNS = 300
SLEEPS = 20


def _memory() -> memoryview:
    return memoryview(bytearray(layout.ring_bytes(1 << 16)))


def _in_and_out(size: int) -> Callable[[], object]:
    """A copy of ``size`` bytes into a buffer and out of it, and nothing else."""
    view, data = memoryview(bytearray(1 << 10)), bytes(size)

    def step() -> bytes:
        view[8 : 8 + size] = data
        return view[8 : 8 + size].tobytes()

    return step


def test_record_through(compare: Compare) -> None:
    memory = _memory()
    writer, reader = Writer(memory), Reader(memory)

    def through() -> object:
        writer.write(layout.FRAME, MESSAGE)
        return reader.read()

    compare(loop(through, LOOPS), loop(_in_and_out(len(MESSAGE)), LOOPS), "copy in and out")


def test_short_frame_through(compare: Compare) -> None:
    memory = _memory()
    outbox, inbox = Outbox(memory, lambda: None, Workers("benchmark")), Inbox(memory, Kind, lambda *_: b"")
    header, _ = encode_arguments((1, 2), {})

    def through() -> object:
        outbox.send_short(int(Kind.CALL), 0, 0, 1, 1, 0x100, header)
        return inbox.read_frame()

    compare(loop(through, LOOPS), loop(_in_and_out(40 + len(header)), LOOPS), "copy in and out")


def test_spin_round_trip(compare: Compare) -> None:
    with spin_ring(TURNS) as case, spin_word(TURNS) as reference:
        compare(case, reference, "spin on a word")


def test_sleeping_round_trip(compare: Compare) -> None:
    with ring_bells() as step, bells() as reference:
        compare(each(step, SLEEPS), each(reference, SLEEPS), "eventfd round trip")
