"""What a program uses of shared memory by itself: arrays that are sent without a copy.

Where there is no shared memory the same program runs with ordinary arrays, which are copied when they are sent.
"""

from __future__ import annotations

import math
import operator
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heros.exceptions import PoolExhausted
from heros.shm import layout

AVAILABLE: Final = sys.platform == "linux"
"""Whether this system has what shared memory is built from."""

if TYPE_CHECKING or AVAILABLE:
    from heros.shm import views
    from heros.shm.arena import Pool, Slot, process_arena

__all__ = ["AVAILABLE", "FramePool", "empty"]

_SHORTEST_NAP = 50e-6
_LONGEST_NAP = 2e-3
"""Pauses of ``acquire`` between two looks for a free frame: short for a fast camera, and no load when it takes long."""

_Shape = SupportsIndex | Sequence[SupportsIndex]


def empty(shape: _Shape, dtype: DTypeLike = float, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    """A new writable array in shared memory, contents undefined. Thread-safe.

    When it, or a contiguous part of it, is sent to another process of this host, its bytes are not copied. From then
    on it is read-only: the reader sees this very memory. Take a fresh array for the next value. The memory is used
    again when this process and every reader have let go of it.

    Args:
        shape: length of each axis, or one length.
        dtype: any numpy type without Python objects in it.
        order: ``"C"`` (rows lie in a row) or ``"F"`` (columns do).

    Raises:
        OutOfSharedMemory: the quota ``HEROS_SHM_QUOTA`` or the memory is used up.
        TypeError: a dtype that contains Python objects.
        ValueError: a negative length, or another order.
    """
    lengths, kind = _checked(shape, dtype)
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', not {order!r}")
    nbytes = math.prod(lengths) * kind.itemsize
    if not AVAILABLE or nbytes == 0:
        return np.empty(lengths, kind, order)
    slot = process_arena().allocate(nbytes)
    return _shaped(slot, nbytes, lengths, kind, order, 0)


class FramePool:
    """A fixed number of equal arrays in shared memory, used in turn. Thread-safe.

    A frame that was acquired belongs to the caller until it is sent; then it is read-only, and its memory returns to
    the pool when the caller and every reader have let go of it. There is nothing to give back by hand.

    Args:
        shape: of one frame.
        dtype: of one frame; any numpy type without Python objects in it.
        count: how many frames may be out at the same time, at least 1. One reader may hold half of them; beyond, it
            gets copies, so that it cannot take the pool away from the producer.

    Attributes:
        shape: of one frame, a tuple.
        dtype: of one frame, a numpy dtype.
        count: as given.
        skipped: how often ``acquire_nowait`` found no free frame.

    Raises:
        OutOfSharedMemory: the quota ``HEROS_SHM_QUOTA`` or the memory is used up.
        TypeError: a dtype that contains Python objects, or a count that is no integer.
        ValueError: a negative length, or a count below 1.
    """

    def __init__(self, shape: _Shape, dtype: DTypeLike, count: int) -> None:
        self.shape, self.dtype = _checked(shape, dtype)
        self.count = operator.index(count)
        if self.count < 1:
            raise ValueError(f"a FramePool needs at least 1 frame, not {count}")
        self.skipped = 0
        self._nbytes = math.prod(self.shape) * self.dtype.itemsize
        self._lock = threading.Lock()
        self._closed = False
        self._pool: Pool | None = None
        self._ordinary: deque[None] = deque([None] * self.count)
        if AVAILABLE and self._nbytes:
            self._arena = arena = process_arena()
            self._pool = arena.reserve(-(-self._nbytes // layout.PAGE) * layout.PAGE, self.count)
            self._give_back = weakref.finalize(self, arena.give_back, self._pool)
            self._give_back.atexit = False

    def acquire(self, timeout: float | None = None) -> NDArray[Any]:
        """A writable frame, contents undefined; waits until one is free, at most ``timeout`` seconds (None: for ever).

        Raises:
            PoolExhausted: none became free in time.
            ValueError: the pool is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        nap = _SHORTEST_NAP
        while (frame := self._take()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise PoolExhausted(
                    f"all {self.count} frames of the pool are in use after {timeout:g} s. Let go of frames that were "
                    "sent, make the pool larger, or use acquire_nowait() and skip a frame."
                )
            # A frame is given back by a finaliser, which must not wake anybody.
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)
        return frame

    def acquire_nowait(self) -> NDArray[Any] | None:
        """A writable frame; None when all are in use, which ``skipped`` counts. Raises ``ValueError`` once closed."""
        frame = self._take()
        if frame is None:
            with self._lock:
                self.skipped += 1
        return frame

    def close(self) -> None:
        """Give the memory back as soon as no frame is in use. Frames that are out stay valid."""
        self._closed = True
        if self._pool is not None:
            self._give_back()
            self._arena.tidy()

    def __enter__(self) -> FramePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> NDArray[Any] | None:
        if self._closed:
            raise ValueError("this FramePool is closed")
        pool = self._pool
        try:
            if pool is None:
                self._ordinary.pop()
                frame: NDArray[Any] = np.empty(self.shape, self.dtype)
                weakref.finalize(frame, self._ordinary.append, None).atexit = False
                return frame
            if not pool.free:
                process_arena().reclaim()
            segment, offset = pool.free.popleft()
        except IndexError:
            return None
        slot = Slot(pool.free, segment, offset, pool.slot_size)
        return _shaped(slot, self._nbytes, self.shape, self.dtype, "C", max(1, self.count // 2))


def _checked(shape: _Shape, dtype: DTypeLike) -> tuple[tuple[int, ...], np.dtype[Any]]:
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(
            f"dtype {kind} contains Python objects, which cannot lie in shared memory. Use a numeric dtype."
        )
    lengths = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
    if any(length < 0 for length in lengths):
        raise ValueError(f"a shape has no negative lengths: {lengths}")
    return lengths, kind


def _shaped(
    slot: Slot, nbytes: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"], share: int
) -> NDArray[Any]:
    root, hold = views.own(slot.segment, slot, slot.offset, nbytes, share)
    frame = root.view(dtype).reshape(shape, order=order)
    hold.given_out = weakref.ref(frame)
    return frame
