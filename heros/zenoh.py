"""An import path of existing programs: the Zenoh sessions of this process."""

from __future__ import annotations

from heros.sessions import ZenohSessionManager, session_manager

__all__ = ["ZenohSessionManager", "session_manager"]
