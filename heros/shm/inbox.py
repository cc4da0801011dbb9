"""The reading end of a ring, as a process uses it: frames come out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

from heros.buffers import Buffer
from heros.exceptions import DecodeError
from heros.shm import layout
from heros.shm.records import SHORT_BY_PREFIX, Borrow, decode
from heros.shm.ring import Reader
from heros.wire import Fields

__all__ = ["RELEASED", "Frame", "Inbox"]

_TAIL: Final = layout.TAIL // layout.WORD
_HEAD: Final = layout.HEAD // layout.WORD
_WORD: Final = layout.WORD
_PADDING: Final = layout.WORD - 1
_FIELDS: Final = 9
_ONE_LOOK: Final = range(1)

RELEASED: Final = -1
"""In place of a kind, for a record that is no frame but gives leases back."""

Frame: TypeAlias = tuple[Fields, bytes, Sequence[Buffer]]
"""Fields, header and buffers."""


def _nobody(*_: int) -> Buffer:
    raise DecodeError("a ring is read whose connection has ended")


class Inbox(Reader):
    """Reads frames. Not thread-safe: its users share a lock.

    Attributes:
        torn: whether something, such as Ctrl-C, was raised after a record was taken and before its frame was there.

    Args:
        memory: the ring's.
        kinds: of the frames that may come on it (``wire.Kind``).
        borrow: what a descriptor stands for (``leases.Borrowed.borrow``).
        released: takes the body of each RELEASE record; None: none may come.
    """

    __slots__ = ("_borrow", "_kinds", "_released", "_shorts", "torn")

    def __init__(
        self,
        memory: memoryview,
        kinds: Collection[int],
        borrow: Borrow,
        released: Callable[[bytes], object] | None = None,
    ) -> None:
        super().__init__(memory)
        self._kinds = frozenset(map(int, kinds))
        self.torn = False
        self._borrow = borrow
        self._released = released
        self._shorts = SHORT_BY_PREFIX if self._ordered else {}

    def read_frame(self, looks: range = _ONE_LOOK) -> Frame | None:
        """The next frame, or None when the ring is still empty after so many looks.

        The way of nearly every call and reply, and therefore written out.

        Raises:
            DecodeError: the writer has stored nonsense.
        """
        head = self._head
        tail = self._tail
        if head == tail:
            control = self._control
            for _ in looks:
                tail = control[_TAIL]  # SYNC POINT: publish
                if tail != head:
                    break
            else:
                return None
            if not head < tail <= head + self._capacity or tail & _PADDING:
                return self._read_any()
        position = head & self._mask
        short = self._shorts.get(self._prefixes[position >> 3])
        if short is not None:
            _, size, _, unpack_from = short
            if size <= tail - head and position + size <= self._capacity:
                fields = unpack_from(self._data, position + _WORD)
                header = fields[_FIELDS]
                if fields[7] == len(header) and not fields[8] and fields[0] in self._kinds:
                    self._tail = tail
                    self._head = self._control[_HEAD] = head + size  # SYNC POINT: consume
                    return fields[:_FIELDS], header, ()
        # What is long, has buffers, wraps, or makes no sense.
        return self._read_any()

    def next_kind(self) -> int | None:
        """The kind of the frame that ``read_frame`` would give, or RELEASED, as a hint; None when it cannot be told."""
        position = self._head & self._mask
        if self._control[_TAIL] == self._head or not self._ordered:
            return None
        tag = self._prefixes[position >> 3] >> layout.TAG_SHIFT
        if tag == layout.WRAP:
            position = 0
            tag = self._prefixes[0] >> layout.TAG_SHIFT
        if tag == layout.RELEASE:
            return RELEASED
        return self._data[position + _WORD] if tag == layout.FRAME else None

    def close(self) -> None:
        """Forget whom ``borrow`` and ``released`` belong to. Nothing is read any more."""
        self._borrow = _nobody
        self._released = None

    def _read_any(self) -> Frame | None:
        try:
            self.torn = True
            frame = self._next_frame()
            self.torn = False
        except DecodeError:
            raise
        except Exception as error:  # no memory for a copy, no thread for a timer: the record is gone all the same
            raise DecodeError(f"a record could not be taken: {error!r}") from error
        return frame

    def _next_frame(self) -> Frame | None:
        while (item := self.read()) is not None:
            tag, body = item
            if tag != layout.RELEASE:
                frame = decode(tag, body, self._borrow)
                if frame[0][0] not in self._kinds:
                    raise DecodeError(f"a frame of kind {frame[0][0]} came on a ring where none may be")
                return frame
            if self._released is None:
                raise DecodeError("leases are given back on a ring that lends nothing")
            self._released(body)
        return None
