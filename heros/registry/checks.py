"""What both registries do alike: what they check before they add a HERO, and how they tell of one."""

from __future__ import annotations

import logging

from heros.entry import Entry, OnEntry, check_name
from heros.exceptions import HEROSError, NameInUse

__all__ = ["check_addition", "name_in_use", "tell"]

log = logging.getLogger("heros.registry")


def check_addition(entry: Entry, node_id: str, closed: bool) -> None:
    """Raise ``ValueError`` for what a registry of this node cannot hold, ``HEROSError`` when it is closed."""
    check_name(entry.realm, "realm")
    check_name(entry.name)
    if entry.node_id != node_id or not (entry.instance.isalnum() and entry.node_id.isalnum()):
        raise ValueError(
            f"HERO {entry.name!r} cannot be added by node {node_id}: it belongs to node {entry.node_id}, "
            f"instance {entry.instance!r}"
        )
    if closed:
        raise HEROSError(f"cannot add HERO {entry.name!r}: this process has left the registry")


def name_in_use(entry: Entry) -> NameInUse:
    """The error for one who wants the name of ``entry`` for itself."""
    return NameInUse(
        f"HERO {entry.name!r} in realm {entry.realm!r} exists already: {entry.class_name or 'a HERO'} in process "
        f"{entry.pid} on {entry.host or 'this host'}. Choose another name, end that process, or do without "
        "exclusive=True."
    )


def tell(callback: OnEntry, entry: Entry) -> None:
    """Call a callback of a watch. What it raises is logged."""
    try:
        callback(entry)
    except Exception:
        log.exception("A callback that was told of HERO %s in realm %s failed", entry.name, entry.realm)
