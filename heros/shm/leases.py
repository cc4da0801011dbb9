"""Leases: what one end of a channel has lent to the other, and what it has borrowed.

A lease is one reader's hold on one buffer. The lender keeps the buffer's holder in a table, under a number; the
borrower gives the number back in a RELEASE record when its last view of the buffer is gone. When the peer is gone, the
lender drops the whole table. Nothing here ever times out: a stopped process is not a dead one.

A borrower that holds too much is told to copy (``layout.COPY``) what it gets from then on, and to give it back at once.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable

from heros import limits
from heros.buffers import Buffer
from heros.exceptions import DecodeError
from heros.shm import layout, views
from heros.shm.arena import Arena, Loan
from heros.shm.segment import Segment

__all__ = ["Borrowed", "Lent", "NoRoom"]


class NoRoom(Exception):
    """The peer has to read first: its socket is full."""


def _refuse(*_: object) -> None:
    raise NoRoom


def _nothing() -> None:
    """There is nothing to fetch any more."""


class Lent:
    """What this end has lent. Thread-safe.

    Args:
        arena: tells when a segment is given up.
        announce: hands a segment to the peer; raises ``NoRoom``.
        retire: tells the peer that a segment it knows is not used any more.
    """

    def __init__(self, arena: Arena, announce: Callable[[Segment], None], retire: Callable[[Segment], None]) -> None:
        self._announce = announce
        self._retire = retire
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._announced: set[int] = set()
        self._of_pool: dict[int, int] = {}
        self.loans: dict[int, Loan] = {}
        self.nbytes = 0
        arena.on_drop(self)

    def lend(self, loan: Loan) -> tuple[int, bytes]:
        """Lend a buffer: the lease's number, and its ``DESCRIPTOR``.

        Raises:
            NoRoom: its segment could not be announced now.
        """
        segment = loan.segment
        with self._lock:
            if segment.number not in self._announced:
                self._announce(segment)
                self._announced.add(segment.number)
            too_much = (
                len(self.loans) >= limits.LEASES_PER_PEER or self.nbytes + loan.length > limits.LEASED_BYTES_PER_PEER
            )
            flags = layout.COPY if too_much or self.over_share((loan,)) else 0
            lease = next(self._ids)
            self.loans[lease] = loan
            self.nbytes += loan.length
            if loan.share:
                self._of_pool[segment.number] = self._of_pool.get(segment.number, 0) + 1
        return lease, layout.DESCRIPTOR.pack(segment.number, flags, loan.offset, loan.length, lease)

    def over_share(self, entries: Iterable[object]) -> bool:
        """Whether the peer already holds its share of the frame pool that any of the loans among these is from."""
        return any(
            isinstance(entry, Loan) and entry.share > 0 and self.held_of(entry) >= entry.share for entry in entries
        )

    def held_of(self, loan: Loan) -> int:
        """How many frames the peer holds of the pool that ``loan`` is from."""
        return self._of_pool.get(loan.segment.number, 0)

    def release(self, leases: list[int]) -> None:
        """Take buffers back.

        Raises:
            DecodeError: one of them was not lent.
        """
        released = []  # holders go after the lock is released: letting go of an array may run other code
        with self._lock:
            for lease in leases:
                loan = self.loans.pop(lease, None)
                if loan is None:
                    raise DecodeError(f"the peer gives back lease {lease}, which it does not hold")
                released.append(loan)
                self.nbytes -= loan.length
                if loan.share:
                    number = loan.segment.number
                    self._of_pool[number] -= 1
                    if not self._of_pool[number]:
                        del self._of_pool[number]

    def close(self) -> None:
        """The peer is gone: it holds nothing any more, and nothing is lent to it from now on."""
        with self._lock:
            self._announce = self._retire = _refuse
            loans, self.loans = self.loans, {}
            self._of_pool.clear()
            self._announced.clear()
            self.nbytes = 0
        loans.clear()

    def dropped(self, segment: Segment) -> None:
        """The arena has given up a segment."""
        with self._lock:
            known = segment.number in self._announced
            self._announced.discard(segment.number)
        if known:
            self._retire(segment)


class Borrowed:
    """What this end holds of the peer's. ``borrow`` is called by readers only, and ``returned`` filled by finalisers.

    Args:
        fetch: reads pending announcements from the socket.
        in_use: called when something was borrowed.
    """

    def __init__(self, fetch: Callable[[], None], in_use: Callable[[], None]) -> None:
        self._fetch = fetch
        self._in_use = in_use
        self.segments: dict[int, Segment] = {}
        self.returned: deque[int] = deque()
        self.borrowed = 0
        self.given_back = 0

    @property
    def outstanding(self) -> bool:
        """Whether a lease has not been given back yet."""
        return self.borrowed != self.given_back

    def close(self) -> None:
        """The peer is gone. What was borrowed stays valid for as long as it is used."""
        self.segments.clear()
        self._fetch = self._in_use = _nothing

    def announced(self, number: int, segment: Segment) -> None:
        """The peer hands over a segment. Raises ``DecodeError``."""
        if number in self.segments or number == 0 or len(self.segments) >= 2 * limits.MAX_SEGMENTS:
            raise DecodeError(f"the peer announces segment {number}, which is known, or one too many")
        self.segments[number] = segment

    def borrow(self, number: int, flags: int, offset: int, length: int, lease: int) -> Buffer:
        """The buffer that a ``DESCRIPTOR`` describes, read-only. Raises ``DecodeError``."""
        self.borrowed += 1
        try:
            return self._view(number, flags, offset, length, lease)
        except BaseException:  # Ctrl-C, say: as there is no view of it, nobody else gives it back
            self.returned.append(lease)
            raise

    def _view(self, number: int, flags: int, offset: int, length: int, lease: int) -> Buffer:
        segment = self.segments.get(number)
        if segment is None:
            self._fetch()
            segment = self.segments.get(number)
            if segment is None:
                raise DecodeError(f"a record refers to segment {number}, which was not announced")
        if not length or offset + length > segment.size:
            raise DecodeError(f"a record describes {length} bytes at {offset} in a segment of {segment.size}")
        self._in_use()
        if flags & layout.COPY:
            data = bytes(segment.memory[offset : offset + length])
            self.returned.append(lease)
            return data
        return views.borrow(segment, offset, length, lease, self.returned)

    def take_returned(self, most: int) -> list[int]:
        """At most ``most`` leases that are to be given back now."""
        taken: list[int] = []
        returned = self.returned
        while returned and len(taken) < most:
            taken.append(returned.popleft())
        self.given_back += len(taken)
        return taken

    def put_back(self, leases: list[int]) -> None:
        """What could not be given back after all."""
        self.given_back -= len(leases)
        self.returned.extendleft(leases)
