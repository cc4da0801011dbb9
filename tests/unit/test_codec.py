"""The codec: what goes in comes out, for every type; what is malformed is a ``DecodeError`` and nothing else."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import gc
import ipaddress
import json
import math
import struct
import threading
import tracemalloc
import uuid
import weakref
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from heros import limits, wire
from heros.buffers import Buffer, buffer_nbytes, copy_buffer
from heros.codec import (
    ErrorDescription,
    HeroReference,
    MemberReference,
    ObjectReference,
    decode,
    encode,
    encoding,
    replace_references,
)
from heros.codec import dtypes as dtypes_module
from heros.codec.dtypes import describe, parse
from heros.exceptions import DecodeError, EncodeError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))

# -- the way a message goes -------------------------------------------------------------------------------------------


def staged(buffers: list[Buffer]) -> list[bytearray]:
    """The buffers as a transport puts them into memory."""
    memory = []
    for buffer in buffers:
        target = bytearray(buffer_nbytes(buffer))
        copy_buffer(buffer, memoryview(target))
        memory.append(target)
    return memory


def as_arrays(buffers: list[bytearray]) -> list[np.ndarray]:
    """As received from shared memory."""
    return [np.frombuffer(bytes(buffer), np.uint8) for buffer in buffers]


def framed(header: bytes, buffers: list[bytearray]) -> tuple[bytes, list[memoryview]]:
    """As received in one frame, where a buffer begins at any address."""
    frame = b"".join(wire.join(wire.Kind.RESULT, 0, 0, 1, 0, 0, header, [bytes(buffer) for buffer in buffers]))
    _, split_header, split_buffers = wire.split(frame)
    return bytes(split_header), split_buffers


def round_trips(value: Any, lower: Any = None) -> list[Any]:
    header, buffers = encode(value, lower)
    memory = staged(buffers)
    frame = framed(header, memory)
    return [
        decode(header, as_arrays(memory))[0],
        decode(header, [bytes(buffer) for buffer in memory])[0],
        decode(memoryview(header), as_arrays(memory))[0],
        decode(*frame)[0],
    ]


def round_trip(value: Any, lower: Any = None) -> Any:
    return round_trips(value, lower)[0]


def same(a: Any, b: Any) -> bool:
    """Equal in value and in type, all the way down; nan equals nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.keys(), b.keys())) and all(map(same, a.values(), b.values()))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (dt.datetime, dt.time)):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.utcoffset() == b.utcoffset() and a.fold == b.fold
    return bool(a == b)


# -- values -----------------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=20)
offsets = st.none() | st.builds(
    lambda us: dt.timezone(dt.timedelta(microseconds=us)),
    st.integers(-86_399_999_999, 86_399_999_999),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**65),
    st.integers(-(2**700), 2**700),
    st.floats(),
    text,
    st.binary(max_size=20),
    st.complex_numbers(),
    st.datetimes(timezones=offsets, allow_imaginary=True),
    st.dates(),
    st.times(timezones=offsets),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.ip_addresses(),
    st.builds(lambda a: ipaddress.ip_network(a), st.ip_addresses()),
    st.builds(lambda a: ipaddress.ip_interface(a), st.ip_addresses()),
)
hashable = scalars.filter(lambda value: not (value.is_nan() if isinstance(value, Decimal) else value != value))
"""Without nan, which is no key that one could find again."""
keys = hashable | st.tuples(hashable, st.tuples(hashable)) | st.frozensets(hashable, max_size=3)
values = st.recursive(
    scalars | st.binary(max_size=20).map(bytearray),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
    ),
    max_leaves=12,
)

plain_dtypes = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
    npst.byte_string_dtypes(min_len=1),
    npst.unicode_string_dtypes(endianness="?", min_len=1),
    st.integers(1, 9).map(lambda size: np.dtype(f"V{size}")),
    st.sampled_from([np.dtype(np.longdouble), np.dtype(np.clongdouble), np.dtype("<M8[25us]"), np.dtype("m8")]),
)
dtypes = (
    plain_dtypes | npst.array_dtypes(plain_dtypes, min_size=1, allow_subarrays=True) | npst.nested_dtypes(plain_dtypes)
)
dtypes = dtypes.filter(lambda dtype: dtype.itemsize and dtype.subdtype is None and len(describe(dtype)) < 9000)


