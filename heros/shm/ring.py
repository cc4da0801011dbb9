"""A ring: a byte queue between one writer and one reader, in any writable buffer that both can see.

Rules
    - One writer, one reader. Several threads of one process that write to a ring share a lock; so do its readers.
    - Each counter has exactly one writer: TAIL belongs to the ring's writer, HEAD and SLEEPING to its reader
      (``layout`` draws them). Nobody does a read-modify-write on shared memory: pure Python has none that is atomic.
    - What the other side wrote is never trusted: it is read once, checked, and used only then. A side that finds
      nonsense raises ``DecodeError``; the ring is then of no more use, and the process goes on.
    - A ring is used once, from its beginning: each end starts at 0, whatever the other may have stored by then.
    - ``Outbox.send_short`` and ``Inbox.read_frame`` are ``write`` and ``read`` once more, in one step, for what nearly
      every call and reply is. A change here is a change there; they bear the same labels.

Theory of operation
    TAIL and HEAD count bytes since the beginning and only grow. ``TAIL - HEAD`` bytes are in the ring: 0 means
    empty, the capacity means full. A record never wraps: where it does not fit before the end, a WRAP prefix fills the
    rest and the record starts over at position 0. The longest record is a quarter of the ring, so that one always
    fits once the reader has caught up.

    A killed writer leaves nothing half-visible, because a record does not exist before TAIL covers it.

SYNC POINT: publish
    The writer stores the record's bytes, then TAIL. The reader loads TAIL, then the bytes below it.

SYNC POINT: consume
    The reader copies the record out, then stores HEAD. The writer loads HEAD, then overwrites what is below it.

SYNC POINT: sleep
    The reader stores an odd SLEEPING, fences, loads TAIL once more, and only then waits for its doorbell.
    The writer stores TAIL, fences, loads SLEEPING, and rings if it is odd. So one of the two sees the other's store.
    SLEEPING is an epoch that grows with every change: the writer rings once an epoch, however many records it adds.

What must hold
    - An aligned 8-byte load or store through ``memoryview.cast("Q")`` is one machine instruction, in CPython.
    - Stores are seen in program order, and loads are done in it: true of x86-64. Elsewhere (``STORES_IN_ORDER`` is
      False) a fence stands between the halves of *publish* and *consume*, and the writer rings for every record.
    - Taking and releasing an uncontended lock is a fence: on x86-64 a locked instruction, which also orders a store
      before a later load; elsewhere two such pairs in a row order all but that, and that is why the writer there
      does not rely on SLEEPING.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from heros.exceptions import DecodeError
from heros.shm import layout

__all__ = ["Reader", "Writer"]

_TAIL: Final = layout.TAIL // layout.WORD
_HEAD: Final = layout.HEAD // layout.WORD
_SLEEPING: Final = layout.SLEEPING // layout.WORD
_WORD: Final = layout.WORD
_PADDING: Final = layout.WORD - 1
_TAG_SHIFT: Final = layout.TAG_SHIFT
_LENGTH_MASK: Final = layout.LENGTH_MASK
_WRAP_PREFIX: Final = layout.WRAP << layout.TAG_SHIFT


class _End:
    """What both ends have: the views of one ring's memory."""

    __slots__ = (
        "_capacity",
        "_control",
        "_data",
        "_fencing",
        "_mask",
        "_ordered",
        "_prefixes",
        "max_record",
    )

    def __init__(self, memory: memoryview, ordered: bool = layout.STORES_IN_ORDER) -> None:
        """``memory``: the ring's bytes, 8-aligned. ``ordered``: whether this processor keeps stores in order."""
        capacity = len(memory) - layout.DATA
        if capacity < 64 or capacity & (capacity - 1):
            raise ValueError(f"a ring's data must be a power of two of at least 64 bytes, not {capacity}")
        self._capacity = capacity
        self._mask = capacity - 1
        self._control = memory[: layout.DATA].cast("Q")
        self._data = memory[layout.DATA :]
        self._prefixes = self._data.cast("Q")
        self._ordered = ordered
        self.max_record = layout.max_record(capacity)
        self._fencing = threading.Lock()  # of this end alone, so that it is never contended: a fence and nothing else

    def _fence(self) -> None:
        """Order every load and store before it before every one after it (see *What must hold*)."""
        self._fence_once()
        self._fence_once()

    def _fence_once(self) -> None:
        with self._fencing:  # not acquire and release: Ctrl-C may come in between
            pass


