"""The writing end of a ring, as a process uses it: shared by its threads, with what waits for room.

Whatever interrupts a thread in here (Ctrl-C, a signal handler that raises), the ring stays whole and others go on:
nothing is taken outside of a ``try`` that gives it back, and who cannot say whether its reader was rung for, rings. A
signal handler or a finaliser that sends, in a thread that is in the middle of sending on the same ring, finds
``_writing`` set: what it sends waits in the queue until that thread is done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from heros import limits
from heros.exceptions import DecodeError
from heros.shm import layout
from heros.shm.leases import Borrowed
from heros.shm.records import SHORT
from heros.shm.ring import Writer
from heros.wire import FRAME
from heros.workers import Workers

__all__ = ["Outbox"]

_TAIL: Final = layout.TAIL // layout.WORD
_SLEEPING: Final = layout.SLEEPING // layout.WORD
_WORD: Final = layout.WORD

_RELEASES_AT_ONCE: Final = 512
_RETRY: Final = 0.002


def _nothing() -> None:
    """What is called in place of the doorbell of a peer that is gone."""


class Outbox(Writer):
    """Writes records, or queues them, and rings for them. With them travel the leases that go back. Thread-safe.

    Args:
        memory: the ring's.
        bell: wakes the ring's reader.
        workers: send what had to wait.
        borrowed: what goes back to the peer on this ring.
    """

    __slots__ = (
        "_acquire_lock",
        "_bell",
        "_borrowed",
        "_closed",
        "_flushing",
        "_lock",
        "_queue",
        "_queued_bytes",
        "_release_lock",
        "_returned",
        "_short_end",
        "_workers",
        "_writing",
    )

    def __init__(
        self, memory: memoryview, bell: Callable[[], None], workers: Workers, borrowed: Borrowed | None = None
    ) -> None:
        super().__init__(memory)
        self._bell = bell
        self._workers = workers
        self._lock = threading.RLock()  # re-entrant only so that it can say who has it
        self._acquire_lock = self._lock.acquire  # ``with`` takes twice as long
        self._release_lock = self._lock.release
        self._writing = False
        self._flushing = False
        self._closed = False
        self._queue: deque[tuple[int, bytes]] = deque()
        self._queued_bytes = 0
        self._borrowed = borrowed
        self._returned: deque[int] = deque() if borrowed is None else borrowed.returned
        self._short_end = self._capacity if self._ordered and SHORT[-1].size <= self.max_record else 0

    def send_short(self, kind: int, op: int, member: int, ident: int, first: int, second: int, header: bytes) -> bool:
        """Write a frame without buffers whose header has at most ``SHORT_HEADER`` bytes; False when there is no room
        now. The way of nearly every call and reply, and therefore written out.

        Raises:
            DecodeError: the reader has stored nonsense.
        """
        length = len(header)
        prefix, size, pack_into, _ = SHORT[length]
        try:
            self._acquire_lock()
            tail = self._tail
            position = tail & self._mask
            straight = not (
                position + size > self._short_end
                or tail + size - self._head > self._capacity
                or self._queue
                or self._returned
                or self._writing
            )
            if straight:
                self._writing = True
                pack_into(self._data, position + _WORD, kind, 0, op, member, ident, first, second, length, 0, header)
                self._prefixes[position >> 3] = prefix
                self._tail = self._control[_TAIL] = tail + size  # SYNC POINT: publish
                self._writing = False
            self._release_lock()  # SYNC POINT: sleep. This is its fence.
            sleeping = self._control[_SLEEPING]
            if straight and sleeping & 1 and sleeping != self._rung:
                self._bell()
                self._rung = sleeping
        except BaseException:
            self._interrupted()
            raise
        if straight:
            return True
        return self.send(layout.FRAME, FRAME.pack(kind, 0, op, member, ident, first, second, length, 0) + header)

    def send(self, tag: int, body: bytes) -> bool:
        """Write one record; False when there is no room now. Raises ``DecodeError`` if the reader stored nonsense."""
        return self._write_and_ring(tag, body, may_queue=False)

    def send_or_queue(self, tag: int, body: bytes) -> bool:
        """Write one record, now or later, in order; False when too much waits already, or the reader is gone."""
        return self._write_and_ring(tag, body, may_queue=True)

    def flush(self) -> None:
        """Write what waits, as far as there is room."""
        try:
            self._write_and_ring(0, b"", may_queue=False)
        except DecodeError:
            pass  # the next send says so

    def close(self) -> None:
        """Forget what waits, and the doorbell. Nothing is written any more."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._queued_bytes = 0
            self._bell = _nothing

    # -- with and without the lock ----------------------------------------------------------------------------

    def _write_and_ring(self, tag: int, body: bytes, may_queue: bool) -> bool:
        """Write what waits, then one record (tag 0: none), and ring."""
        try:
            with self._lock:
                if self._closed:
                    return False
                if self._writing:  # further down the stack, by this very thread
                    done = self._enqueue(tag, body) if tag else True
                else:
                    self._writing = True
                    try:
                        done = self._write_waiting() and (not tag or self.write(tag, body))
                    finally:
                        self._writing = False
                    if not done and may_queue:
                        done = self._enqueue(tag, body)
                rings = self.must_ring()
                again = bool(self._queue) and not self._flushing
                self._flushing |= again
            if rings:
                self._bell()
        except BaseException:
            self._bell()  # it may have been written
            raise
        if again:
            self._workers.call_later(_RETRY, self._flush_again)
        return done

    def _flush_again(self) -> None:
        self._flushing = False
        self.flush()

    def _enqueue(self, tag: int, body: bytes) -> bool:
        if self._queued_bytes + len(body) > limits.QUEUED_BYTES:
            return False
        self._queue.append((tag, body))
        self._queued_bytes += len(body)
        return True

    def _write_waiting(self) -> bool:
        borrowed = self._borrowed
        while borrowed is not None and borrowed.returned:
            leases = borrowed.take_returned(_RELEASES_AT_ONCE)
            if not self.write(layout.RELEASE, b"".join(map(layout.LEASE.pack, leases))):
                borrowed.put_back(leases)
                return False
        while self._queue:
            tag, body = self._queue[0]
            if not self.write(tag, body):
                return False
            self._queue.popleft()
            self._queued_bytes -= len(body)
        return True

    def _interrupted(self) -> None:
        """Something was raised at some point of ``send_short``: let others write; ring for what may be written."""
        if self._lock._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
            self._writing = False
            self._release_lock()
        self._bell()
