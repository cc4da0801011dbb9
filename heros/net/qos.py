"""Zenoh's words for how an event is published, for programs that ask an event's publisher for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zenoh

__all__ = ["congestion_control", "reliability"]


def reliability(reliable: bool) -> zenoh.Reliability:
    """``zenoh.Reliability`` of an event. Imports zenoh."""
    import zenoh

    return zenoh.Reliability.RELIABLE if reliable else zenoh.Reliability.BEST_EFFORT


def congestion_control(reliable: bool) -> zenoh.CongestionControl:
    """``zenoh.CongestionControl`` of an event. Imports zenoh."""
    import zenoh

    return zenoh.CongestionControl.BLOCK if reliable else zenoh.CongestionControl.DROP
