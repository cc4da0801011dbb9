"""Target 5: a call while the server's main thread computes in Python.

That thread gives the GIL away after the switch interval, which is therefore the reference. The program may choose a
shorter one with ``sys.setswitchinterval``.
"""

from __future__ import annotations

from typing import Final

from .bench import Bench, Lab, Target, median
from .row import Finding, at_most, ratio

__all__ = ["TARGETS"]

HERO: Final = "busy-0"
SHORT: Final = 0.5e-3
"""Seconds: a switch interval that a program may well choose."""

PAUSE: Final = 15e-3
"""Seconds before each call: after a few switch intervals the thread that has served the one before sleeps. One that
still waits for the GIL, to look for the next call, would have waited for a part of the interval already."""


def calls(bench: Bench) -> dict[float | None, tuple[float, float]]:
    """For the interpreter's own switch interval (None) and the short one: p50 of a call, and the interval."""
    intervals: tuple[float | None, ...] = (None, SHORT)
    taken: dict[float | None, list[int]] = {interval: [] for interval in intervals}
    used: dict[float | None, float] = {}
    with Lab() as lab:
        server, client = lab.start("server"), lab.start("client")
        server.ask("offer", prefix="busy", count=1)
        client.ask("reach", names=[HERO])
        for _ in range(bench.few(5, 1)):
            for interval, times in taken.items():
                server.send("compute", name=HERO, switch_interval=interval, at_most=30.0)
                repeat = bench.few(25, 3)
                times += client.ask("calls_while_computing", name=HERO, repeat=repeat, pause=PAUSE)
                used[interval] = server.answer()
    return {interval: (median(times) / 1e9, used[interval]) for interval, times in taken.items()}


def default(bench: Bench) -> Finding:
    p50, interval = bench.once(calls)[None]
    return ratio(p50, interval, "its switch interval")


def short(bench: Bench) -> Finding:
    p50, interval = bench.once(calls)[SHORT]
    return ratio(p50, interval, "its switch interval")


TARGETS: Final = (
    Target("5.1", "add(1, 2) while the server's main thread computes, p50", at_most(1.2), default),
    Target("5.2", "the same, the program has chosen a shorter switch interval", at_most(1.2), short),
)
