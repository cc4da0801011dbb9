"""Observables: how the values of a datasource are converted, and the boundaries they should be within.

An observable is defined by a map, usually from a configuration file, under the id of the value that it is for:

==============  =====================================================================================================
target, index   the member of a polled datasource that gives the value, and which item of it (see ``datasource``)
raw_unit        unit of the measured value, where the datasource gives none
conversion      an expression in ``x``, the measured value (see ``expression``)
unit            unit of the converted value; default: that of the measured one
boundaries      a list of pairs [lower, upper], both included; ``inbound`` becomes the index of the first that holds
==============  =====================================================================================================

Values without an observable are left alone. An observable without a value is warned of, once.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from heros.datasource.expression import Expression
from heros.datasource.types import DatasourceReturnSet, DatasourceReturnValue

__all__ = ["BoundaryChecker", "Converter", "Observable", "ObservableProcessor"]


log = logging.getLogger("heros.datasource")

_KEYS = ("target", "index", "raw_unit", "conversion", "unit", "boundaries")
_ALIKE = 0.75
"""As far as ``unti`` is from ``unit``."""


class Converter:
    """Calibrates a value: sets its ``value`` and ``unit``.

    Args:
        conversion_code: the expression; None or empty: nothing is converted.
        unit: of the converted value; default: the raw unit.

    Raises:
        ValueError: the expression is refused.
    """

    def __init__(self, conversion_code: str | None, unit: str | None = None) -> None:
        self._expression = Expression(conversion_code) if conversion_code else None
        self._unit = unit

    def __call__(self, return_value: DatasourceReturnValue) -> DatasourceReturnValue:
        """Convert in place. What is no number (None where a sensor gave nothing, a text) stays uncalibrated."""
        return_value.unit = self._unit or return_value.raw_unit
        if self._expression is not None and _is_number(return_value.raw_value):
            return_value.value = self._expression(return_value.raw_value)
            return_value["calibrated"] = True
        return return_value


class BoundaryChecker:
    """Sets ``inbound`` of a value: the index of the first boundaries it is within, their number if it is in none.

    Args:
        boundaries: pairs of lower and upper limit, both included. Without any, ``inbound`` is left alone.

    Raises:
        ValueError: they are not pairs of numbers.
    """

    def __init__(self, boundaries: Sequence[Sequence[float]] | None) -> None:
        try:
            self._boundaries = [(float(lower), float(upper)) for lower, upper in boundaries or ()]
        except (TypeError, ValueError):
            raise ValueError(f"boundaries must be a list of pairs [lower, upper], not {boundaries!r}") from None

    def __call__(self, return_value: DatasourceReturnValue) -> DatasourceReturnValue:
        if self._boundaries:
            return_value.inbound = self._check_bounds(return_value.value)
        return return_value

    def _check_bounds(self, value: Any) -> int:
        """An array is within boundaries when all its elements are; what is no number never is."""
        if _is_number(value):
            for index, (lower, upper) in enumerate(self._boundaries):
                if np.all((lower <= value) & (value <= upper)):
                    return index
        return len(self._boundaries)


class Observable:
    """One observable.

    Args:
        id: of the value that it is for.
        definition: the map described above; other entries are kept and ignored, unless they look like one of those.

    Attributes:
        definition: a copy of the map.

    Raises:
        ValueError: an expression that is refused, boundaries that are no pairs, or a misspelt key.
        TypeError: ``definition`` is no map, or ``index`` neither int nor str.
    """

    def __init__(self, id: str, definition: Mapping[str, Any]) -> None:
        if not isinstance(definition, Mapping):
            raise TypeError(f"observable {id!r} must be defined by a dict, not {definition!r}")
        for key in definition:
            meant = () if key in _KEYS else difflib.get_close_matches(str(key), _KEYS, 1, _ALIKE)
            if meant:
                raise ValueError(f"observable {id!r}: there is no {key!r}; {meant[0]!r} is what is meant, it seems")
        if not isinstance(definition.get("index", 0), int | str):
            raise TypeError(f"observable {id!r}: index must be an int or a str, not {definition['index']!r}")
        self._id = id
        self.definition = dict(definition)
        try:
            self._converter = Converter(definition.get("conversion"), definition.get("unit"))
            self._boundary_checker = BoundaryChecker(definition.get("boundaries"))
        except (TypeError, ValueError) as error:
            raise type(error)(f"observable {id!r}: {error}") from None

    @property
    def id(self) -> str:
        return self._id

    def process(self, return_value: DatasourceReturnValue) -> DatasourceReturnValue:
        """Convert and check a value, in place, and return it."""
        raw_unit = self.definition.get("raw_unit")
        if raw_unit and return_value.raw_unit in (None, "None"):
            return_value.raw_unit = raw_unit
        return self._boundary_checker(self._converter(return_value))


class ObservableProcessor:
    """All observables of a datasource.

    Args:
        obs_def: id to definition; None: none.

    Raises:
        ValueError, TypeError: a definition is refused; the message names it.
    """

    def __init__(self, obs_def: Mapping[str, Mapping[str, Any]] | None) -> None:
        if not isinstance(obs_def, Mapping | None):
            raise TypeError(f"observables must be a dict of id to definition, not {obs_def!r}")
        self._observables = {id: Observable(id, definition) for id, definition in (obs_def or {}).items()}
        self._unmet = set(self._observables)

    def __call__(self, datasource_return_set: DatasourceReturnSet) -> DatasourceReturnSet:
        """Convert and check, in place, the values that have an observable. Returns the set."""
        for return_value in datasource_return_set:
            observable = self._observables.get(return_value.id)
            if observable is not None:
                observable.process(return_value)
        if self._unmet:
            self._warn({return_value.id for return_value in datasource_return_set})
        return datasource_return_set

    def _warn(self, ids: set[Any]) -> None:
        """Of observables for which the first data has no value."""
        missing = self._unmet - ids
        self._unmet.clear()
        if missing:
            log.warning(
                "There is no value for observable %s in the first data, whose ids are %s",
                ", ".join(map(repr, sorted(missing, key=str))),
                ", ".join(map(repr, sorted(ids, key=str))) or "none",
            )


def _is_number(value: object) -> bool:
    """Whether it is a real number, of Python or numpy, or an array of them."""
    return isinstance(value, Real | np.bool_) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")
