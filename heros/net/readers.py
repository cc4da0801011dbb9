"""The threads that read the requests of a realm, and run them.

Why not zenoh's
    A callback on one of zenoh's threads waits for Python's global lock before anything is read, and has to wake
    another thread for whatever may block. So requests wait in a mailbox of zenoh's, which needs no Python to be
    filled, and whoever reads one carries it out on the spot (``docs/decisions/0012``).

How it works
    A reader is a task on one of the ``Workers``, and waits at the mailbox for as long as it can. Before it runs a
    request, which may take long, it makes sure that another reader waits; after that it waits again, unless enough
    others do. When no further worker is to be had, a request is left to the first one that is free, and the reader
    goes on reading: zenoh's threads would be blocked by a mailbox that is full.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from heros.net.bus import Mailbox, Message
from heros.transport import Task
from heros.workers import Workers, run_task

__all__ = ["Readers"]

KEPT: Final = 2
"""Readers that wait when nothing happens: with one that runs a request, another one waits without being woken."""


class Readers:
    """See the module. Thread-safe.

    Args:
        take: takes one message and returns what is to be run. It never raises, and may be called by several threads
            at once.
    """

    def __init__(self, mailbox: Mailbox, workers: Workers, take: Callable[[Message], Sequence[Task]]) -> None:
        self._mailbox = mailbox
        self._workers = workers
        self._take = take
        self._lock = threading.Lock()
        self._waiting = 1
        workers.post(self._read)

    def _read(self) -> None:
        """Read until the mailbox is closed, or enough others do. Counted in ``_waiting`` when it begins."""
        while (message := self._mailbox.receive()) is not None:
            tasks = self._take(message)
            if not tasks:
                continue
            for task in tasks[:-1]:
                self._workers.post(task)
            if not self._leave():
                self._workers.post(tasks[-1])
                continue
            run_task(tasks[-1])
            tasks = ()
            with self._lock:
                if self._waiting >= KEPT:
                    return
                self._waiting += 1

    def _leave(self) -> bool:
        """Stop to wait, if another reader does or can be found for it."""
        with self._lock:
            if self._waiting > 1:
                self._waiting -= 1
                return True
        if not self._workers.spare():
            return False
        self._workers.post(self._read)  # it waits in the place of this one
        return True
