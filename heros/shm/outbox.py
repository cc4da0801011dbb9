"""The writing end of a ring, as a process uses it: shared by its threads, with what waits for room."""

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
        "_lock",
        "_queue",
        "_queued_bytes",
        "_release_lock",
        "_returned",
        "_short_end",
        "_workers",
    )

    def __init__(
        self, memory: memoryview, bell: Callable[[], None], workers: Workers, borrowed: Borrowed | None = None
    ) -> None:
        super().__init__(memory)
        self._bell = bell
        self._workers = workers
        self._lock = threading.Lock()
        self._acquire_lock = self._lock.acquire  # ``with`` takes twice as long
        self._release_lock = self._lock.release
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
        self._acquire_lock()
        try:
            tail = self._tail
            position = tail & self._mask
            straight = not (
                position + size > self._short_end
                or tail + size - self._head > self._capacity
                or self._queue
                or self._returned
            )
            if straight:
                pack_into(self._data, position + _WORD, kind, 0, op, member, ident, first, second, length, 0, header)
                self._prefixes[position >> 3] = prefix
                self._tail = self._control[_TAIL] = tail + size  # SYNC POINT: publish
        finally:
            self._release_lock()  # SYNC POINT: sleep. This is its fence.
        if not straight:
            frame = FRAME.pack(kind, 0, op, member, ident, first, second, length, 0)
            return self.send(layout.FRAME, frame + header)
        sleeping = self._control[_SLEEPING]
        if sleeping & 1 and sleeping != self._rung:
            self._rung = sleeping
            self._bell()
        return True

    def send(self, tag: int, body: bytes) -> bool:
        """Write one record; False when there is no room now. Raises ``DecodeError`` if the reader stored nonsense."""
        with self._lock:
            if (self._queue or self._returned) and not self._write_waiting():
                return False
            if not self.write(tag, body):
                return False
            must_ring = self.must_ring()
        if must_ring:
            self._bell()
        return True

    def send_or_queue(self, tag: int, body: bytes) -> bool:
        """Write one record, now or later, in order; False when too much waits already."""
        if self.send(tag, body):
            return True
        with self._lock:
            if self._queued_bytes + len(body) > limits.QUEUED_BYTES:
                return False
            first = not self._queue
            self._queue.append((tag, body))
            self._queued_bytes += len(body)
        if first:
            self._workers.call_later(_RETRY, self.flush)
        return True

    def flush(self) -> None:
        """Write what waits, as far as there is room."""
        with self._lock:
            try:
                self._write_waiting()
            except DecodeError:
                return  # the next send says so
            must_ring = self.must_ring()
            again = bool(self._queue)
        if must_ring:
            self._bell()
        if again:
            self._workers.call_later(_RETRY, self.flush)

    def close(self) -> None:
        """Forget what waits, and the doorbell."""
        with self._lock:
            self._queue.clear()
            self._queued_bytes = 0
            self._bell = _nothing

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
