"""Observables: conversion, units and boundaries of a datasource's values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from heros.datasource.observables import BoundaryChecker, Converter, Observable, ObservableProcessor
from heros.datasource.types import DatasourceReturnSet, DatasourceReturnValue


def process(definitions: Any, data: Any) -> list[tuple[Any, Any, Any, Any, Any, bool]]:
    values = DatasourceReturnSet.from_data(data)
    processed = ObservableProcessor(definitions)(values)
    assert type(processed) is DatasourceReturnSet
    entries = ("id", "raw_value", "raw_unit", "value", "unit")
    return [(*(value[entry] for entry in entries), value.inbound, value["calibrated"]) for value in processed]


# As the original HEROS has it: definitions, data, and (id, raw value, raw unit, value, unit, inbound, calibrated).
SAME = [
    ({}, 1.0, [("0", 1.0, "None", None, "None", -1, False)]),
    ({"a": {}}, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
    ({"a": {"foo": 1}}, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
    ({"a": {"conversion": "x*2"}}, {"b": (1, "V")}, [("b", 1, "V", None, "None", -1, False)]),
    ({"a": {"unit": "A"}}, {"a": 1}, [("a", 1, "None", None, "A", -1, False)]),
    ({"a": {"conversion": "x*2"}}, {"a": (1, "V")}, [("a", 1, "V", 2, "V", -1, True)]),
    ({"a": {"conversion": "x+1", "unit": "K"}}, {"a": (1, "V")}, [("a", 1, "V", 2, "K", -1, True)]),
    ({"0": {"conversion": "x+1", "unit": "K"}}, 3, [("0", 3, "None", 4, "K", -1, True)]),
    ({"a": {"conversion": ""}}, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
    ({"a": {"conversion": None}}, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
    ({"a": {"conversion": "3"}}, {"a": 1}, [("a", 1, "None", 3, "None", -1, True)]),
    (
        {"0": {"conversion": "x+1", "unit": "K"}, "1": {"boundaries": [(0, 1)]}},
        [3, 4],
        [("0", 3, "None", 4, "K", -1, True), ("1", 4, "None", None, "None", 1, False)],
    ),
    (
        {"a": {"target": "a"}, "b": {"target": "a", "index": 0, "conversion": "x**2"}},
        {"a": 3, "b": 4},
        [("a", 3, "None", None, "None", -1, False), ("b", 4, "None", 16, "None", -1, True)],
    ),
    ({"x": {"index": 0, "conversion": "x+1"}}, [5], [("0", 5, "None", None, "None", -1, False)]),
    ({"x": {"target": "a", "conversion": "x+1"}}, {"a": 5}, [("a", 5, "None", None, "None", -1, False)]),
    ({"a": {"raw_unit": "A"}}, {"a": (1, "V")}, [("a", 1, "V", None, "V", -1, False)]),
    (
        {"a": {"boundaries": [[0, 2], [5, 9]], "conversion": "x*5", "unit": "A"}},
        {"a": 1},
        [("a", 1, "None", 5, "A", 1, True)],
    ),
    ({"a": {"unit": "A"}}, {"a": "txt"}, [("a", "txt", "None", None, "A", -1, False)]),
]

# Where this project deliberately does otherwise: raw_unit is used, and what cannot be converted spoils no other value.
OTHERWISE = [
    ({"a": {"raw_unit": "A"}}, {"a": 1}, [("a", 1, "A", None, "A", -1, False)]),
    ({"a": {"raw_unit": "A", "conversion": "x"}}, {"a": 1}, [("a", 1, "A", 1, "A", -1, True)]),
    (
        {"a": {"conversion": "x*2"}, "b": {"conversion": "x*2"}},
        {"a": None, "b": 1},
        [("a", None, "None", None, "None", -1, False), ("b", 1, "None", 2, "None", -1, True)],
    ),
    ({"a": {"conversion": "x*2"}}, {"a": "txt"}, [("a", "txt", "None", None, "None", -1, False)]),
    ({"a": {"conversion": "1/x"}}, {"a": 0}, [("a", 0, "None", math.inf, "None", -1, True)]),
    (None, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
    ({"a": {"boundaries": None}}, {"a": 1}, [("a", 1, "None", None, "None", -1, False)]),
]


@pytest.mark.parametrize(("definitions", "data", "expected"), SAME + OTHERWISE)
def test_processing(definitions: Any, data: Any, expected: list[tuple[Any, ...]]) -> None:
    assert process(definitions, data) == expected


@pytest.mark.parametrize(
    ("boundaries", "value", "inbound"),
    [
        ([[0, 1], [1, 2]], 1, 0),
        ([[0, 1], [1, 2]], 0, 0),
        ([[0, 1], [1, 2]], 1.5, 1),
        ([[0, 1], [1, 2]], 2, 1),
        ([[0, 1], [1, 2]], 7, 2),
        ([[0, 1]], -1e-9, 1),
        ([[3, 1]], 2, 1),
        ([], 7, -1),
        ({}, 7, -1),
        ([[0, 1]], math.nan, 1),
        ([[0, 1]], "txt", 1),
        ([[0, 1]], None, 1),
        (((0, 1),), np.array([1, 2]), 1),
        (((0, 2),), np.array([1, 2]), 0),  # the original compares no arrays
        ([[0, math.inf]], 1e300, 0),
    ],
)
def test_boundaries(boundaries: Any, value: Any, inbound: int) -> None:
    assert BoundaryChecker(boundaries)(DatasourceReturnValue(raw_value=value)).inbound == inbound


@pytest.mark.parametrize("boundaries", [[0, 1], [[0]], [[0, 1, 2]], [["a", "b"]], [[0, None]], 3, "ab"])
def test_boundaries_that_are_none(boundaries: Any) -> None:
    with pytest.raises(ValueError, match="pairs"):
        BoundaryChecker(boundaries)


def test_an_array_is_converted() -> None:
    value = Converter("x*2", "A")(DatasourceReturnValue(raw_value=np.array([1, 2])))
    np.testing.assert_array_equal(value.value, [2.0, 4.0])
    assert value.unit == "A"


@pytest.mark.parametrize("raw_value", [2, 2.0, True, np.float64(2), np.int8(2), np.bool_(True)])
def test_numbers_are_converted(raw_value: Any) -> None:
    value = Converter("x*2")(DatasourceReturnValue(raw_value=raw_value))
    assert value["calibrated"]
    assert type(value.value) is float
    assert value.value == 2 * raw_value


@pytest.mark.parametrize("raw_value", [None, "2", b"2", [2], 2j, np.array(["2"]), {"a": 2}])
def test_what_is_no_number_stays_as_it_is(raw_value: Any) -> None:
    value = Converter("x*2", "A")(DatasourceReturnValue(raw_value=raw_value))
    assert not value["calibrated"]
    assert value.value is raw_value


def test_an_observable_keeps_its_definition_and_processes_in_place() -> None:
    definition = {"target": "dev", "index": 3, "conversion": "x"}
    observable = Observable("a", definition)
    assert observable.id == "a"
    assert observable.definition == definition
    value = DatasourceReturnValue(id="a", raw_value=1)
    assert observable.process(value) is value


@pytest.mark.parametrize(
    ("definitions", "error", "message"),
    [
        ({"a": {"conversion": "__import__('os')"}}, ValueError, "observable 'a'.*not allowed"),
        ({"a": {"conversion": "x+"}}, ValueError, "observable 'a'.*cannot be read"),
        ({"a": {"conversion": 3}}, TypeError, "observable 'a'.*str"),
        ({"a": {"boundaries": [0, 1]}}, ValueError, "observable 'a'.*pairs"),
        ({"a": None}, TypeError, "observable 'a'.*dict"),
        ({"a": {"unti": "V"}}, ValueError, "observable 'a'.*no 'unti'.*'unit'"),
        ({"a": {"boundary": [[0, 1]]}}, ValueError, "observable 'a'.*'boundaries'"),
        ({"a": {"index": 1.5}}, TypeError, "observable 'a'.*index"),
        ("x", TypeError, "observables must be a dict"),
    ],
)
def test_bad_definitions_are_refused_at_once_by_name(definitions: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ObservableProcessor(definitions)


def test_what_else_a_definition_says_is_kept() -> None:
    definition = {"description": "of the lab", "loop": 1, 3: 4}
    assert Observable("a", definition).definition == definition


def test_observables_without_a_value_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    processor = ObservableProcessor({"a": {}, "zz": {}, "yy": {}})
    for _ in range(3):
        processor(DatasourceReturnSet.from_data({"a": 1, "b": 2}))
    assert [record.getMessage() for record in caplog.records] == [
        "There is no value for observable 'yy', 'zz' in the first data, whose ids are 'a', 'b'"
    ]
