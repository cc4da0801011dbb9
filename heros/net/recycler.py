"""Memory for large received messages that is used again: touching fresh memory costs several times what filling costs.

Memory that was lent comes back when the last view of it is gone, and is kept for the next message of the same size;
the frames of a camera all have one size. It comes back in the finaliser of an array, which may run inside any
allocation: that takes no lock and only appends to a bounded deque, whose operations are atomic.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

from heros import limits

__all__ = ["lend"]

_free: deque[NDArray[np.uint8]] = deque(maxlen=limits.NET_RECYCLED_BUFFERS)


def lend(nbytes: int) -> NDArray[np.uint8]:
    """``nbytes`` of memory with any content, aligned to 16 bytes. Thread-safe.

    Raises:
        MemoryError: there is none.
    """
    memory = _reuse(nbytes)
    if memory is None:
        memory = np.empty(nbytes, np.uint8)
    lent = memory[:]  # every view of it keeps this array alive, and this array the memory
    if nbytes <= limits.NET_RECYCLED_BYTES:
        weakref.finalize(lent, _free.append, memory).atexit = False
    return lent


def _reuse(nbytes: int) -> NDArray[np.uint8] | None:
    for _ in range(len(_free)):
        try:
            memory = _free.popleft()
        except IndexError:  # another thread was faster
            return None
        if memory.nbytes == nbytes:
            return memory
        _free.append(memory)
    return None
