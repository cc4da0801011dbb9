"""Values to header and buffers. The rules and the table are in ``heros.codec``."""

from __future__ import annotations

import operator
import struct
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
from msgpack import ExtType, Packer, packb
from numpy.typing import NDArray

from heros import limits
from heros.buffers import Buffer
from heros.codec import dtypes, layout, nesting
from heros.codec.descriptions import ErrorDescription, HeroReference, MemberReference, ObjectReference
from heros.exceptions import EncodeError

__all__ = ["Encoded", "encode", "encode_arguments"]

Lower: TypeAlias = Callable[[Any], object]
"""What ``encode`` asks about a value that has no form of its own: the answer is sent in its place."""

Encoded: TypeAlias = tuple[bytes, Sequence[Buffer]]
"""Header and buffers."""

_MICROSECOND = timedelta(microseconds=1)


def encode(value: Any, lower: Lower | None = None) -> Encoded:
    """Split ``value`` into a msgpack header and the buffers that belong to it, in order.

    Buffers are the caller's own arrays and bytes-like objects, not copies. A large ``bytes`` object leaves the header
    without having been copied when it is ``value`` itself; one inside a list or dict is found one copy later.

    Args:
        value: anything the table of this module has a form for.
        lower: called with each object it has no form for; returns a reference or another value that has one, or
            raises ``EncodeError``. It may run any code, and may be called more than once for one object.

    Raises:
        EncodeError: something in ``value`` cannot be sent (the message says what, where in ``value``, and what to do
            about it), or it contains itself, is nested too deep or is too large.

    Thread-safe as far as ``value`` is not changed meanwhile.
    """
    kind = type(value)
    if kind in _SCALARS and (kind is not int or -0x8000_0000_0000_0000 <= value <= 0xFFFF_FFFF_FFFF_FFFF):
        return _pack_plain(value), ()
    try:
        encoder = _encoders.pop()
    except IndexError:
        encoder = _Encoder()
    encoder.lower = lower
    try:
        if type(value) in _BYTES_LIKE:
            value = _set_apart(value)
        try:
            header = encoder.pack(value)
            bytes_inside = 0xC4 in header or 0xC5 in header or 0xC6 in header  # or numbers that happen to look so
        except (BufferError, ValueError):  # perhaps a memoryview with gaps, or more bytes than msgpack takes
            header, bytes_inside = b"", True
        if bytes_inside:
            parted = _set_apart(value)
            if parted is not value or not header:
                encoder.restart()
                header = encoder.pack(parted)
        if len(header) > _SHORT:
            _check_value(header, value)
    except Exception as error:
        raise _explained(error, value, encoder) from error.__cause__  # the encoder itself is not used again
    buffers: Sequence[Buffer] = ()
    if encoder.buffers:
        buffers, encoder.buffers = encoder.buffers, []
    encoder.lower = None
    if len(header) <= _KEPT_PACKER_BYTES:
        _encoders.append(encoder)
    return header, buffers


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], lower: Lower | None = None) -> Encoded:
    """``encode([list(args), kwargs], lower)``: the arguments of a call. Most are a few plain ones."""
    if not kwargs and len(args) <= _FEW:
        for arg in args:
            kind = type(arg)
            if kind is int:
                if not -0x8000_0000_0000_0000 <= arg <= 0xFFFF_FFFF_FFFF_FFFF:
                    break
            elif kind is str:
                if len(arg) > _SHORT or not (arg.isascii() or arg.isprintable()):  # lone surrogates are neither
                    break
            elif kind not in _SCALARS:
                break
        else:
            header: bytes = _pack_plain((args, kwargs))
            if len(header) <= _SHORT:
                return header, ()
    return encode([list(args), kwargs], lower)


_SCALARS = frozenset({bool, int, float, type(None)})
_FEW: Final = 16
_pack_plain = Packer(autoreset=True).pack
"""One packer for all threads: nobody comes in between, as packing these neither runs code of Python's nor raises. (To
raise allocates, which may run the collector, a finaliser and then other threads, while half a message is in there.)"""
_BYTES_LIKE = frozenset({bytes, bytearray, memoryview})
_NO_BYTES = nesting.LEAVES - {bytes}
_INTEGERS = range(-(2**63), 2**64)
_NOTHING: Final = object()
_SHORT = limits.MAX_DEPTH
"""A header of so many bytes cannot be too deep."""

_PACKER_BYTES = 4 * limits.KIB
_KEPT_PACKER_BYTES = 64 * limits.KIB
"""A packer's memory grows with what it packs and never shrinks: one that has grown beyond this is let go."""


