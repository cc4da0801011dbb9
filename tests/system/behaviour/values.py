"""Values there and back, and what arrives for those that cannot be sent."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import sys
import uuid

import numpy as np
from saying import elsewhere, finish, outcome, proxy, say

from heros import LocalHERO

REALM = sys.argv[1]


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int = 1


class Opaque:
    def __str__(self) -> str:
        return "an opaque one"


class Text(str):
    __slots__ = ()


class Echo(LocalHERO):
    def __init__(self) -> None:
        super().__init__("echo", realm=REALM)
        self.kept = Opaque()
        self.seen: str = ""

    def echo(self, value):
        self.seen = type(value).__name__
        return value

    def type_seen(self) -> str:
        return self.seen

    def opaque(self):
        return self.kept

    def is_kept(self, value) -> bool:
        return value is self.kept

    def temporary(self):
        return Opaque()

    def give(self, name: str):
        return VALUES[name]


Named = collections.namedtuple("Named", "a b")
utc = datetime.UTC
VALUES = {
    "None": None,
    "True": True,
    "int": 7,
    "negative": -(2**40),
    "2**63": 2**63,
    "2**100": 2**100,
    "-2**100": -(2**100),
    "float": 1.5,
    "nan": float("nan"),
    "inf": float("-inf"),
    "str": "grüße \U0001f600",
    "long str": "x" * 100_000,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "list": [1, [2, [3]]],
    "tuple": (1, (2,)),
    "set": {1, "a"},
    "frozenset": frozenset({1, 2}),
    "dict": {"a": {"b": [1]}},
    "dict with int keys": {1: "a", 2: "b"},
    "dict with tuple keys": {(1, 2): "a"},
    "empty": [[], {}, "", b""],
    "complex": 1 + 2j,
    "Decimal": decimal.Decimal("1.50"),
    "Fraction": fractions.Fraction(1, 3),
    "UUID": uuid.UUID(int=5),
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=utc),
    "naive datetime": datetime.datetime(2026, 1, 2),
    "date": datetime.date(2026, 1, 2),
    "time": datetime.time(1, 2),
    "timedelta": datetime.timedelta(days=1),
    "ip": ipaddress.ip_address("10.0.0.1"),
    "ip network": ipaddress.ip_network("10.0.0.0/8"),
    "Enum": Colour.RED,
    "IntEnum": Level.HIGH,
    "dataclass": Point(),
    "namedtuple": Named(1, 2),
    "OrderedDict": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1]),
    "str subclass": Text("sub"),
    "Path": pathlib.PurePosixPath("/tmp/x"),
    "range": range(3),
    "function": len,
    "class": Opaque,
    "exception": ValueError("a value"),
    "memoryview": memoryview(b"ab"),
    "array.array": array.array("d", [1.0]),
    "np.int32": np.int32(4),
    "np.int64": np.int64(4),
    "np.uint8": np.uint8(4),
    "np.float64": np.float64(1.5),
    "np.float32": np.float32(1.5),
    "np.bool": np.bool_(True),
    "array f8": np.array([[1.5, 2.5]]),
    "array u2": np.arange(3, dtype=np.uint16),
    "array bool": np.array([True, False]),
    "array complex": np.array([1j]),
    "array F": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "array strided": np.arange(10)[::3],
    "array 0-d": np.array(5.0),
    "array empty": np.zeros((0, 3)),
    "array big endian": np.arange(3, dtype=">i4"),
    "array str": np.array(["ab", "c"]),
    "array datetime": np.array(["2026-01-02"], dtype="datetime64[D]"),
    "array structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "array of objects": np.array([None, 1], dtype=object),
    "array in dict": {"image": np.zeros((2, 2), dtype="u1"), "n": 1},
}


def described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"ndarray {value.dtype} {value.shape} {value.tolist()}"
    if isinstance(value, dict) and "image" in value:
        return f"dict {described(value['image'])} {value['n']}"
    if type(value).__name__ == "UnserializableRemoteObject":
        return f"UnserializableRemoteObject {value.type}: {value.representation}"
    if type(value).__name__.startswith("Remote") and isinstance(value, Exception):
        return f"exception {type(value).__name__} {value.message}"
    if isinstance(value, str) and len(value) > 1000:
        return f"str of {len(value)}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(map(repr, value))}"
    return f"{type(value).__name__} {value!r}"


elsewhere(Echo)
remote = proxy("echo", REALM)
for name in VALUES:
    outcome(f"result {name}", lambda name=name: described(remote.give(name)))
for name, value in VALUES.items():
    outcome(f"echo {name}", lambda value=value: described(remote.echo(value)))
    outcome(f"owner sees {name}", lambda: remote.type_seen())

there = remote.opaque()
say("opaque", described(there))
say("opaque back", remote.is_kept(there))
outcome("opaque gone", lambda: described(remote.echo(remote.temporary())))
say("array is writable", bool(remote.echo(np.zeros(3)).flags.writeable))

finish()
