"""An import path of existing programs: a value as bytes, and back.

What travels between processes does not pass through here: a transport sends a value's header and its buffers apart.
"""

from __future__ import annotations

from typing import Any

from heros import node, wire
from heros.buffers import Buffer, buffer_nbytes, copy_buffer
from heros.references import UnserializableRemoteObject

__all__ = ["UnserializableRemoteObject", "deserialize", "serialize"]


def serialize(obj: object) -> bytes:
    """``obj`` in one piece, arrays included.

    HEROs, their members, and objects that cannot be serialised become references to themselves in this process.

    Raises:
        EncodeError: it has no serialised form and cannot be referred to, or passes a limit.
    """
    header, buffers = node.current().dispatcher.encode(obj)
    return b"".join(wire.join(wire.Kind.RESULT, 0, 0, 0, 0, 0, header, [_bytes_of(buffer) for buffer in buffers]))


def deserialize(data: bytes | bytearray | memoryview) -> Any:
    """The value that :func:`serialize` made these bytes from. Arrays in it are read-only views of ``data``.

    A reference to a HERO becomes a ``RemoteHERO``, for which its owner is asked.

    Raises:
        DecodeError: the bytes are not such a value.
        HEROUnavailable: a HERO in it does not exist any more.
    """
    _, header, buffers = wire.split(memoryview(data).toreadonly())
    return node.current().dispatcher.decode(header, buffers)


def _bytes_of(buffer: Buffer) -> memoryview:
    target = memoryview(bytearray(buffer_nbytes(buffer)))
    copy_buffer(buffer, target)
    return target
