"""CBOR of protocol 1.0: recorded messages of the original, round trips, and garbage that is one ``DecodeError``."""

from __future__ import annotations

import datetime as dt
import importlib
import ipaddress
import json
import math
import sys
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from heros import codec, limits
from heros.capabilities import Opaque, from_list
from heros.codec import ErrorDescription, HeroReference, MemberReference, ObjectReference
from heros.entry import Entry
from heros.exceptions import DecodeError, EncodeError, HEROSError
from heros.net.legacy import cbor, descriptor, translate
from heros.wire import Fault

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))

NODE = "a" * 32
VECTORS = {each["name"]: each for each in json.loads((Path(__file__).parent / "legacy_vectors.json").read_text())}
RECORDED = {name: bytes.fromhex(each["hex"]) for name, each in VECTORS.items()}
HERO = HeroReference("heros", "vec-dev")
TRACE = '  File "driver.py", line 12, in add\n    return a + b\n'

VALUES = {
    "attribute-get-reply": 3,
    "attribute-set-reply": None,
    "call-reply": 6,
    "call-error": ErrorDescription("TypeError", "builtins", 'can only concatenate str (not "int") to str', TRACE),
    "call-request": [[1], {"b": 5}],
    "call-request-v0.1": {"a": 1, "b": 5},
    "ndarray-f64-2x3": np.arange(6.0).reshape(2, 3),
    "ndarray-u16-be-fortran": np.arange(6, dtype=">u2").reshape(2, 3),
    "hero-reference": HERO,
    "event-reference": MemberReference(*HERO, "data", "event"),
    "method-reference": MemberReference(*HERO, "add", "method"),
    "unserializable": ObjectReference(
        cbor.OLD, 140407144757008, "__main__.Obj", "<__main__.Obj object at 0x7fb315fcb710>"
    ),
    "exception": ErrorDescription("ValueError", "builtins", "bad value", TRACE),
    "value-set": {1, 2},
    "value-big-int": 1 << 80,
    "value-complex": 1 + 2j,
    "value-datetime": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "value-decimal": Decimal("1.25"),
    "value-uuid": uuid.UUID(int=5),
    "value-fraction": Fraction(1, 3),
    "value-nan": math.nan,
    "value-tuple": [1, [2, 3]],
    "value-bytes": b"\x00\xff",
    "value-int-key-map": {1: "a"},
    "event-sample": {"i": 1, "f": [1.5, "mV"]},
}
"""What a recorded message means; those that are not here have tests of their own."""

ONE_WAY = {"unserializable"}
"""What comes back as another message: 9001 is to one of the sender's objects, and goes back as 9002."""


