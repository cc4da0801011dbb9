"""The host's registry: which HEROs there are on this host, and which of them are alive.

On Linux every process writes its HEROs into the runtime directory, where all processes of the user look them up
(``host``). Elsewhere the registry reaches no further than the process (``process``), and HEROs of other processes are
found on the network, as those of other hosts are. Both offer the same :class:`Registry`.

::

    runtime     the runtime directory, and errors of files in words
    checks      what may be added, and how callbacks are told
    locks       flock
    nodes       one file a process, under flock: who is alive
    entries     one file a HERO
    host        Registry, from these three
    inotify     what the kernel tells about directories
    watch       who comes and who goes
    process     Registry, without any of them
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from heros.registry.runtime import runtime_directory

__all__ = ["Registry", "runtime_directory"]


def _has_host_registry() -> bool:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return sys.platform == "linux"


if TYPE_CHECKING or _has_host_registry():
    from heros.registry.host import Registry
else:
    from heros.registry.process import Registry
