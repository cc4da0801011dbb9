"""Every offset and size of shared memory, and nothing else. All integers are in native byte order.

A channel's segment (one memfd)::

    0          NONCE         16 bytes, echoed by the client: the proof that both sides see the same memory
    4096       requests      ring    client -> server   CALL, ONEWAY, ACK; releases of the server's buffers
               replies       ring    server -> client   RESULT, ERROR; releases of the client's buffers
               events        ring    server -> client   SAMPLE, GAP, END

A ring::

    0          TAIL          Q   bytes published so far       written by the writer only
    128        HEAD          Q   bytes consumed so far        written by the reader only
    256        SLEEPING      Q   odd: the reader sleeps       written by the reader only
    384        data          a power of two of bytes

TAIL and HEAD only grow; ``& (capacity - 1)`` turns them into a position. The 128 bytes between them are two cache
lines, because processors fetch lines in pairs.

A record begins at a multiple of 8 and does not wrap::

    0          PREFIX        Q   low half: length of the body in bytes; high half: tag
    8          body          padded to a multiple of 8

Tags:

    WRAP       no body; the next record is at position 0
    FRAME      a frame, see below
    SPILLED    a frame whose header, table and inline buffers are in one arena slot: wire.FRAME, then one DESCRIPTOR
    RELEASE    lease ids (Q each) that the reader of the leased buffers gives back

A frame in a record::

    0          wire.FRAME
    40         msgpack header
               one DESCRIPTOR for each buffer
               the inline buffers, one after the other

    DESCRIPTOR   I  segment   number of the arena segment, as announced on the socket; 0: the buffer is inline
                 I  flags     COPY: the reader must copy the buffer out and release it at once
                 Q  offset    of the buffer in its segment
                 Q  length    of the buffer in bytes
                 Q  lease     what the reader gives back in a RELEASE; 0 when inline
"""

from __future__ import annotations

import platform
import struct
from typing import Final

__all__ = [
    "COPY",
    "DATA",
    "DESCRIPTOR",
    "FRAME",
    "HEAD",
    "LEASE",
    "LENGTH_MASK",
    "NONCE_BYTES",
    "PAGE",
    "RECORDS_PER_RING",
    "RELEASE",
    "RINGS_OFFSET",
    "SLEEPING",
    "SPILLED",
    "STORES_IN_ORDER",
    "TAG_SHIFT",
    "TAIL",
    "VERSION",
    "WORD",
    "WRAP",
    "channel_bytes",
    "max_record",
    "ring_bytes",
]

VERSION: Final = 1
"""Of everything in this file and of the handshake."""

WORD: Final = 8

# -- the channel's segment --------------------------------------------------------------------------------------
NONCE_BYTES: Final = 16
RINGS_OFFSET: Final = 4096

# -- a ring -----------------------------------------------------------------------------------------------------
TAIL: Final = 0
HEAD: Final = 128
SLEEPING: Final = 256
DATA: Final = 384

# -- a record ---------------------------------------------------------------------------------------------------
TAG_SHIFT: Final = 32
LENGTH_MASK: Final = (1 << TAG_SHIFT) - 1

WRAP: Final = 1
FRAME: Final = 2
SPILLED: Final = 3
RELEASE: Final = 4

RECORDS_PER_RING: Final = 4
"""A record takes at most this fraction of its ring, so that a large one never has to wait for an empty ring."""

DESCRIPTOR: Final = struct.Struct("=IIQQQ")
COPY: Final = 1

LEASE: Final = struct.Struct("=Q")

# -- an arena segment -------------------------------------------------------------------------------------------
PAGE: Final = 4096

STORES_IN_ORDER: Final = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
"""Whether this processor keeps stores, and loads, in program order. Elsewhere rings add fences of their own."""


def ring_bytes(capacity: int) -> int:
    """Bytes that a ring of ``capacity`` data bytes takes in its segment."""
    return DATA + capacity


def channel_bytes(capacities: tuple[int, int, int]) -> int:
    """Bytes of a channel's segment, a multiple of the page size."""
    total = RINGS_OFFSET + sum(ring_bytes(capacity) for capacity in capacities)
    return -(-total // PAGE) * PAGE


def max_record(capacity: int) -> int:
    """The longest body of a record in a ring of this capacity."""
    return capacity // RECORDS_PER_RING - WORD
