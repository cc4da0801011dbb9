"""The HERO ``host``: a polled datasource with the telemetry of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import psutil

from heros.datasource.datasource import PolledLocalDatasourceHERO

__all__ = ["Host"]

POLL_SECONDS: Final = 0.25


class Host(PolledLocalDatasourceHERO):
    """This machine, as its operating system sees it."""

    _observables: Mapping[str, Mapping[str, Any]] = {
        "cpu": {"boundaries": [[0, 90], [90, 100]]},
        "memory": {"unit": "GiB", "conversion": "x / 2**30"},
        "load": {},
    }

    def __init__(self, name: str, realm: str, loop: asyncio.AbstractEventLoop) -> None:
        psutil.cpu_percent()  # begins the interval that the first reading covers
        super().__init__(name, realm=realm, loop=loop, interval=POLL_SECONDS)

    def _observable_data(self) -> dict[str, tuple[float, str]]:
        """Use of all processors since the last reading; memory in use; processes that run or wait to run."""
        return {
            "cpu": (psutil.cpu_percent(), "%"),
            "memory": (float(psutil.virtual_memory().used), "B"),
            "load": (psutil.getloadavg()[0], ""),
        }

    def processors(self) -> int:
        """Number of logical processors."""
        return os.cpu_count() or 1