@st.composite
def arrays(draw: Any) -> np.ndarray:
    """Arrays of every dtype, shape (0 to 4 axes, some empty) and layout."""
    dtype = draw(dtypes)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    size = math.prod(shape) * dtype.itemsize
    array = (
        np.frombuffer(bytearray(draw(st.binary(min_size=size, max_size=size))), dtype) if size else np.zeros(0, dtype)
    )
    array = array.reshape(shape, order=draw(st.sampled_from("CF")))
    match draw(st.sampled_from(["as it is", "transposed", "reversed", "every second", "broadcast", "read-only"])):
        case "transposed":
            array = array.T
        case "reversed" if array.ndim:
            array = array[::-1]
        case "every second" if array.ndim:
            array = array[..., ::2]
        case "broadcast":
            array = np.broadcast_to(array, (2, *array.shape))
        case "read-only":
            array.flags.writeable = False
    return array


@given(values)
@QUICK
def test_a_value_arrives_as_it_was(value: Any) -> None:
    assert all(same(value, arrived) for arrived in round_trips(value))


@given(arrays())
@settings(QUICK, max_examples=300)
def test_an_array_arrives_with_its_dtype_shape_and_items(array: np.ndarray) -> None:
    for arrived in round_trips([{"array": array}]):
        arrived = arrived[0]["array"]
        assert type(arrived) is np.ndarray
        assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
        assert arrived.dtype.str == array.dtype.str
        assert np.ascontiguousarray(arrived).tobytes() == np.ascontiguousarray(array).tobytes()
        assert not arrived.flags.writeable


@given(arrays())
@QUICK
def test_the_sender_copies_no_array(array: np.ndarray) -> None:
    _, (buffer,) = encode([array])
    assert buffer is array


@given(arrays().filter(lambda array: array.size and array.dtype.kind not in "SU"))
@QUICK
def test_a_numpy_scalar_keeps_its_dtype(array: np.ndarray) -> None:
    scalar = array.flat[0]
    arrived = round_trip([scalar])[0]
    if type(scalar) in (np.int32, np.int64):  # programs expect what they can count with
        assert (type(arrived), arrived) == (int, scalar)
        return
    assert type(arrived) is type(scalar)
    assert (arrived.dtype, arrived.tobytes()) == (scalar.dtype, scalar.tobytes())


@given(dtypes)
@settings(QUICK, max_examples=200)
def test_a_dtype_is_its_description(dtype: np.dtype) -> None:
    parsed = parse(describe(dtype))
    assert parsed == dtype
    assert parsed.itemsize == dtype.itemsize
    assert parsed.fields == dtype.fields


class Colour(enum.IntEnum):
    RED = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class OldMode(str, enum.Enum):  # noqa: UP042
    SLOW = "slow"


class Options(enum.IntFlag):
    BOTH = 2**70 + 1


class Point(NamedTuple):
    x: Any
    y: Any


class Text(str):
    def __str__(self) -> str:
        return "something else"


class Waveform(np.ndarray):
    pass


ZURICH = ZoneInfo("Europe/Zurich")
IN_THE_REPEATED_HOUR = dt.datetime(2025, 10, 26, 2, 30, tzinfo=ZURICH, fold=1)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, (2, [3])), [1, [2, [3]]]),
        (Point(1, (2,)), [1, [2]]),
        (Colour.RED, 3),
        (Mode.FAST, "fast"),
        (OldMode.SLOW, "slow"),
        (Options.BOTH, 2**70 + 1),
        ({Colour.RED: Mode.FAST}, {3: "fast"}),
        (Text("own"), "own"),
        (collections.OrderedDict(a=(1,)), {"a": [1]}),
        (collections.defaultdict(list, {1: bytearray(b"a")}), {1: bytearray(b"a")}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({(1, (2, "x")): {(3,): 4}, None: 5, True: 6, 1.5: 7}, {(1, (2, "x")): {(3,): 4}, None: 5, True: 6, 1.5: 7}),
        ([{(1,): [{(2,)}]}], [{(1,): [{(2,)}]}]),
        (np.str_("a"), "a"),
        (np.bytes_(b"a\0"), b"a\0"),
        (IN_THE_REPEATED_HOUR, IN_THE_REPEATED_HOUR.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))),
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        (dt.time(2, 30, tzinfo=ZURICH), dt.time(2, 30)),
        (ipaddress.ip_address("fe80::1%eth0"), ipaddress.ip_address("fe80::1%eth0")),
        (ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("10.0.0.1/8")),
        (Decimal("1e999999999"), Decimal("1e999999999")),
        (Decimal("-sNaN123"), Decimal("-sNaN123")),
        (uuid.UUID(int=1), uuid.UUID(int=1)),
        ({frozenset({1, (2, 3)})}, {frozenset({1, (2, 3)})}),
        (np.array([[1, 2]]).view(Waveform), np.array([[1, 2]])),
        (np.array([(1, 2.0)], dtype="i4,f8").view(np.recarray), np.array([(1, 2.0)], dtype="i4,f8")),
        (ErrorDescription("E", "m", "broken \udcff", ""), ErrorDescription("E", "m", "broken \\udcff", "")),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_what_a_type_arrives_as(value: Any, arrives: Any) -> None:
    assert all(same(arrives, arrived) for arrived in round_trips(value))
    assert all(same([{"x": arrives}], arrived) for arrived in round_trips(({"x": value},)))


