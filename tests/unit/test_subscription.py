"""The subscribing side of an event, with a node and a publisher that only do what the test says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from heros import limits
from heros.bound import Inbox
from heros.dispatch import Dispatcher
from heros.exceptions import HEROSError, PeerLost
from heros.subscription import Subscription
from heros.wire import Kind, NodeMember
from heros.workers import Timer, Workers


class Clock(Workers):
    """Timers are due when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, task: Callable[[], object]) -> Timer:
        self.timers.append(Timer(0.0, task))
        return self.timers[-1]

    @property
    def pending(self) -> list[Callable[[], object]]:
        return [timer.task for timer in self.timers if timer.task is not None]

    def tick(self) -> None:
        due, self.timers = self.pending, []
        for task in due:
            task()


class NotingChannel:
    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.unsubscribed = 0

    def post(self, kind: int, member: int, ident: int, first: int, second: int) -> None:
        assert kind == Kind.ACK
        self.acknowledged.append(first)

    def submit(self, op: int, member: int, *rest: object) -> int:
        assert member == NodeMember.UNSUBSCRIBE
        self.unsubscribed += 1
        return 0


class Place:
    """What ``Bound`` is to a subscription."""

    object_id = 1

    def __init__(self, instance: str = "first") -> None:
        self.instance = instance
        self.channel = NotingChannel()
        self.inbox = Inbox()
        self.members = {"event": 0}


class Node:
    """``replies`` are the answers to SUBSCRIBE, in order: a start, an error, or what to do first."""

    closed = False
    ending = False

    def __init__(self, place: Place, *replies: Any) -> None:
        self.workers = Clock()
        self.dispatcher = Dispatcher("f00d", self.workers)
        self.place = place
        self.replies = list(replies)

    def bind(self, realm: str, name: str, wait: float = 0.0, discovery: float = 0.0) -> Place:
        return self.place

    def call_node(self, channel: NotingChannel, member: NodeMember, arguments: list[Any]) -> Any:
        reply = self.replies.pop(0)
        if callable(reply):
            reply = reply()
        if isinstance(reply, BaseException):
            raise reply
        return reply


class Bench:
    """A subscription and all that it sees of the world."""

    def __init__(self, *replies: Any) -> None:
        self.place = Place()
        self.node = Node(self.place, *replies)
        self.got: list[Any] = []
        self.subscription = Subscription(self.node, "realm", "name", "event", self.deliver)

    def deliver(self, value: Any) -> None:
        self.got.append(value)
        if isinstance(value, str):
            raise {"exit": SystemExit, "error": ValueError, "interrupt": KeyboardInterrupt}[value]

    def open(self) -> Bench:
        self.subscription.open(self.place)
        return self

    def frame(self, kind: int, sequence: int, index: int, value: Any = None) -> None:
        """What the transport does with a frame of the attempt that counts."""
        header, buffers = self.node.dispatcher.encode(value)
        if kind == Kind.END:
            header = b"the end"
        fields = (kind, 0, 0, 0, next(iter(self.place.inbox._subscriptions)), sequence, index, len(header), 0)
        task = self.place.inbox.receive(self.place.channel, fields, header, buffers)
        if task is not None:
            task()

    def sample(self, sequence: int, index: int, value: Any = 0) -> None:
        self.frame(Kind.SAMPLE, sequence, index, value)

    def lose(self) -> None:
        self.place.inbox.closed(self.place.channel, PeerLost("gone"))

    @property
    def attempts(self) -> int:
        return len(self.place.inbox._subscriptions)


# -- callbacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["exit", "error"])
def test_whatever_a_callback_raises_the_next_sample_comes(value, caplog):
    bench = Bench(0).open()
    for number, each in enumerate([value, 2, 3], 1):
        bench.sample(number, number, each)
    assert bench.got == [value, 2, 3]
    assert "realm/name/event" in caplog.text


def test_ctrl_c_passes_and_the_next_sample_comes():
    bench = Bench(0).open()
    with pytest.raises(KeyboardInterrupt):
        bench.sample(1, 1, "interrupt")
    bench.sample(2, 2, 5)
    assert bench.got == ["interrupt", 5]


