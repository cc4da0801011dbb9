"""Datasources: HEROs that deliver measured values with units, calibrations and boundaries."""

from __future__ import annotations

from heros.datasource.datasource import DatasourceObserver, LocalDatasourceHERO, PolledLocalDatasourceHERO
from heros.datasource.types import DatasourceReturnSet, DatasourceReturnValue

__all__ = [
    "DatasourceObserver",
    "DatasourceReturnSet",
    "DatasourceReturnValue",
    "LocalDatasourceHERO",
    "PolledLocalDatasourceHERO",
]