def test_pieces_of_a_structured_dtype() -> None:
    padded = np.dtype({"names": ["a", "b"], "formats": ["<i2", ">f8"], "offsets": [3, 16], "itemsize": 40})
    aligned = np.dtype([("a", "u1"), ("b", [("c", "<f8", (2, 3)), ("d", "S3")])], align=True)
    titled = np.dtype([(("the title", "a"), "<i4"), ("b", "<i4")])
    overlapping = np.dtype({"names": ["word", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0]})
    for dtype in (padded, aligned, titled, overlapping, np.dtype([("größe µ", "<f4")])):
        array = np.zeros(3, dtype)
        array[dtype.names[0]] = 7
        arrived = round_trip(array)
        assert (arrived.dtype, arrived.dtype.fields) == (dtype, dtype.fields)
        assert np.array_equal(arrived, array)


def test_a_view_keeps_the_received_buffer_alive() -> None:
    header, _ = encode([np.arange(12.0).reshape(3, 4), memoryview(bytes(5000))])
    roots = [np.frombuffer(np.arange(12.0).tobytes(), np.uint8), np.frombuffer(bytes(5000), np.uint8)]
    addresses = [root.ctypes.data for root in roots]
    released = [weakref.ref(root) for root in roots]
    array, view = decode(header, roots)[0]
    assert [array.ctypes.data, np.frombuffer(view, np.uint8).ctypes.data] == addresses  # nothing was copied
    row = array[1, 2:]
    del roots, array
    gc.collect()
    assert released[0]() is not None
    assert released[1]() is not None
    del row, view
    gc.collect()
    assert released[0]() is None
    assert released[1]() is None


@pytest.mark.parametrize(
    "memory",
    [bytearray(24), np.zeros(24, np.uint8), memoryview(bytearray(24))],
    ids=["bytearray", "array", "memoryview"],
)
def test_an_array_is_read_only_whatever_memory_it_lies_in(memory: Any) -> None:
    arrived = decode(encode(np.arange(3))[0], [memory])[0]
    assert arrived.shape == (3,)
    with pytest.raises(ValueError, match="read-only"):
        arrived[0] = 1


