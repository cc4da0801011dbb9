"""The arena: shared memory that one process owns, from which the buffers of its messages are allocated.

Rules
    - The owner alone allocates and counts. Readers of other processes hold *leases* (see ``leases``), which are the
      owner's objects too.
    - A slot lives by Python's reference count. Arrays of this process and leases of others hold it; when the last of
      them goes, its finaliser puts the slot back. The finaliser takes no lock and does no I/O: it appends to a deque.
    - No memory is written again before its slot is free.

How it works
    A request is rounded up to a size class, and the class keeps the free slots of all its segments in one deque: the
    slot freed last is taken first, because its memory is in the cache. Small slots share a segment of
    ``limits.SEGMENT_BYTES``, large ones have one each. Segments are made when a class has no free slot, and kept: a
    segment that has been touched is several times faster than a fresh one. When the quota, the number of segments or
    the machine's memory is used up, segments without a used slot are dropped, and whoever maps them is told.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from heros import limits
from heros.buffers import Buffer, copy_buffer
from heros.exceptions import OutOfSharedMemory
from heros.shm import layout, views
from heros.shm.segment import Segment

__all__ = ["Arena", "Loan", "Pool", "Slot", "process_arena", "reset_after_fork", "size_class"]

_SMALLEST = 2 * limits.INLINE_BYTES
_FINE = limits.MIB
_FINE_STEPS = 4


def _nothing() -> None:
    """There is nobody yet who could give anything back."""


class Loan(NamedTuple):
    """A buffer in shared memory, ready to be lent to any number of peers.

    Attributes:
        holder: keeps the memory in use as long as anything refers to it.
        segment, offset, length: where it lies; offset and length in bytes.
        share: the most slots of its frame pool that one peer may hold without a copy; 0: no such bound.
    """

    holder: object
    segment: Segment
    offset: int
    length: int
    share: int = 0


class Slot:
    """A piece of a segment that is in use. Its memory is free again when nothing refers to this object any more."""

    __slots__ = ("__weakref__", "_home", "length", "offset", "segment")

    def __init__(self, home: deque[tuple[Segment, int]], segment: Segment, offset: int, length: int) -> None:
        self._home = home
        self.segment = segment
        self.offset = offset
        self.length = length

    def __del__(self) -> None:
        self._home.append((self.segment, self.offset))


class Pool(NamedTuple):
    """A segment of equal slots that is reserved for one user."""

    segment: Segment
    slot_size: int
    slots: int
    free: deque[tuple[Segment, int]]


class _Class:
    """The slots of one size."""

    __slots__ = ("free", "segments", "size", "slots")

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots = max(1, limits.SEGMENT_BYTES // size)
        self.free: deque[tuple[Segment, int]] = deque()
        self.segments: set[Segment] = set()


def size_class(nbytes: int) -> int:
    """The size of the slot for ``nbytes``: a power of two up to 1 MiB, then four steps to each doubling."""
    size = max(_SMALLEST, 1 << (nbytes - 1).bit_length())
    if size <= _FINE:
        return size
    step = size // 2 // _FINE_STEPS
    return -(-nbytes // step) * step


class Arena:
    """One process's shared memory. Thread-safe.

    Args:
        quota: bytes that it may own; default ``limits.shm_quota()``.
    """

    def __init__(self, quota: int | None = None) -> None:
        self.quota = limits.shm_quota() if quota is None else quota
        self.reclaim: Callable[[], None] = _nothing
        """Takes what peers have given back and no worker has come to read yet. Set by who reads."""
        self.owned = 0
        self._segments = 0
        self._classes: dict[int, _Class] = {}
        self._leaving: list[Pool] = []
        self._lock = threading.Lock()
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()

    def on_drop(self, watcher: Any) -> None:
        """Have ``watcher.dropped(segment)`` called when a segment is given up. ``watcher`` is not kept alive."""
        self._watchers.add(watcher)

    def allocate(self, nbytes: int) -> Slot:
        """A slot of at least ``nbytes`` bytes, contents undefined.

        Raises:
            OutOfSharedMemory: the quota, the descriptors or the machine's memory are used up.
        """
        size = size_class(nbytes)
        own = self._classes.get(size)
        if own is None:
            own = self._classes.setdefault(size, _Class(size))
        try:
            segment, offset = own.free.pop()
        except IndexError:
            segment, offset = self._grow(own)
        return Slot(own.free, segment, offset, size)

    def reserve(self, slot_size: int, count: int) -> Pool:
        """A segment of its own, of ``count`` slots; to be given back with ``give_back``.

        Raises:
            OutOfSharedMemory: as for ``allocate``.
        """
        with self._lock:
            segment = self._create(slot_size * count)
        return Pool(segment, slot_size, count, deque((segment, index * slot_size) for index in range(count)))

    def give_back(self, pool: Pool) -> None:
        """Give a reserved segment up. ``tidy`` drops it, or whoever needs a segment next, once none of its slots is in
        use; its memory goes with the last view. For finalisers: it takes no lock and does no I/O."""
        self._leaving.append(pool)

    def tidy(self) -> None:
        """Drop what was given back."""
        with self._lock:
            self._drop_left()

    def place(self, buffer: Buffer, nbytes: int) -> Loan | None:
        """Where ``buffer`` lies in shared memory, copied there if it does not yet; None: it is small, send it inline.

        What was given out by ``heros.shm`` is frozen, whatever its size.

        Raises:
            OutOfSharedMemory: as for ``allocate``.
        """
        found = views.find(buffer) if not isinstance(buffer, bytes) else None
        if found is not None:
            hold, root = found
            if hold.slot is not None:
                hold.freeze(buffer if isinstance(buffer, np.ndarray) else None, root)
            if nbytes > limits.INLINE_BYTES and (address := _address(buffer)) is not None:
                holder = root if hold.slot is None else hold.slot
                return Loan(holder, hold.segment, address - hold.segment.address, nbytes, hold.share)
        if nbytes <= limits.INLINE_BYTES:
            return None
        slot = self.allocate(nbytes)
        copy_buffer(buffer, slot.segment.memory[slot.offset : slot.offset + nbytes])
        return Loan(slot, slot.segment, slot.offset, nbytes)

    # -- under the lock ---------------------------------------------------------------------------------------

    def _grow(self, own: _Class) -> tuple[Segment, int]:
        with self._lock:
            try:
                return own.free.pop()  # another thread has grown the class, or a slot has come back
            except IndexError:
                pass
            segment = self._create(own.size * own.slots)
            own.segments.add(segment)
            own.free.extend((segment, index * own.size) for index in range(own.slots - 1, 0, -1))
            return segment, 0

    def _create(self, size: int) -> Segment:
        size = -(-size // layout.PAGE) * layout.PAGE
        self._drop_left()
        if self.owned + size > self.quota or self._segments >= limits.MAX_SEGMENTS:
            self._drop_unused()
        if self.owned + size > self.quota:
            raise OutOfSharedMemory(
                f"{size} bytes of shared memory are needed and {self.owned} of {self.quota} are in use. Release arrays "
                "that came from heros, use smaller or fewer frames, or raise HEROS_SHM_QUOTA (in bytes)."
            )
        if self._segments >= limits.MAX_SEGMENTS:
            raise OutOfSharedMemory(
                f"all {limits.MAX_SEGMENTS} segments of shared memory are in use. Release arrays that came from heros, "
                "or use fewer and larger ones."
            )
        try:
            segment = Segment.create(size)
        except OutOfSharedMemory:
            if not self._drop_unused():
                raise
            segment = Segment.create(size)
        self.owned += size
        self._segments += 1
        return segment

    def _drop_unused(self) -> bool:
        dropped = False
        for own in self._classes.values():
            # Whoever allocates meanwhile finds the class empty and waits for the lock.
            free = _drain(own.free)
            count: dict[Segment, int] = {}
            for segment, _ in free:
                count[segment] = count.get(segment, 0) + 1
            unused = {segment for segment, slots in count.items() if slots == own.slots}
            own.free.extend(entry for entry in free if entry[0] not in unused)
            own.segments -= unused
            for segment in unused:
                self._drop(segment)
                dropped = True
        return dropped

    def _drop_left(self) -> None:
        for pool in [pool for pool in self._leaving if len(pool.free) == pool.slots]:
            self._leaving.remove(pool)
            self._drop(pool.segment)

    def _drop(self, segment: Segment) -> None:
        self.owned -= segment.size
        self._segments -= 1
        for watcher in list(self._watchers):
            watcher.dropped(segment)


def _drain(queue: deque[tuple[Segment, int]]) -> list[tuple[Segment, int]]:
    taken = []
    while True:
        try:
            taken.append(queue.popleft())
        except IndexError:
            return taken


def _address(buffer: Buffer) -> int | None:
    """The address of a buffer's first byte, or None when its bytes do not lie in a row."""
    array = buffer if isinstance(buffer, np.ndarray) else np.asarray(buffer)
    flags = array.flags
    if not (flags.c_contiguous or flags.f_contiguous):
        return None
    address: int = array.__array_interface__["data"][0]
    return address


_creating = threading.Lock()
_arena: Arena | None = None


def process_arena() -> Arena:
    """The arena of this process, made on first use."""
    global _arena
    if _arena is None:
        with _creating:
            if _arena is None:
                _arena = Arena()
    return _arena


def reset_after_fork() -> None:
    """In a forked child: the parent's arena is not ours to allocate from."""
    global _arena, _creating
    _arena = None
    _creating = threading.Lock()
    views.forget_all()
