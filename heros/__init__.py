"""HEROS: objects that live in one process and are used from any other.

::

    from heros import LocalHERO, RemoteHERO

Importing does nothing but define names: no thread, no socket, no log handler. What runs in the background starts with
the first HERO, proxy or observer.
"""

from __future__ import annotations

from heros import shm
from heros.datasource import (
    DatasourceObserver,
    DatasourceReturnSet,
    DatasourceReturnValue,
    LocalDatasourceHERO,
    PolledLocalDatasourceHERO,
)
from heros.event import event
from heros.local import LocalHERO
from heros.observe import EventObserver, HEROObserver
from heros.peer import HEROPeer
from heros.remote import RemoteHERO, transport_of
from heros.version import __proto_version__, __version__

__all__ = [
    "DatasourceObserver",
    "DatasourceReturnSet",
    "DatasourceReturnValue",
    "EventObserver",
    "HEROObserver",
    "HEROPeer",
    "LocalDatasourceHERO",
    "LocalHERO",
    "PolledLocalDatasourceHERO",
    "RemoteHERO",
    "__proto_version__",
    "__version__",
    "event",
    "shm",
    "transport_of",
]