def same(one, other):
    if isinstance(one, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and (one == other or (one != one and other != other))


@pytest.mark.parametrize("name", VALUES)
def test_a_recorded_message_means_this(name):
    assert same(cbor.decode(RECORDED[name], NODE), VALUES[name])


@pytest.mark.parametrize("name", sorted(VALUES.keys() - ONE_WAY))
def test_this_is_sent_as_the_original_sends_it(name):
    assert cbor.encode(VALUES[name], NODE) == RECORDED[name]


def test_every_recorded_message_is_tested():
    own = {"discover-reply", "capabilities-reply", "unserializable-returned"}
    assert VALUES.keys() | own == RECORDED.keys()


# -- objects that stay with their owner -------------------------------------------------------------------------------


def test_an_object_of_an_existing_hero_goes_back_to_it():
    reference = cbor.decode(RECORDED["unserializable"], NODE)
    assert cbor.encode(reference, NODE) == RECORDED["unserializable-returned"]


def test_an_object_of_ours_comes_back_from_an_existing_hero():
    reference = ObjectReference(NODE, 7, "lab.Opaque", "opaque one")
    sent = cbor2.loads(cbor.encode(reference, NODE))
    assert sent.tag == 9001
    kind, ident, representation = sent.value
    assert (kind, representation) == ("lab.Opaque", "opaque one")
    assert 0 < ident < 1 << 63
    back = cbor.decode(cbor2.dumps(cbor2.CBORTag(9002, ident)), NODE)
    assert (back.node_id, back.object_id) == (NODE, 7)


def test_the_number_of_an_object_of_ours_means_nothing_to_another_node():
    ident = cbor2.loads(cbor.encode(ObjectReference(NODE, 7, "a", "b"), NODE)).value[1]
    back = cbor.decode(cbor2.dumps(cbor2.CBORTag(9002, ident)), "b" * 32)
    assert back.node_id == "b" * 32
    assert not 0 < back.object_id < 1 << 20


def test_an_object_of_a_third_process_is_not_sent():
    with pytest.raises(EncodeError, match="object of another process"):
        cbor.encode([ObjectReference("c" * 32, 7, "lab.Opaque", "opaque one")], NODE)


# -- what has no form in protocol 1.0 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (dt.datetime(2026, 1, 1), "time zone"),
        (dt.time(1), "isoformat"),
        (dt.timedelta(1), "total_seconds"),
        (np.zeros(2, "i4,f8"), "fields"),
        (np.zeros(2, "i4,f8")[0], "fields"),
        (np.datetime64("2026-01-01"), "text"),
        (ipaddress.ip_interface("10.0.0.1/8"), "network"),
        ({frozenset({(1, frozenset())}): [dt.timedelta(1)]}, "total_seconds"),
    ],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_what_cannot_be_sent_says_so(value, advice):
    with pytest.raises(EncodeError, match=advice):
        cbor.encode([{"a": value}], NODE)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(-3), -3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.complex64(1 + 2j), 1 + 2j),
        (np.longdouble(1.5), 1.5),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (frozenset({1}), {1}),
        ((1, (2, 3)), [1, [2, 3]]),
        ({(1, (2,)): {(3, 4)}}, {(1, (2,)): {(3, 4)}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_arrives_as_something_simpler(value, arrives):
    got = cbor.decode(cbor.encode([value], NODE), NODE)
    assert got == [arrives]
    assert type(got[0]) is type(arrives)


def test_addresses_have_the_tags_that_existing_heros_know():
    assert cbor.encode(ipaddress.ip_address("10.0.0.1"), NODE).hex() == "d90104440a000001"
    assert cbor.encode(ipaddress.ip_network("10.0.0.0/8"), NODE).hex() == "d90105a1440a00000008"


# -- round trips ------------------------------------------------------------------------------------------------------

texts = st.text(max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=40)
    | st.complex_numbers(allow_nan=False)
    | st.uuids()
    | st.fractions()
    | st.dates()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.ip_addresses()
    | st.builds(HeroReference, texts, texts)
    | st.builds(MemberReference, texts, texts, texts, st.sampled_from(["method", "event"]))
    | st.builds(ObjectReference, st.just(cbor.OLD), st.integers(0, 2**64 - 1), texts, texts)
)
keys = st.none() | st.integers() | texts | st.binary(max_size=9) | st.tuples(texts, st.integers())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(st.integers() | texts | st.tuples(st.integers()), max_size=4)
    ),
    max_leaves=12,
)


def known_only_to_its_owner(value):
    """What ``value`` is once it has gone to an existing HERO, of whose objects only the number is sent back."""
    if isinstance(value, ObjectReference):
        return value.object_id
    if type(value) is list:
        return [known_only_to_its_owner(item) for item in value]
    if type(value) is dict:
        return {key: known_only_to_its_owner(item) for key, item in value.items()}
    return value


def number_again(value):
    if isinstance(value, ObjectReference):
        return int(value.representation, 16)
    if type(value) is list:
        return [number_again(item) for item in value]
    if type(value) is dict:
        return {key: number_again(item) for key, item in value.items()}
    return value


@QUICK
@given(values)
def test_what_goes_out_comes_in_again(value):
    assert number_again(cbor.decode(cbor.encode(value, NODE), NODE)) == known_only_to_its_owner(value)


@QUICK
@given(values)
def test_a_message_of_ours_survives_the_way_through_cbor(value):
    header, buffers = codec.encode(value)
    again, _ = codec.decode(*translate.read_value(translate.value_to_cbor(header, buffers, NODE), NODE))
    assert number_again(again) == known_only_to_its_owner(value)


@QUICK
@given(
    npst.arrays(
        npst.boolean_dtypes()
        | npst.integer_dtypes(endianness="=")
        | npst.integer_dtypes(endianness=">")
        | npst.floating_dtypes(sizes=(32, 64))
        | npst.complex_number_dtypes(sizes=(64, 128))
        | npst.unicode_string_dtypes(max_len=5)
        | npst.byte_string_dtypes(max_len=5)
        | npst.datetime64_dtypes(),
        npst.array_shapes(min_dims=0, min_side=0),
    )
)
def test_arrays(array):
    for sent in (array, array.T, np.asfortranarray(array)):
        got = cbor.decode(cbor.encode(sent, NODE), NODE)
        assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
        assert got.tobytes() == sent.tobytes()
        assert not got.flags.writeable


# -- garbage ----------------------------------------------------------------------------------------------------------


def read(data):
    """Whatever the bytes: the value, or a DecodeError."""
    try:
        header, buffers = translate.read_value(data, NODE)
    except DecodeError:
        return
    codec.decode(header, buffers)


