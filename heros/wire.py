"""Frames: what one message between two nodes looks like, as bytes. No I/O, no values.

A frame is a fixed header, a msgpack header (``codec`` knows what is in it) and a list of buffers. All integers are
little-endian.

======  ======  ==============  =====================================================
offset  format  name            meaning
======  ======  ==============  =====================================================
0       B       kind            one of ``Kind``
1       B       flags           reserved, 0
2       H       op              CALL, ONEWAY: one of ``Op``; ERROR: one of ``Fault``
4       I       member          CALL, ONEWAY: index of the member in its HERO
8       Q       id              call id, or subscription id
16      Q       first           see the second table
24      Q       second          see the second table
32      I       header_length   bytes of msgpack that follow the fixed header
36      I       buffer_count    buffers of this frame
======  ======  ==============  =====================================================

======  =======================  =============  ============================  ==========================  ==========
kind    from -> to               id             first                         second                      header
======  =======================  =============  ============================  ==========================  ==========
CALL    client -> server         call id        object id                     chain id                    arguments
ONEWAY  client -> server         0              object id                     chain id                    arguments
ACK     client -> server         subscription   index up to which it is done  0                           none
RESULT  server -> client         call id        0                             0                           value
ERROR   server -> client         call id        0                             0                           error
SAMPLE  server -> client         subscription   sequence                      index                       value
GAP     server -> client         subscription   sequence                      index                       none
END     server -> client         subscription   sequence                      index                       reason
======  =======================  =============  ============================  ==========================  ==========

A *sequence* numbers what an event published, from 1; an *index* numbers what was sent to one subscription, from 1.
A subscriber that sees the sequence jump by n missed n - 1 samples. GAP says up to which sequence everything is
accounted for, when no sample is at hand to say so.

Object id 0 is the node itself; its members are ``NodeMember``. A *chain id* names a call and all calls made on its
behalf, 0 where there is none; the low 8 bits count how deep the chain is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

from heros import limits
from heros.exceptions import DecodeError

__all__ = ["FRAME", "PROTOCOL", "Fault", "Fields", "Kind", "NodeMember", "Op", "join", "split"]

PROTOCOL = 2
"""Version of everything in this file and of the codec. (Protocol 1.0 is the CBOR one of the original HEROS.)"""

FRAME = struct.Struct("<BBHIQQQII")

Fields: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
"""The nine integers of ``FRAME``: kind, flags, op, member, id, first, second, header_length, buffer_count."""


class Kind(IntEnum):
    CALL = 1
    ONEWAY = 2
    ACK = 3
    RESULT = 16
    ERROR = 17
    SAMPLE = 32
    GAP = 33
    END = 34


class Op(IntEnum):
    """What a CALL does with the member."""

    CALL = 0
    GET = 1
    SET = 2


class Fault(IntEnum):
    """Why there is no result: the op of an ERROR frame."""

    RAISED = 0
    """The member raised. Header: the exception."""
    UNAVAILABLE = 1
    """The object or member is gone; nothing was carried out. Header: a text."""
    MALFORMED = 2
    """The request could not be decoded; nothing was carried out. Header: a text."""
    BUSY = 3
    """Too many requests wait; nothing was carried out. Header: a text."""


class NodeMember(IntEnum):
    """Members of object 0, the node itself."""

    BIND = 1
    """``[realm, name, instance]`` -> the description of that HERO; an empty instance means any.

    The description is a map: ``object_id``; ``instance``, ``class_name``, ``implements``, ``tags`` and
    ``extra_metadata`` as in its entry; and ``capabilities``, the list of its members (see there). A member's index in
    that list is the ``member`` of calls and subscriptions.
    """
    SUBSCRIBE = 2
    """``[subscription id, object id, member]`` -> the event's sequence at that moment."""
    UNSUBSCRIBE = 3
    """``[subscription id]`` -> None."""


_LENGTHS = struct.Struct("<Q")


def join(
    kind: int,
    op: int,
    member: int,
    ident: int,
    first: int,
    second: int,
    header: bytes | memoryview,
    buffers: Sequence[memoryview | bytes],
) -> list[memoryview | bytes]:
    """The parts of one frame with its buffers inline: fixed header, msgpack header, a Q for each buffer's length,
    the buffers. ``b"".join`` of the parts is the frame."""
    parts: list[memoryview | bytes] = [
        FRAME.pack(kind, 0, op, member, ident, first, second, len(header), len(buffers)),
        header,
    ]
    for buffer in buffers:
        parts.append(_LENGTHS.pack(memoryview(buffer).nbytes))
    parts.extend(buffers)
    return parts


def split(data: bytes | memoryview) -> tuple[Fields, memoryview, list[memoryview]]:
    """The reverse of :func:`join`: fields, msgpack header and buffers as views of ``data``.

    Raises:
        DecodeError: the lengths do not add up to ``data``, or pass a limit.
    """
    view = memoryview(data).cast("B")
    if len(view) < FRAME.size:
        raise DecodeError(f"a frame of {len(view)} bytes is shorter than its {FRAME.size}-byte header")
    fields: Fields = FRAME.unpack_from(view)
    header_length, count = fields[7], fields[8]
    if header_length > limits.MAX_HEADER_BYTES or count > limits.MAX_BUFFERS:
        raise DecodeError(f"a frame declares {header_length} header bytes and {count} buffers, which passes the limits")
    position = FRAME.size + header_length
    start = position + count * _LENGTHS.size
    if start > len(view):
        raise DecodeError(f"a frame of {len(view)} bytes declares {start} bytes before its buffers")
    header = view[FRAME.size : position]
    buffers = []
    for (length,) in _LENGTHS.iter_unpack(view[position:start]):
        if length > len(view) - start:
            raise DecodeError(f"a frame of {len(view)} bytes declares a buffer of {length} bytes at {start}")
        buffers.append(view[start : start + length])
        start += length
    if start != len(view):
        raise DecodeError(f"a frame of {start} bytes is followed by {len(view) - start} bytes too many")
    return fields, header, buffers
