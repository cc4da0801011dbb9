"""What counts as the data of a datasource, here and from another process."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heros.datasource.types import DatasourceReturnSet, DatasourceReturnValue
from heros.exceptions import DecodeError


def summary(values: DatasourceReturnSet) -> list[tuple[Any, Any, str]]:
    assert type(values) is DatasourceReturnSet
    assert all(type(value) is DatasourceReturnValue for value in values)
    return [(value.id, value.raw_value, value.raw_unit) for value in values]


# As the original HEROS has it.
SAME = [
    (1.5, [("0", 1.5, "None")]),
    (3, [("0", 3, "None")]),
    (True, [("0", True, "None")]),
    (None, [("0", None, "None")]),
    ("a", [("0", "a", "None")]),
    (b"x", [("0", b"x", "None")]),
    (1 + 2j, [("0", 1 + 2j, "None")]),
    ((1.5, "V"), [("0", 1.5, "V")]),
    ((None, "V"), [("0", None, "V")]),
    ((1.5, None), [("0", 1.5, "None")]),
    ((1.5, b"V"), [("0", 1.5, "V")]),
    ((1.5,), [("0", (1.5,), "None")]),
    ((1, "V", 3), [("0", (1, "V", 3), "None")]),
    ((1, 2, 3), [("0", (1, 2, 3), "None")]),
    ([1, 2.5], [("0", 1, "None"), ("1", 2.5, "None")]),
    ([1.5, "V"], [("0", 1.5, "None"), ("1", "V", "None")]),
    ([None], [("0", None, "None")]),
    ([[1, 2], [3]], [("0", [1, 2], "None"), ("1", [3], "None")]),
    ([{"a": 1}], [("0", {"a": 1}, "None")]),
    ([], []),
    ({}, []),
    ({"a": 1}, [("a", 1, "None")]),
    ({"a": (1, "V"), "b": 2}, [("a", 1, "V"), ("b", 2, "None")]),
    ({"a": [1, "V"]}, [("a", 1, "V")]),
    ({"a": (1, None)}, [("a", 1, "None")]),
    ({"a": None}, [("a", None, "None")]),
    ({"a": {"b": 1}}, [("a", {"b": 1}, "None")]),
    ({1: 2}, [(1, 2, "None")]),
    ({"id": "a", "raw_value": 1.0}, [("id", "a", "None"), ("raw_value", 1.0, "None")]),
    (np.float64(2), [("0", np.float64(2), "None")]),
    (np.int32(2), [("0", np.int32(2), "None")]),
    ((np.float64(1), "V"), [("0", np.float64(1), "V")]),
    ({"a": np.float32(1)}, [("a", np.float32(1), "None")]),
]

# Where this project deliberately does otherwise: the original takes only the pairs of a dict apart, and there every
# list or tuple of two is a pair ({"a": [1, 2]} has the unit "2").
OTHERWISE = [
    ([(1, "V"), 2], [("0", 1, "V"), ("1", 2, "None")]),
    ([[1, "V"], [2, None]], [("0", 1, "V"), ("1", 2, "None")]),
    ((1, 2), [("0", (1, 2), "None")]),
    ({"a": [1, 2]}, [("a", [1, 2], "None")]),
    ({"a": (1, 2)}, [("a", (1, 2), "None")]),
    ({"a": [(1, "V"), 2]}, [("a", [(1, "V"), 2], "None")]),
    (((1, "V"), (2, "A")), [("0", ((1, "V"), (2, "A")), "None")]),
]


@pytest.mark.parametrize(("data", "expected"), SAME + OTHERWISE)
def test_from_data(data: object, expected: list[tuple[Any, Any, str]]) -> None:
    before = copy.deepcopy(data)
    values = DatasourceReturnSet.from_data(data)
    assert summary(values) == expected
    assert [type(value.raw_value) for value in values] == [type(raw_value) for _, raw_value, _ in expected]
    assert data == before
    for value in values:
        assert (value["value"], value["unit"], value.inbound, value["calibrated"]) == (None, "None", -1, False)
        assert isinstance(value.time, float)


def test_an_array_is_one_value() -> None:
    array = np.arange(3.0)
    (value,) = DatasourceReturnSet.from_data({"trace": (array, "V")})
    assert value.raw_value is array
    assert value.raw_unit == "V"


def test_values_and_sets_are_taken_as_they_are() -> None:
    value = DatasourceReturnValue(id="q", raw_value=1)
    values = DatasourceReturnSet.from_data(value)
    assert values[0] is value
    assert DatasourceReturnSet.from_data([value])[0] is value
    assert DatasourceReturnSet.from_data(values) is values


ENTRIES = ("id", "raw_value", "raw_unit", "value", "unit", "inbound")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (None, None, "None", None, "None", -1)),
        ({"id": "a"}, ("a", None, "None", None, "None", -1)),
        ({"value": 1, "unit": "V"}, (None, None, "None", None, "None", -1)),
        ({"raw_value": 1}, (None, 1, "None", 1, "None", -1)),
        ({"raw_value": 1, "raw_unit": "V"}, (None, 1, "V", 1, "V", -1)),
        ({"raw_value": 1, "raw_unit": b"V"}, (None, 1, "V", 1, "V", -1)),
        ({"raw_value": 1, "value": 2, "raw_unit": "V", "unit": "A"}, (None, 1, "V", 1, "V", -1)),
        (
            {"raw_value": 1, "value": 2, "raw_unit": "V", "unit": "A", "calibrated": True},
            (None, 1, "V", 2, "A", -1),
        ),
        ({"value": 3, "calibrated": True, "inbound": 2}, (None, None, "None", 3, "None", 2)),
    ],
)
def test_properties_of_a_value(arguments: dict[str, Any], expected: tuple[Any, ...]) -> None:
    value = DatasourceReturnValue(**arguments)
    assert tuple(getattr(value, entry) for entry in ENTRIES) == expected


def test_the_entries_of_a_value() -> None:
    before = time.time()
    value = DatasourceReturnValue(id="z", foo=3)
    assert set(value) == {"id", "time", "value", "unit", "raw_value", "raw_unit", "inbound", "calibrated", "foo"}
    assert before <= value.time <= time.time()
    assert DatasourceReturnValue(time=5).time == 5


def test_what_can_be_set() -> None:
    value = DatasourceReturnValue(id="a", raw_value=1)
    for entry in ("raw_value", "raw_unit", "value", "unit", "inbound"):
        setattr(value, entry, 9)
        assert value[entry] == 9
    for entry in ("id", "time"):
        with pytest.raises(AttributeError):
            setattr(value, entry, 9)
    assert value["calibrated"] is False


def test_how_a_value_reads() -> None:
    value = DatasourceReturnValue(id="T", raw_value=1.5, raw_unit="V", time=5)
    assert str(value) == "T: 1.5 V (time=5.000, inbound=-1)"
    for none in (None, ""):
        value_without = DatasourceReturnValue(id="T", raw_value=1.5, raw_unit=none, time=5)
        assert str(value_without) == "T: 1.5 (time=5.000, inbound=-1)"
    assert eval(repr(value), {"DatasourceReturnValue": lambda entries: entries}) == value


def test_a_set_survives_as_plain_lists_and_dicts() -> None:
    values = DatasourceReturnSet.from_data({"a": (1, "V"), "b": 2})
    again = DatasourceReturnSet.from_dicts([dict(value) for value in values])
    assert again == values
    assert summary(again) == summary(values)


def test_unknown_entries_are_kept() -> None:
    plain = [{"id": "a", "time": 1.0, "raw_value": 3, "self": 1, "quality": "good"}]
    (value,) = DatasourceReturnSet.from_dicts(plain)
    assert (value["quality"], value["self"], value.value, value.inbound) == ("good", 1, 3, -1)


@pytest.mark.parametrize(
    "received",
    [
        None,
        1.5,
        "text",
        {"id": "a"},
        [1.5],
        [None],
        [{}],
        [{"id": "a"}],
        [{"id": "a", "time": "now"}],
        [{"id": [], "time": 1.0}],
        [{"id": "a", "time": 1.0, "inbound": "1"}],
        [{"id": "a", "time": 1.0, "calibrated": 1}],
        [{"id": "a", "time": 1.0, "unit": None}],
        [{"id": "a", "time": 1.0, "raw_unit": 3}],
        [{"id": "a", "time": 1.0, 3: 4}],
    ],
)
def test_malformed_data_from_another_process(received: object) -> None:
    with pytest.raises(DecodeError):
        DatasourceReturnSet.from_dicts(received)


NAMES = st.sampled_from(["id", "time", "value", "unit", "raw_value", "raw_unit", "inbound", "calibrated"]) | st.text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(st.lists(st.dictionaries(NAMES, SCALARS | st.lists(SCALARS))) | SCALARS)
def test_whatever_arrives_a_set_or_a_decode_error(received: object) -> None:
    try:
        values = DatasourceReturnSet.from_dicts(received)
    except DecodeError:
        return
    for value in values:
        str(value)
        assert all(isinstance(getattr(value, unit), str) for unit in ("unit", "raw_unit"))