def test_ctrl_c_in_another_thread_is_not_passed_on(caplog):
    bench = Bench(0).open()
    thread = threading.Thread(target=bench.sample, args=(1, 1, "interrupt"))
    thread.start()
    thread.join(10)
    assert "callback failed" in caplog.text


@pytest.mark.parametrize("error", [ReferenceError("the object is gone"), HEROSError("nonsense")])
def test_a_sample_that_cannot_be_decoded_is_acknowledged_and_the_next_comes(error, monkeypatch, caplog):
    bench = Bench(0).open()

    def fail(header: object, buffers: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bench.node.dispatcher, "decode", fail)
        for number in range(1, limits.EVENT_WINDOW + 1):
            bench.sample(number, number)
    assert bench.place.channel.acknowledged[-1] == limits.EVENT_WINDOW
    assert "realm/name/event" in caplog.text
    bench.sample(limits.EVENT_WINDOW + 1, limits.EVENT_WINDOW + 1, 5)
    assert bench.got == [5]


# -- coming back ----------------------------------------------------------------------------------------------


def test_the_count_survives_an_attempt_that_failed():
    bench = Bench(0, PeerLost("once more"), 100).open()
    for number in range(1, 101):
        bench.sample(number, number)
    bench.lose()
    bench.node.workers.tick()
    bench.node.workers.tick()
    assert bench.subscription.attached
    assert bench.subscription.missed == 0


def test_what_was_published_meanwhile_is_missed():
    bench = Bench(0, 5).open()
    bench.sample(1, 1)
    bench.sample(3, 2)
    bench.lose()
    bench.node.workers.tick()
    assert bench.subscription.missed == 3
    bench.sample(6, 1)
    assert bench.subscription.missed == 3


def test_what_a_restarted_hero_published_meanwhile_is_missed():
    bench = Bench(0, 40).open()
    bench.sample(2, 1)
    bench.lose()
    bench.place.instance = "second"
    bench.node.workers.tick()
    assert bench.subscription.missed == 1 + 40
    bench.sample(41, 1)
    assert bench.subscription.missed == 1 + 40


def test_what_was_published_before_the_first_subscription_is_not_missed():
    bench = Bench(PeerLost("gone"), 40)
    bench.subscription.start()
    bench.node.workers.tick()
    bench.place.instance = "second"
    bench.node.workers.tick()
    assert bench.subscription.missed == 0


def test_it_follows_its_proxy_to_a_successor_and_does_not_wait_for_its_timer():
    bench = Bench(0, 0).open()
    bench.lose()
    bench.place.instance = "second"
    bench.subscription.follow(bench.place)
    assert bench.subscription.attached
    assert bench.node.workers.pending == []
    bench.subscription.follow(bench.place)
    assert bench.attempts == 1


def test_what_fails_as_it_follows_is_tried_again():
    bench = Bench(0, PeerLost("gone"), 0).open()
    bench.lose()
    bench.subscription.follow(bench.place)
    assert len(bench.node.workers.pending) == 1
    bench.node.workers.tick()
    assert bench.subscription.attached


def test_an_attempt_that_comes_second_leaves_the_first_alone(monkeypatch):
    bench = Bench(0, 0).open()
    bench.lose()

    def find(*_: object, **__: object) -> Place:
        bench.subscription.follow(bench.place)
        raise HEROSError("not found")

    monkeypatch.setattr(bench.node, "bind", find)
    bench.node.workers.tick()
    assert bench.subscription.attached
    assert bench.node.workers.pending == []


def test_the_count_goes_on_with_another_subscription():
    bench = Bench(0, 5).open()
    bench.sample(3, 1)
    bench.subscription.close()
    bench.subscription = Subscription(bench.node, "realm", "name", "event", bench.deliver, bench.subscription)
    bench.open()
    assert bench.subscription.missed == 2 + 2


def test_samples_before_the_reply_are_counted():
    bench = Bench(lambda: (bench.sample(4, 1), bench.sample(6, 2)) and 3)
    bench.open()
    assert bench.subscription.missed == 1


