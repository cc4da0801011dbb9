"""The version of the package, and of the protocol that it shares with the original HEROS."""

from __future__ import annotations

__all__ = ["__proto_version__", "__version__"]

__version__ = "2027.0.0.dev0"

__proto_version__ = 1.0
