"""Who reads replies: time-outs, endings and what nobody waits for, with a mailbox that is a queue."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from heros.exceptions import RemoteTransportError
from heros.net import replies
from heros.net.channel import _Waiting
from heros.net.replies import Replies
from heros.workers import Workers
from tests.harness import wait_until

pytestmark = pytest.mark.timeout(60)


class Mailbox:
    """As ``bus.Mailbox``. What is put is a mark, or something that nobody waits for."""

    def __init__(self) -> None:
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.closed = False

    def put(self, message: bytes) -> None:
        if self.closed:
            raise RemoteTransportError("closed")
        self.messages.put(message)

    def receive_into(self, received: deque[Any]) -> bool:
        message = self.messages.get()
        if message == b"closed":
            self.messages.put(message)
            return False
        received.append(message)
        return True

    def take_into(self, received: deque[Any]) -> bool:
        try:
            message = self.messages.get_nowait()
        except queue.Empty:
            return False
        if message == b"closed":
            self.messages.put(message)
            return False
        received.append(message)
        return True


class Rig:
    def __init__(self) -> None:
        self.workers = Workers()
        self.mailbox = Mailbox()
        self.taken: list[bytes] = []
        self.replies = Replies(self.workers, self.take, self.mailbox.put)
        self.replies.open(self.mailbox)  # type: ignore[arg-type]

    def take(self, message: bytes) -> None:
        self.taken.append(message)
        self.replies.reached(message)

    def wait(self, seconds: float | None, call: _Waiting | None = None) -> threading.Thread:
        """A thread that waits for a call whose reply does not come."""
        deadline = None if seconds is None else time.monotonic() + seconds
        arguments = (call or _Waiting(), deadline, "nobody")
        thread = threading.Thread(target=self.replies.wait, args=arguments, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self.mailbox.closed = True
        self.mailbox.messages.put(b"closed")
        self.replies.close()
        self.workers.stop()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def test_time_outs_pass_also_after_ctrl_c_while_one_was_set(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = rig.replies._orders

    class Interrupted:
        """A signal handler runs when a C function has returned."""

        @staticmethod
        def put(order: float) -> None:
            orders.put(order)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rig.replies, "_orders", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            rig.replies.wait(_Waiting(), time.monotonic() + 0.1, "nobody")
    thread = rig.wait(0.2)
    thread.join(30)
    assert not thread.is_alive()


def test_a_reader_that_comes_while_the_alarm_rings_is_woken_at_its_own_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = time.monotonic() + 1000
    threads: list[threading.Thread] = []

    class Clock:
        """A reader comes just when the attendant has looked how long the last one wants to wait."""

        @staticmethod
        def monotonic() -> float:
            if threading.current_thread().name == "ring" and not threads:
                threads.append(rig.wait(0.2))
                wait_until(lambda: rig.replies._until < far)
            return time.monotonic()

    monkeypatch.setattr(replies, "time", Clock)
    rig.replies._until = far
    ring = threading.Thread(target=rig.replies._ring, name="ring")
    ring.start()
    ring.join(30)
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_what_nobody_waits_for_is_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "SWEEP_SECONDS", 0.01)
    rig.wait(0.05).join(30)  # the attendant hears of it
    for number in range(100):
        rig.mailbox.put(b"late %d" % number)
    wait_until(lambda: len(rig.taken) >= 100)


@pytest.mark.parametrize("reader", [True, False])
def test_an_ending_comes_after_what_is_in_the_mailbox(rig: Rig, reader: bool) -> None:
    call = _Waiting()
    thread = rig.wait(None, call) if reader else None
    before: list[int] = []
    for number in range(100):
        rig.mailbox.put(b"reply %d" % number)
    rig.replies.after(lambda: (before.append(len(rig.taken)), call.deliver(PeerGone())))
    wait_until(lambda: before)
    assert before[0] > 100  # and the mark itself
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()


class PeerGone(Exception):
    pass


def test_when_it_is_closed_everything_that_was_to_come_has_come() -> None:
    rig = Rig()
    ended: list[int] = []
    rig.mailbox.closed = True
    for number in range(10):
        rig.replies.after(lambda number=number: ended.append(number))  # type: ignore[misc]
    rig.close()
    assert set(ended) == set(range(10))
    attendant = rig.replies._attendant
    assert attendant is not None
    assert not attendant.is_alive()


def test_what_ends_after_it_was_closed_comes_too() -> None:
    rig = Rig()
    rig.mailbox.closed = True
    rig.mailbox.messages.put(b"closed")
    rig.replies.close()
    ended = threading.Event()
    rig.replies.after(ended.set)
    assert ended.wait(30)
    rig.workers.stop()