def test_samples_of_an_attempt_that_failed_count():
    bench = Bench(lambda: bench.sample(9, 1, 9) or PeerLost("gone"), 10)
    bench.subscription.start()
    bench.node.workers.tick()
    bench.node.workers.tick()
    assert bench.got == [9]
    assert bench.subscription.missed == 1, "the tenth"


def test_an_attempt_of_the_user_that_fails_is_the_users_to_repeat():
    bench = Bench(lambda: bench.lose() or PeerLost("gone"))
    with pytest.raises(PeerLost):
        bench.open()
    assert bench.node.workers.pending == []


def test_there_is_one_timer_however_often_it_is_started():
    bench = Bench()
    bench.subscription.start()
    bench.subscription.start()
    assert len(bench.node.workers.pending) == 1


def test_a_kept_sample_is_delivered_once_and_acknowledged_twice():
    bench = Bench(0, 0).open()
    bench.sample(1, 1, 1)
    bench.lose()
    bench.node.workers.tick()
    bench.sample(1, 1, 1)
    bench.sample(2, 2, 2)
    assert bench.got == [1, 2]
    assert bench.subscription.missed == 0
    assert bench.place.channel.acknowledged == [1]


@pytest.mark.parametrize("ending", [False, True])
def test_an_interruption_is_told_unless_it_is_the_end_of_this_process(ending, caplog):
    caplog.set_level(logging.INFO, "heros.event")
    bench = Bench(0).open()
    bench.node.ending = ending
    bench.lose()
    assert ("is interrupted (gone)" in caplog.text) is not ending


def test_one_attempt_follows_when_the_channel_is_lost_within_one():
    bench = Bench(0, lambda: bench.lose() or PeerLost("gone"), 0).open()
    bench.lose()
    bench.node.workers.tick()
    assert len(bench.node.workers.pending) == 1
    bench.node.workers.tick()
    assert bench.attempts == 1
    assert bench.node.workers.pending == []


def test_an_end_that_overtakes_the_reply_is_followed_by_another_attempt():
    bench = Bench(lambda: bench.frame(Kind.END, 0, 0) or 0, 0)
    bench.open()
    assert not bench.subscription.attached
    bench.node.workers.tick()
    assert bench.subscription.attached


def test_start_tries_until_the_hero_is_there():
    bench = Bench(HEROSError("not yet"), HEROSError("not yet"), 0)
    bench.subscription.start()
    for _ in range(3):
        assert not bench.subscription.attached
        bench.node.workers.tick()
    assert bench.subscription.attached
    assert bench.node.workers.pending == []


# -- the end --------------------------------------------------------------------------------------------------


def test_the_end_leaves_nothing_in_the_inbox():
    bench = Bench(0).open()
    bench.frame(Kind.END, 0, 0)
    assert bench.attempts == 0
    assert len(bench.node.workers.pending) == 1
    bench.subscription.close()
    assert bench.node.workers.pending == []


def test_a_close_within_an_attempt_undoes_it_at_the_publisher():
    bench = Bench(0, lambda: bench.subscription.close() or bench.place.channel.__init__() or 5).open()
    bench.lose()
    bench.node.workers.tick()
    assert bench.attempts == 0
    assert bench.place.channel.unsubscribed == 1, "after the reply"
    assert not bench.subscription.attached
    assert bench.node.workers.pending == []


@pytest.mark.parametrize("error", [HEROSError("no"), KeyboardInterrupt()])
def test_an_attempt_that_fails_is_undone(error):
    bench = Bench(error)
    with pytest.raises(type(error)):
        bench.open()
    assert bench.attempts == 0
    assert bench.place.channel.unsubscribed == 1
    assert bench.node.workers.pending == []


def test_after_close_nothing_begins():
    bench = Bench()
    bench.subscription.start()
    (task,) = bench.node.workers.pending
    bench.subscription.close()
    task()
    bench.open()
    bench.subscription.start()
    assert bench.attempts == 0
    assert bench.node.workers.pending == []


def test_an_inbox_tells_once_that_it_is_closed():
    calls: list[int] = []
    inbox = Inbox(on_closed=lambda: calls.append(1))
    for _ in range(2):
        inbox.closed(NotingChannel(), PeerLost("gone"))
    assert calls == [1]
