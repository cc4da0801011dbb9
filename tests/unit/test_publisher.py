"""The publishing side of an event, with a link that only notes what it is given."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from heros import limits
from heros.exceptions import HEROSError, OutOfSharedMemory
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
        self.raises: BaseException | None = None
        self.closed = False
        self.reason = ""

    def collect(self) -> None:
        pass

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        if self.raises is not None:
            error, self.raises = self.raises, None
            raise error
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


def test_a_publisher_without_room_collects_what_has_come(workers: Workers) -> None:
    """The acknowledgement may be in the ring, while the worker that was rung for it waits for the GIL."""
    publisher, subscriber, link = subscribed(workers)
    for _ in range(limits.EVENT_WINDOW):
        publisher.publish(Payload(b"x", ()))
    link.collect = lambda: subscriber.acknowledge(1)
    publisher.publish(Payload(b"x", ()))
    assert subscriber.dropped == 0
    assert link.sent[-1] == (Kind.SAMPLE, limits.EVENT_WINDOW + 1, limits.EVENT_WINDOW + 1)


def subscribed(workers: Workers, **options: object) -> tuple[Publisher, Subscriber, NotingLink]:
    publisher = Publisher("realm/name/event", **options)
    link = NotingLink()
    subscriber = Subscriber(link, 7, workers)
    assert publisher.subscribe(subscriber) == 0
    return publisher, subscriber, link


def payload(size: int = 1) -> Payload:
    return Payload(bytes(size), ())


def test_samples_carry_their_sequence_and_index(workers):
    publisher = Publisher("realm/name/event")
    assert publisher.skip()
    link = NotingLink()
    assert publisher.subscribe(Subscriber(link, 7, workers)) == 1
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


class Clock:
    """Workers whose timers are due when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], object]] = []

    def call_later(self, delay: float, task: Callable[[], object]) -> None:
        self.timers.append(task)

    def tick(self) -> None:
        due, self.timers = self.timers, []
        for task in due:
            task()


def test_the_report_is_repeated_until_there_is_room_for_it_by_one_timer():
    clock = Clock()
    publisher, _, link = subscribed(clock)
    link.full = True
    for _ in range(3):
        publisher.publish(payload())
        clock.tick()
        publisher.publish(payload())
        assert len(clock.timers) == 1
    link.full = False
    clock.tick()
    assert link.sent == [(Kind.GAP, 6, 0)]
    assert clock.timers == []


def test_a_drop_while_the_last_ones_are_reported_is_reported_too():
    clock = Clock()
    publisher, subscriber, link = subscribed(clock)
    link.full = True
    publisher.publish(payload())

    class Dropping(NotingLink):
        def publish(self, kind: int, *rest: object) -> bool:
            if kind == Kind.GAP and not self.sent:
                self.full = True
                publisher.publish(payload())
                self.full = False
            return super().publish(kind, *rest)

    subscriber.link = link = Dropping()
    clock.tick()
    assert len(clock.timers) == 1
    clock.tick()
    assert link.sent == [(Kind.GAP, 1, 0), (Kind.GAP, 2, 0)]
    assert clock.timers == []


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("error", [OutOfSharedMemory("full"), KeyboardInterrupt()])
def test_a_sample_that_could_not_be_sent_is_missing_for_one_subscriber_and_told(reliable, error):
    clock = Clock()
    publisher, subscriber, link = subscribed(clock, reliable=reliable)
    other = NotingLink()
    publisher.subscribe(Subscriber(other, 8, clock))
    link.raises = error
    with pytest.raises(type(error)):
        publisher.publish(payload(1000))
    assert other.sent == [(Kind.SAMPLE, 1, 1)]
    assert subscriber.dropped == 1
    clock.tick()
    assert [sent[:2] for sent in link.sent] == [(Kind.GAP, 1)]
    publisher.publish(payload(1000))
    subscriber.acknowledge(subscriber.index)
    assert (subscriber.sent_bytes, subscriber.done) == (subscriber.done_bytes, subscriber.index)
    assert not subscriber._sizes


