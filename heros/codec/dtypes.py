"""numpy dtypes as text, and back. What is not on the list below does not cross a process boundary.

A dtype travels as ASCII text of one of two forms:

- *simple*: numpy's own ``dtype.str``: byte order ``<``, ``>`` or ``|``, kind, bytes of an item, and for kinds ``m``
  and ``M`` the unit: ``<f8``, ``|b1``, ``|S5``, ``>u2``, ``<U12`` (12 characters of 4 bytes), ``<M8[25us]``, ``|V3``.
  Kinds are b, i, u, f, c, m, M, S, U and V. A long double has as many formats as there are machines, so the bits
  of its mantissa follow (``<f16:63``, ``<c32:63``), and a machine with another format refuses it;
- *structured*: a JSON object with ``names`` (list of text), ``formats`` (for each field a simple text, an object of
  this form, or ``[format, [n, ...]]`` for a field that is itself an array), ``offsets`` (bytes), ``itemsize`` (bytes)
  and, where fields have them, ``titles`` (text or null).

What numpy keeps beyond that (alignment flag, metadata, a record type) is about programs, not data, and stays behind.
Object dtypes and numpy's variable-width strings hold pointers; they are refused on both sides.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, TypeAlias, cast

import numpy as np

from heros.exceptions import DecodeError, EncodeError

__all__ = ["describe", "parse"]

DType: TypeAlias = "np.dtype[Any]"

MAX_DESCRIPTION_BYTES = 32_768
"""Room for about a thousand fields; the length must fit into 16 bits."""

_SIMPLE = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(?:8|16)|\|[SV][1-9][0-9]{0,9}|[<>]U[1-9][0-9]{0,9}"
    r"|[<>][mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_LONG_DOUBLE = re.compile(r"([<>](?:f12|f16|c24|c32)):([0-9]{1,3})")
_MAX_NESTING = 16

# Programs use a handful of dtypes over and over. The caches are bounded, since a peer chooses what comes in: a full
# one is emptied, and long descriptions are not kept.
_CACHE_ENTRIES = 256
_CACHED_BYTES = 2048
_descriptions: dict[DType, bytes] = {}
_dtypes: dict[bytes, DType] = {}


def describe(dtype: DType) -> bytes:
    """The description of ``dtype``. Raises ``EncodeError`` for one that cannot be sent."""
    known = _descriptions.get(dtype)
    if known is not None:
        return known
    form = _form(dtype)
    description = (form if isinstance(form, str) else json.dumps(form, separators=(",", ":"))).encode()
    if len(description) > MAX_DESCRIPTION_BYTES:
        raise EncodeError(f"a dtype of {len(dtype.names or ())} fields is too large to be sent; split the array")
    _remember(_descriptions, dtype, description, len(description))
    return description


def parse(description: bytes) -> DType:
    """The dtype that ``description`` stands for. Raises ``DecodeError`` for anything :func:`describe` cannot make."""
    known = _dtypes.get(description)
    if known is not None:
        return known
    if len(description) > MAX_DESCRIPTION_BYTES:
        raise DecodeError(f"the description of a dtype takes {len(description)} bytes; {MAX_DESCRIPTION_BYTES} may")
    try:
        text = description.decode("ascii")
        dtype = _dtype(json.loads(text) if text.startswith("{") else text)
    except DecodeError:
        raise
    except Exception as error:  # whatever numpy or json think of it
        raise DecodeError(f"{description[:80]!r} is not the description of a dtype: {error}") from None
    _remember(_dtypes, description, dtype, len(description))
    return dtype


def _remember(known: dict[Any, Any], key: object, value: object, size: int) -> None:
    if size <= _CACHED_BYTES:
        if len(known) >= _CACHE_ENTRIES:
            known.clear()
        known[key] = value


# -- dtype -> description -------------------------------------------------------------------------------------


def _form(dtype: DType) -> str | dict[str, Any]:
    if dtype.hasobject:
        raise EncodeError(
            f"an array of dtype {dtype} holds Python objects and cannot be sent; "
            "convert it to numbers or fixed-width text with .astype(...), or send a list"
        )
    if dtype.kind == "V" and dtype.names is not None:
        return _structured_form(dtype)
    text = dtype.str
    if dtype.type in (np.longdouble, np.clongdouble) and not _SIMPLE.fullmatch(text):
        return f"{text}:{_mantissa_bits()}"
    if not _SIMPLE.fullmatch(text):
        raise EncodeError(f"dtype {dtype!r} cannot be sent; convert the array with .astype(...)")
    return text


def _structured_form(dtype: DType) -> dict[str, Any]:
    names = dtype.names or ()
    fields = [dtype.fields[name] for name in names] if dtype.fields is not None else []
    form: dict[str, Any] = {
        "names": names,
        "formats": [_field_form(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    if not dtype.itemsize:
        raise EncodeError("an array whose dtype has no bytes cannot be sent")
    titles = [field[2] if len(field) > 2 else None for field in fields]
    if any(title is not None for title in titles):
        if not all(title is None or type(title) is str for title in titles):
            raise EncodeError(f"dtype {dtype!r} cannot be sent: the titles of its fields are not text")
        form["titles"] = titles
    return form


def _field_form(dtype: DType) -> object:
    if dtype.subdtype is None:
        return _form(dtype)
    base, shape = dtype.subdtype
    return [_form(base), shape]


@cache
def _mantissa_bits() -> int:
    return int(np.finfo(np.longdouble).nmant)


# -- description -> dtype -------------------------------------------------------------------------------------


def _dtype(form: object, nesting: int = 0) -> DType:
    if isinstance(form, str):
        if _SIMPLE.fullmatch(form):
            return np.dtype(form)
        long_double = _LONG_DOUBLE.fullmatch(form)
        if long_double and int(long_double[2]) == _mantissa_bits():
            return np.dtype(long_double[1])
        raise DecodeError(f"dtype {form[:80]!r} is not one that may be received")
    if not isinstance(form, dict) or nesting == _MAX_NESTING:
        raise DecodeError(f"a dtype is described by {str(form)[:80]}")
    names, formats, offsets = (_list(form, key) for key in ("names", "formats", "offsets"))
    titles = _list(form, "titles") if "titles" in form else [None] * len(names)
    if not len(names) == len(formats) == len(offsets) == len(titles):
        raise DecodeError("a structured dtype whose names, formats, offsets and titles differ in number")
    if not all(isinstance(name, str) for name in names) or not all(t is None or isinstance(t, str) for t in titles):
        raise DecodeError("a structured dtype whose names or titles are not text")
    arguments: dict[str, Any] = {
        "names": names,
        "formats": [_field(field, nesting + 1) for field in formats],
        "offsets": [_natural(offset) for offset in offsets],
        "itemsize": _natural(form.get("itemsize")),
    }
    if any(titles):
        arguments["titles"] = titles
    dtype: DType = np.dtype(cast(Any, arguments))
    if dtype.hasobject or not dtype.itemsize:
        raise DecodeError("a structured dtype without bytes")
    return dtype


def _field(form: object, nesting: int) -> object:
    if not isinstance(form, list):
        return _dtype(form, nesting)
    base, shape = form
    if not isinstance(shape, list):
        raise DecodeError("a field of a structured dtype has no shape")
    return _dtype(base, nesting), tuple(_natural(length) for length in shape)


def _list(form: dict[str, Any], key: str) -> list[Any]:
    value = form.get(key)
    if not isinstance(value, list):
        raise DecodeError(f"a structured dtype without {key}")
    return value


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise DecodeError(f"a structured dtype with the offset or length {str(value)[:80]}")
    return value