class _Encoder:
    """A packer, with the buffers it has put aside. One encodes one value at a time; ``_encoders`` holds the idle ones.

    msgpack packs exactly the builtin types by itself (``strict_types``) and hands everything else to ``default``.
    """

    __slots__ = ("__weakref__", "buffers", "depth", "lower", "offender", "pack")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.lower: Lower | None = None
        self.depth = 0
        self.offender: object = _NOTHING
        self.pack = self.new_packer().pack

    def restart(self) -> None:
        self.buffers.clear()
        self.depth = 0
        self.offender = _NOTHING

    def new_packer(self) -> Packer:
        return Packer(
            strict_types=True,
            default=self.default,
            autoreset=True,
            buf_size=_PACKER_BYTES,  # type: ignore[call-arg]  # the stubs describe msgpack's pure-Python packer
        )

    def default(self, obj: object) -> object:
        """What msgpack is to pack in place of ``obj``: something that it can pack by itself."""
        form = _FORMS.get(type(obj))
        try:
            return self.other(obj) if form is None else form(self, obj)
        except Exception:
            if self.offender is _NOTHING:
                self.offender = obj
            raise

    def other(self, obj: object) -> object:
        """The form of a subclass is that of its base; what has none is lowered."""
        form = _inherited_form(type(obj))
        if form is not None:
            return form(self, obj)
        if self.lower is None:
            raise _no_form(obj)
        lowered = _set_apart(self.lower(obj))
        kind = type(lowered)
        if kind in nesting.LEAVES or kind is list or kind is dict:
            return lowered if kind is not int else _encode_int(self, lowered)
        form = _FORMS.get(kind) or _inherited_form(kind)
        if form is None:
            raise _no_form(lowered)
        return form(self, lowered)

    def put_aside(self, buffer: Buffer) -> int:
        index = len(self.buffers)
        if index == limits.MAX_BUFFERS:
            raise EncodeError(_TOO_MANY_ARRAYS)
        self.buffers.append(buffer)
        return index

    def pack_inner(self, items: list[object]) -> bytes:
        """Pack what goes into the payload of an extension, with the same buffers."""
        if self.depth == limits.MAX_DEPTH:
            raise EncodeError(_TOO_DEEP)
        self.depth += 1
        packed = self.new_packer().pack(items)
        self.depth -= 1
        return packed


_encoders: deque[_Encoder] = deque(maxlen=64)
_TOO_MANY_ARRAYS = f"more than {limits.MAX_BUFFERS} arrays in one message; put them together into larger ones"
_TOO_DEEP = f"this value contains itself, or is nested more than {limits.MAX_DEPTH} deep"


