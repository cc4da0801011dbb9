"""Target 8: the network, beside bare zenoh on the same loopback connection. The figures are the peers'."""

from __future__ import annotations

from typing import Final

from benchmarks.peers.cases import MIB, Case, Kind, size_name

from .bench import Bench, NotMeasured, Target
from .row import Finding, Quantity, at_least, at_most, ratio, speedup

__all__ = ["TARGETS"]

OURS: Final = "heros-net"
BARE: Final = "zenoh"
GET: Final = "a bare get"


def within(number: str, what: str, bound: float, case: Case) -> Target:
    """The p50 of a case is at most so many times that of a bare ``get``."""

    def find(bench: Bench) -> Finding:
        return ratio(bench.p50(OURS, case), bench.p50(BARE, case), GET)

    return Target(number, what, at_most(bound), find, ((OURS, case), (BARE, case)))


def faster(number: str, what: str, bound: float, case: Case) -> Target:
    """The p50 of a case is at least so many times smaller than that of a bare ``get``."""

    def find(bench: Bench) -> Finding:
        return speedup(bench.p50(OURS, case), bench.p50(BARE, case), GET)

    return Target(number, what, at_least(bound), find, ((OURS, case), (BARE, case)))


def rate(number: str, case: Case) -> Target:
    """Events arrive at no less than the rate of a bare ``put``, divided by 1.3."""

    def find(bench: Bench) -> Finding:
        ours, bare = bench.figure(OURS, case), bench.figure(BARE, case)
        if not ours.rate or not bare.rate:
            raise NotMeasured(f"{case.key}: no rate")
        note = f"{ours.lost / max(1, ours.published):.1%} lost, and counted"
        return Finding(
            Quantity(bare.rate / ours.rate, "x"),
            Quantity(ours.rate, "1/s"),
            Quantity(bare.rate, "1/s"),
            "a bare put",
            note,
        )

    what = f"events of {size_name(case.nbytes)}, how many times slower"
    return Target(number, what, at_most(1.3), find, ((OURS, case), (BARE, case)))


def array(kind: Kind, nbytes: int) -> Case:
    return Case(kind, nbytes, "ordinary")


TARGETS: Final = (
    within("8.1", "add(1, 2) over the network, p50", 1.15, Case("call")),
    within("8.2", "1 MiB as result over the network, p50", 1.25, array("result", MIB)),
    within("8.3", "1 MiB as argument over the network, p50", 1.25, array("argument", MIB)),
    faster("8.4", "32 MiB as result over the network, p50, times faster", 4.0, array("result", 32 * MIB)),
    faster("8.5", "32 MiB as argument over the network, p50, times faster", 4.0, array("argument", 32 * MIB)),
    rate("8.6", Case("events", 64, "ordinary")),
    rate("8.7", Case("events", MIB, "ordinary")),
)