@FUZZ
@given(st.binary(max_size=60))
@example(b"\x1c")
@example(b"\xff")
@example(b"\x81" * 300 + b"\x00")
@example(b"\xd9\x23\x28" * 300 + b"\x00")
def test_garbage_is_a_decode_error(data):
    read(data)
    try:
        translate.read_arguments(data, NODE)
    except DecodeError:
        pass
    assert isinstance(codec.decode(translate.read_error(data, NODE))[0], ErrorDescription)


@FUZZ
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_damaged_messages_are_a_decode_error(name, data):
    message = bytearray(RECORDED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(message[: data.draw(st.integers(0, len(message)))]))
    read(bytes(message))


@FUZZ
@given(
    st.sampled_from([4242, 9000, 9001, 9002, 9003, 9004, 9005, 258, 0, 1, 2, 3, 4, 5, 25, 28, 30, 35, 36, 37, 261]),
    values | st.lists(values, min_size=2, max_size=3),
)
def test_tags_of_anything_are_a_decode_error(tag, value):
    read(cbor2.dumps(cbor2.CBORTag(tag, cbor2.loads(cbor.encode(value, NODE)))))


@pytest.mark.parametrize(
    "data",
    [
        cbor2.dumps(cbor2.CBORTag(4242, [[1], b"O", bytes(8)])),
        cbor2.dumps(cbor2.CBORTag(4242, [[2], b"float64", bytes(8)])),
        cbor2.dumps(cbor2.CBORTag(4242, [[-1], b"float64", bytes(8)])),
        cbor2.dumps(cbor2.CBORTag(4242, [[1 << 62, 0], b"float64", b""])),
        cbor2.dumps(cbor2.CBORTag(4242, [[1], b"f8,i4", bytes(12)])),
        cbor2.dumps(cbor2.CBORTag(9002, "a")),
        cbor2.dumps(cbor2.CBORTag(9004, ["realm", "name"])),
        cbor2.dumps(cbor2.CBORTag(12345, 1)),
        cbor2.dumps({1: cbor2.CBORSimpleValue(19)}),
        bytes.fromhex("9bffffffffffffffff"),
        bytes.fromhex("5bffffffffffffffff"),
    ],
    ids=lambda data: data[:9].hex(),
)
def test_what_is_dangerous_or_makes_no_sense_is_a_decode_error(data):
    with pytest.raises(DecodeError):
        translate.read_value(data, NODE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes.fromhex("d81c81d81d00"), "tag 29 is not accepted"),  # a list that contains itself
        (bytes.fromhex("d81c8100"), "tag 28 is not accepted"),
        (bytes.fromhex("d9010082636162636161"), "tag 256 is not accepted"),
        (bytes.fromhex("d81900"), "tag 25 is not accepted"),  # a reference to a text
        (bytes.fromhex("d823613a"), "tag 35 is not accepted"),  # a regular expression
        (bytes.fromhex("d824613a"), "tag 36 is not accepted"),
        (cbor2.dumps(cbor2.CBORTag(5, [1 << 40, 1])), "tag 5 is not accepted"),  # 2 to the power of 2**40
        (cbor2.dumps(1 << (8 * 100_000)), "large integer"),
        (cbor2.dumps(-(1 << (8 * 100_000))), "large integer"),
        (cbor2.dumps(list(range(limits.MAX_ITEMS + 1))), "more than"),
        (b"\x81" * (limits.MAX_DEPTH + 1) + b"\x00", "deep"),
        (b"\x81" * 1000 + b"\x00", "depth"),
    ],
    ids=lambda value: value[:30] if type(value) is str else "",
)
def test_what_could_make_much_of_few_bytes_is_refused(data, reason):
    with pytest.raises(DecodeError, match=reason):
        cbor.decode(data, NODE)


def test_the_next_message_works():
    with pytest.raises(DecodeError):
        cbor.decode(b"\xff", NODE)
    assert cbor.decode(b"\x03", NODE) == 3


# -- calls and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"), [("call-request", [[1], {"b": 5}]), ("call-request-v0.1", [[], {"a": 1, "b": 5}])]
)
def test_arguments(name, arguments):
    assert codec.decode(*translate.read_arguments(RECORDED[name], NODE))[0] == arguments


@pytest.mark.parametrize("value", [None, 1, [], [[1]], [[1], {1: 2}], [{}, []], [[], {}, 1], {1: 2}], ids=repr)
def test_what_is_no_arguments(value):
    with pytest.raises(DecodeError):
        translate.read_arguments(cbor2.dumps(value), NODE)


def test_an_error_of_ours_is_one_of_protocol_1():
    description = ErrorDescription("ValueError", "builtins", "bad value", TRACE, ("bad value",))
    assert translate.error_to_cbor(Fault.RAISED, codec.encode(description)[0], NODE) == RECORDED["exception"]


