"""Packets: what travels between two nodes in one Zenoh sample. Bytes only, no I/O.

A frame (``wire``) of up to ``BATCH_BYTES`` travels with its neighbours in one FRAMES packet. A larger one travels as
a BEGIN and as many MORE packets, each with a piece of the body, and is put together again by the receiver. All
integers are little-endian.

======  ======  ========  ========================================================================================
offset  format  name      meaning
======  ======  ========  ========================================================================================
0       B       kind      one of ``Kind``
1       B       inbox     which inbox of the channel it is for: ``SERVER``, ``CLIENT`` or ``REPLIES``
2       H       protocol  ``wire.PROTOCOL``
4       I       -         0
8       Q       channel   chosen at random by the client
16      Q       sequence  1, 2, 3 ... for each inbox of a channel; 0 in packets that are not part of its stream
24      Q       total     BEGIN: bytes of the whole body
======  ======  ========  ========================================================================================

HELLO and WELCOME are the head and a JSON text (``greeting``); REFUSED and BYE are the head and the reason, for people,
in UTF-8. PING and PONG are the head alone. FRAMES is the head and, for each frame, a Q with the length of its body,
its ``wire.FRAME``, its body, and zeros up to a multiple of 16. The head of BEGIN and MORE is the sample's attachment,
in BEGIN followed by the ``wire.FRAME``; the payload is nothing but the piece of the body, so that one event sample
can be sent to many subscribers without being copied for each.

A body is zeros, the msgpack header, a Q for each buffer's length, the buffers. There are as many zeros as put the
first buffer at a multiple of 16: arrays arrive aligned. Without buffers a body is the msgpack header and nothing else.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from heros import limits, wire
from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import DecodeError, EncodeError

__all__ = [
    "ALIGNMENT",
    "BATCH_BYTES",
    "CLIENT",
    "HEAD",
    "PADDING",
    "PIECE_BYTES",
    "REPLIES",
    "SERVER",
    "SHORT",
    "Body",
    "Kind",
    "Packet",
    "ReceivedFrame",
    "framed",
    "head",
    "parse",
    "split_body",
    "split_frames",
]

HEAD: Final = struct.Struct("<BBHIQQQ")
_LENGTH: Final = struct.Struct("<Q")
_FRAMED: Final = struct.Struct("<Q" + wire.FRAME.format.removeprefix("<"))
SHORT: Final = struct.Struct(HEAD.format + _FRAMED.format.removeprefix("<"))
"""All that stands before the body in a FRAMES packet with one frame."""

SERVER: Final = 0
"""What a client sends."""
CLIENT: Final = 1
"""What a server sends, but for replies."""
REPLIES: Final = 2
"""Replies, which callers read: they do not wait behind samples."""

ALIGNMENT: Final = 16

BATCH_BYTES: Final = 32 * limits.KIB
"""Frames up to this size share packets; well below one Zenoh batch (64 KiB)."""

PIECE_BYTES: Final = 1 * limits.MIB
"""Bytes of one piece of a large frame. Zenoh and the memory allocator are at their best between 0.5 and 2 MiB."""

WHOLE_BYTES: Final = 2 * limits.MIB
"""Up to this size a frame goes in one piece, which saves the receiver the copy that puts pieces together."""


class Kind(IntEnum):
    HELLO = 1
    """Client to server, with who it is; repeated until answered. The first one makes the link."""
    WELCOME = 2
    """Server to client: the link is there."""
    REFUSED = 3
    """Server to client: there is no link, and why."""
    BYE = 4
    """The other end has closed the channel: then it is the last packet of its stream. Or it does not know it."""
    FRAMES = 16
    """Any number of small frames."""
    BEGIN = 17
    """The first piece of a large frame."""
    MORE = 18
    """The next piece of the large frame that was begun last; no other packet of its stream comes in between."""
    PING = 19
    """Asks for a PONG. Both are part of the stream, so that the loss of what was sent before them is noticed."""
    PONG = 20


class Packet(NamedTuple):
    """A packet as it was received; the first six are its head."""

    kind: int
    inbox: int
    protocol: int
    channel: int
    sequence: int
    total: int
    payload: bytes
    attachment: bytes | None


ReceivedFrame: TypeAlias = "tuple[wire.Fields, memoryview, list[Buffer]]"
"""Fields, msgpack header, buffers."""


def head(kind: int, inbox: int, channel: int, sequence: int = 0, total: int = 0) -> bytes:
    return HEAD.pack(kind, inbox, wire.PROTOCOL, 0, channel, sequence, total)


def parse(payload: bytes, attachment: bytes | None) -> Packet:
    """Raises ``DecodeError`` when there is no head."""
    data = payload if attachment is None else attachment
    if len(data) < HEAD.size:
        raise DecodeError(f"a packet of {len(data)} bytes is shorter than its {HEAD.size}-byte head")
    kind, inbox, protocol, _, channel, sequence, total = HEAD.unpack_from(data)
    return Packet(kind, inbox, protocol, channel, sequence, total, payload, attachment)


class Body:
    """The body of one frame, to be sent. It refers to the caller's buffers.

    Raises:
        EncodeError: too many buffers, or too many bytes.
    """

    __slots__ = ("_parts", "nbytes")

    def __init__(self, header: bytes, buffers: Sequence[Buffer]) -> None:
        if not buffers:
            self._parts: list[bytes | memoryview] = [header]
            self.nbytes = len(header)
        else:
            if len(buffers) > limits.MAX_BUFFERS:
                raise EncodeError(f"a message with {len(buffers)} buffers; the limit is {limits.MAX_BUFFERS}")
            views = [_byte_view(buffer) for buffer in buffers]
            lengths = b"".join([_LENGTH.pack(len(view)) for view in views])
            self._parts = [bytes(_padding(len(header), len(views))), header, lengths, *views]
            self.nbytes = sum(map(len, self._parts))
            if self.nbytes > limits.NET_FRAME_BYTES:
                raise EncodeError(
                    f"a message of {self.nbytes} bytes; the network carries at most {limits.NET_FRAME_BYTES} in one. "
                    "Send it in parts."
                )

    def pieces(self) -> Iterator[bytes | bytearray]:
        """The body in pieces of ``PIECE_BYTES``; one, possibly empty, when it is small.

        A piece is overwritten when the next one is asked for: fresh memory for each would cost several times what the
        copying costs.
        """
        if self.nbytes <= BATCH_BYTES:
            yield b"".join(self._parts)
            return
        whole = self.nbytes <= WHOLE_BYTES
        try:
            scratch = _scratch.pop()
        except IndexError:
            scratch = bytearray()
        try:
            remaining = self.nbytes
            slices = _slices(self._parts, self.nbytes if whole else PIECE_BYTES)
            while remaining:
                length = remaining if whole else min(remaining, PIECE_BYTES)
                _resize(scratch, length)
                with memoryview(scratch) as target:
                    position = 0
                    while position < length:
                        part = next(slices)
                        target[position : position + len(part)] = part
                        position += len(part)
                yield scratch
                remaining -= length
        finally:
            _scratch.append(scratch)

    def joined(self) -> bytes:
        return b"".join(map(bytes, self.pieces()))


_scratch: deque[bytearray] = deque(maxlen=4)
"""Memory that has been touched, for pieces; one for each thread that happens to send."""


def _resize(scratch: bytearray, length: int) -> None:
    if len(scratch) > length:
        del scratch[length:]
    elif len(scratch) < length:
        scratch.extend(bytes(length - len(scratch)))


def _slices(parts: list[bytes | memoryview], piece: int) -> Iterator[bytes | memoryview]:
    """``parts``, cut also where a piece ends."""
    room = piece
    for part in parts:
        position = 0
        while position < len(part):
            cut = part[position : position + room]
            yield cut
            position += len(cut)
            room = room - len(cut) or piece


def _byte_view(buffer: Buffer) -> bytes | memoryview:
    """The bytes of ``buffer``, copied only when it is strided. Arrays in Fortran order are sent in that order."""
    if isinstance(buffer, bytes):
        return buffer
    if buffer_nbytes(buffer) == 0:
        return b""
    if isinstance(buffer, np.ndarray):
        flags = buffer.flags
        array = buffer.T if flags.f_contiguous and not flags.c_contiguous else buffer
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return memoryview(buffer).cast("B")


def _padding(header_length: int, buffer_count: int) -> int:
    return -(header_length + buffer_count * _LENGTH.size) % ALIGNMENT if buffer_count else 0


def framed(frame: bytes, body: bytes) -> bytes:
    """One frame as it stands in a FRAMES packet."""
    return b"".join([_LENGTH.pack(len(body)), frame, body, bytes(-len(body) % ALIGNMENT)])


PADDING: Final = tuple(bytes(-length % ALIGNMENT) for length in range(ALIGNMENT))
"""The zeros that follow a frame's body, by its length modulo ``ALIGNMENT``."""


