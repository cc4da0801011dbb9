"""Header and buffers to values. The rules and the table are in ``heros.codec``."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal, cast
from uuid import UUID

import numpy as np
from msgpack import Unpacker, packb, unpackb
from numpy.typing import NDArray

from heros import limits
from heros.buffers import Buffer
from heros.codec import dtypes, layout, nesting
from heros.codec.descriptions import ErrorDescription, HeroReference, MemberReference, ObjectReference
from heros.exceptions import DecodeError

__all__ = ["decode"]


def decode(header: bytes | memoryview, buffers: Sequence[Buffer] = ()) -> tuple[Any, bool]:
    """The value that ``header`` and ``buffers`` stand for, and whether it contains a :data:`Reference`.

    Arrays, and what was a memoryview, are read-only views of the buffers, which they keep alive.

    Raises:
        DecodeError: for anything that is no valid message, and nothing else.

    Thread-safe.
    """
    if not buffers and (len(header) <= _SHORT or (len(header) <= _MIDDLING and not nesting.may_be_deep(bytes(header)))):
        if len(header) == 1 and (value := _ONE_BYTE[header[0]]) is not _NOTHING:
            return value, False
        try:
            return unpackb(header, ext_hook=_plain_extension, strict_map_key=False, timestamp=3), False
        except Exception:
            pass  # a reference, a set, a tuple as a key, or malformed
    try:
        try:
            decoder = _Decoder(buffers)
            value = decoder.unpack_all(header)
        except TypeError:  # most likely an array as the key of a map
            decoder = _Decoder(buffers, _dict_with_tuples_as_keys)
            value = decoder.unpack_all(header)
    except DecodeError:
        raise
    except Exception as error:  # whatever msgpack, numpy or a constructor says about malformed input
        raise DecodeError(f"a message is malformed: {str(error)[:200] or type(error).__name__}") from error
    if decoder.taken != len(buffers):
        raise DecodeError(f"a message of {len(buffers)} buffers refers to {decoder.taken} of them")
    return value, decoder.found_reference


_SHORT = limits.MAX_DEPTH
"""A header of so many bytes cannot be too deep, nor declare much. Most calls and results are that short."""


_MIDDLING: Final = limits.KIB
"""A header of so many bytes, if it is not deep, cannot declare more than 64 arrays of as many items each."""

_NOTHING: Final = object()
_ONE_BYTE: list[Any] = [_NOTHING] * 256
"""What a header of one byte stands for: most results are None or a small number."""
for _value in (None, False, True, *range(-32, 128)):
    _ONE_BYTE[packb(_value)[0]] = _value


class _Decoder:
    """One message that is being decoded."""

    __slots__ = ("buffers", "depth", "found_reference", "make_dict", "taken")

    def __init__(self, buffers: Sequence[Buffer], make_dict: Callable[[list[tuple[Any, Any]]], Any] | None = None):
        self.buffers = buffers
        self.make_dict = make_dict
        self.taken = 0  # buffers referred to so far
        self.depth = 0
        self.found_reference = False

    def unpack_all(self, header: bytes | memoryview) -> Any:
        if len(header) > limits.MAX_HEADER_BYTES:
            raise DecodeError(f"a header of {len(header)} bytes; {limits.MAX_HEADER_BYTES} may be")
        data = bytes(header)
        value = self.unpack(data)
        if len(data) > _SHORT and nesting.may_be_deep(data):
            excess = nesting.excess(value)
            if excess:
                raise DecodeError(f"a message is {excess}")
        return value

    def unpack(self, data: bytes) -> Any:
        if len(data) <= _SHORT and self.make_dict is None:
            return unpackb(data, ext_hook=self.extension, strict_map_key=False, timestamp=3)
        _check_counts(data)
        most = min(len(data), limits.MAX_ITEMS)
        return unpackb(
            data,
            ext_hook=self.extension,
            object_pairs_hook=self.make_dict,
            strict_map_key=False,
            timestamp=3,
            max_array_len=most,
            max_map_len=most,
        )

    def unpack_inner(self, data: bytes) -> list[Any]:
        """The array in the payload of an extension."""
        if self.depth == limits.MAX_DEPTH:
            raise DecodeError(f"a message is nested more than {limits.MAX_DEPTH} deep")
        self.depth += 1
        items = self.unpack(data)
        self.depth -= 1
        if type(items) is not list:
            raise DecodeError(f"an extension holds a {type(items).__name__} in place of an array")
        return items

    def extension(self, code: int, payload: bytes) -> object:
        reader = _READERS.get(code)
        if reader is not None:
            return reader(self, payload)
        plain = _PLAIN_READERS.get(code)
        if plain is not None:
            return plain(payload)
        raise DecodeError(f"unknown extension {code}: the sender's heros is newer, or this is no message of heros")

    def take(self, index: int) -> Buffer:
        if index != self.taken or index >= len(self.buffers):
            raise DecodeError(f"reference {self.taken} to a buffer is to number {index} of {len(self.buffers)}")
        self.taken = index + 1
        return self.buffers[index]


def _plain_extension(code: int, payload: bytes) -> object:
    return _PLAIN_READERS[code](payload)


_EAGER_BYTES = 4 * limits.MIB


def _check_counts(data: bytes) -> None:
    """Refuse ``data`` in which nested arrays declare many items that are not there.

    msgpack makes room for an array's items when it meets the head, and believes each head up to the length of the
    data. Where all that looks like heads could claim too much, the data is first read through without making objects.
    """
    heads = min(data.count(0xDC) + data.count(0xDD), _MSGPACK_NESTING)
    if heads * len(data) * 8 > _EAGER_BYTES:
        scanner = Unpacker(max_buffer_size=len(data))
        scanner.feed(data)
        scanner.skip()  # raises OutOfData


_MSGPACK_NESTING = 1024
"""How deep msgpack itself goes; as many arrays can be open at once."""


def _dict_with_tuples_as_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if type(value) is list else value


# -- readers: what the payload of an extension stands for -------------------------------------------------------------


def _read_array(decoder: _Decoder, payload: bytes) -> NDArray[Any]:
    index, order, axes = layout.ARRAY_HEAD.unpack_from(payload)
    if axes > layout.MAX_AXES or order > 1:
        raise DecodeError(f"an array of {axes} axes in order {order}")
    shape = layout.SHAPES[axes].unpack_from(payload, 4)
    dtype = dtypes.parse(payload[4 + 8 * axes :])
    buffer = decoder.take(index)
    # A view of an array refers to it (not only to its memory), which is what keeps a lease on shared memory alive.
    memory: NDArray[Any] = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    if math.prod(shape) * dtype.itemsize != memory.nbytes:
        raise DecodeError(f"an array of shape {shape} and dtype {str(dtype)[:80]} in a buffer of {memory.nbytes} bytes")
    array: NDArray[Any] = memory.view(dtype)
    if order:
        array = array.reshape(shape, order="F")
    elif axes != 1:
        array = array.reshape(shape)
    if array.flags.writeable:
        array.flags.writeable = False
    return array


def _read_scalar(payload: bytes) -> Any:
    start = 2 + layout.LENGTH_16.unpack_from(payload)[0]
    scalars = np.frombuffer(payload[start:], dtypes.parse(payload[2:start]))
    if len(scalars) != 1:
        raise DecodeError(f"a numpy scalar of {len(scalars)} items")
    return scalars[0]


def _read_large_bytes(decoder: _Decoder, payload: bytes) -> bytes | bytearray | memoryview:
    index, kind = layout.LARGE_BYTES_LAYOUT.unpack(payload)
    buffer = decoder.take(index)
    if kind == 0:
        return bytes(buffer)  # no copy of what is bytes already
    if kind == 1:
        return bytearray(buffer)
    if kind == 2:
        return memoryview(cast(Any, buffer)).toreadonly()
    raise DecodeError(f"large bytes of kind {kind}")


def _read_set(decoder: _Decoder, payload: bytes) -> set[Any]:
    return set(map(_hashable, decoder.unpack_inner(payload)))


def _read_frozenset(decoder: _Decoder, payload: bytes) -> frozenset[Any]:
    return frozenset(map(_hashable, decoder.unpack_inner(payload)))


def _read_int(payload: bytes) -> int:
    if len(payload) > layout.MAX_NUMBER_BYTES:
        raise DecodeError(f"an int of {len(payload)} bytes; {layout.MAX_NUMBER_BYTES} may be")
    return int.from_bytes(payload, "little", signed=True)


def _read_complex(payload: bytes) -> complex:
    return complex(*layout.COMPLEX_LAYOUT.unpack(payload))


def _read_datetime(payload: bytes) -> datetime:
    (*fields, fold), zone = _split_offset(payload, layout.DATETIME_LAYOUT)
    return datetime(*fields, tzinfo=zone, fold=fold)  # type: ignore[arg-type,misc]  # up to the microsecond


def _read_date(payload: bytes) -> date:
    return date(*layout.DATE_LAYOUT.unpack(payload))


def _read_time(payload: bytes) -> time:
    (*fields, fold), zone = _split_offset(payload, layout.TIME_LAYOUT)
    return time(*fields, tzinfo=zone, fold=fold)  # type: ignore[arg-type,misc]  # up to the microsecond


def _split_offset(payload: bytes, fields: struct.Struct) -> tuple[tuple[int, ...], timezone | None]:
    if len(payload) == fields.size:
        return fields.unpack(payload), None
    (offset,) = layout.OFFSET_LAYOUT.unpack(payload[fields.size :])
    return fields.unpack_from(payload), timezone(timedelta(microseconds=offset))


def _read_timedelta(payload: bytes) -> timedelta:
    return timedelta(*layout.TIMEDELTA_LAYOUT.unpack(payload))


def _read_decimal(payload: bytes) -> Decimal:
    if len(payload) > layout.MAX_NUMBER_BYTES:
        raise DecodeError(f"a Decimal of {len(payload)} digits; {layout.MAX_NUMBER_BYTES} may be")
    return Decimal(payload.decode("ascii"))


def _read_fraction(payload: bytes) -> Fraction:
    (length,) = layout.LENGTH_32.unpack_from(payload)
    if length > len(payload) - 4:
        raise DecodeError("a Fraction is shorter than its numerator")
    return Fraction(_read_int(payload[4 : 4 + length]), _read_int(payload[4 + length :]))


def _read_ip(payload: bytes) -> object:
    return layout.IP_CLASSES[payload[0]](payload[1:].decode())


def _read_hero(decoder: _Decoder, payload: bytes) -> HeroReference:
    decoder.found_reference = True
    return HeroReference(*_texts(decoder, payload, 2))


def _read_member(decoder: _Decoder, payload: bytes) -> MemberReference:
    decoder.found_reference = True
    realm, name, member, flavor = _texts(decoder, payload, 4)
    if flavor not in ("method", "event"):
        raise DecodeError(f"a reference to a member that is neither method nor event but {flavor[:80]!r}")
    return MemberReference(realm, name, member, cast(Literal["method", "event"], flavor))


def _read_object(decoder: _Decoder, payload: bytes) -> ObjectReference:
    decoder.found_reference = True
    fields = decoder.unpack_inner(payload)
    if [type(field) for field in fields] != [str, int, str, str] or fields[1] < 0:
        raise DecodeError("a reference to an object with fields missing or of the wrong type")
    return ObjectReference(*fields)


def _read_error(decoder: _Decoder, payload: bytes) -> ErrorDescription:
    decoder.found_reference = True
    fields = decoder.unpack_inner(payload)
    if len(fields) == 4:  # the arguments may be missing
        fields.append([])
    if [type(field) for field in fields] != [str, str, str, str, list] or not _PLAIN.issuperset(map(type, fields[4])):
        raise DecodeError("a description of an exception that is not four texts and a list of plain values")
    fields[4] = tuple(fields[4])
    return ErrorDescription(*fields)


_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})


def _texts(decoder: _Decoder, payload: bytes, count: int) -> list[str]:
    texts = decoder.unpack_inner(payload)
    if [type(text) for text in texts] != [str] * count:
        raise DecodeError(f"a description that is not {count} texts")
    return texts


_PLAIN_READERS: dict[int, Callable[[bytes], object]] = {
    layout.SCALAR: _read_scalar,
    layout.BYTEARRAY: bytearray,
    layout.MEMORYVIEW: memoryview,
    layout.COMPLEX: _read_complex,
    layout.INT: _read_int,
    layout.DATETIME: _read_datetime,
    layout.DATE: _read_date,
    layout.TIME: _read_time,
    layout.TIMEDELTA: _read_timedelta,
    layout.DECIMAL: _read_decimal,
    layout.FRACTION: _read_fraction,
    layout.UUID: lambda payload: UUID(bytes=payload),
    layout.IP: _read_ip,
}
"""Those that need nothing but the payload."""

_READERS: dict[int, Callable[[_Decoder, bytes], object]] = {
    layout.ARRAY: _read_array,
    layout.LARGE_BYTES: _read_large_bytes,
    layout.SET: _read_set,
    layout.FROZENSET: _read_frozenset,
    layout.HERO: _read_hero,
    layout.MEMBER: _read_member,
    layout.OBJECT: _read_object,
    layout.ERROR: _read_error,
}
