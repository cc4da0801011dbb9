"""Shared memory between the processes of one host.

For programs: :func:`empty` and :class:`FramePool` make arrays that are sent without a copy. The rest of the package is
the transport: ``layout``, ``ring``, ``doorbell`` and ``segment`` are its ground, ``arena``, ``views`` and ``leases``
its memory, ``records`` its encoding, ``handshake`` and ``endpoint`` the connection, ``lead`` who reads, and ``channel``
and ``server`` the two ends of the contract in ``heros.transport``.

Importing this does nothing that only Linux can do.
"""

from __future__ import annotations

import sys

from heros.shm.pool import AVAILABLE, FramePool, empty

__all__ = ["AVAILABLE", "FramePool", "empty", "reset_after_fork"]


def reset_after_fork() -> None:
    """In a forked child: close what was inherited.

    The parent's peers then learn of the parent's end, whether or not the child lives on.
    """
    if "heros.shm.endpoint" in sys.modules:
        sys.modules["heros.shm.endpoint"].abandon_all()
    if "heros.shm.lead" in sys.modules:
        sys.modules["heros.shm.lead"].process_group.abandon()
    if "heros.shm.arena" in sys.modules:
        sys.modules["heros.shm.arena"].reset_after_fork()
