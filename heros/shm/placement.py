"""Away from the peer's processor: a caller that shares one with its server moves, when another one is idle.

The kernel often puts a process that is woken on the processor of the one that woke it. Two processes that offer it to
each other in turn look like one that runs, and stay there, at three times the duration of a call, while another
processor is idle. So a caller that keeps finding its reply there when it gets its processor back looks how many threads
of the whole machine want to run: if they are no more than there are processors, and two share one, another is idle. It
then moves its thread, by forbidding it this processor and allowing it again at once: what the program, or its user, has
said about processors stays as it was. A program that may not use all of them is left alone, as then nobody can tell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Placement", "move_away", "some_idle"]

_SIGNS: Final = 8
"""So many replies that came with the processor: fewer are chance."""

_PAUSE_SECONDS: Final = 0.5e-3
"""Calls further apart than that gain nothing: whoever is woken runs on the warm processor of the one that wakes it."""

_LOOKS: Final = 3
"""So many looks in a row, one each ``_SIGNS``, must find an idle processor."""

_REST_SECONDS: Final = 0.01
"""From one decision to the next look: it costs some microseconds, and moving a little more."""


def some_idle() -> bool:
    """Whether a processor is idle if two threads share one. False where this cannot be told."""
    try:
        processors = os.cpu_count()
        if len(os.sched_getaffinity(0)) != processors:
            return False
        with open("/proc/loadavg", encoding="ascii") as file:
            running = int(file.read().split()[3].split("/")[0])
        return running <= processors
    except (OSError, ValueError, IndexError):
        return False


def move_away() -> None:
    """Move this thread to another processor; it is bound to none. Does nothing where that fails."""
    try:
        with open("/proc/thread-self/stat", encoding="ascii") as file:
            here = int(file.read().rpartition(")")[2].split()[36])  # ``processor``, see proc(5)
        allowed = os.sched_getaffinity(0)
        if others := allowed - {here}:
            try:
                os.sched_setaffinity(0, others)
            finally:
                os.sched_setaffinity(0, allowed)
    except (OSError, ValueError, IndexError):
        pass


class Placement:
    """One channel's. Not thread-safe: of whoever reads its replies.

    Args:
        idle: as ``some_idle``.
        move: as ``move_away``.
    """

    __slots__ = ("_found", "_idle", "_last", "_move", "_next", "_signs")

    def __init__(self, idle: Callable[[], bool] = some_idle, move: Callable[[], None] = move_away) -> None:
        self._idle = idle
        self._move = move
        self._signs = 0
        self._found = 0
        self._last = 0.0
        self._next = 0.0

    def sign(self) -> None:
        """A reply was there when this thread got its processor back, which it had offered or lost to the server."""
        now = time.monotonic()
        self._signs = self._signs + 1 if now - self._last < _PAUSE_SECONDS else 0
        self._last = now
        if self._signs >= _SIGNS:
            self._signs = 0
            self._look(now)

    def _look(self, now: float) -> None:
        if now < self._next:
            return
        self._found = self._found + 1 if self._idle() else 0
        if 0 < self._found < _LOOKS:
            return
        if self._found:
            self._found = 0
            self._move()
        self._next = now + _REST_SECONDS
