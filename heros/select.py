"""The only place that chooses a transport.

A HERO of this process is reached in the process, one of this host through shared memory, any other one over the
network. ``HEROS_TRANSPORT`` (``auto``, ``shm`` or ``net``; for tests and diagnosis) narrows that, and
``HEROS_NET=off`` keeps a program on its host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from heros.entry import Entry
from heros.exceptions import HEROSError
from heros.transport import Transport

__all__ = ["network_enabled", "preference", "ways"]

_PREFERENCES = {"auto": ("inproc", "shm", "net"), "shm": ("shm",), "net": ("net",)}

Lookup = Callable[[], Iterable[Entry]]


def preference() -> tuple[str, ...]:
    """The transports a proxy may use, the best one first (``HEROS_TRANSPORT``, default ``auto``)."""
    text = os.environ.get("HEROS_TRANSPORT", "").strip().lower() or "auto"
    if text not in _PREFERENCES:
        raise HEROSError(f"HEROS_TRANSPORT={text!r} is not known. Unset it, or set it to auto, shm or net.")
    return _PREFERENCES[text]


def network_enabled() -> bool:
    """Whether this process takes part in the network (``HEROS_NET``, default ``on``)."""
    text = os.environ.get("HEROS_NET", "").strip().lower() or "on"
    if text in ("off", "0", "no", "false"):
        return False
    if text in ("on", "1", "yes", "true"):
        return True
    raise HEROSError(f"HEROS_NET={text!r} is not known. Unset it, or set it to on or off.")


def ways(own: Lookup, host: Lookup, network: Lookup) -> Iterator[tuple[Transport, Entry]]:
    """How a HERO can be reached, the best way first. A lookup is made only when what comes before it has failed."""
    allowed = preference()
    if "inproc" in allowed:
        for entry in own():
            yield "inproc", entry
    tried = set()
    if "shm" in allowed:
        for entry in host():
            if entry.address:
                tried.add(entry.instance)
                yield "shm", entry
    if "net" in allowed and network_enabled():
        found = list(network())
        if found and "shm" in allowed:  # it may have appeared on this host while the network was asked
            for entry in host():
                if entry.address and entry.instance not in tried:
                    yield "shm", entry
        for entry in found:
            yield "net", entry
