"""A thread that waits for the reply to its call: on a lock of its own, which whoever has the answer gives up."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Final, Generic, TypeVar

from heros import limits

__all__ = ["Waiter"]

log = logging.getLogger("heros.net")

WAIT_SLICE: Final = 0.25 if sys.platform == "win32" else limits.LONG_WAIT_SECONDS
"""Ctrl-C interrupts a wait for a lock at once, except on Windows."""

_T = TypeVar("_T")


class Waiter(Generic[_T]):
    """Waits for one reply."""

    __slots__ = ("_arrived", "reply")

    def __init__(self) -> None:
        self.reply: _T | None = None
        self._arrived = threading.Lock()
        self._arrived.acquire()

    def deliver(self, reply: _T) -> None:
        """To be called once, by any thread."""
        self.reply = reply
        self._arrived.release()

    def wait(self, deadline: float | None, name: str) -> None:
        """Return when the reply is there, or past ``deadline``, a moment of ``time.monotonic``; None: there is none.

        Args:
            name: who is waited for, for the message that says that it takes long.
        """
        started = time.monotonic()
        told = False
        while True:
            patience = WAIT_SLICE
            if deadline is not None:
                patience = min(patience, max(0.0, deadline - time.monotonic()))
            if self._arrived.acquire(timeout=patience):
                return
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if not told and now - started >= limits.LONG_WAIT_SECONDS:
                told = True
                log.info("A call to %s has waited for %.0f s and goes on waiting", name, now - started)
