"""The Zenoh sessions of this process, as programs see them.

A process has one session in each realm. It opens by itself when something needs the network, and is shared by all
HEROs and proxies, so a program needs this module only to configure the sessions or to use one itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heros import node, select
from heros.exceptions import HEROSError
from heros.net import config

__all__ = ["ZenohSessionManager", "session_manager"]


class ZenohSessionManager:
    """The way to the sessions of this process. Every manager gives the same ones. Thread-safe.

    Args:
        config_dict: as for :meth:`update_config`.
    """

    def __init__(self, config_dict: Mapping[str, Any] | None = None) -> None:
        if config_dict:
            config.update(config_dict)

    def request_session(self, obj: object, realm: str = "heros") -> Any:
        """The ``zenoh.Session`` of ``realm``, opened if need be. ``obj`` is accepted for existing programs.

        Raises:
            HEROSError: the session cannot be opened, or ``HEROS_NET=off``.
        """
        if not select.network_enabled():
            raise HEROSError("there is no Zenoh session: HEROS_NET is off. Unset it to use the network.")
        return node.current().network(realm).session()

    def release_session(self, obj: object) -> None:
        """Does nothing; it is there for existing programs.

        The session stays open, because the HEROs and proxies of this process may use it. :meth:`force_close` closes it.
        """

    def update_config(self, config_dict: Mapping[str, Any]) -> None:
        """Set Zenoh's configuration for the sessions opened from now on, in every realm.

        Args:
            config_dict: key (``"connect/endpoints"``) to value (``["tcp/192.168.1.5:7447"]``).
        """
        config.update(config_dict)

    def force_close(self) -> None:
        """Close all sessions, whoever uses them. Until they are opened anew, HEROs are reachable on this host only."""
        existing = node.existing()
        if existing is not None:
            existing.leave_networks()


session_manager = ZenohSessionManager()
"""The manager that existing programs import."""