def test_an_acknowledgement_beside_a_sample_that_is_taken_back(workers):
    _, subscriber, _ = subscribed(workers)

    class Emptied(deque[int]):  # by another thread, after the look
        def __bool__(self) -> bool:
            return True

    subscriber._sizes = Emptied()
    subscriber.acknowledge(1)
    assert subscriber.done == 0


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


def test_an_end_that_finds_no_room_is_repeated_while_the_link_lasts():
    clock = Clock()
    publisher, _, link = subscribed(clock)
    publisher.publish(payload())
    link.full = True
    publisher.end("over")
    clock.tick()
    assert len(clock.timers) == 1
    link.full = False
    clock.tick()
    assert link.sent[1:] == [(Kind.END, 1, 1)]
    assert clock.timers == []


def test_an_end_is_not_repeated_to_a_closed_link():
    clock = Clock()
    publisher, _, link = subscribed(clock)
    link.full = link.closed = True
    publisher.end("over")
    assert clock.timers == []


def test_nobody_subscribes_after_the_end(workers):
    publisher = Publisher("realm/name/event", keep=1)
    publisher.publish(payload())
    publisher.end("over")
    link = NotingLink()
    with pytest.raises(HEROSError, match="withdrawn"):
        publisher.subscribe(Subscriber(link, 7, workers))
    assert link.sent == []


def test_a_sample_is_not_skipped_when_somebody_wants_it(workers):
    publisher, _, _ = subscribed(workers)
    assert not publisher.skip()
    assert publisher.sequence == 0


def test_who_left_before_it_was_added_is_not_added(workers):
    publisher = Publisher("realm/name/event")
    subscriber = Subscriber(NotingLink(), 7, workers)
    publisher.unsubscribe(subscriber)
    publisher.subscribe(subscriber)
    assert not publisher.wanted


@contextmanager
def a_publisher_that_waits(publisher: Publisher, subscriber: Subscriber) -> Iterator[None]:
    """The subscriber's window is full and a thread waits for room in it, which must end with the block."""
    for _ in range(limits.EVENT_WINDOW):
        publisher.publish(payload())
    thread = threading.Thread(target=publisher.publish, args=(payload(),), daemon=True)
    thread.start()
    wait_until(lambda: subscriber._waiting, what="the publisher to wait")
    yield
    thread.join(10)
    assert not thread.is_alive()


def test_a_publisher_does_not_wait_for_who_leaves(workers):
    publisher, subscriber, link = subscribed(workers, reliable=True)
    with a_publisher_that_waits(publisher, subscriber):
        publisher.unsubscribe(subscriber)
    assert not link.closed
    publisher.publish(payload())
    assert len(link.sent) == limits.EVENT_WINDOW


def test_a_publisher_does_not_wait_past_the_end(workers):
    publisher, subscriber, link = subscribed(workers, reliable=True)
    with a_publisher_that_waits(publisher, subscriber):
        assert publisher.end("over") == (subscriber,)
    assert not link.closed
    assert link.sent[-1] == (Kind.END, limits.EVENT_WINDOW + 1, limits.EVENT_WINDOW)


def test_others_come_and_go_while_a_publisher_waits(workers):
    publisher, slow, _ = subscribed(workers, reliable=True)
    with a_publisher_that_waits(publisher, slow):
        link = NotingLink()
        other = Subscriber(link, 8, workers)
        assert publisher.subscribe(other) == limits.EVENT_WINDOW + 1
        another = Subscriber(NotingLink(), 9, workers)
        publisher.subscribe(another)
        publisher.unsubscribe(another)
        slow.acknowledge(limits.EVENT_WINDOW)
    publisher.publish(payload())
    assert link.sent == [(Kind.SAMPLE, limits.EVENT_WINDOW + 2, 1)]
