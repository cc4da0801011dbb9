"""Measuring a case and its reference in turn, and what one operation of either takes.

A *round* is a function that does an operation many times and returns the seconds for one of them: ``loop`` and ``each``
make one of a step. ``measure`` runs the rounds of the case and of its reference alternately, so that a machine that
changes its speed, or has something else to do for a while, does so to both.

The figure of either is its best round. What disturbs a measurement only ever adds to it, and a neighbour on the same
processors disturbs a few rounds of one side and none of the other: on a shared machine the ratio of the minima moves
by a few percent where that of the medians moves by half. Within a round, ``each`` takes the median: a caller of another
process sees now and then how lucky it can be, and that is not what a call costs.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeAlias

import psutil

from heros import limits

__all__ = ["Measured", "Round", "each", "loop", "measure"]

Round: TypeAlias = Callable[[], float]


class Measured(NamedTuple):
    """Seconds for one operation, a figure a round."""

    case: list[float]
    reference: list[float]

    @property
    def ratio(self) -> float:
        return min(self.case) / min(self.reference)


def loop(step: Callable[[], object], count: int) -> Round:
    """Rounds of ``count`` steps in a row, for what is too short for the clock. The loop is part of either figure: to
    take it off would leave little of a reference that takes as long."""

    def one_round() -> float:
        repeat = range(count)
        start = time.perf_counter()
        for _ in repeat:
            step()
        return (time.perf_counter() - start) / count

    return one_round


def each(step: Callable[[], object], count: int, before: Callable[[], object] | None = None) -> Round:
    """Rounds of ``count`` steps that are timed one by one; ``before`` goes before each of them, and is not timed."""

    def one_round() -> float:
        clock = time.perf_counter
        taken = []
        for _ in range(count):
            if before is not None:
                before()
            start = clock()
            step()
            taken.append(clock() - start)
        return statistics.median(taken)

    return one_round


def measure(case: Round, reference: Round, rounds: int) -> Measured:
    """Run both in turn, after one round each that does not count."""
    measured = Measured([], [])
    with _apart():
        case()
        reference()
        gc.collect()
        gc.disable()  # a collection is the price of what has been allocated before, not of what is measured
        try:
            for _ in range(rounds):
                measured.reference.append(reference())
                measured.case.append(case())
        finally:
            gc.enable()
    return measured


@contextmanager
def _apart() -> Iterator[None]:
    """Keep this process on one processor, and its children on another one.

    To wake a process on the same processor takes a sixth of what it takes to wake one on another, and the kernel
    chooses anew in each run.
    """
    limits.spin_seconds()  # it counts the processors once, on first use, and there must be more than one then
    processors = sorted(os.sched_getaffinity(0))
    try:
        _keep(os.getpid(), processors[:1])
        for child in psutil.Process().children(recursive=True):
            _keep(child.pid, processors[1:2] or processors)
        yield
    finally:
        _keep(os.getpid(), processors)


def _keep(pid: int, processors: list[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), processors)
