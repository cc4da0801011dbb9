"""Outbox and inbox against each other, without a network in between."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from heros import limits, wire
from heros.exceptions import RemoteTransportError
from heros.net.inbox import Inbox
from heros.net.outbox import Outbox, Staged
from heros.net.packets import BATCH_BYTES, PIECE_BYTES, WHOLE_BYTES, Body, Kind, head, parse
from heros.workers import Workers
from tests.harness import wait_until

CHANNEL = 99


@pytest.fixture
def workers() -> Iterator[Workers]:
    group = Workers("test-net")
    yield group
    group.stop()


class Wire:
    """Takes packets instead of zenoh; can be made to block, as a peer does that does not read."""

    def __init__(self) -> None:
        self.packets: list[tuple[Any, bytes | None]] = []
        self.open = threading.Event()
        self.open.set()
        self.error: RemoteTransportError | None = None

    def put(self, payload: Any, attachment: bytes | None = None) -> None:
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        self.packets.append((bytes(payload), attachment))  # as zenoh does, before it returns


class Sink:
    """The runtime's side of an inbox."""

    def __init__(self, workers: Workers) -> None:
        self.frames: list[tuple[int, bytes, list[bytes]]] = []
        self.pings = 0
        self.broken: list[str] = []
        self.inbox = Inbox(
            "a test", workers, threading.RLock(), self._frame, self._ping, self.broken.append, self.broken.append
        )

    def _frame(self, fields: wire.Fields, header: memoryview, buffers: list[Any]) -> None:
        self.frames.append((fields[4], bytes(header), [bytes(buffer) for buffer in buffers]))

    def _ping(self) -> None:
        self.pings += 1

    def feed(self, packets: list[tuple[Any, bytes | None]]) -> None:
        """As the session does."""
        for payload, attachment in packets:
            packet = parse(payload, attachment)
            if packet.kind != Kind.FRAMES or not self.inbox.take_frames(packet.sequence, payload):
                self.inbox.take(packet)


def outbox_to(wire_: Wire, workers: Workers, failed: Callable[[RemoteTransportError], None] = lambda _: None) -> Outbox:
    return Outbox(wire_.put, bytes, 0, CHANNEL, workers, failed)


def frame(ident: int, header: bytes, count: int) -> bytes:
    return wire.FRAME.pack(wire.Kind.CALL, 0, 0, 0, ident, 0, 0, len(header), count)


