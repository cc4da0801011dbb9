"""What a reader counts by itself, from nothing but what it received."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from heros.datasource.types import DatasourceReturnValue
from heros.demo.frames import intact

__all__ = ["FrameTally", "TelemetryTally"]

OBSERVABLES: Final = {"cpu", "memory", "load"}


class FrameTally:
    """Counts frames by their numbers. One thread calls ``take``; any may read.

    Args:
        published: how many frames had been published when the subscription began.
    """

    def __init__(self, published: int) -> None:
        self._last = published
        self._gaps = 0
        self.received = 0
        self.intact = 0
        self.disordered = 0

    def take(self, sample: Mapping[str, Any]) -> None:
        """Count one frame and check every byte of it."""
        number = sample["number"]
        if number > self._last:
            self._gaps += number - self._last - 1
            self._last = number
        else:
            self.disordered += 1
        self.intact += intact(sample)
        self.received += 1

    def missed(self, published: int) -> int:
        """Frames that did not come, of ``published`` ones."""
        return self._gaps + published - self._last


class TelemetryTally:
    """Counts the samples of ``host``."""

    def __init__(self) -> None:
        self.good = 0
        self.faulty = 0

    def take(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Count one sample: good if it has the three observables, each a finite number."""
        sample = {value.id: value.value for value in (DatasourceReturnValue(**fields) for fields in values)}
        if sample.keys() == OBSERVABLES and all(math.isfinite(value) for value in sample.values()):
            self.good += 1
        else:
            self.faulty += 1