def split_frames(data: bytes) -> list[ReceivedFrame]:
    """The frames of a FRAMES packet. Raises ``DecodeError`` when any of them is malformed."""
    view = memoryview(data)
    end = len(view)
    position = HEAD.size
    frames = []
    while position < end:
        start = position + _FRAMED.size
        if start > end:
            raise DecodeError(f"a packet of {end} bytes ends within the fixed header of a frame")
        length, *numbers = _FRAMED.unpack_from(view, position)
        if length > end - start:
            raise DecodeError(f"a packet of {end} bytes declares a frame of {length} bytes at {start}")
        fields: wire.Fields = tuple(numbers)  # the nine of wire.FRAME
        frames.append((fields, *split_body(fields, view[start : start + length])))
        position = start + length + -length % ALIGNMENT
    return frames


def split_body(fields: wire.Fields, body: memoryview) -> tuple[memoryview, list[Buffer]]:
    """Header and buffers of a body, as views of it. Raises ``DecodeError``."""
    header_length, count = fields[7], fields[8]
    if count == 0 and header_length == len(body) <= limits.MAX_HEADER_BYTES:
        return body, []
    if header_length > limits.MAX_HEADER_BYTES or count > limits.MAX_BUFFERS:
        raise DecodeError(f"a frame declares {header_length} header bytes and {count} buffers, which passes the limits")
    position = _padding(header_length, count)
    header_end = position + header_length
    start = header_end + count * _LENGTH.size
    if start > len(body):
        raise DecodeError(f"a body of {len(body)} bytes declares {start} bytes before its buffers")
    buffers: list[Buffer] = []
    for (length,) in _LENGTH.iter_unpack(body[header_end:start]):
        if length > len(body) - start:
            raise DecodeError(f"a body of {len(body)} bytes declares a buffer of {length} bytes at {start}")
        buffers.append(_received_buffer(body, start, length))
        start += length
    if start != len(body):
        raise DecodeError(f"a body of {start} bytes is followed by {len(body) - start} bytes too many")
    return body[position:header_end], buffers


def _received_buffer(body: memoryview, start: int, length: int) -> Buffer:
    if length == 0:
        return b""
    array: NDArray[np.uint8] = np.frombuffer(body, np.uint8, length, start)
    return array