@pytest.mark.parametrize(
    ("fault", "name"),
    [(Fault.UNAVAILABLE, "HEROUnavailable"), (Fault.MALFORMED, "DecodeError"), (Fault.BUSY, "HEROSError")],
)
def test_a_call_that_was_not_carried_out(fault, name):
    error = cbor.decode(translate.error_to_cbor(fault, codec.encode("why")[0], NODE), NODE)
    assert error == ErrorDescription(name, "heros.exceptions", "why", "")


def test_errors_of_old_versions_are_texts():
    header = translate.read_error(cbor2.dumps("division by zero"), NODE)
    assert codec.decode(header)[0].message == "division by zero"


def test_an_error_reply_may_hold_what_numpy_makes_and_cannot_show():
    array = cbor2.dumps(cbor2.CBORTag(4242, [[1], b"M8", bytes(8)]))
    assert codec.decode(translate.read_error(array, NODE))[0].message == "a value that cannot be shown (ndarray)"


def test_an_error_that_was_passed_on_has_no_module():
    value = {"__heros_error__": True, "type": "ValueError", "module": None, "message": "m", "traceback": None}
    assert cbor.error_of(value) == ErrorDescription("ValueError", "builtins", "m", "")


# -- descriptions -----------------------------------------------------------------------------------------------------


def test_the_descriptor_of_ours_is_that_of_protocol_1():
    recorded = cbor.decode(RECORDED["discover-reply"], NODE)
    described = descriptor.Descriptor.of(recorded)
    assert described.name == "vec-dev"
    assert described.protocol == 1.0
    entry = Entry(
        "heros",
        described.name,
        "1",
        "2",
        class_name=described.class_name,
        implements=described.implements,
        tags=described.tags,
        extra_metadata=described.extra_metadata,
    )
    assert descriptor.descriptor_of(entry) == recorded


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"name": "a/b"}, {"name": 1}, {"name": "a", "tags": "t"}, {"name": "a", "proto_version": "x"},
     {"name": "a", "extra_metadata": [1]}, {"name": "a", "extra_metadata": {"a": 1}}, {"name": "a", "tags": [1]}],
    ids=repr,
)  # fmt: skip
def test_what_is_no_descriptor(value):
    with pytest.raises(DecodeError):
        descriptor.Descriptor.of(value)


def test_a_descriptor_without_a_version_is_of_protocol_0_1():
    assert descriptor.Descriptor.of({"name": "a"}).protocol == 0.1


def test_capabilities_both_ways():
    recorded = cbor.decode(RECORDED["capabilities-reply"], NODE)
    capabilities = from_list(descriptor.capabilities_from_legacy(recorded))
    assert [each.name for each in capabilities] == [each["name"] for each in recorded]
    assert str(capabilities[3].signature()) == "(a: 'int', b: 'int' = 2) -> 'int'"
    assert descriptor.capabilities_to_legacy([each.to_dict() for each in capabilities]) == recorded


def test_a_default_that_is_no_value_is_shown():
    parameter = {"name": "a", "type": "undefined", "kind": 1}
    for default in (ObjectReference(cbor.OLD, 1, "T", "<T>"), HERO, MemberReference(*HERO, "m", "method"), np.zeros(1)):
        (method,) = descriptor.capabilities_from_legacy(
            [{"name": "m", "flavor": "method", "parameters": [{**parameter, "default": default}]}]
        )
        codec.encode(method)
        (capability,) = from_list([method])
        assert isinstance(capability.parameters[0].default, Opaque)


@pytest.mark.parametrize("value", [1, [1], [{"flavor": "method", "parameters": 1}], [{"flavor": "event"}]], ids=repr)
def test_what_is_no_capabilities(value):
    with pytest.raises(DecodeError):
        from_list(descriptor.capabilities_from_legacy(value))


# -- without cbor2 ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    """The module as if it were just imported."""
    cbor._library.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    cbor._library.cache_clear()


def test_without_cbor2_the_error_says_what_to_install(fresh):
    fresh.setitem(sys.modules, "cbor2", None)
    with pytest.raises(HEROSError, match=r'pip install "heros\[legacy\]"'):
        cbor.encode(1, NODE)
    with pytest.raises(HEROSError, match=r'pip install "heros\[legacy\]"'):
        cbor.decode(b"\x03", NODE)


def test_a_cbor2_that_is_too_old_says_so(fresh):
    fresh.setattr(importlib.import_module("cbor2"), "shareable_decoder", None)
    fresh.delattr("cbor2.shareable_decoder")
    with pytest.raises(HEROSError, match="cbor2 6 or newer"):
        cbor.encode(1, NODE)