class _Apart:
    """A bytes-like object that msgpack is to hand to ``default`` instead of copying it into the header."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = data


def _set_apart(value: Any, depth: int = 0) -> Any:
    """``value`` with every bytes-like object in it that is large, or is not ``bytes``, as an :class:`_Apart`.

    It is ``value`` itself when there is none. Keys and members of sets stay as they are.
    """
    kind = type(value)
    if kind in _BYTES_LIKE:
        return value if kind is bytes and len(value) < limits.OUT_OF_BAND_BYTES else _Apart(value)
    if not isinstance(value, (list, tuple, dict)):
        return value
    if depth == limits.MAX_DEPTH:
        raise EncodeError(_TOO_DEEP)
    items: Collection[Any] = value.values() if isinstance(value, dict) else value
    if _NO_BYTES.issuperset(map(type, items)):
        return value
    parted = [_set_apart(item, depth + 1) for item in items]
    if not any(map(operator.is_not, parted, items)):
        return value
    return dict(zip(value, parted, strict=True)) if isinstance(value, dict) else parted


# -- forms: what msgpack packs in place of a value --------------------------------------------------------------------

Form: TypeAlias = Callable[[_Encoder, Any], object]


def _extension(code: int, payload: bytes) -> ExtType:
    return tuple.__new__(ExtType, (code, payload))  # ExtType(code, payload) would check both, which takes longer


def _encode_array(encoder: _Encoder, array: NDArray[Any]) -> ExtType:
    description = dtypes.describe(array.dtype)
    shape = array.shape
    axes = len(shape)
    index = encoder.put_aside(array)
    return _extension(layout.ARRAY, layout.ARRAY_HEADS[axes].pack(index, array.flags.fnc, axes, *shape) + description)


def _encode_array_subclass(encoder: _Encoder, array: NDArray[Any]) -> ExtType:
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise EncodeError("a masked array would lose its mask; send array.filled(...), or [array.data, array.mask]")
    return _encode_array(encoder, array.view(np.ndarray))


def _encode_scalar(encoder: _Encoder, scalar: np.generic) -> ExtType:
    description = dtypes.describe(scalar.dtype)
    return _extension(layout.SCALAR, layout.LENGTH_16.pack(len(description)) + description + scalar.tobytes())


def _encode_apart(encoder: _Encoder, apart: _Apart) -> ExtType:
    data = apart.data
    if isinstance(data, memoryview):
        kind = 2
        data = data.cast("B") if data.c_contiguous and data.nbytes else memoryview(data.tobytes())
    else:
        kind = 1 if isinstance(data, bytearray) else 0
    if len(data) >= limits.OUT_OF_BAND_BYTES:
        return _extension(layout.LARGE_BYTES, layout.LARGE_BYTES_LAYOUT.pack(encoder.put_aside(data), kind))
    return _extension(layout.MEMORYVIEW if kind == 2 else layout.BYTEARRAY, bytes(data))


def _encode_bytes_subclass(encoder: _Encoder, value: bytes) -> object:
    plain = bytes(memoryview(value))
    return plain if len(plain) < limits.OUT_OF_BAND_BYTES else _encode_apart(encoder, _Apart(plain))


def _encode_bytearray_subclass(encoder: _Encoder, value: bytearray) -> object:
    return _encode_apart(encoder, _Apart(value))


def _encode_set(encoder: _Encoder, value: set[Any]) -> ExtType:
    return _extension(layout.SET, encoder.pack_inner(list(value)))


def _encode_frozenset(encoder: _Encoder, value: frozenset[Any]) -> ExtType:
    return _extension(layout.FROZENSET, encoder.pack_inner(list(value)))


def _encode_int(encoder: _Encoder, value: int) -> object:
    value = int.__int__(value)  # an IntEnum's member as its number
    return value if value in _INTEGERS else _extension(layout.INT, _integer_bytes(value))


def _integer_bytes(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > layout.MAX_NUMBER_BYTES:
        raise EncodeError(
            f"an int of {len(data)} bytes; {layout.MAX_NUMBER_BYTES} may be sent. Send it as bytes or an array"
        )
    return data


def _encode_complex(encoder: _Encoder, value: complex) -> ExtType:
    return _extension(layout.COMPLEX, layout.COMPLEX_LAYOUT.pack(value.real, value.imag))


def _encode_datetime(encoder: _Encoder, value: datetime) -> ExtType:
    fields = layout.DATETIME_LAYOUT.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    )
    return _extension(layout.DATETIME, fields + _offset_bytes(value.utcoffset()))


def _encode_date(encoder: _Encoder, value: date) -> ExtType:
    return _extension(layout.DATE, layout.DATE_LAYOUT.pack(value.year, value.month, value.day))


def _encode_time(encoder: _Encoder, value: time) -> ExtType:
    fields = layout.TIME_LAYOUT.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return _extension(layout.TIME, fields + _offset_bytes(value.utcoffset()))


def _offset_bytes(offset: timedelta | None) -> bytes:
    return b"" if offset is None else layout.OFFSET_LAYOUT.pack(offset // _MICROSECOND)


def _encode_timedelta(encoder: _Encoder, value: timedelta) -> ExtType:
    return _extension(layout.TIMEDELTA, layout.TIMEDELTA_LAYOUT.pack(value.days, value.seconds, value.microseconds))


def _encode_decimal(encoder: _Encoder, value: Decimal) -> ExtType:
    data = str(value).encode()
    if len(data) > layout.MAX_NUMBER_BYTES:
        raise EncodeError(f"a Decimal of {len(data)} digits; {layout.MAX_NUMBER_BYTES} may be sent")
    return _extension(layout.DECIMAL, data)


def _encode_fraction(encoder: _Encoder, value: Fraction) -> ExtType:
    numerator, denominator = _integer_bytes(value.numerator), _integer_bytes(value.denominator)
    return _extension(layout.FRACTION, layout.LENGTH_32.pack(len(numerator)) + numerator + denominator)


def _encode_uuid(encoder: _Encoder, value: UUID) -> ExtType:
    return _extension(layout.UUID, value.bytes)


def _encode_ip(kind: int) -> Form:
    return lambda encoder, value: _extension(layout.IP, bytes((kind,)) + str(value).encode())


def _encode_texts(code: int) -> Form:
    """References and errors. Their texts may come from anywhere: what is no valid Unicode in them is escaped."""

    def encode_texts(encoder: _Encoder, value: tuple[str | int, ...]) -> ExtType:
        return _extension(code, packb(value, unicode_errors="backslashreplace"))

    return encode_texts


_FORMS: dict[type, Form] = {
    tuple: lambda encoder, value: list(value),
    list: lambda encoder, value: list(value),
    dict: lambda encoder, value: dict(value),
    str: lambda encoder, value: str.__str__(value),  # not str(value), which an Enum makes its own
    float: lambda encoder, value: float.__float__(value),
    int: _encode_int,
    bytes: _encode_bytes_subclass,
    bytearray: _encode_bytearray_subclass,
    _Apart: _encode_apart,
    np.ndarray: _encode_array,
    np.generic: _encode_scalar,
    set: _encode_set,
    frozenset: _encode_frozenset,
    complex: _encode_complex,
    datetime: _encode_datetime,
    date: _encode_date,
    time: _encode_time,
    timedelta: _encode_timedelta,
    Decimal: _encode_decimal,
    Fraction: _encode_fraction,
    UUID: _encode_uuid,
    HeroReference: _encode_texts(layout.HERO),
    MemberReference: _encode_texts(layout.MEMBER),
    ObjectReference: _encode_texts(layout.OBJECT),
    ErrorDescription: _encode_texts(layout.ERROR),
}
_FORMS.update({kind: _encode_ip(number) for number, kind in enumerate(layout.IP_CLASSES)})
# Those of numpy's scalars that are also Python numbers, so that np.float64 keeps its dtype; str_ and bytes_ do not.
_FORMS.update({kind: _encode_scalar for kind in np.sctypeDict.values() if kind not in (np.str_, np.bytes_)})
# The integers that indexing and counting give: as with the original HEROS they arrive as int, which np.int64 is not.
_FORMS.update(dict.fromkeys((np.int32, np.int64), lambda encoder, value: int(value)))


def _inherited_form(kind: type) -> Form | None:
    for base in kind.__mro__[1:]:
        form = _FORMS.get(base)
        if form is not None:
            return _encode_array_subclass if form is _encode_array else form
    return None


# -- errors and limits of encoding ------------------------------------------------------------------------------------


def _no_form(obj: object) -> EncodeError:
    kind = type(obj)
    return EncodeError(
        f"an object of type {kind.__module__}.{kind.__qualname__} cannot be sent to another process; "
        "send numbers, text, lists, dicts or numpy arrays, or make it a HERO"
    )


def _explained(error: Exception, value: object, encoder: _Encoder) -> Exception:
    """The error to raise for one that came up while ``value`` was encoded."""
    if isinstance(error, EncodeError):
        text = str(error)
    elif isinstance(error, RecursionError) or "recursion limit" in str(error):  # the latter is msgpack's ValueError
        return EncodeError(_TOO_DEEP)
    elif isinstance(error, UnicodeEncodeError):
        encoder.offender = error.object
        text = f"a str cannot be sent: {error.reason}; send it as bytes (os.fsencode for the name of a file)"
    elif isinstance(error, (BufferError, OverflowError, ValueError, struct.error)):
        culprit = value if encoder.offender is _NOTHING else encoder.offender
        text = f"this {type(culprit).__name__} cannot be sent: {error}"
    else:
        return error
    path = "" if encoder.offender is _NOTHING else _path(value, encoder.offender, set())
    return EncodeError(f"at {path}: {text}" if path else text)


def _path(value: object, offender: object, seen: set[int], depth: int = 0) -> str | None:
    """Where in ``value`` the object ``offender`` is, as in ``[0]['image']``; empty: ``value`` is it; None: nowhere."""
    if value is offender:
        return ""
    if id(value) in seen or depth > limits.MAX_DEPTH:
        return None
    items: Iterable[tuple[str, object, object]]
    if isinstance(value, dict):
        items = ((f"[{key!r:.80}]", key, item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((f"[{index}]", None, item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        items = (("{...}", None, item) for item in value)
    else:
        return None
    seen.add(id(value))
    for step, key, item in items:
        inner = "" if key is offender else _path(item, offender, seen, depth + 1)
        if inner is not None:
            return step + inner
    return None


def _check_value(header: bytes, value: object) -> None:
    if len(header) > limits.MAX_HEADER_BYTES:
        raise EncodeError(f"{len(header)} bytes without arrays; {limits.MAX_HEADER_BYTES} may be. Use a numpy array")
    if len(header) > limits.MAX_ITEMS or nesting.may_be_deep(header):
        excess = nesting.excess(value)
        if excess:
            raise EncodeError(excess)
