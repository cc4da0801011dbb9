"""What is measured: the cases, and how many operations of each a round has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["EVENTS", "KIB", "MIB", "SIZES", "Case", "Effort", "Kind", "Memory", "all_cases", "effort", "size_name"]

Kind = Literal["call", "result", "argument", "events"]
Memory = Literal["ordinary", "pooled"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20

SIZES: Final = (KIB, 64 * KIB, MIB, 8 * MIB, 32 * MIB)
"""Of the arrays, in bytes."""

EVENTS: Final[tuple[tuple[int, Memory], ...]] = ((64, "ordinary"), (MIB, "ordinary"), (MIB, "pooled"))
"""The samples: a small ``bytes``, and a frame."""


@dataclass(frozen=True)
class Case:
    """One thing that is measured of every peer that offers it.

    Attributes:
        kind: ``call``: ``add(1, 2)``; ``result``, ``argument``: an array from, or to, the server; ``events``: samples
            to one subscriber.
        nbytes: of the array or sample; 0 for a call.
        memory: whose memory the array lies in: the program's ("ordinary"), made once, or the library's ("pooled"),
            taken and given back each time.
        silence: seconds of sleep before each call.
    """

    kind: Kind
    nbytes: int = 0
    memory: Memory = "ordinary"
    silence: float = 0.0

    @property
    def key(self) -> str:
        """Its name in the results, e.g. ``"result 1 MiB pooled"``."""
        if self.kind == "call":
            return "call" if not self.silence else f"call after {self.silence * 1e3:g} ms"
        return f"{self.kind} {size_name(self.nbytes)} {self.memory}"


@dataclass(frozen=True)
class Effort:
    """How much of a case one round has.

    Attributes:
        repeat: operations that count, or for events at most so many samples.
        warmup: operations before them.
        seconds: no new operation begins after so long, but there is always one that counts.
    """

    repeat: int
    warmup: int
    seconds: float


def effort(case: Case, quick: bool = False) -> Effort:
    """What fits into a few minutes for all peers, cases and rounds; ``quick``: only to see that everything works."""
    if quick:
        return Effort(repeat=10, warmup=2, seconds=0.5) if case.kind != "events" else Effort(200, 0, 0.1)
    if case.kind == "events":
        # A count besides the time, so that what piles up in a queue without a limit stays small.
        limit = 100_000 if case.nbytes < MIB else 2_000 if case.memory == "ordinary" else 20_000
        return Effort(limit, warmup=0, seconds=0.25)
    if case.kind == "call":
        if not case.silence:
            return Effort(repeat=2_000, warmup=200, seconds=0.5)
        return Effort(repeat=60 if case.silence < 5e-3 else 20, warmup=3, seconds=0.5)
    # The loans of a pool are touched for the first time in the warm-up.
    if case.nbytes <= 64 * KIB:
        return Effort(repeat=200, warmup=20, seconds=0.25)
    if case.nbytes <= MIB:
        return Effort(repeat=60, warmup=8, seconds=0.25)
    return Effort(repeat=12 if case.nbytes <= 8 * MIB else 6, warmup=2, seconds=0.35)


def all_cases(quick: bool = False) -> Iterator[Case]:
    """Every case; ``quick`` leaves the largest arrays out."""
    for silence in (0.0, 1e-3, 10e-3):
        yield Case("call", silence=silence)
    kinds: tuple[Kind, ...] = ("result", "argument")
    memories: tuple[Memory, ...] = ("ordinary", "pooled")
    for kind in kinds:
        for nbytes in SIZES[: 3 if quick else None]:
            for memory in memories:
                yield Case(kind, nbytes, memory)
    for nbytes, memory in EVENTS:
        yield Case("events", nbytes, memory)


def size_name(nbytes: int) -> str:
    """``"64 KiB"``."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"
