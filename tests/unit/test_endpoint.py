"""What both ends of a channel over shared memory have in common, without the connection."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

from heros.shm.endpoint import RING, Endpoint


class Clock:
    """Workers whose timers are due when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], object]] = []

    def call_later(self, delay: float, task: Callable[[], object]) -> object:
        self.timers.append(task)
        return task

    def tick(self) -> None:
        due, self.timers = self.timers, []
        for task in due:
            task()


class Borrowing:
    """In place of what an end has borrowed: something is borrowed anew whenever the end looks at it."""

    returned = ()

    def __init__(self, borrow: Callable[[], None]) -> None:
        self._borrow = borrow

    @property
    def outstanding(self) -> bool:
        self._borrow()
        return True


def test_there_is_one_timer_however_often_something_is_borrowed_beside_it() -> None:
    clock = Clock()

    class End(Endpoint):
        def __init__(self) -> None:
            self._lost = self._timer = None
            self._tick = 1.0
            self._workers: Any = clock
            self._returning: Any = object()
            self._borrowed: Any = Borrowing(self._start_ticking)

    end = End()
    end._start_ticking()
    for _ in range(10):
        clock.tick()
    assert len(clock.timers) <= 2
    end._borrowed = Borrowing(lambda: None)
    clock.tick()
    clock.tick()
    assert len(clock.timers) == 1


def test_a_reader_is_rung_for_as_soon_as_the_socket_has_room() -> None:
    """What fills the socket wakes the peer, and does not say that there is something on the ring."""
    clock = Clock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

    class End(Endpoint):
        def __init__(self) -> None:
            self._socket = ours
            self._socket_lock = threading.RLock()
            self._workers: Any = clock

    with ours, theirs:
        end = End()
        sent = 0
        while end._send_message(b"something else"):
            sent += 1
        end._ring_socket()
        clock.tick()
        for _ in range(sent):
            assert theirs.recv(100) == b"something else"
        clock.tick()
        assert theirs.recv(100) == RING
        clock.tick()
        assert clock.timers == []
