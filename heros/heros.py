"""An import path of existing programs: the classes that offer, use and watch HEROs."""

from __future__ import annotations

from abc import ABC

from heros.local import LocalHERO
from heros.observe import EventObserver, HEROObserver
from heros.peer import HEROPeer
from heros.remote import RemoteHERO

__all__ = ["HERO", "EventObserver", "HEROObserver", "HEROPeer", "LocalHERO", "RemoteHERO"]


class HERO(ABC):  # noqa: B024  # it has no methods to be abstract
    """What a LocalHERO and a RemoteHERO both are, for ``isinstance`` and ``issubclass``. Nothing inherits from it."""


HERO.register(LocalHERO)
HERO.register(RemoteHERO)
