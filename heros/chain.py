"""Which call is running on this thread, so that calls made on its behalf can be told apart from others.

A chain id names an outermost call and everything that it causes, in whatever process: the upper 56 bits are its
number, the low 8 bits how deep this call is. HEROs let a chain in again that they are already serving (A calls B
calls A), and refuse one that has become too deep.
"""

from __future__ import annotations

import itertools
import secrets
import threading

from heros.exceptions import HEROSError
from heros.limits import MAX_CALL_DEPTH

__all__ = ["current", "new_chain", "next_call", "same_chain"]

_DEPTH_BITS = 8
_DEPTH_MASK = (1 << _DEPTH_BITS) - 1


class _Current(threading.local):
    chain = 0


current = _Current()
"""``current.chain`` is the chain that this thread serves, 0 if none. Set by ``dispatch`` around each call."""

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
    chain = current.chain
    if not chain:
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