class Writer(_End):
    """The writing end. Not thread-safe: its users share a lock."""

    __slots__ = ("_head", "_rung", "_tail")

    def __init__(self, memory: memoryview, ordered: bool = layout.STORES_IN_ORDER) -> None:
        super().__init__(memory, ordered)
        self._tail = self._head = self._rung = 0

    def write(self, tag: int, body: bytes) -> bool:
        """Publish one record; False when there is no room for it now.

        Raises:
            DecodeError: the reader has stored nonsense in HEAD.
            ValueError: the body is longer than ``max_record``.
        """
        length = len(body)
        if length > self.max_record:
            raise ValueError(f"a record of {length} bytes is longer than this ring's maximum, {self.max_record}")
        size = (length + _WORD + _PADDING) & ~_PADDING
        tail = self._tail
        position = tail & self._mask
        capacity = self._capacity
        skipped = capacity - position if position + size > capacity else 0
        if tail + skipped + size - self._head > capacity:
            self._load_head(tail)
            if tail + skipped + size - self._head > capacity:
                return False
            if not self._ordered:
                self._fence()  # SYNC POINT: consume
        if skipped:
            self._prefixes[position >> 3] = _WRAP_PREFIX
            position = 0
        start = position + _WORD
        self._data[start : start + length] = body
        self._prefixes[position >> 3] = length | tag << _TAG_SHIFT
        if not self._ordered:
            self._fence()
        self._tail = self._control[_TAIL] = tail + skipped + size  # SYNC POINT: publish
        return True

    def must_ring(self) -> bool:
        """Whether the doorbell must be rung for what was just written. Call it after every write, or batch of them."""
        self._fence_once()  # SYNC POINT: sleep
        sleeping = self._control[_SLEEPING]
        if (sleeping & 1 and sleeping != self._rung) or not self._ordered:
            self._rung = sleeping
            return True
        return False

    @property
    def consumed(self) -> bool:
        """Whether the reader has taken all there was."""
        return self._control[_HEAD] == self._tail

    def _load_head(self, tail: int) -> None:
        head = self._control[_HEAD]
        if not self._head <= head <= tail:
            raise DecodeError(
                f"a ring's reader claims to have consumed {head} bytes; between {self._head} and {tail} is right"
            )
        self._head = head


class Reader(_End):
    """The reading end. Not thread-safe: its users share a lock (``ready`` may be called by anyone, as a hint)."""

    __slots__ = ("_epoch", "_head", "_tail")

    def __init__(self, memory: memoryview, ordered: bool = layout.STORES_IN_ORDER) -> None:
        super().__init__(memory, ordered)
        self._head = self._tail = self._epoch = 0

    def read(self) -> tuple[int, bytes] | None:
        """The tag and a copy of the body of the next record, or None when the ring is empty.

        Raises:
            DecodeError: the writer has stored nonsense.
        """
        head = self._head
        tail = self._tail
        if head == tail:
            tail = self._control[_TAIL]  # SYNC POINT: publish
            if head == tail:
                return None
            if not head <= tail <= head + self._capacity or tail & _PADDING:
                raise DecodeError(f"a ring's writer claims to have written {tail} bytes; {head} were read")
            if not self._ordered:
                self._fence()
            self._tail = tail
        position = head & self._mask
        prefix = self._prefixes[position >> 3]
        if prefix == _WRAP_PREFIX:
            head += self._capacity - position
            if head > tail or not position:  # the writer never skips a whole ring
                raise DecodeError("a ring's record wraps beyond what was written")
            self._head = self._control[_HEAD] = head
            return self.read()
        length = prefix & _LENGTH_MASK
        start = position + _WORD
        end = start + length
        size = (length + _WORD + _PADDING) & ~_PADDING
        if size > tail - head or end > self._capacity or length > self.max_record:
            raise DecodeError(f"a ring's record claims {length} bytes where {tail - head} were written")
        body = self._data[start:end].tobytes()
        if not self._ordered:
            self._fence()
        self._head = self._control[_HEAD] = head + size  # SYNC POINT: consume
        return prefix >> _TAG_SHIFT, body

    def ready(self) -> bool:
        """Whether there is something to read. Safe from any thread, as a hint."""
        return self._control[_TAIL] != self._head

    def spin(self, turns: int) -> bool:
        """Look ``turns`` times; True as soon as there is something to read."""
        control = self._control
        head = self._head
        for _ in range(turns):  # noqa: SIM110  # a generator would take twice as long
            if control[_TAIL] != head:
                return True
        return False

    def sleep(self) -> bool:
        """Say that this reader sleeps until it is rung for. False when there is something to read after all.

        Either way SLEEPING stays odd until ``wake``.
        """
        return not self.leave(self._fence_once)  # SYNC POINT: sleep

    def leave(self, release: Callable[[], None]) -> bool:
        """The same, where ``release`` is a fence: it gives a lock back. Whether there *is* something to read."""
        if not self._epoch & 1:
            self._epoch += 1
            self._control[_SLEEPING] = self._epoch
        release()
        return self._control[_TAIL] != self._head

    def wake(self) -> None:
        """Say that this reader is awake: nobody needs to ring."""
        if self._epoch & 1:
            self._epoch += 1
            self._control[_SLEEPING] = self._epoch
