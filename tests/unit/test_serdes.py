"""``heros.serdes``, an import path of existing programs."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy as np
import pytest

from heros.exceptions import DecodeError
from heros.serdes import UnserializableRemoteObject, deserialize, serialize


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**100),
        1.5,
        "text",
        b"bytes",
        [1, [2, "three"]],
        {"a": 1, 2: "b"},
        {1, 2},
        1 + 2j,
        decimal.Decimal("1.5"),
        uuid.UUID(int=5),
        datetime.timedelta(days=1),
    ],
)
def test_round_trip(value):
    data = serialize(value)
    assert isinstance(data, bytes)
    result = deserialize(data)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.zeros((0, 3)),
        np.array(5.0),
        np.arange(100_000, dtype=">u2"),
    ],
)
def test_arrays(array):
    result = deserialize(serialize({"array": array}))["array"]
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype
    assert result.shape == array.shape


def test_large_bytes_and_several_buffers():
    value = [b"x" * 100_000, np.arange(10_000), bytes(range(256)) * 100]
    result = deserialize(bytearray(serialize(value)))
    assert bytes(result[0]) == value[0]
    np.testing.assert_array_equal(result[1], value[1])
    assert bytes(result[2]) == value[2]


def test_the_result_does_not_change_with_the_array():
    array = np.arange(10_000)
    data = serialize(array)
    array[:] = 0
    assert deserialize(data)[9] == 9


class Thing:
    def __str__(self):
        return "a thing"


def test_an_object_that_cannot_be_serialised_is_itself_again():
    thing = Thing()
    assert deserialize(serialize([thing])) == [thing]


def test_an_object_that_is_gone():
    data = serialize(Thing())
    with pytest.raises(ReferenceError, match="a thing"):
        deserialize(data)


def test_an_object_of_another_process():
    remote = UnserializableRemoteObject("0" * 32, 5, "lab.Thing", "a thing")
    assert deserialize(serialize(remote)) == remote


@pytest.mark.parametrize(
    "data", [b"", b"garbage", serialize([1, 2])[:-1], serialize(np.arange(99))[:-1], b"\xff" * 200]
)
def test_bytes_that_are_no_value(data):
    with pytest.raises(DecodeError):
        deserialize(data)
