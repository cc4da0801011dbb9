"""Frames to records and back. No I/O.

``layout`` draws a record. A buffer of up to ``limits.INLINE_BYTES`` travels in the record; a larger one is lent from
the arena, and the record only says where it lies. What does not fit into a record at all (a very long header,
thousands of buffers) is spilled: the same bytes, in an arena slot, which the receiver copies out and gives back.

Decoding works on a copy of the record, which nobody else can change, and checks every length before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np

from heros import limits
from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import DecodeError, EncodeError
from heros.shm import layout
from heros.shm.arena import Arena, Loan
from heros.shm.leases import Lent
from heros.wire import FRAME, Fields

__all__ = [
    "NO_BUFFERS",
    "SHORT",
    "SHORT_BY_PREFIX",
    "SHORT_HEADER",
    "Body",
    "Borrow",
    "Record",
    "Short",
    "decode",
    "encode",
    "leases_of",
    "stage",
]

_DESCRIPTOR = layout.DESCRIPTOR
_FRAME_BYTES = FRAME.size

Borrow: TypeAlias = Callable[[int, int, int, int, int], Buffer]


class Short(NamedTuple):
    """The record of a frame without buffers and with a header of one certain length, made and read in one step.

    Attributes:
        prefix: the record's first word.
        size: bytes that it takes in a ring.
        pack_into: puts the nine integers of ``wire.FRAME`` and the header behind the prefix.
        unpack_from: gives them back.
    """

    prefix: int
    size: int
    pack_into: Callable[..., None]
    unpack_from: Callable[..., tuple[Any, ...]]


def _short(length: int) -> Short:
    body = struct.Struct(f"{FRAME.format}{length}s")
    padded = -(-(layout.WORD + body.size) // layout.WORD) * layout.WORD
    return Short(body.size | layout.FRAME << layout.TAG_SHIFT, padded, body.pack_into, body.unpack_from)


SHORT_HEADER: Final = 255
"""The longest header of a short frame, in bytes."""

SHORT: Final = tuple(_short(length) for length in range(SHORT_HEADER + 1))
"""By the length of the header."""

SHORT_BY_PREFIX: Final = {short.prefix: short for short in SHORT}


class Body(NamedTuple):
    """The buffers of a frame, made ready once for any number of receivers.

    Attributes:
        entries: for each buffer its loan, or its length in bytes when it is inline.
        inline: the bytes of the inline buffers, joined.
    """

    entries: Sequence[int | Loan]
    inline: bytes


NO_BUFFERS: Final = Body((), b"")


class Record(NamedTuple):
    """What goes into a ring, and the leases that it makes the receiver hold."""

    tag: int
    body: bytes
    leases: Sequence[int]


def stage(arena: Arena, buffers: Sequence[Buffer]) -> Body:
    """Put large buffers into the arena, unless they are there, and copy the small ones.

    Raises:
        EncodeError: there are too many.
        OutOfSharedMemory: there is no room.
    """
    if len(buffers) > limits.MAX_BUFFERS:
        raise EncodeError(
            f"a message holds {len(buffers)} arrays; {limits.MAX_BUFFERS} is the most. Join some of them."
        )
    entries: list[int | Loan] = []
    inline: list[bytes] = []
    for buffer in buffers:
        nbytes = buffer_nbytes(buffer)
        loan = arena.place(buffer, nbytes)
        if loan is None:
            inline.append(_to_bytes(buffer))
        entries.append(nbytes if loan is None else loan)
    return Body(entries, b"".join(inline))


def _to_bytes(buffer: Buffer) -> bytes:
    """The bytes of a buffer, in the order that ``buffers.copy_buffer`` defines."""
    if isinstance(buffer, np.ndarray):
        return buffer.tobytes("F" if buffer.flags.f_contiguous and not buffer.flags.c_contiguous else "C")
    return bytes(buffer)


def encode(frame: bytes, header: bytes, body: Body, lent: Lent, arena: Arena, longest: int) -> Record:
    """A record of at most ``longest`` bytes. ``frame`` is the packed ``wire.FRAME``.

    Raises:
        NoRoom: the peer has to read its socket first. Nothing was lent.
        OutOfSharedMemory: there is no room for what is spilled. Nothing was lent.
    """
    leases: list[int] = []
    parts = [frame, header]
    try:
        for entry in body.entries:
            if isinstance(entry, int):
                parts.append(_DESCRIPTOR.pack(0, 0, 0, entry, 0))
            else:
                lease, descriptor = lent.lend(entry)
                leases.append(lease)
                parts.append(descriptor)
        parts.append(body.inline)
        data = b"".join(parts)
        if len(data) <= longest:
            return Record(layout.FRAME, data, leases)
        rest = memoryview(data)[_FRAME_BYTES:]
        slot = arena.allocate(len(rest))
        slot.segment.memory[slot.offset : slot.offset + len(rest)] = rest
        lease, descriptor = lent.lend(Loan(slot, slot.segment, slot.offset, len(rest)))
        leases.append(lease)
        return Record(layout.SPILLED, frame + descriptor, leases)
    except BaseException:
        lent.release(leases)
        raise


def decode(tag: int, data: bytes, borrow: Borrow) -> tuple[Fields, bytes, Sequence[Buffer]]:
    """Fields, header and buffers of a FRAME or SPILLED record.

    Raises:
        DecodeError: it is no valid record.
    """
    size = len(data)
    if size < _FRAME_BYTES:
        raise DecodeError(f"a record of {size} bytes is shorter than a frame")
    fields: Fields = FRAME.unpack_from(data)
    length, count = fields[7], fields[8]
    rest = data[_FRAME_BYTES:]
    if not count and length == size - _FRAME_BYTES and tag == layout.FRAME:
        return fields, rest, ()
    if tag == layout.SPILLED:
        rest = _unspill(rest, borrow)
    elif tag != layout.FRAME:
        raise DecodeError(f"a record has the unknown tag {tag}")
    start = length + count * _DESCRIPTOR.size
    if length > limits.MAX_HEADER_BYTES or count > limits.MAX_BUFFERS or start > len(rest):
        raise DecodeError(f"a record of {len(rest)} bytes declares {length} bytes of header and {count} buffers")
    buffers: list[Buffer] = []
    descriptors = _DESCRIPTOR.iter_unpack(memoryview(rest)[length:start])
    try:
        for segment, flags, offset, nbytes, lease in descriptors:
            if segment:
                buffers.append(borrow(segment, flags, offset, nbytes, lease))
            elif nbytes > len(rest) - start:
                raise DecodeError(f"a record declares an inline buffer of {nbytes} bytes and has {len(rest) - start}")
            else:
                buffers.append(rest[start : start + nbytes])
                start += nbytes
    except KeyboardInterrupt:
        for segment, flags, offset, nbytes, lease in descriptors:
            if segment:
                borrow(segment, flags, offset, nbytes, lease)  # and give it back at once
        raise
    if start != len(rest):
        raise DecodeError(f"a record of {len(rest)} bytes has {len(rest) - start} too many")
    return fields, rest[:length], buffers


def _unspill(rest: bytes, borrow: Borrow) -> bytes:
    if len(rest) != _DESCRIPTOR.size:
        raise DecodeError("a spilled record does not consist of one descriptor")
    segment, flags, offset, length, lease = _DESCRIPTOR.unpack(rest)
    most = limits.MAX_HEADER_BYTES + limits.MAX_BUFFERS * (_DESCRIPTOR.size + limits.INLINE_BYTES)
    if not segment or length > most:
        raise DecodeError(f"a spilled record claims {length} bytes; {most} is the most")
    return bytes(cast(bytes, borrow(segment, flags | layout.COPY, offset, length, lease)))


def leases_of(data: bytes) -> list[int]:
    """The leases of a RELEASE record. Raises ``DecodeError``."""
    if len(data) % layout.LEASE.size:
        raise DecodeError(f"a record of {len(data)} bytes cannot consist of lease numbers")
    return [lease for (lease,) in layout.LEASE.iter_unpack(data)]
