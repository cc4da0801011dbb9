"""Values of ``heros.codec`` as the CBOR of protocol 1.0, and back.

What travels
    None, bool, int, float, str, bytes, list, dict, set, complex, Decimal, Fraction, UUID, date and datetime are plain
    CBOR with its standard tags. The tags of protocol 1.0 (brackets are an array, ``id`` is an unsigned integer):

    ====  ============================  ==========================================================================
    4242  ndarray                       ``[[length of each axis], str(dtype) as bytes, items in C order as bytes]``
    9000  ``HeroReference``             ``[realm, name]``
    9003  ``MemberReference``, event    ``[HERO as above, name of the event]``
    9004  ``MemberReference``, method   ``[HERO as above, name of the method]``
    9001  ``ObjectReference``           ``[full name of its class, id, str of it]``, to one of the sender's objects
    9002  ``ObjectReference``           ``id``, to one of the receiver's objects
    9005  ``ErrorDescription``          ``{__heros_error__: true, type, module, message, traceback}``
    ====  ============================  ==========================================================================

    Existing HEROs know numpy arrays, but not numpy's scalars: these arrive as numbers, texts or bytes. bytearray and
    memoryview arrive as bytes, frozenset as set. What has no form at all is an ``EncodeError`` which says so: times
    without a date or a time zone, durations, structured arrays, objects of a third process.

Objects that stay with their owner
    9002 does not say whose object it is. A reference to one of our objects therefore travels with a number that no
    other node uses, which is the object's own plus one that depends on the node; ``MINE`` is unknown to others. The
    objects of all existing HEROs have one node id here, :data:`OLD`: their number is sent back to whomever asks for
    it, and only its owner knows it.

Limits
    Those of ``limits``, as for our own wire. Tags that could make much of few bytes are refused: references within
    the message (25, 28, 29, 256), regular expressions (35), MIME (36), binary fractions (5).

This is the only module that imports ``cbor2``, which it does when first used.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final, Literal, NoReturn, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from heros import limits
from heros.codec import ErrorDescription, HeroReference, MemberReference, ObjectReference, dtypes, layout, nesting
from heros.exceptions import DecodeError, EncodeError, HEROSError

__all__ = ["INSTALL", "OLD", "available", "decode", "encode", "encode_error", "error_of", "shown"]

INSTALL: Final = 'pip install "heros[legacy]"'

OLD: Final = "legacy"
"""The node id in references to objects of existing HEROs. (Node ids of ours are longer.)"""

_NDARRAY, _HERO, _OBJECT, _OBJECT_BACK, _EVENT, _METHOD, _ERROR = 4242, 9000, 9001, 9002, 9003, 9004, 9005
_SET, _IP_ADDRESS, _IP_NETWORK = 258, 260, 261
_REFUSED: Final = (5, 25, 28, 29, 35, 36, 256)

_MARKER: Final = "__heros_error__"


def available() -> bool:
    """Whether ``cbor2`` is installed. Does not import it."""
    return importlib.util.find_spec("cbor2") is not None


@cache
def _library() -> Any:
    """The module ``cbor2``.

    Raises:
        HEROSError: it is not installed, or too old.
    """
    try:
        library = importlib.import_module("cbor2")
    except ImportError:
        raise HEROSError(f"talking to the original package needs cbor2, which is not installed: {INSTALL}") from None
    if not hasattr(library, "shareable_decoder"):
        raise HEROSError(
            f"talking to the original package needs cbor2 6 or newer; the one installed is older: {INSTALL}"
        )
    return library


# -- values -> CBOR ---------------------------------------------------------------------------------------------------


def encode(value: Any, node_id: str) -> bytes:
    """``value``, which ``codec.decode`` has given, as CBOR.

    Args:
        node_id: this node's, whose objects ``value`` may refer to.

    Raises:
        EncodeError: existing HEROs have no form for something in it. The message says for what, and what to do.
        HEROSError: ``cbor2`` is missing.
    """
    library = _library()
    try:
        data: bytes = library.dumps(_Encoder(library.CBORTag, node_id).form(value))
    except EncodeError:
        raise
    except Exception as error:  # e.g. a dict as the key of a dict
        raise EncodeError(f"the original package cannot be sent this {type(value).__name__}: {error}") from None
    return data


class _Encoder:
    """Puts what ``cbor2`` has no form for into CBOR's terms."""

    def __init__(self, tag: Callable[[int, object], object], node_id: str) -> None:
        self.tag = tag
        self.node_id = node_id

    def form(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        maker = _FORMS.get(kind)
        if maker is not None:
            return maker(self, value)
        if isinstance(value, np.generic):
            return self.form(_plain_scalar(value))
        if depth == limits.MAX_DEPTH:
            raise EncodeError(f"nested more than {limits.MAX_DEPTH} deep, or it contains itself")
        if kind is dict:
            return {self.key(key, depth + 1): self.form(item, depth + 1) for key, item in value.items()}
        if kind is list or kind is tuple:
            if _AS_THEY_ARE.issuperset(map(type, value)):
                return value
            return [self.form(item, depth + 1) for item in value]
        if kind is set or kind is frozenset:
            return self.tag(_SET, tuple(self.key(item, depth + 1) for item in value))
        raise EncodeError(
            f"the original package has no form for a {kind.__name__}; send numbers, texts or numpy arrays"
        )

    def key(self, value: Any, depth: int) -> Any:
        """The form of the key of a dict or an element of a set, which has to be hashable."""
        form = self.form(value, depth)
        return tuple(self.key(item, depth + 1) for item in value) if type(value) is tuple else form

    def hero(self, realm: str, name: str) -> object:
        return self.tag(_HERO, (realm, name))


_AS_THEY_ARE: Final = frozenset({bool, int, float, str, bytes, bytearray, type(None), complex, UUID, Fraction, Decimal})


def _array(encoder: _Encoder, array: NDArray[Any]) -> object:
    dtype = array.dtype
    if dtype.names is not None or dtype.hasobject:
        raise EncodeError(
            f"the original package cannot read an array of dtype {dtype}; send its fields one by one, in a dict"
        )
    name = str(dtype)
    if _DTYPE.fullmatch(name) is None:
        raise EncodeError(f"the original package cannot read an array of dtype {name}; convert it with .astype(...)")
    return encoder.tag(_NDARRAY, (array.shape, name.encode(), array.tobytes()))


def _plain_scalar(scalar: np.generic) -> Any:
    """What existing HEROs get for one of numpy's scalars."""
    kind = scalar.dtype.kind
    if kind in "mM":
        raise EncodeError(f"the original package has no form for a {type(scalar).__name__}; send its text, or an array")
    if kind == "f":
        return float(cast(Any, scalar))
    if kind == "c":
        return complex(cast(Any, scalar))
    if kind == "V":
        raise EncodeError("the original package cannot read an item of a structured array; send its fields in a dict")
    return scalar.item()


def _object(encoder: _Encoder, reference: ObjectReference) -> object:
    node_id, object_id, type_name, representation = reference
    if node_id == OLD:
        return encoder.tag(_OBJECT_BACK, object_id)
    if node_id == encoder.node_id:
        return encoder.tag(_OBJECT, (type_name, _mine(node_id) + object_id, representation))
    raise EncodeError(
        f"{type_name} ({representation}) is an object of another process, to which the original package cannot refer; "
        "have its owner send it, or make it a HERO"
    )


def _error(encoder: _Encoder, error: ErrorDescription) -> object:
    description = {
        _MARKER: True,
        "type": error.type,
        "module": error.module,
        "message": error.message,
        "traceback": error.traceback,
    }
    return encoder.tag(_ERROR, description)


def _member(encoder: _Encoder, reference: MemberReference) -> object:
    tag = _EVENT if reference.flavor == "event" else _METHOD
    return encoder.tag(tag, (encoder.hero(reference.realm, reference.name), reference.member))


def _datetime(encoder: _Encoder, value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise EncodeError(
            f"the original package cannot be sent the datetime {value}, which has no time zone; give it one, for "
            "instance with .astimezone()"
        )
    return value


def _refuse(advice: str) -> Callable[[_Encoder, Any], NoReturn]:
    def refuse(encoder: _Encoder, value: Any) -> NoReturn:
        raise EncodeError(f"the original package has no form for a {type(value).__name__}; send {advice}")

    return refuse


_FORMS: Final[dict[type, Callable[[_Encoder, Any], Any]]] = {
    np.ndarray: _array,
    memoryview: lambda encoder, value: bytes(value),
    datetime: _datetime,
    date: lambda encoder, value: value,
    time: _refuse("its isoformat()"),
    timedelta: _refuse("its total_seconds()"),
    HeroReference: lambda encoder, value: encoder.hero(*value),
    MemberReference: _member,
    ObjectReference: _object,
    ErrorDescription: _error,
}
_ADDRESSES, _NETWORKS, _INTERFACES = layout.IP_CLASSES[0:2], layout.IP_CLASSES[2:4], layout.IP_CLASSES[4:6]
_FORMS.update({kind: lambda encoder, value: encoder.tag(_IP_ADDRESS, value.packed) for kind in _ADDRESSES})
_FORMS.update(
    {
        kind: lambda encoder, value: encoder.tag(_IP_NETWORK, {value.network_address.packed: value.prefixlen})
        for kind in _NETWORKS
    }
)
_FORMS.update({kind: _refuse("its ip and its network") for kind in _INTERFACES})


def _mine(node_id: str) -> int:
    """What is added to the numbers of a node's objects, so that no two nodes use the same."""
    return int.from_bytes(hashlib.blake2b(node_id.encode(), digest_size=5).digest(), "big") << 23


def encode_error(error: ErrorDescription) -> bytes:
    """``encode(error)``, without ``cbor2``: also to tell that it is missing."""
    fields = {"type": error.type, "module": error.module, "message": error.message, "traceback": error.traceback}
    texts = b"".join(_text_bytes(text) for field in fields.items() for text in field)
    return b"\xd9" + _ERROR.to_bytes(2, "big") + b"\xa5" + _text_bytes(_MARKER) + b"\xf5" + texts


def _text_bytes(text: str) -> bytes:
    data = text.encode(errors="backslashreplace")
    return b"\x7a" + len(data).to_bytes(4, "big") + data


# -- CBOR -> values ---------------------------------------------------------------------------------------------------


def decode(data: bytes | memoryview, node_id: str) -> Any:
    """The value that ``data`` stands for. Arrays are read-only.

    What follows the value in ``data`` is ignored, as existing HEROs do. There may be something in it that is valid
    CBOR and has no form in ``codec``, such as a dict as the key of a dict.

    Args:
        node_id: this node's, whose objects ``data`` may refer to.

    Raises:
        DecodeError: for anything that is no valid message.
        HEROSError: ``cbor2`` is missing.
    """
    library = _library()
    reader = _Reader(library, node_id)
    try:
        value = library.loads(
            data, tag_hook=reader.tagged, semantic_decoders=reader.standard, max_depth=2 * limits.MAX_DEPTH
        )
    except Exception as error:  # whatever cbor2, numpy or a constructor says about malformed input
        raise DecodeError(f"a message of the original package is malformed: {_reason(error)}") from None
    excess = nesting.excess(value)
    if excess:
        raise DecodeError(f"a message of the original package is {excess}")
    return None if value is library.undefined else value


def _reason(error: BaseException) -> str:
    """``cbor2`` hides what its hooks raise behind errors of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)[:200] or type(error).__name__


class _Reader:
    def __init__(self, library: Any, node_id: str) -> None:
        self.node_id = node_id
        self.standard: dict[int, Callable[[Any, bool], Any]] = {tag: _refused(tag) for tag in _REFUSED}
        self.standard[2] = _big_integer
        self.standard[3] = lambda data, immutable: -1 - _big_integer(data, immutable)

    def tagged(self, tag: Any, immutable: bool) -> Any:
        reader = _READERS.get(tag.tag)
        if reader is None:
            raise DecodeError(f"tag {tag.tag} is unknown")
        return reader(self, tag.value)


def _refused(tag: int) -> Callable[[Any, bool], NoReturn]:
    def refuse(value: Any, immutable: bool) -> NoReturn:
        raise DecodeError(f"tag {tag} is not accepted")

    return refuse


def _big_integer(data: Any, immutable: bool) -> int:
    if not isinstance(data, bytes) or len(data) > layout.MAX_NUMBER_BYTES - 1:
        raise DecodeError("a large integer is no bytes, or too many")
    return int.from_bytes(data, "big")


def _items(value: Any, *kinds: type) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != len(kinds):
        raise DecodeError(f"a tag of protocol 1.0 with a {type(value).__name__} that is not {len(kinds)} items")
    for item, kind in zip(value, kinds, strict=True):
        if not isinstance(item, kind) or isinstance(item, bool):
            raise DecodeError(f"a tag of protocol 1.0 with a {type(item).__name__} in place of a {kind.__name__}")
    return tuple(value)


_DTYPE = re.compile(r"[<>|=]?[A-Za-z][A-Za-z0-9_]{0,31}(?:\[[0-9]{0,9}[A-Za-z]{1,7}\])?")


def _read_array(reader: _Reader, value: Any) -> NDArray[Any]:
    shape, name, items = _items(value, object, bytes, bytes)
    text = name.decode("ascii")
    if _DTYPE.fullmatch(text) is None:
        raise DecodeError(f"an array of dtype {text[:80]!r}")
    dtype = np.dtype(text)
    dtypes.describe(dtype)  # raises for what we would not send either
    if not isinstance(shape, list | tuple) or len(shape) > layout.MAX_AXES:
        raise DecodeError("an array without a shape")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise DecodeError(f"an array of shape {shape}")
    return np.frombuffer(items, dtype).reshape(shape)


def _read_hero(reader: _Reader, value: Any) -> HeroReference:
    return HeroReference(*_items(value, str, str))


def _read_member(flavor: Literal["method", "event"]) -> Callable[[_Reader, Any], MemberReference]:
    def read(reader: _Reader, value: Any) -> MemberReference:
        hero, member = _items(value, HeroReference, str)
        return MemberReference(hero.realm, hero.name, member, flavor)

    return read


def _read_object(reader: _Reader, value: Any) -> ObjectReference:
    type_name, ident, representation = _items(value, str, int, str)
    return ObjectReference(OLD, _checked_id(ident), type_name, representation)


def _read_object_back(reader: _Reader, ident: Any) -> ObjectReference:
    number = _checked_id(ident) - _mine(reader.node_id)
    return ObjectReference(reader.node_id, max(number, 0), "an object", hex(ident))  # 0 is none


def _checked_id(ident: Any) -> int:
    if type(ident) is not int or not 0 <= ident < 1 << 64:
        raise DecodeError("a reference to an object without its number")
    return ident


def _read_error(reader: _Reader, value: Any) -> ErrorDescription:
    return error_of(value)


def error_of(value: Any) -> ErrorDescription:
    """What the payload of an error reply stands for; existing HEROs before 2026 send a text and no description."""
    if isinstance(value, ErrorDescription):
        return value
    if not isinstance(value, Mapping) or not value.get(_MARKER):
        return ErrorDescription("RemoteHEROError", "heros.exceptions", shown(value), "")
    kind = _text(value.get("type")) or "RemoteHEROError"
    # An error that an existing HERO passes on has lost its module, and one without a type had none to begin with.
    module = _text(value.get("module")) or ("heros.exceptions" if kind == "RemoteHEROError" else "builtins")
    return ErrorDescription(kind, module, _text(value.get("message")), _text(value.get("traceback")))


def shown(value: Any) -> str:
    """``value``, which :func:`decode` has given, for people. numpy cannot show all arrays that it can make."""
    try:
        return repr(value) if isinstance(value, np.ndarray) else str(value)
    except ValueError:
        return f"a value that cannot be shown ({type(value).__name__})"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


_READERS: Final[dict[int, Callable[[_Reader, Any], Any]]] = {
    _NDARRAY: _read_array,
    _HERO: _read_hero,
    _EVENT: _read_member("event"),
    _METHOD: _read_member("method"),
    _OBJECT: _read_object,
    _OBJECT_BACK: _read_object_back,
    _ERROR: _read_error,
}