@pytest.mark.parametrize("size", [0, 1, limits.OUT_OF_BAND_BYTES - 1, limits.OUT_OF_BAND_BYTES, 100_000])
def test_bytes_like_objects(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    nested = {"a": [data, (bytearray(data), collections.OrderedDict(b=memoryview(data)))]}
    for value in (data, bytearray(data), memoryview(data), nested):
        _, buffers = encode(value)
        count = 3 if value is nested else 1
        assert len(buffers) == (count if size >= limits.OUT_OF_BAND_BYTES else 0)
        assert all(memoryview(buffer) == data for buffer in buffers)
        for arrived in round_trips(value):
            arrived = (
                [arrived] if value is not nested else [arrived["a"][0], arrived["a"][1][0], arrived["a"][1][1]["b"]]
            )
            kinds = [bytes, bytearray, memoryview] if value is nested else [type(value)]
            assert [type(each) for each in arrived] == kinds
            assert all(each == data for each in arrived)
            assert all(each.readonly for each in arrived if isinstance(each, memoryview))


def test_large_bytes_are_not_copied_by_the_sender() -> None:
    for data in (bytes(5000), bytearray(5000)):
        assert encode([data])[1][0] is data
    data = memoryview(bytearray(5000))
    assert encode(data)[1][0].obj is data.obj


def test_memoryviews_of_other_formats_arrive_as_bytes() -> None:
    array = np.arange(4000, dtype="<u2").reshape(2, 2000)
    for view in (memoryview(array), memoryview(array[:, ::-1]), memoryview(array.T), memoryview(array[:, :3][::-1])):
        assert round_trip(view) == view.tobytes()
        assert round_trip([view])[0].format == "B"


def test_buffers_are_numbered_through_sets_and_lowered_values() -> None:
    def lower(obj: Any) -> Any:
        return [np.arange(3), bytes(5000), {(1, 2)}]

    value = [np.arange(2), object(), {"x": bytearray(6000)}, np.arange(4)]
    _, buffers = encode(value, lower)
    assert [buffer_nbytes(buffer) for buffer in buffers] == [16, 24, 5000, 6000, 32]
    arrived = round_trip(value, lower)
    assert np.array_equal(arrived[1][0], np.arange(3))
    assert arrived[1][2] == {(1, 2)}
    assert np.array_equal(arrived[3], np.arange(4))


# -- references -------------------------------------------------------------------------------------------------------

hero = HeroReference("heros", "camera")
member = MemberReference("heros", "camera", "move", "method")
remote_object = ObjectReference("0a1b", 2**64 - 1, "thing.Thing", "<Thing \udcff>")
remote_object_arrived = remote_object._replace(representation="<Thing \\udcff>")
error = ErrorDescription("ValueError", "builtins", "no", "Traceback ...")


@pytest.mark.parametrize("reference", [hero, member, member._replace(flavor="event"), remote_object_arrived])
@pytest.mark.parametrize(
    "wrap", [lambda r: r, lambda r: [[r], {}], lambda r: {(1, r): {r}}, lambda r: [np.zeros(3), r]]
)
def test_references_are_found_and_replaced(reference: Any, wrap: Any) -> None:
    header, buffers = encode(wrap(reference))
    value, found = decode(header, as_arrays(staged(buffers)))
    assert found
    asked = []
    lifted = replace_references(value, lambda each: asked.append(each) or "proxy")
    assert set(asked) == {reference}
    assert {type(each) for each in asked} == {type(reference)}
    assert str(lifted) == str(wrap("proxy"))


def test_the_arguments_of_an_error_may_be_missing() -> None:
    assert decode(packed(35, msgpack.packb(["a", "b", "c", "d"]))) == (ErrorDescription("a", "b", "c", "d"), True)


def test_an_error_in_a_value_is_lifted_like_a_reference() -> None:
    header, _ = encode([error])
    value, found = decode(header)
    assert (value, found) == ([error], True)
    assert type(value[0]) is ErrorDescription
    assert replace_references(value, lambda reference: reference.message) == [error.message]
    assert not decode(encode([np.float64(1), {1, 2}])[0])[1]


def test_replace_references_leaves_its_argument_alone() -> None:
    value = [hero, {"a": {hero}, hero: 1}, frozenset({(hero,)})]
    assert replace_references(value, lambda reference: 1) == [1, {"a": {1}, 1: 1}, frozenset({(1,)})]
    assert value == [hero, {"a": {hero}, hero: 1}, frozenset({(hero,)})]


def test_lower_is_asked_about_what_has_no_form() -> None:
    class Thing:
        pass

    class Arraylike:
        def __array__(self, *args: Any, **options: Any) -> np.ndarray:
            raise AssertionError("must not be converted")

    asked: list[Any] = []

    def lower(obj: Any) -> Any:
        asked.append(type(obj))
        return hero

    value = [Thing(), {"a": Arraylike()}, {frozenset({Thing})}, len, range(3), Ellipsis]
    assert round_trip(value, lower) == [hero, {"a": hero}, {frozenset({hero})}, hero, hero, hero]
    assert asked[: len(value)] == [Thing, Arraylike, type, type(len), range, type(...)]
    assert round_trip([1, "a", (2,), np.arange(2).tolist()], lower) == [1, "a", [2], [0, 1]]


@pytest.mark.parametrize("lowered", [None, 2**80, "text", Point(1, bytes(5000)), np.float32(1), Colour.RED, {1, 2}])
def test_what_lower_may_return(lowered: Any) -> None:
    assert same(round_trip(object(), lambda obj: lowered), round_trip(lowered))


def test_lower_that_returns_what_cannot_be_sent() -> None:
    with pytest.raises(EncodeError, match=r"at \[0\].*builtins\.object"):
        encode([object()], lambda obj: obj)


def test_lower_may_encode() -> None:
    def lower(obj: Any) -> Any:
        header, buffers = encode([np.arange(3), {"inner": (1,)}])
        assert len(buffers) == 1
        return header

    value = [np.arange(2), object(), object()]
    header, buffers = encode(value, lower)
    assert len(buffers) == 1
    arrived = decode(header, as_arrays(staged(buffers)))[0]
    assert arrived[1] == arrived[2] == encode([np.arange(3), {"inner": (1,)}])[0]


def test_errors_of_lower_pass_through_and_leave_nothing_behind() -> None:
    class Refused(Exception):
        pass

    def lower(obj: Any) -> Any:
        raise Refused

    with pytest.raises(Refused):
        encode([np.arange(3), object()], lower)
    assert encode([1]) == (msgpack.packb([1]), ())
    with pytest.raises(EncodeError, match="cannot be sent to another process"):
        encode(object())


def test_threads_do_not_mix_their_messages() -> None:
    failures: list[Any] = []

    def work(number: int) -> None:
        for step in range(300):
            value = [np.full(step % 7, number), {(number, step): bytes([number]) * 5000}, {number}]
            if not same(round_trip(value), [value[0], value[1], value[2]]):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# -- what cannot be sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [2**64 - 1, 2**64, -(2**63), -(2**63) - 1, "\N{MICRO SIGN}m", "\udc80", "a\ud800\udc00", "\ufffe", "\n"]
)
def test_the_packer_of_all_threads_is_never_given_what_it_cannot_pack(value: Any, monkeypatch: Any) -> None:
    """If it raises, a finaliser may run with half a message in it, and another thread add its own."""
    pack, raised = encoding._pack_plain, []

    def noting(value: Any) -> bytes:
        try:
            return pack(value)
        except Exception as error:
            raised.append(error)
            raise

    monkeypatch.setattr(encoding, "_pack_plain", noting)
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        with pytest.raises(EncodeError):
            encoding.encode_arguments((1, value), {})
    else:
        assert decode(*encode(value))[0] == value
        assert decode(*encoding.encode_arguments((1, value), {}))[0] == [[1, value], {}]
    assert raised == []


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def cyclic(kind: str) -> Any:
    inner: Any = [] if kind != "dict" else {}
    if kind == "dict":
        inner["self"] = inner
    elif kind == "tuple":
        inner.append((1, inner))
    elif kind == "bytes":
        inner += [bytes(9000), inner]
    elif kind == "gaps":
        inner += [memoryview(b"abcd")[::2], inner, inner]
    else:
        inner += [inner, inner]
    return inner


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"^an object of type builtins\.object cannot be sent.*make it a HERO"),
        ([{"image": object()}], r"^at \[0\]\['image'\]: an object"),
        ({1: ([object()],)}, r"^at \[1\]\[0\]\[0\]"),
        ([{object()}], r"^at \[0\]\{\.\.\.\}"),
        ({object(): 1}, r"^at \[<object object"),
        ([np.array([None])], r"^at \[0\]: an array of dtype object.*astype"),
        (np.zeros(2, [("a", "O")]), "holds Python objects"),
        (np.array(["a"], np.dtypes.StringDType()), "StringDType.*cannot be sent"),
        (np.zeros(2, []), "no bytes"),
        ({"m": np.ma.array([1, 2], mask=[0, 1])}, r"^at \['m'\]: a masked array would lose its mask"),
        (["\udcff"], r"^at \[0\]: a str cannot be sent.*surrogates"),
        (10**200_000, "an int of"),
        (Decimal("1" * 70_000), "a Decimal of"),
        (cyclic("list"), "contains itself"),
        (cyclic("dict"), "contains itself"),
        (cyclic("tuple"), "contains itself"),
        (cyclic("bytes"), "contains itself"),
        (cyclic("gaps"), "contains itself"),
        (nested(limits.MAX_DEPTH + 1), f"nested more than {limits.MAX_DEPTH} deep"),
        (nested(100_000), f"nested more than {limits.MAX_DEPTH} deep"),
        ([0] * (limits.MAX_ITEMS + 1), "more than 1000000 items; use a numpy array"),
        ([np.zeros(1)] * (limits.MAX_BUFFERS + 1), "more than 4096 arrays"),
    ],
    ids=range(22),
)
def test_what_cannot_be_sent_says_why(value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        encode(value)
    assert encode([1]) == (msgpack.packb([1]), ())


def test_sets_nested_too_deep() -> None:
    value: Any = frozenset()
    for _ in range(limits.MAX_DEPTH + 1):
        value = frozenset({value})
    with pytest.raises(EncodeError, match="nested more than"):
        encode(value)


def test_the_deepest_value_arrives() -> None:
    value = nested(limits.MAX_DEPTH)
    assert round_trip(value) == value
    value[0] = {"a": [(1,), np.arange(3), hero]}
    assert round_trip([{"b" * 100: [0x9F] * 200}])


# -- what is malformed ------------------------------------------------------------------------------------------------


def packed(code: int, payload: bytes) -> bytes:
    """An extension, of a negative code too, as ``ext 32``."""
    return struct.pack(">BIb", 0xC9, len(payload), code) + payload


def array_header(
    shape: tuple[int, ...], dtype: bytes, index: int = 0, order: int = 0, axes: int | None = None
) -> bytes:
    axes = len(shape) if axes is None else axes
    return packed(1, struct.pack(f"<HBB{len(shape)}Q", index, order, axes, *shape) + dtype)


def structured(**fields: Any) -> bytes:
    return json.dumps({"names": ["a"], "formats": ["<i4"], "offsets": [0], "itemsize": 4} | fields).encode()


EIGHT = [np.frombuffer(bytes(8), np.uint8)]
MALFORMED: dict[str, tuple[bytes, list[Any]]] = {
    "nothing": (b"", []),
    "truncated": (msgpack.packb([1, "abc"])[:-1], []),
    "trailing": (b"\x01\x01", []),
    "never used head": (b"\xc1", []),
    "no utf-8": (b"\xa1\xff", []),
    "huge array": (b"\xdd\xff\xff\xff\xff", []),
    "huge map": (b"\xdf\xff\xff\xff\xff", []),
    "huge text": (b"\xdb\xff\xff\xff\xff", []),
    "huge extension": (b"\xc9\xff\xff\xff\xff\x01", []),
    "dict as a key": (b"\x81\x80\x01", []),
    "bytearray as a key": (b"\x81" + packed(4, b"a") + b"\x01", []),
    "dict in a set": (packed(6, b"\x91\x80"), []),
    "set of no array": (packed(6, b"\x01"), []),
    "array truncated": (packed(1, b"\0\0"), EIGHT),
    "array without dtype": (array_header((8,), b""), EIGHT),
    "array too long": (array_header((2,), b"<f8"), EIGHT),
    "array too short": (array_header((0,), b"<f8"), EIGHT),
    "array overflows": (array_header((2**63, 2**63, 2**63), b"|u1"), EIGHT),
    "array negative": (array_header((2**64 - 1,), b"|u1"), EIGHT),
    "array wraps to its size": (array_header((2**61 + 1,), b"<f8"), EIGHT),
    "array empty and huge": (array_header((0, 2**63), b"|u1"), [b""]),
    "array of 65 axes": (array_header((1,) * 64 + (8,), b"|u1"), EIGHT),
    "array order": (array_header((8,), b"|u1", order=2), EIGHT),
    "array axes": (array_header((8,), b"|u1", axes=3), EIGHT),
    "no such buffer": (array_header((8,), b"|u1", index=1), EIGHT),
    "no buffer": (array_header((8,), b"|u1"), []),
    "buffer unused": (b"\x01", EIGHT),
    "buffer twice": (b"\x92" + array_header((8,), b"|u1") * 2, EIGHT),
    "buffers out of order": (b"\x92" + array_header((8,), b"|u1", 1) + array_header((8,), b"|u1", 0), EIGHT * 2),
    "scalar without length": (packed(2, b"\0"), []),
    "scalar too short": (packed(2, b"\3\0<f8" + bytes(4)), []),
    "scalar too long": (packed(2, b"\3\0<f8" + bytes(16)), []),
    "scalar of no bytes": (packed(2, b"\3\0<f8"), []),
    "large bytes": (packed(3, b"\0\0"), EIGHT),
    "large bytes of kind 3": (packed(3, b"\0\0\3"), EIGHT),
    "complex": (packed(8, bytes(15)), []),
    "int too long": (packed(9, bytes(70_000)), []),
    "month 13": (packed(10, struct.pack("<HBBBBBIB", 2020, 13, 1, 0, 0, 0, 0, 0)), []),
    "year 0": (packed(11, struct.pack("<HBB", 0, 1, 1)), []),
    "fold 2": (packed(12, struct.pack("<BBBIB", 0, 0, 0, 0, 2)), []),
    "offset of a day": (packed(12, struct.pack("<BBBIBq", 0, 0, 0, 0, 0, 86_400_000_000)), []),
    "offset overflows": (packed(12, struct.pack("<BBBIBq", 0, 0, 0, 0, 0, 2**63 - 1)), []),
    "timedelta overflows": (packed(13, struct.pack("<iii", 2**31 - 1, 0, 0)), []),
    "Decimal": (packed(14, b"1.2.3"), []),
    "Decimal overflows": (packed(14, b"1e99999999999999999999"), []),
    "Decimal too long": (packed(14, b"1" * 70_000), []),
    "Fraction by zero": (packed(15, struct.pack("<I", 1) + b"\1\0"), []),
    "Fraction truncated": (packed(15, struct.pack("<I", 9) + b"\1\1"), []),
    "UUID": (packed(16, bytes(15)), []),
    "ip": (packed(17, b"\0999.0.0.1"), []),
    "ip of kind 9": (packed(17, b"\x09127.0.0.1"), []),
    "ip of nothing": (packed(17, b""), []),
    "reference of one text": (packed(32, b"\x91\xa1a"), []),
    "reference of numbers": (packed(32, b"\x92\1\1"), []),
    "member flavor": (packed(33, msgpack.packb(["a", "b", "c", "attribute"])), []),
    "object id negative": (packed(34, msgpack.packb(["a", -1, "c", "d"])), []),
    "object id bool": (packed(34, msgpack.packb(["a", True, "c", "d"])), []),
    "error": (packed(35, b"\xc0"), []),
    "error of three": (packed(35, msgpack.packb(["a", "b", "c"])), []),
    "error with a list in its arguments": (packed(35, msgpack.packb(["a", "b", "c", "d", [[1]]])), []),
    "error without a list of arguments": (packed(35, msgpack.packb(["a", "b", "c", "d", "e"])), []),
    "timestamp": (packed(-1, b"\xff" * 12), []),
    "nested lists": (b"\x91" * (limits.MAX_DEPTH + 1) + b"\x01", []),
    "nested lists, far": (b"\x91" * 100_000 + b"\x01", []),
    "nested maps": (b"\x81\x01" * (limits.MAX_DEPTH + 1) + b"\x01", []),
    "nested keys": (b"\x81" + b"\x91" * 900 + b"\x01\x01", []),
}
for each in [
    "",
    "O",
    "|O",
    "|O8",
    "<f3",
    "f8",
    "(2,)<f8",
    "<f8,<f8",
    "|S0",
    "<U0",
    "|V0",
    "T",
    "<M8[x]",
    "<M8[0s]",
    "float64",
    "<f16:1",
    "<f16",
    "|S99999999999",
    "<U4294967295",
    "=f8",
    "<f8 ",
    "<f8\n",
    "{",
    "[]",
    "1",
    "null",
    "<f\u0668",
]:
    MALFORMED[f"dtype {each!r}"] = (array_header((1,), each.encode()), EIGHT)
for name, fields in {
    "object": {"formats": ["|O"]},
    "names differ": {"names": ["a", "b"]},
    "no formats": {"formats": None},
    "name of a number": {"names": [1]},
    "names equal": {"names": ["a", "a"], "formats": ["<i4", "<i4"], "offsets": [0, 0]},
    "negative offset": {"offsets": [-4]},
    "offset beyond": {"offsets": [4]},
    "offset huge": {"offsets": [10**30]},
    "offset true": {"offsets": [True]},
    "itemsize": {"itemsize": 0},
    "itemsize huge": {"itemsize": 2**40},
    "subarray negative": {"formats": [["<i4", [-1]]]},
    "subarray huge": {"formats": [["<i4", [2**30, 2**30]]]},
    "subarray without shape": {"formats": [["<i4"]]},
    "subarray of a number": {"formats": [["<i4", 1]]},
    "title": {"titles": [1]},
}.items():
    MALFORMED[f"structured dtype: {name}"] = (array_header((1,), structured(**fields)), [np.zeros(4, np.uint8)])
deep: Any = "<i4"
for _ in range(40):
    deep = {"names": ["a"], "formats": [deep], "offsets": [0], "itemsize": 4}
MALFORMED["structured dtype: nested"] = (array_header((1,), structured(formats=[deep])), [np.zeros(4, np.uint8)])
MALFORMED["structured dtype: nested JSON"] = (array_header((1,), b'{"names":' + b"[" * 30_000), EIGHT)
MALFORMED["structured dtype: too long"] = (array_header((1,), structured(x="x" * 40_000)), [np.zeros(4, np.uint8)])


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("wrap", [lambda header: header, lambda header: b"\x92\xa1." + header], ids=["bare", "nested"])
def test_malformed_input_is_a_decode_error(case: str, wrap: Any) -> None:
    header, buffers = MALFORMED[case]
    with pytest.raises(DecodeError):
        decode(wrap(header), buffers)
    assert decode(b"\x92\x01\x02") == ([1, 2], False)


def test_an_unknown_extension_is_named() -> None:
    for code in (0, 18, 31, 36, 77, 127, -2, -128):
        with pytest.raises(DecodeError, match=f"extension {code}:"):
            decode(packed(code, b"abc"))


def test_the_timestamp_of_msgpack_is_understood() -> None:
    assert decode(msgpack.packb(msgpack.Timestamp(1, 500_000_000)))[0] == dt.datetime(
        1970, 1, 1, 0, 0, 1, 500_000, dt.UTC
    )


def nested_sets(depth: int, header: bytes = b"\x90") -> bytes:
    for _ in range(depth):
        header = b"\x91" + msgpack.packb(msgpack.ExtType(7, header))
    return header


def sets_of_keys(depth: int) -> bytes:
    """Each level holds a map with a list as key: a decoder that starts each level anew takes 2**depth steps."""
    header = b"\x01"
    for _ in range(depth):
        header = b"\x92" + packed(6, b"\x91" + packed(7, b"\x91\x91\x01")) + b"\x81\x91\x01" + header
    return header


HOSTILE = {
    "arrays that declare what is not there": b"\xdd\x00\x00\x20\x00" * 1000 + bytes(5000),
    "the same in the payload of a set": packed(6, b"\xdd\x00\x00\x20\x00" * 1000 + bytes(5000)),
    "the same in sets in sets": nested_sets(30, b"\xdd\x00\x00\x20\x00" * 1000 + bytes(5000)),
    "short arrays that declare what is not there": b"\xdc\x60\x00" * 1020 + bytes(30_000),
    "maps": b"\xdf\x00\x00\x60\x00" * 1000 + bytes(30_000),
    "empty lists": b"\xdc\xff\xff" + b"\x90" * 65_535 + b"\x01",
    "sets in sets": nested_sets(500),
    "lists as keys": sets_of_keys(60),
    "many dtypes": b"\xdc\x1b\x58"
    + b"".join(packed(2, b"\x09\0" + b"<M8[%ds]" % n + bytes(8)) for n in range(1000, 8000)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_input_takes_little_memory(case: str) -> None:
    header = HOSTILE[case]
    assert len(header) < 200_000
    tracemalloc.start()
    try:
        try:
            decode(header)
        except DecodeError:
            pass
        assert tracemalloc.get_traced_memory()[1] < 16 * limits.MIB
    finally:
        tracemalloc.stop()


def test_peers_cannot_fill_the_caches() -> None:
    for number in range(1000, 3000):
        parse(b"<M8[%ds]" % number)
        describe(np.dtype(f"<M8[{number}s]"))
    assert len(dtypes_module._dtypes) <= 256
    assert len(dtypes_module._descriptions) <= 256


# -- fuzzing: flipped, cut, spliced headers ---------------------------------------------------------------------------


def decodes_or_refuses(header: bytes, buffers: list[Any]) -> None:
    """Nothing looks at the items: numpy itself cannot show some bit patterns (text beyond Unicode, ``datetime64``
    without a unit), and makes arrays of them without complaint."""
    try:
        decode(header, buffers)
    except DecodeError:
        pass


@given(values | arrays() | st.lists(arrays(), max_size=3), st.data())
@FUZZ
def test_a_mutated_message_decodes_or_is_refused(value: Any, data: st.DataObject) -> None:
    header, buffers = encode(value)
    memory = as_arrays(staged(buffers))
    mutated = bytearray(header)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, max(len(mutated) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "repeat"])):
            case "flip" if mutated:
                mutated[position] ^= 1 << data.draw(st.integers(0, 7))
            case "set" if mutated:
                mutated[position] = data.draw(
                    st.sampled_from([0, 1, 0x7F, 0x80, 0x90, 0xC7, 0xC9, 0xD4, 0xDD, 0xDF, 0xFF])
                )
            case "cut":
                del mutated[position:]
            case "drop":
                del mutated[position : position + 2]
            case "insert":
                mutated[position:position] = data.draw(st.binary(max_size=9))
            case "repeat":
                mutated[position:position] = mutated[position : position + 20]
    decodes_or_refuses(bytes(mutated), memory)
    decodes_or_refuses(header, [memory[0][:-1], *memory[1:]] if memory else [b"a"])


@given(st.binary(max_size=200), st.lists(st.binary(max_size=20), max_size=2))
@example(b"\xc7\x00\x06", [])
@FUZZ
def test_garbage_decodes_or_is_refused(header: bytes, buffers: list[bytes]) -> None:
    decodes_or_refuses(header, buffers)


@given(st.sampled_from([*range(1, 18), 32, 33, 34, 35]), st.binary(max_size=60))
@FUZZ
def test_garbage_in_an_extension_decodes_or_is_refused(code: int, payload: bytes) -> None:
    decodes_or_refuses(packed(code, payload), [bytes(8)])


@given(
    st.text(max_size=30) | st.from_regex(r"[|<>=]?[biufcmMSUVOT?][0-9]{1,4}(\[[0-9]*[a-zA-Z]{1,2}\])?", fullmatch=True)
)
@FUZZ
def test_a_dtype_that_is_understood_describes_itself(description: str) -> None:
    try:
        dtype = parse(description.encode())
    except DecodeError:
        return
    assert dtype.kind in "biufcmMSUV"
    assert dtype.itemsize > 0
    assert parse(describe(dtype)) == dtype
