"""Targets 1 and 2: a call, both sides warm and after some silence. The figures are the peers'."""

from __future__ import annotations

from typing import Final

from benchmarks.peers.cases import Case

from .bench import Bench, NotMeasured, Target
from .row import Finding, at_least, at_most, ratio, speedup

__all__ = ["TARGETS"]

OURS: Final = "heros-shm"
CALL: Final = Case("call")
SILENCES: Final = (Case("call", silence=1e-3), Case("call", silence=10e-3))


def against(number: str, what: str, bound: float, goal: float | None, peer: str, name: str, case: Case) -> Target:
    """The p50 of a case is at most so many times a peer's."""

    def find(bench: Bench) -> Finding:
        return ratio(bench.p50(OURS, case), bench.p50(peer, case), name)

    return Target(number, what, at_most(bound, goal=goal), find, ((OURS, case), (peer, case)))


def faster(number: str, what: str, bound: float, case: Case) -> Target:
    """The p50 of a case is at least so many times smaller than the original's."""

    def find(bench: Bench) -> Finding:
        return speedup(bench.p50(OURS, case), bench.p50("original", case), "the original")

    return Target(number, what, at_least(bound), find, ((OURS, case), ("original", case)))


def tail(bench: Bench) -> Finding:
    found = bench.figure(OURS, CALL)
    if not found.p99 or not found.p50:
        raise NotMeasured(f"{OURS}, {CALL.key}: no time")
    return ratio(found.p99, found.p50, "its p50")


TARGETS: Final = (
    against("1.1", "add(1, 2), p50", 1.0, 0.7, "iceoryx2", "iceoryx2's bare request and response", CALL),
    Target("1.2", "add(1, 2), p99", at_most(5.0, goal=3.0), tail, ((OURS, CALL),)),
    faster("1.3", "add(1, 2), p50, times faster", 40.0, CALL),
    *(
        against(
            f"2.{number}",
            f"add(1, 2) after {case.silence * 1e3:g} ms of silence, p50",
            4.0,
            2.0,
            "floor",
            "an eventfd round trip after the same silence",
            case,
        )
        for number, case in enumerate(SILENCES, 1)
    ),
    *(
        faster(f"2.{number}", f"add(1, 2) after {case.silence * 1e3:g} ms of silence, p50, times faster", 5.0, case)
        for number, case in enumerate(SILENCES, 3)
    ),
)
