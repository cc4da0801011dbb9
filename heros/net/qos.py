"""Zenoh's words for how an event is published, for programs that ask an event's publisher for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heros.net import engine

if TYPE_CHECKING:
    import zenoh

__all__ = ["congestion_control", "reliability"]


def reliability(reliable: bool) -> zenoh.Reliability:
    """``zenoh.Reliability`` of an event. Imports zenoh."""
    words = engine.load().Reliability
    value: zenoh.Reliability = words.RELIABLE if reliable else words.BEST_EFFORT
    return value


def congestion_control(reliable: bool) -> zenoh.CongestionControl:
    """``zenoh.CongestionControl`` of an event. Imports zenoh."""
    words = engine.load().CongestionControl
    value: zenoh.CongestionControl = words.BLOCK if reliable else words.DROP
    return value
