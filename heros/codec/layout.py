"""The numbers of the table in ``heros.codec``: extension codes, payload layouts, and limits of their own."""

from __future__ import annotations

import ipaddress
import struct

from heros import limits

__all__ = [
    "ARRAY",
    "ARRAY_HEAD",
    "ARRAY_HEADS",
    "BYTEARRAY",
    "COMPLEX",
    "COMPLEX_LAYOUT",
    "DATE",
    "DATETIME",
    "DATETIME_LAYOUT",
    "DATE_LAYOUT",
    "DECIMAL",
    "ERROR",
    "FRACTION",
    "FROZENSET",
    "HERO",
    "INT",
    "IP",
    "IP_CLASSES",
    "LARGE_BYTES",
    "LARGE_BYTES_LAYOUT",
    "LENGTH_16",
    "LENGTH_32",
    "MAX_AXES",
    "MAX_NUMBER_BYTES",
    "MEMBER",
    "MEMORYVIEW",
    "OBJECT",
    "OFFSET_LAYOUT",
    "SCALAR",
    "SET",
    "SHAPES",
    "TIME",
    "TIMEDELTA",
    "TIMEDELTA_LAYOUT",
    "TIME_LAYOUT",
    "UUID",
]

ARRAY, SCALAR, LARGE_BYTES, BYTEARRAY, MEMORYVIEW, SET, FROZENSET, COMPLEX, INT = range(1, 10)
DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, FRACTION, UUID, IP = range(10, 18)
HERO, MEMBER, OBJECT, ERROR = range(32, 36)

ARRAY_HEAD = struct.Struct("<HBB")
MAX_AXES = 64
SHAPES = [struct.Struct(f"<{axes}Q") for axes in range(MAX_AXES + 1)]
ARRAY_HEADS = [struct.Struct(f"<HBB{axes}Q") for axes in range(MAX_AXES + 1)]
LENGTH_16 = struct.Struct("<H")
LENGTH_32 = struct.Struct("<I")
LARGE_BYTES_LAYOUT = struct.Struct("<HB")
COMPLEX_LAYOUT = struct.Struct("<dd")
DATETIME_LAYOUT = struct.Struct("<HBBBBBIB")
DATE_LAYOUT = struct.Struct("<HBB")
TIME_LAYOUT = struct.Struct("<BBBIB")
TIMEDELTA_LAYOUT = struct.Struct("<iii")
OFFSET_LAYOUT = struct.Struct("<q")
IP_CLASSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)

MAX_NUMBER_BYTES = 64 * limits.KIB
"""Of one int, Decimal, or half of a Fraction: arithmetic on longer ones (reducing a fraction, say) takes for ever."""