SIZES = [0, 10, BATCH_BYTES // 2, BATCH_BYTES, BATCH_BYTES + 1, WHOLE_BYTES, WHOLE_BYTES + 1, 3 * PIECE_BYTES + 5]


@pytest.mark.parametrize("may_wait", [True, False])
def test_frames_arrive_whole_and_in_order(workers: Workers, may_wait: bool) -> None:
    wire_, sink = Wire(), Sink(workers)
    outbox = outbox_to(wire_, workers)
    order = [size for size in SIZES for _ in range(3)]
    random.Random(1).shuffle(order)
    for ident, size in enumerate(order):
        buffer = np.full(size, ident, np.uint8)
        outbox.send(frame(ident, b"h", 1), b"h", [buffer], may_wait)
        buffer[:] = 255  # it is the caller's again
    outbox.send(frame(len(order), b"", 0), b"", (), may_wait)
    wait_until(lambda: outbox.backlog == 0)
    sink.feed(wire_.packets)
    expected = [(ident, b"h", [bytes([ident]) * size]) for ident, size in enumerate(order)]
    assert sink.frames == [*expected, (len(order), b"", [])]


def test_small_frames_that_wait_share_packets(workers: Workers) -> None:
    wire_, sink = Wire(), Sink(workers)
    outbox = outbox_to(wire_, workers)
    wire_.open.clear()
    for ident in range(1000):
        outbox.send(frame(ident, b"0123456789", 0), b"0123456789", (), may_wait=False)
    assert outbox.backlog > 10_000
    wire_.open.set()
    wait_until(lambda: outbox.backlog == 0)
    assert len(wire_.packets) < 20
    sink.feed(wire_.packets)
    assert [ident for ident, _, _ in sink.frames] == list(range(1000))


def test_nobody_waits_behind_a_sender_that_is_blocked(workers: Workers) -> None:
    wire_, sink = Wire(), Sink(workers)
    outbox = outbox_to(wire_, workers)
    wire_.open.clear()
    blocked = threading.Thread(target=outbox.send, args=(frame(0, b"", 0), b"", (), True))
    blocked.start()
    wait_until(lambda: outbox._unsure is not None)
    for ident in range(1, 20):
        outbox.send(frame(ident, b"", 0), b"", (), may_wait=True)
    wire_.open.set()
    blocked.join()
    wait_until(lambda: outbox.backlog == 0 and len(wire_.packets) >= 2)
    sink.feed(wire_.packets)
    assert [ident for ident, _, _ in sink.frames] == list(range(20))


def test_a_sender_does_not_overtake_what_is_queued(workers: Workers) -> None:
    wire_, sink = Wire(), Sink(workers)
    outbox = outbox_to(wire_, workers)
    with outbox._turn:
        outbox.send(frame(1, b"", 0), b"", (), may_wait=True)
    # The other sender has given up its turn and not looked at the queue yet.
    outbox.send(frame(2, b"", 0), b"", (), may_wait=True)
    wait_until(lambda: outbox.backlog == 0)
    sink.feed(wire_.packets)
    assert [ident for ident, _, _ in sink.frames] == [1, 2]


def test_many_threads_lose_and_double_nothing(workers: Workers) -> None:
    wire_, sink = Wire(), Sink(workers)
    outbox = outbox_to(wire_, workers)

    def work(thread: int) -> None:
        for number in range(300):
            outbox.send(frame(thread * 1000 + number, b"x", 0), b"x", (), may_wait=number % 3 != 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: outbox.backlog == 0)
    wait_until(lambda: outbox._unsure is None)
    sink.feed(wire_.packets)
    assert sorted(ident for ident, _, _ in sink.frames) == sorted(t * 1000 + n for t in range(6) for n in range(300))
    for thread_number in range(6):
        of_thread = [ident for ident, _, _ in sink.frames if ident // 1000 == thread_number]
        assert of_thread == sorted(of_thread)


def test_a_failure_is_told_and_ends_the_outbox(workers: Workers) -> None:
    wire_, errors = Wire(), []
    outbox = outbox_to(wire_, workers, errors.append)
    wire_.error = RemoteTransportError("gone")
    outbox.send(frame(1, b"", 0), b"", (), may_wait=True)
    outbox.send(frame(2, b"", 0), b"", (), may_wait=False)
    assert errors == [wire_.error]


def test_one_staged_payload_serves_many(workers: Workers) -> None:
    body = Staged.copy(Body(b"value", [bytes(2 * WHOLE_BYTES)]), bytes)
    wires = [Wire(), Wire()]
    for ident, wire_ in enumerate(wires):
        outbox_to(wire_, workers).enqueue(frame(ident, b"value", 1), body)
    wait_until(lambda: all(len(wire_.packets) == len(body.pieces) for wire_ in wires))
    assert all(a is b for (a, _), (b, _) in zip(wires[0].packets, wires[1].packets, strict=True))
    sink = Sink(workers)
    sink.feed(wires[1].packets)
    assert sink.frames == [(1, b"value", [bytes(2 * WHOLE_BYTES)])]


# -- the inbox on its own -------------------------------------------------------------------------------------


def numbered(count: int, workers: Workers) -> list[tuple[Any, bytes | None]]:
    wire_ = Wire()
    outbox = outbox_to(wire_, workers)
    for ident in range(count):
        outbox.send(frame(ident, b"", 0), b"", (), may_wait=True)
    return wire_.packets


def test_packets_that_overtook_others_are_put_in_order(workers: Workers) -> None:
    packets = numbered(50, workers)
    random.Random(2).shuffle(packets)
    sink = Sink(workers)
    sink.feed(packets + packets)  # and none counts twice
    assert [ident for ident, _, _ in sink.frames] == list(range(50))
    assert not sink.broken


def test_a_lost_packet_breaks_the_stream(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_HELD_SECONDS", 0.01)
    packets = numbered(5, workers)
    sink = Sink(workers)
    sink.feed([packets[0], *packets[2:]])
    wait_until(lambda: sink.broken)
    assert [ident for ident, _, _ in sink.frames] == [0]


def test_a_late_packet_does_not_break_the_stream(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_HELD_SECONDS", 0.05)
    packets = numbered(3, workers)
    sink = Sink(workers)
    sink.feed([packets[1], packets[0], packets[2]])
    overdue = threading.Event()
    workers.call_later(limits.NET_HELD_SECONDS, overdue.set)  # after the stream's timer, had that not been cancelled
    assert overdue.wait(20)
    assert not sink.broken
    assert len(sink.frames) == 3


def test_what_is_held_back_is_bounded(workers: Workers) -> None:
    packets = numbered(limits.NET_HELD_PACKETS + 3, workers)
    sink = Sink(workers)
    sink.feed(packets[1:])
    assert sink.broken


def test_ping_is_answered_and_pong_is_not(workers: Workers) -> None:
    sink = Sink(workers)
    sink.feed([(head(Kind.PING, 0, CHANNEL, 1), None), (head(Kind.PONG, 0, CHANNEL, 2), None)])
    assert sink.pings == 1


def garbage() -> list[tuple[Any, bytes | None]]:
    fields = wire.FRAME.pack(wire.Kind.CALL, 0, 0, 0, 1, 0, 0, 0, 0)
    return [
        (b"\xff" * 50, head(Kind.MORE, 0, CHANNEL, 1)),
        (b"\xff" * 50, head(Kind.BEGIN, 0, CHANNEL, 2, 100)),
        (b"\xff" * 50, head(Kind.BEGIN, 0, CHANNEL, 3, 1 << 60) + fields),
        (b"\xff" * 50, head(Kind.BEGIN, 0, CHANNEL, 4, 60) + fields),
        (b"\xff" * 50, head(Kind.MORE, 0, CHANNEL, 5)),
        (b"", head(Kind.MORE, 0, CHANNEL, 6)),
        (b"\xff" * 50, head(Kind.BEGIN, 0, CHANNEL, 7, 50) + fields),
        (head(Kind.FRAMES, 0, CHANNEL, 8) + b"\xff" * 70, None),
        (head(77, 0, CHANNEL, 9), None),
    ]


def test_garbage_is_logged_once_and_the_next_message_works(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "heros.net")
    sink = Sink(workers)
    sink.feed(garbage())
    wire_ = Wire()
    outbox = outbox_to(wire_, workers)
    outbox._sequence = 9
    outbox.send(frame(5, b"good", 0), b"good", (), may_wait=True)
    sink.feed(wire_.packets)
    assert sink.frames == [(5, b"good", [])]
    assert len([record for record in caplog.records if record.name == "heros.net"]) == 1


def test_nothing_arrives_after_close(workers: Workers) -> None:
    packets = numbered(3, workers)
    sink = Sink(workers)
    sink.feed(packets[:1])
    sink.inbox.close()
    sink.feed(packets[1:])
    assert len(sink.frames) == 1
