"""Target 3: arrays as results and as arguments. The figures are the peers'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.peers.cases import KIB, MIB, Case, Kind, size_name

from .bench import Bench, Target
from .row import Finding, at_most, ratio

__all__ = ["TARGETS"]

OURS: Final = "heros-shm"
BESIDE_THE_COPY: Final = 30e-6
"""Seconds that an ordinary array may take beyond one copy."""


def pooled(number: str, kind: Kind) -> Target:
    small, large = (Case(kind, nbytes, "pooled") for nbytes in (KIB, 32 * MIB))

    def find(bench: Bench) -> Finding:
        return ratio(bench.p50(OURS, large), bench.p50(OURS, small), "the same of 1 KiB")

    return Target(number, f"32 MiB as {kind}, from a pool, p50", at_most(1.3), find, ((OURS, large), (OURS, small)))


def ordinary(number: str, kind: Kind, nbytes: int) -> Target:
    case = Case(kind, nbytes, "ordinary")

    def find(bench: Bench) -> Finding:
        reference = bench.p50("floor", case) + BESIDE_THE_COPY
        return ratio(bench.p50(OURS, case), reference, "one memcpy of it + 30 us")

    what = f"{size_name(nbytes)} as {kind}, ordinary, p50"
    return Target(number, what, at_most(1.0), find, ((OURS, case), ("floor", case)))


def targets() -> Iterator[Target]:
    kinds: tuple[Kind, ...] = ("result", "argument")
    numbers = (f"3.{number}" for number in range(1, 100))
    for kind in kinds:
        yield pooled(next(numbers), kind)
        for nbytes in (64 * KIB, MIB, 32 * MIB):
            yield ordinary(next(numbers), kind, nbytes)


TARGETS: Final = tuple(targets())
