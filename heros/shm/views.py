"""Which arrays of this process lie in shared memory, and what keeps that memory.

Every array that ``heros.shm`` gives out is a view of a *root*: a flat array made by ``np.frombuffer`` over a segment.
This table knows the roots, by ``id``, without keeping them alive. From any array, ``find`` walks to its root; that
is how an array from the pool, or one that was received, is sent without a copy.

When a root is collected, the callback of its weak reference runs, at any moment and on any thread. It takes no lock
and does no I/O: it removes the table's entry, which lets go of the slot, and appends the lease to a deque, which the
next record to the owner takes along.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heros.shm.segment import Segment

__all__ = ["Hold", "borrow", "find", "forget_all", "own"]


class Hold(weakref.ref["NDArray[Any]"]):
    """The table's entry for one root.

    Attributes:
        segment: where the root lies.
        slot: the arena slot it occupies, if it is this process's own.
        given_out: the array that the user was given, when that is not the root itself.
        share: the most slots of its frame pool that one peer may hold without a copy; 0: no such bound.
        lease, returned: what is given back to its owner, if it is another process's, and where it is put.
    """

    __slots__ = ("given_out", "key", "lease", "returned", "segment", "share", "slot")

    key: int
    segment: Segment
    slot: object | None
    given_out: weakref.ref[NDArray[Any]] | None
    share: int
    lease: int
    returned: deque[int] | None

    def freeze(self, array: NDArray[Any] | None, root: NDArray[Any]) -> None:
        """Make ``array``, everything it is a view of, and the array that the user was given read-only, for good."""
        if self.given_out is not None and (given_out := self.given_out()) is not None:
            given_out.flags.writeable = False
        while isinstance(array, np.ndarray) and array is not root:
            array.flags.writeable = False
            array = array.base
        root.flags.writeable = False


_holds: dict[int, Hold] = {}


def _gone(hold: weakref.ref[NDArray[Any]]) -> None:
    assert isinstance(hold, Hold)
    _holds.pop(hold.key, None)
    if hold.returned is not None:
        hold.returned.append(hold.lease)


def _enter(root: NDArray[Any], segment: Segment) -> Hold:
    hold = Hold(root, _gone)
    hold.key = id(root)
    hold.segment = segment
    hold.slot = hold.given_out = hold.returned = None
    hold.lease = hold.share = 0
    return hold


def own(segment: Segment, slot: object, offset: int, length: int, share: int = 0) -> tuple[NDArray[np.uint8], Hold]:
    """A writable root over a slot of this process; the slot is held until it, and every lease of it, is gone."""
    root: NDArray[np.uint8] = np.frombuffer(segment.memory, np.uint8, length, offset)
    hold = _enter(root, segment)
    hold.slot = slot
    hold.share = share
    _holds[hold.key] = hold
    return root, hold


def borrow(segment: Segment, offset: int, length: int, lease: int, returned: deque[int]) -> NDArray[np.uint8]:
    """A read-only root over another process's memory; ``lease`` is appended to ``returned`` when it is gone, and only
    then: whatever this function raises, it raises before that."""
    root: NDArray[np.uint8] = np.frombuffer(segment.memory, np.uint8, length, offset)
    hold = _enter(root, segment)
    hold.lease = lease
    hold.returned = returned
    _holds[hold.key] = hold
    return root


def find(value: object) -> tuple[Hold, NDArray[Any]] | None:
    """The entry and the root of an array or memoryview that lies in shared memory; None for any other."""
    while True:
        if isinstance(value, np.ndarray):
            hold = _holds.get(id(value))
            if hold is not None and hold() is value:
                return hold, value
            value = value.base
        elif isinstance(value, memoryview):
            value = value.obj
        else:
            return None


def forget_all() -> None:
    """In a forked child: what the table holds is the parent's, and is sent as ordinary memory from now on."""
    _holds.clear()
