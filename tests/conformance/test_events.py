"""Events: order, bounds, staging."""

from __future__ import annotations

import json
import threading

import pytest

from heros.wire import Kind
from tests.conformance.pairs import Client, Pair
from tests.conformance.service import Do, Event, Recorder, crc, make_array
from tests.harness import wait_until

KIB, MIB = 1024, 1024 * 1024


def assert_intact(event: Event) -> None:
    assert crc(event.buffers[0]) == json.loads(event.header)
    assert isinstance(event.buffers[0], bytes) or not event.buffers[0].flags.writeable


def wait_for_end(recorder: Recorder) -> None:
    wait_until(
        lambda: recorder.events and recorder.events[-1].kind == Kind.END,
        60,
        lambda: f"{len(recorder.events)} events and no end",
    )


@pytest.mark.parametrize(("count", "size"), [(5000, 0), (3000, 64), (1000, 8 * KIB), (200, MIB), (3, 64 * MIB)])
def test_samples_arrive_in_order_and_intact(client: Client, count: int, size: int) -> None:
    recorder = client.recorder
    client.call(Do.PUBLISH, [7, count, size])
    wait_for_end(recorder)
    events, end = recorder.events[:-1], recorder.events[-1]
    assert [event.index for event in events] == list(range(1, count + 1))
    assert [event.sequence for event in events] == list(range(1, count + 1))
    assert {(event.kind, event.ident) for event in events} == {(Kind.SAMPLE, 7)}
    assert (end.ident, end.index, end.header) == (7, count, b"done")
    if size:
        for event in events:
            assert_intact(event)
    wait_until(lambda: recorder.done == count + 1, what="every task has run")
    assert threading.main_thread() not in recorder.task_threads


def test_calls_and_events_do_not_disturb_each_other(client: Client) -> None:
    publisher = threading.Thread(target=client.call, args=(Do.PUBLISH, [1, 2000, 5 * KIB]))
    publisher.start()
    array = make_array("plain", [100 * KIB])
    while publisher.is_alive():
        assert crc(client.call(Do.ECHO, buffers=[array]).buffers[0]) == crc(array)
    publisher.join()
    wait_for_end(client.recorder)
    assert [event.index for event in client.recorder.events] == [*range(1, 2001), 2000]
    for event in client.recorder.events[:-1]:
        assert_intact(event)


def test_subscriptions_of_one_link_share_it(client: Client) -> None:
    threads = [
        threading.Thread(target=client.call, args=(Do.PUBLISH, [ident, 500, 10 * ident])) for ident in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(client.recorder.events) == 4 * 501)
    for ident in range(1, 5):
        mine = [event for event in client.recorder.events if event.ident == ident]
        assert [event.index for event in mine] == [*range(1, 501), 500]


@pytest.mark.parametrize("size", [1, 64 * KIB])
def test_publish_says_no_at_once_when_nobody_reads(pair: Pair, client: Client, size: int) -> None:
    most, recorder = 200_000 if size == 1 else 20_000, client.recorder
    if size == 1 and pair.transport == "net":
        pytest.skip("bounded by bytes; a bound by number is for the runtime to keep")
    recorder.reading.clear()
    client.submit(Do.FLOOD, [3, most, size], lambda reply: None)
    accepted = int(pair.expect("FLOODED"))
    assert 0 < accepted < most
    recorder.reading.set()
    wait_until(lambda: len(recorder.events) == accepted, 30, lambda: f"{len(recorder.events)} of {accepted} arrived")
    assert [event.index for event in recorder.events] == list(range(1, accepted + 1))
    for event in recorder.events:
        assert_intact(event)
    recorder.events.clear()
    client.call(Do.PUBLISH, [3, 100, size])  # and there is room again
    wait_for_end(recorder)
    assert [event.index for event in recorder.events] == [*range(1, 101), 100]


def test_one_subscriber_that_does_not_read_holds_up_no_other(pair: Pair, client: Client) -> None:
    if pair.transport == "net":
        pytest.skip("both channels of one process share a session and its thread")
    other = pair.connect()
    client.recorder.reading.clear()
    client.submit(Do.FLOOD, [3, 20_000, 64 * KIB], lambda reply: None)
    assert int(pair.expect("FLOODED")) < 20_000
    other.call(Do.PUBLISH, [1, 500, 64 * KIB])
    wait_for_end(other.recorder)
    assert len(other.recorder.events) == 501
    client.recorder.reading.set()


@pytest.mark.parametrize("size", [10, 5 * KIB, 3 * MIB])
def test_a_payload_is_staged_once_for_all(pair: Pair, client: Client, size: int) -> None:
    clients = [client, *(pair.connect() for _ in range(3))]
    for each in clients:
        each.call(Do.ECHO)
    assert client.ask(Do.PUBLISH_ALL, [9, size]) is True
    array = make_array("plain", [size])
    for each in clients:
        wait_until(lambda each=each: each.recorder.events)  # type: ignore[misc]
        assert crc(each.recorder.events[0].buffers[0]) == crc(array)
    for each in clients[1:]:
        each.channel.close()


def test_samples_stay_as_they_are_when_the_channel_is_closed(client: Client) -> None:
    client.call(Do.PUBLISH, [1, 20, MIB])
    wait_for_end(client.recorder)
    client.channel.close()
    for event in client.recorder.events[:-1]:
        assert_intact(event)
