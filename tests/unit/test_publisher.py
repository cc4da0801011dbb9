"""The publishing side of an event, with a link that only notes what it is given."""

from __future__ import annotations

import threading

import pytest

from heros import limits
from heros.publisher import Publisher, Subscriber
from heros.transport import Payload, Peer
from heros.wire import Kind
from heros.workers import Workers
from tests.harness import wait_until


class NotingLink:
    """A link whose peer takes what it gets, unless ``full``."""

    transport = "shm"
    peer = Peer("0", 1, "here")

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []
        self.full = False
        self.closed = False
        self.reason = ""

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload) -> bool:
        if self.full:
            return False
        self.sent.append((kind, sequence, index))
        return True

    def close(self, reason: str) -> None:
        self.closed, self.reason = True, reason


@pytest.fixture
def workers():
    group = Workers("test")
    yield group
    group.stop()


def subscribed(workers: Workers, **options: object) -> tuple[Publisher, Subscriber, NotingLink]:
    publisher = Publisher("realm/name/event", **options)
    link = NotingLink()
    subscriber = Subscriber(link, 7, workers)
    assert publisher.subscribe(subscriber) == 0
    return publisher, subscriber, link


def payload(size: int = 1) -> Payload:
    return Payload(bytes(size), ())


def test_samples_carry_their_sequence_and_index(workers):
    publisher, _, link = subscribed(workers)
    publisher.skip()
    for _ in range(3):
        publisher.publish(payload())
    assert link.sent == [(Kind.SAMPLE, 2, 1), (Kind.SAMPLE, 3, 2), (Kind.SAMPLE, 4, 3)]


def test_a_full_window_drops_and_an_acknowledgement_opens_it(workers):
    publisher, subscriber, link = subscribed(workers)
    for _ in range(limits.EVENT_WINDOW + 5):
        publisher.publish(payload())
    assert len(link.sent) == limits.EVENT_WINDOW
    assert subscriber.dropped == 5
    subscriber.acknowledge(1)
    publisher.publish(payload())
    assert (Kind.SAMPLE, limits.EVENT_WINDOW + 6, limits.EVENT_WINDOW + 1) in link.sent


def test_the_window_counts_bytes_too_but_lets_one_of_any_size_through(workers):
    publisher, subscriber, link = subscribed(workers)
    publisher.publish(payload(2 * limits.EVENT_WINDOW_BYTES))
    publisher.publish(payload())
    assert [sent[1] for sent in link.sent] == [1]
    subscriber.acknowledge(1)
    publisher.publish(payload())
    assert [sent[1] for sent in link.sent if sent[0] == Kind.SAMPLE] == [1, 3]


def test_a_last_drop_is_reported_without_another_sample(workers):
    publisher, _, link = subscribed(workers)
    link.full = True
    publisher.publish(payload())
    publisher.publish(payload())
    link.full = False
    wait_until(lambda: link.sent, what="the report")
    assert link.sent == [(Kind.GAP, 2, 0)]


def test_the_report_is_repeated_until_there_is_room_for_it(workers):
    publisher, subscriber, link = subscribed(workers)
    link.full = True
    publisher.publish(payload())
    wait_until(lambda: not subscriber._reporting or subscriber._reporting, what="the timer")
    link.full = False
    wait_until(lambda: link.sent, what="the report")


def test_a_peer_that_acknowledges_what_it_never_got_gains_nothing(workers):
    publisher, subscriber, link = subscribed(workers)
    subscriber.acknowledge(10**9)
    assert subscriber.done == 0
    for _ in range(limits.EVENT_WINDOW + 1):
        publisher.publish(payload())
    assert len(link.sent) == limits.EVENT_WINDOW


def test_a_reliable_event_waits_for_room(workers):
    publisher, subscriber, link = subscribed(workers, reliable=True)
    for _ in range(limits.EVENT_WINDOW):
        publisher.publish(payload())
    done = threading.Event()
    thread = threading.Thread(target=lambda: (publisher.publish(payload()), done.set()))
    thread.start()
    assert not done.wait(0.1)
    subscriber.acknowledge(1)
    assert done.wait(5)
    thread.join()
    assert subscriber.dropped == 0
    assert len(link.sent) == limits.EVENT_WINDOW + 1


def test_a_reliable_event_disconnects_who_takes_nothing(workers, monkeypatch):
    monkeypatch.setattr(limits, "RELIABLE_SECONDS", 0.05)
    publisher, _, link = subscribed(workers, reliable=True)
    for _ in range(limits.EVENT_WINDOW + 1):
        publisher.publish(payload())
    assert link.closed
    assert "reliable" in link.reason


def test_a_late_subscriber_gets_the_kept_values_first(workers):
    publisher = Publisher("realm/name/event", keep=2)
    for _ in range(3):
        assert publisher.wanted
        publisher.publish(payload())
    link = NotingLink()
    assert publisher.subscribe(Subscriber(link, 1, workers)) == 1
    assert [sent[1] for sent in link.sent] == [2, 3]


def test_without_subscribers_nothing_is_wanted(workers):
    publisher, subscriber, link = subscribed(workers)
    assert publisher.wanted
    publisher.unsubscribe(subscriber)
    assert not publisher.wanted
    publisher.publish(payload())
    assert link.sent == []


def test_the_end_is_told_once(workers):
    publisher, subscriber, link = subscribed(workers)
    assert publisher.end("over") == (subscriber,)
    assert publisher.end("over") == ()
    assert [sent[0] for sent in link.sent] == [Kind.END]
