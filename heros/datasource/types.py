"""What a datasource delivers: a set of values, each with its unit, time and, once calibrated, its converted value."""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Mapping
from typing import Any

from heros.exceptions import DecodeError
from heros.limits import MAX_ITEMS

__all__ = ["DatasourceReturnSet", "DatasourceReturnValue"]


class DatasourceReturnValue(dict[str, Any]):
    """One value of a datasource; a dict, so that it travels as it is, with properties for its entries.

    Args:
        id: what is measured.
        time: when, in seconds since the epoch; default: now.
        value: the converted value.
        unit: the unit of ``value``.
        raw_value: the value as it was measured.
        raw_unit: the unit of ``raw_value``.
        inbound: the index of the boundaries it is within, their number if there is none, -1 without boundaries.
        calibrated: whether ``value`` and ``unit`` are set; until then the properties of these names give the raw ones.
        kwargs: more entries of the dict.

    Units are texts; a missing one is the text ``"None"``, as existing programs expect.
    """

    def __init__(
        self,
        id: str | None = None,
        time: float | None = None,
        value: Any = None,
        unit: str | None = None,
        raw_value: Any = None,
        raw_unit: str | None = None,
        inbound: int = -1,
        calibrated: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kwargs,
            id=id,
            value=value,
            unit=_unit(unit),
            inbound=inbound,
            time=clock.time() if time is None else time,
            raw_value=raw_value,
            raw_unit=_unit(raw_unit),
            calibrated=calibrated,
        )

    @property
    def id(self) -> Any:
        return self["id"]

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self["time"]  # type: ignore[no-any-return]

    @property
    def raw_value(self) -> Any:
        return self["raw_value"]

    @raw_value.setter
    def raw_value(self, raw_value: Any) -> None:
        self["raw_value"] = raw_value

    @property
    def raw_unit(self) -> str:
        return self["raw_unit"]  # type: ignore[no-any-return]

    @raw_unit.setter
    def raw_unit(self, raw_unit: str) -> None:
        self["raw_unit"] = raw_unit

    @property
    def value(self) -> Any:
        """The converted value; the raw one until it is calibrated."""
        return self["value"] if self["calibrated"] else self["raw_value"]

    @value.setter
    def value(self, value: Any) -> None:
        self["value"] = value

    @property
    def unit(self) -> str:
        """The unit of :attr:`value`."""
        return self["unit"] if self["calibrated"] else self["raw_unit"]  # type: ignore[no-any-return]

    @unit.setter
    def unit(self, unit: str) -> None:
        self["unit"] = unit

    @property
    def inbound(self) -> int:
        return self["inbound"]  # type: ignore[no-any-return]

    @inbound.setter
    def inbound(self, inbound: int) -> None:
        self["inbound"] = inbound

    def __str__(self) -> str:
        unit = "" if self.unit in ("", _unit(None)) else f" {self.unit}"
        return f"{self.id}: {self.value}{unit} (time={self.time:.3f}, inbound={self.inbound})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"


class DatasourceReturnSet(tuple[DatasourceReturnValue, ...]):
    """All values that a datasource delivers at one time."""

    __slots__ = ()

    @staticmethod
    def from_data(data: Any) -> DatasourceReturnSet:
        """Make a set of what a datasource measured.

        Args:
            data: one measurement, a list of measurements, or a dict of id to measurement. A measurement is a number,
                a pair ``(number, unit)``, or a ``DatasourceReturnValue``; anything else is taken as a value without
                unit. The ids of a list are its indices, ``"0"`` to ``"n-1"``; that of a single measurement is ``"0"``.
                A ``DatasourceReturnSet`` is returned as it is.
        """
        if isinstance(data, DatasourceReturnSet):
            return data
        if isinstance(data, Mapping) and not isinstance(data, DatasourceReturnValue):
            measurements: Iterable[tuple[Any, Any]] = data.items()
        elif isinstance(data, list):
            measurements = ((str(index), measurement) for index, measurement in enumerate(data))
        else:
            measurements = [("0", data)]
        return DatasourceReturnSet(_measured(id, measurement) for id, measurement in measurements)

    @staticmethod
    def from_dicts(received: Any) -> DatasourceReturnSet:
        """Make a set again of what arrived from another process: plain lists and dicts.

        Raises:
            DecodeError: it is not a list of maps with the entries of a ``DatasourceReturnValue``.
        """
        if not isinstance(received, list | tuple) or len(received) > MAX_ITEMS:
            raise DecodeError(f"the data of a datasource are a list of maps, not {type(received).__name__}")
        return DatasourceReturnSet(map(_received, received))


def _measured(id: Any, measurement: Any) -> DatasourceReturnValue:
    if isinstance(measurement, DatasourceReturnValue):
        return measurement
    if _is_pair(measurement):
        return DatasourceReturnValue(id=id, raw_value=measurement[0], raw_unit=measurement[1])
    return DatasourceReturnValue(id=id, raw_value=measurement)


def _is_pair(measurement: Any) -> bool:
    """Whether it is a value and its unit, a tuple here or, when it came from another process, a list."""
    return (
        isinstance(measurement, tuple | list)
        and len(measurement) == 2
        and (measurement[1] is None or isinstance(measurement[1], str | bytes))
    )


_ENTRIES: dict[str, type | tuple[type, ...]] = {
    "id": (str, int, type(None)),
    "time": (int, float),
    "unit": str,
    "raw_unit": str,
    "inbound": int,
    "calibrated": bool,
    "value": object,
    "raw_value": object,
}
"""The entries of a ``DatasourceReturnValue`` and what they may be."""


def _received(entries: Any) -> DatasourceReturnValue:
    if not isinstance(entries, Mapping) or not all(isinstance(key, str) for key in entries):
        raise DecodeError(f"a value of a datasource is a map with names, not {type(entries).__name__}")
    for name, allowed in _ENTRIES.items():
        if name in entries and not isinstance(entries[name], allowed):
            raise DecodeError(f"{name!r} of a datasource's value is of type {type(entries[name]).__name__}")
    if "id" not in entries or "time" not in entries:
        raise DecodeError("a datasource's value without id or time")
    value = DatasourceReturnValue()
    value.update(entries)
    return value


def _unit(unit: Any) -> str:
    if isinstance(unit, bytes):
        return unit.decode(errors="replace")
    return str(unit)
