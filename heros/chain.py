"""Which call is running on this thread, so that calls made on its behalf can be told apart from others.

A chain id names an outermost call and everything that it causes, in whatever process: the upper 56 bits are its
number, the low 8 bits how deep this call is. HEROs let a chain in again that they are already serving (A calls B
calls A), and refuse one that has become too deep.
"""

from __future__ import annotations

import itertools
import os
import secrets
from threading import get_ident
from typing import Final

from heros.exceptions import HEROSError
from heros.limits import MAX_CALL_DEPTH

__all__ = ["new_chain", "next_call", "same_chain", "serving"]

_DEPTH_BITS = 8
_DEPTH_MASK = (1 << _DEPTH_BITS) - 1


serving: Final[dict[int, int]] = {}
"""The chain that a thread serves, by ``threading.get_ident()``; a thread that serves none is not in it. Each thread
writes its own entry only, ``dispatch`` around each call. (A ``threading.local`` takes twice as long.)"""

_numbers = itertools.count(secrets.randbits(54) << _DEPTH_BITS, 1 << _DEPTH_BITS)


def new_chain() -> int:
    """The chain id for a call that nobody waits for: whatever this thread serves, it goes on without that call, so the
    two must not be let in together and hold no thread for each other."""
    return next(_numbers)


def next_call() -> int:
    """The chain id for a call that this thread is about to make and to wait for.

    Raises:
        HEROSError: calls within calls are too deep.
    """
    if not serving or (chain := serving.get(get_ident(), 0)) == 0:
        return next(_numbers)
    if chain & _DEPTH_MASK >= MAX_CALL_DEPTH:
        raise HEROSError(
            f"calls within calls are {MAX_CALL_DEPTH} deep: two HEROs probably call each other without end. "
            "Break the cycle, for instance with a oneway call."
        )
    return chain + 1


def same_chain(one: int, other: int) -> bool:
    """Whether two chain ids belong to one outermost call."""
    return one >> _DEPTH_BITS == other >> _DEPTH_BITS


def _forget_in_child() -> None:
    """Of the parent's threads only this one is here; the others' identifiers are given to new ones."""
    me = get_ident()
    for thread in [thread for thread in serving if thread != me]:
        del serving[thread]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
