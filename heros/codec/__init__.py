"""Values as bytes: a msgpack header and a list of buffers, and back. No I/O, no proxies, no pickle.

What travels
    None, bool, int, float, str, bytes, list and dict are plain msgpack (``bin`` for bytes, UTF-8 for str). Everything
    else is a msgpack extension, from the table below. A tuple arrives as a list. A subclass arrives as what it is
    based on: an ``OrderedDict`` as a dict, an ``IntEnum`` member as its int, a ``StrEnum`` member as its str, a named
    tuple as a list, ``numpy.str_`` and ``numpy.bytes_`` as str and bytes, ``numpy.int32`` and ``numpy.int64`` as int.
    Other numpy scalars keep their dtype.

Dicts and sets
    A key is anything hashable that has a form here. An array (msgpack's, that is: a list) in the place of a key or
    of an element of a set stands for a tuple, as a list could not be there. Bytes-like keys and elements are always
    ``bin``.

Buffers
    Every array, and every bytes-like object of ``limits.OUT_OF_BAND_BYTES`` or more, leaves the header and becomes one
    buffer of the message. The header refers to buffers by their index, each exactly once, in ascending order: so
    that a few bytes of header cannot ask for the same gigabyte a thousand times.

    An array's items are in C order, or in Fortran order where the array is contiguous in that order alone. This is
    the order in which ``buffers.copy_buffer`` writes them; ``encode`` itself copies nothing. ``decode`` gives
    read-only views of the buffers it is given, aligned or not.
    The items themselves are not looked at: bits that numpy cannot show (text beyond Unicode, a ``datetime64`` without
    a unit that is not NaT) arrive as they are, and numpy raises an error of its own where they are used.

Times
    An aware datetime or time arrives with the fixed offset from UTC that its time zone had then; the name of the zone
    does not travel. (A bare time in a zone with seasons has no offset and arrives naive.)

Limits
    Nesting, lengths and sizes are those of ``limits``; a header that passes them, or that is malformed in any other
    way, is a ``DecodeError``, found with memory in proportion to the header's length.

The extensions; numbers are little-endian, ``text`` is UTF-8, ``struct`` letters give the sizes:

====  =============  ==============================================================================================
code  value          payload
====  =============  ==============================================================================================
-1    datetime       msgpack's own timestamp, as an aware datetime in UTC: understood, never sent
1     ndarray        ``H`` buffer, ``B`` order (0: C, 1: Fortran), ``B`` number of axes, ``Q`` length of each axis, then
                     the dtype's description (see ``heros.codec.dtypes``)
2     numpy scalar   ``H`` length of the dtype's description, the description, the item's bytes
3     large bytes    ``H`` buffer, ``B`` kind (0: bytes, 1: bytearray, 2: read-only memoryview)
4     bytearray      the bytes
5     memoryview     the bytes
6     set            a msgpack array of the elements
7     frozenset      a msgpack array of the elements
8     complex        ``dd`` real, imaginary
9     int            beyond 64 bits: two's complement
10    datetime       ``HBBBBBIB`` year, month, day, hour, minute, second, microsecond, fold; where aware, ``q``: offset
                     from UTC in microseconds, east positive
11    date           ``HBB`` year, month, day
12    time           ``BBBIB`` hour, minute, second, microsecond, fold; where aware, ``q`` as for a datetime
13    timedelta      ``iii`` days, seconds, microseconds, normalised as in Python
14    Decimal        text, as in ``1.50``, ``-1E+400``, ``NaN``, ``sNaN``, ``-Infinity``
15    Fraction       ``I`` bytes of the numerator, the numerator, the denominator, both in two's complement
16    UUID           16 bytes, most significant first
17    ip             ``B`` kind (0, 1: IPv4 and IPv6 address; 2, 3: network; 4, 5: interface), text
32    reference      to a HERO: msgpack array of texts ``[realm, name]``
33    reference      to a method or event of a HERO: ``[realm, name, member, "method" or "event"]``
34    reference      to an object that stays in its process: ``[node id, object id, type name, representation]``, the
                     object id an unsigned integer
35    error          an exception that was raised: ``[type, module, message, traceback, arguments]``, four texts and an
                     array of None, bools, ints, floats, texts and bytes, which may be missing
====  =============  ==============================================================================================
"""

from __future__ import annotations

from heros.codec.decoding import decode
from heros.codec.descriptions import (
    ErrorDescription,
    HeroReference,
    MemberReference,
    ObjectReference,
    Plain,
    Reference,
    replace_references,
)
from heros.codec.encoding import Encoded, encode, encode_arguments

__all__ = [
    "Encoded",
    "ErrorDescription",
    "HeroReference",
    "MemberReference",
    "ObjectReference",
    "Plain",
    "Reference",
    "decode",
    "encode",
    "encode_arguments",
    "replace_references",
]
