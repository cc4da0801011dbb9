"""Calls: replies, errors, buffers, time-outs, many at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import CallTimeout
from heros.transport import Reply
from heros.wire import Fault, Kind
from tests.conformance.pairs import Client, Pair
from tests.conformance.service import Do, crc, make_array, overwrite
from tests.harness import wait_until

KIB, MIB = 1024, 1024 * 1024
SIZES = [0, 1, 4 * KIB - 1, 4 * KIB, 4 * KIB + 1, MIB, 64 * MIB]
ARRAYS = [
    ("plain", [24, 32]),
    ("plain", []),
    ("plain", [0, 5]),
    ("fortran", [24, 32]),
    ("fortran", [240, 320]),
    ("strided", [24, 32]),
    ("strided", [240, 320]),
    ("backwards", [24, 32]),
    ("structured", [50]),
    ("structured", [5000]),
    ("big-endian", [3, 5000]),
    ("datetime", [3, 4]),
]


def assert_received(buffers: Sequence[Buffer], expected: Sequence[Buffer]) -> None:
    """They are what was sent, and in the form that the contract promises."""
    assert [buffer_nbytes(buffer) for buffer in buffers] == [buffer_nbytes(buffer) for buffer in expected]
    for buffer, original in zip(buffers, expected, strict=True):
        if isinstance(buffer, np.ndarray):
            assert (buffer.dtype, buffer.ndim) == (np.uint8, 1)
            assert not buffer.flags.writeable
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                buffer.flags.writeable = True
        else:
            assert isinstance(buffer, bytes)
        assert crc(buffer) == crc(original)


class Replies:
    """Collects what ``on_reply`` is given."""

    def __init__(self) -> None:
        self.got: list[tuple[int, Reply | BaseException]] = []

    def on(self, number: int) -> Any:
        return lambda reply: self.got.append((number, reply))


# -- plain calls ----------------------------------------------------------------------------------------------


def test_a_call_returns_its_reply(pair: Pair, client: Client) -> None:
    header = json.dumps(["a", 1]).encode()
    reply = client.channel.call(0, Do.ECHO, 1, 0, header, (), None)
    assert bytes(reply.header) == header
    assert list(reply.buffers) == []
    kind, flags, _, _, _, _, _, header_length, buffer_count = reply.fields
    assert (kind, flags, header_length, buffer_count) == (Kind.RESULT, 0, len(header), 0)
    assert client.channel.transport == pair.transport
    assert not client.channel.closed
    assert client.channel.peer.pid == (pair.server.pid if pair.server else client.channel.peer.pid)


def test_an_error_is_a_reply(client: Client) -> None:
    reply = client.call(Do.FAIL, "on purpose")
    assert (reply.fields[0], reply.fields[2]) == (Kind.ERROR, Fault.RAISED)
    assert json.loads(bytes(reply.header)) == "on purpose"
    assert client.ask(Do.ECHO, 1) == 1


@pytest.mark.parametrize("length", [0, 1, 100 * KIB, 3 * MIB])
def test_headers_of_any_length(client: Client, length: int) -> None:
    header = bytes(range(256)) * (length // 256 + 1)
    reply = client.channel.call(0, Do.ECHO, 1, 0, header[:length], (), None)
    assert bytes(reply.header) == header[:length]


# -- buffers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_buffers_of_any_size_both_ways(client: Client, size: int) -> None:
    array = make_array("plain", [size])
    assert client.ask(Do.LOOK, buffers=[array])[0][1::3] == [size, crc(array)]
    assert_received(client.call(Do.ECHO, buffers=[array]).buffers, [array])
    assert_received(client.call(Do.MAKE, [["plain", [size]]]).buffers, [array])


@pytest.mark.parametrize(("kind", "shape"), ARRAYS)
def test_arrays_of_any_layout_both_ways(client: Client, kind: str, shape: list[int]) -> None:
    array = make_array(kind, shape)
    assert_received(client.call(Do.ECHO, buffers=[array]).buffers, [array])
    array.flags.writeable = False
    assert_received(client.call(Do.ECHO, buffers=[array]).buffers, [array])
    assert_received(client.call(Do.MAKE, [[kind, shape]]).buffers, [array])


@pytest.mark.parametrize("size", [0, 10, 10 * KIB, MIB])
def test_bytes_like_objects(client: Client, size: int) -> None:
    data = make_array("plain", [size]).tobytes()
    wide = memoryview(np.arange(size // 4, dtype=np.uint32))
    for buffer in (data, bytearray(data), memoryview(data), memoryview(bytearray(data)), wide):
        assert_received(client.call(Do.ECHO, buffers=[buffer]).buffers, [buffer])


def test_many_buffers_of_mixed_sizes(client: Client) -> None:
    arrays = [make_array("plain", [number * 37 % 9000]) for number in range(1000)]
    looks = client.ask(Do.LOOK, buffers=arrays)
    assert [look[4] for look in looks] == [crc(array) for array in arrays]
    assert_received(client.call(Do.ECHO, buffers=arrays).buffers, arrays)
    assert_received(
        client.call(Do.MAKE, [["plain", [60 * KIB + n]] for n in range(40)]).buffers,
        [make_array("plain", [60 * KIB + n]) for n in range(40)],
    )


def test_the_server_receives_what_the_contract_promises(client: Client) -> None:
    arrays = [make_array("plain", [size]) for size in SIZES[:-1]]
    for array, (kind, nbytes, ndim, read_only, check) in zip(arrays, client.ask(Do.LOOK, buffers=arrays), strict=True):
        assert kind in ("uint8", "bytes")
        assert (nbytes, ndim, read_only, check) == (array.nbytes, 1, True, crc(array))


@pytest.mark.parametrize("size", [100, 5 * KIB, 2 * MIB])
def test_the_sender_may_overwrite_its_arrays_at_once(client: Client, size: int) -> None:
    """Both ways; and what the server holds stays as it was."""
    replies = Replies()
    for number in range(20):
        array = make_array("plain", [size])
        expected = crc(array)
        if number % 2:
            client.call(Do.HOLD, buffers=[array])
            overwrite(array)
        else:
            client.submit(Do.ECHO, expected, replies.on(number), [array])
            overwrite(array)
    assert client.ask(Do.HELD) == [True] * 10
    wait_until(lambda: len(replies.got) == 10)
    for _, reply in replies.got:
        assert isinstance(reply, Reply)
        assert crc(reply.buffers[0]) == json.loads(bytes(reply.header))
    made = client.call(Do.MAKE, [["plain", [size]]] * 3).buffers
    assert client.ask(Do.ECHO, 1) == 1  # the arrays have been overwritten by now, or soon will be
    assert_received(made, [make_array("plain", [size])] * 3)


@pytest.mark.parametrize("size", [100, 5 * KIB, 2 * MIB])
def test_what_was_received_stays_unchanged(client: Client, size: int) -> None:
    """However much is sent afterwards, and also when the channel is closed."""
    array = make_array("plain", [size])
    kept = [client.call(Do.MAKE, [["plain", [size]]]).buffers[0] for _ in range(10)]
    for number in range(100):
        client.call(Do.ECHO, buffers=[np.full(size, number, np.uint8)])
    assert_received(kept, [array] * 10)
    client.channel.close()
    assert_received(kept, [array] * 10)


def test_what_was_received_can_be_passed_on(client: Client) -> None:
    array = make_array("plain", [MIB])
    first = client.call(Do.MAKE, [["plain", [MIB]]]).buffers
    second = client.call(Do.ECHO, buffers=first).buffers
    part = np.frombuffer(second[0], np.uint8)[1000:900_000].reshape(31, -1) if len(second[0]) else array
    third = client.call(Do.ECHO, buffers=[part]).buffers
    assert_received(second, [array])
    assert crc(third[0]) == crc(part)


# -- many at a time -------------------------------------------------------------------------------------------


def test_callers_in_many_threads_get_their_own_replies(client: Client) -> None:
    wrong: list[object] = []

    def work(thread: int) -> None:
        array = np.zeros(16, np.uint8)
        for number in range(500):
            array[:] = (thread * 31 + number) % 256
            reply = client.call(Do.ECHO, [thread, number], [array], 60.0 if number % 7 == 0 else None)
            if json.loads(bytes(reply.header)) != [thread, number] or crc(reply.buffers[0]) != crc(array):
                wrong.append((thread, number, bytes(reply.header)))

    run_threads(work, 8)
    assert wrong == []


def test_a_slow_call_keeps_no_other_waiting(client: Client) -> None:
    slow = threading.Thread(target=client.call, args=(Do.SLEEP, 0.5))
    slow.start()
    for number in range(50):
        assert client.ask(Do.ECHO, number) == number
    slow.join()


def test_thousands_of_calls_in_flight(client: Client) -> None:
    replies = Replies()
    client.submit(Do.QUEUED, 0.3, replies.on(-1))
    idents = [client.submit(Do.QUEUED, 0, replies.on(number)) for number in range(2000)]
    assert len(set(idents)) == 2000
    assert client.ask(Do.ECHO, 1) == 1
    wait_until(lambda: len(replies.got) == 2001, 60, lambda: f"{len(replies.got)} of 2001 replies are there")
    assert sorted(number for number, _ in replies.got) == list(range(-1, 2000))
    assert all(isinstance(reply, Reply) and reply.fields[0] == Kind.RESULT for _, reply in replies.got)


def test_submit_does_not_wait_and_may_call_from_its_callback(client: Client) -> None:
    replies, nested = Replies(), threading.Event()

    def on_reply(_: object) -> None:
        client.submit(Do.ECHO, 2, lambda reply: nested.set())

    client.submit(Do.QUEUED, 0.2, replies.on(1))
    assert replies.got == []
    client.submit(Do.ECHO, 1, on_reply)
    assert nested.wait(20)
    wait_until(lambda: replies.got)


def test_a_callback_may_call_the_busy_method_that_replied(client: Client) -> None:
    done = threading.Event()

    def on_reply(_: object) -> None:
        client.call(Do.QUEUED, 0, timeout=20)
        done.set()

    if client.channel.transport == "inproc":
        client.submit(Do.QUEUED, 0, on_reply)
        assert done.wait(20)


def test_a_callback_that_raises_harms_nobody(client: Client) -> None:
    def fail(_: object) -> None:
        raise ValueError("on purpose")

    for _ in range(5):
        client.submit(Do.ECHO, 1, fail)
    assert client.ask(Do.ECHO, 2) == 2
    replies = Replies()
    client.submit(Do.ECHO, 1, replies.on(1))
    wait_until(lambda: replies.got)


def test_a_forgotten_reply_is_not_delivered(client: Client) -> None:
    replies = Replies()
    forgotten = client.submit(Do.QUEUED, 0.2, replies.on(1))
    client.submit(Do.QUEUED, 0, replies.on(2))
    client.channel.forget(forgotten)
    client.channel.forget(forgotten)
    client.channel.forget(123_456_789)
    wait_until(lambda: replies.got)
    client.call(Do.QUEUED, 0)
    assert [number for number, _ in replies.got] == [2]


def test_the_second_reply_to_one_call_is_discarded(client: Client) -> None:
    replies = Replies()
    for number in range(50):
        assert client.ask(Do.TWICE, None) is None
        client.submit(Do.TWICE, None, replies.on(number))
    wait_until(lambda: len(replies.got) >= 50)
    assert client.ask(Do.ECHO, 1) == 1
    assert sorted(number for number, _ in replies.got) == list(range(50))


# -- time-outs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [Do.SLEEP, Do.QUEUED])
def test_a_time_out_raises_and_the_late_reply_is_discarded(client: Client, do: Do) -> None:
    for _ in range(3):
        with pytest.raises(CallTimeout):
            client.call(
                do, 1.0, timeout=0.05
            )  # a reply that is there when this thread gets to run again is none too late
        assert client.ask(Do.ECHO, 1) == 1
    client.call(do, 1.0)  # meanwhile the late replies have come
    for number in range(20):
        assert client.ask(Do.ECHO, number) == number


def test_a_time_out_that_is_long_enough_changes_nothing(client: Client) -> None:
    for number in range(50):
        assert json.loads(bytes(client.call(Do.ECHO, number, timeout=60).header)) == number


def test_a_call_without_reply_times_out_and_takes_nothing_with_it(client: Client) -> None:
    array = make_array("plain", [MIB])
    for timeout in (0.0, 0.001, 0.05):
        with pytest.raises(CallTimeout):
            client.call(Do.NEVER, buffers=[array], timeout=timeout)
    assert_received(client.call(Do.ECHO, buffers=[array]).buffers, [array])


# -- what has no reply ----------------------------------------------------------------------------------------


def test_posts_of_one_thread_arrive_in_order(client: Client) -> None:
    def work(thread: int) -> None:
        for number in range(1000):
            if number % 3:
                client.channel.post(Kind.ONEWAY, number % 1000, 0, thread, number, b"1")
            else:
                client.channel.post(Kind.ACK, 0, number, thread, number)

    run_threads(work, 4)
    arrived: list[list[int]] = []

    def all_there() -> bool:
        arrived[:] = client.ask(Do.LOG)["arrived"]
        return len(arrived) == 4000

    wait_until(all_there, 20, lambda: f"{len(arrived)} of 4000 frames arrived")
    for thread in range(4):
        mine = [frame for frame in arrived if frame[4] == thread]
        assert [frame[5] for frame in mine] == list(range(1000))
        for kind, op, member, ident, _, number, header, buffer_count in mine:
            assert (op, buffer_count) == (0, 0)
            expected = (Kind.ONEWAY, number, 0, "1") if number % 3 else (Kind.ACK, 0, number, "")
            assert (kind, member, ident, header) == expected


def test_a_post_may_have_buffers_and_comes_before_what_is_sent_later(client: Client) -> None:
    array = make_array("plain", [MIB])
    for number in range(20):
        client.channel.post(Kind.ONEWAY, 1, 0, 0, number, b"x", [array, b"small"])
        arrived = client.ask(Do.LOG)["arrived"]
        assert arrived[-1] == [Kind.ONEWAY, 0, 1, 0, 0, number, "x", 2]


def run_threads(work: Any, count: int) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
