"""What every HERO object of this process has, whether it offers, uses or observes."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from heros import directory, limits
from heros.entry import Entry, check_name
from heros.inspect import local_only
from heros.node import current
from heros.sessions import session_manager as default_session_manager
from heros.version import __proto_version__

__all__ = ["HEROPeer", "describe_entry"]


def describe_entry(entry: Entry) -> dict[str, Any]:
    """The descriptor of a HERO, as observers show it."""
    return {
        "proto_version": __proto_version__,
        "name": entry.name,
        "class": entry.class_name,
        "implements": set(entry.implements),
        "tags": set(entry.tags),
        "extra_metadata": dict(entry.extra_metadata),
    }


class HEROPeer:
    """A member of a realm.

    Args:
        realm: the namespace of HEROs to be in.
        session_manager: accepted for existing programs; a process has one network session a realm.

    Raises:
        ValueError: an impossible name for a realm.
    """

    def __init__(self, realm: str = "heros", session_manager: Any = None) -> None:
        self._realm = check_name(realm, "realm")
        self._session_manager = default_session_manager if session_manager is None else session_manager
        self._hero_destroyed = False

    @local_only
    def _discover(self, timeout: float = limits.DISCOVERY_SECONDS) -> dict[str, dict[str, Any]]:
        """The descriptors of all HEROs of the realm, by name. ``timeout`` in seconds bounds the network's part."""
        return {entry.name: describe_entry(entry) for entry in directory.entries(current(), self._realm, timeout)}

    @local_only
    def _get_object_info(
        self, object_name: str, timeout: float = limits.DISCOVERY_SECONDS
    ) -> dict[str, dict[str, Any]]:
        """The descriptor of one HERO, as ``{name: descriptor}``; empty if there is none. ``"*"`` means all."""
        found = self._discover(timeout)
        return found if object_name == "*" else {name: found[name] for name in found if name == object_name}

    @local_only
    def _destroy_hero(self) -> None:
        """Withdraw from the realm. Called again, it does nothing."""
        if not getattr(self, "_hero_destroyed", True):
            self._hero_destroyed = True
            self._hero_leave()

    def _hero_leave(self) -> None:
        """What a class has to end, once. A class may be several of these at once, such as an observer that is offered
        as a HERO, so each ends its own and goes on with ``super()``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._destroy_hero()
