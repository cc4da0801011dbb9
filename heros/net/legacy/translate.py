"""Messages of protocol 1.0 as ours, and back: CBOR on one side, a msgpack header with its buffers on the other.

Both directions go through plain values, without proxies: references stay references.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from heros import codec
from heros.buffers import Buffer
from heros.codec import Encoded, ErrorDescription
from heros.exceptions import DecodeError, EncodeError
from heros.net.legacy import cbor
from heros.wire import Fault

__all__ = [
    "error_to_cbor",
    "read_arguments",
    "read_error",
    "read_value",
    "value_to_cbor",
]


def value_to_cbor(header: bytes | memoryview, buffers: Sequence[Buffer], node_id: str) -> bytes:
    """A value of ours: a result, a sample, the arguments ``[[positional, ...], {keyword: ...}]`` of a call.

    Raises:
        EncodeError: existing HEROs have no form for it.
        DecodeError: it is malformed.
    """
    value, _ = codec.decode(header, buffers)
    return cbor.encode(value, node_id)


def read_value(data: bytes | memoryview, node_id: str) -> Encoded:
    """The reverse of :func:`value_to_cbor`. Raises ``DecodeError``."""
    return _encoded(cbor.decode(data, node_id))


def read_arguments(data: bytes | memoryview, node_id: str) -> Encoded:
    """The arguments of a call: ``[[positional, ...], {keyword: ...}]``, or, as in protocol 0.1, all of them by keyword.

    Raises:
        DecodeError: it is no arguments.
    """
    value = cbor.decode(data, node_id)
    if isinstance(value, dict):
        value = [[], value]
    if not isinstance(value, list) or [type(part) for part in value] != [list, dict]:
        raise DecodeError("the arguments of a call are not [[positional, ...], {keyword: ...}]")
    if not all(type(key) is str for key in value[1]):
        raise DecodeError("the keyword of an argument is no text")
    return _encoded(value)


_FAULTS: Final = {
    Fault.UNAVAILABLE: "HEROUnavailable",
    Fault.MALFORMED: "DecodeError",
    Fault.BUSY: "HEROSError",
}


def error_to_cbor(fault: int, header: bytes | memoryview, node_id: str) -> bytes:
    """The payload of an error reply for an ERROR frame of ours. Raises ``DecodeError`` if that is malformed."""
    value, _ = codec.decode(header)
    if not isinstance(value, ErrorDescription):
        value = ErrorDescription(_FAULTS.get(Fault(fault), "HEROSError"), "heros.exceptions", str(value), "")
    return cbor.encode(value, node_id)


def read_error(data: bytes | memoryview, node_id: str) -> bytes:
    """The reverse: the header of an ERROR frame with the fault RAISED, whatever the error reply holds."""
    try:
        description = cbor.error_of(cbor.decode(data, node_id))
    except DecodeError as error:
        description = ErrorDescription("DecodeError", "heros.exceptions", f"an error reply that is none: {error}", "")
    return codec.encode(description)[0]


def _encoded(value: Any) -> Encoded:
    try:
        return codec.encode(value)
    except EncodeError as error:  # it cannot be passed on
        raise DecodeError(f"a message of the original package holds what has no form here: {error}") from None
