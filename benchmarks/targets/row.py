"""What a target says, what was found, and the verdict: no measuring here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

__all__ = ["COMMAND", "Finding", "Limit", "Quantity", "Row", "at_least", "at_most", "plain", "ratio", "speedup"]

Unit = Literal["x", "s", "B", "B/s", "1/s", ""]

COMMAND: Final = "python -m benchmarks.targets"

_SCALES: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "x": ((1, "x"),),
    "s": ((1, " s"), (1e-3, " ms"), (1e-6, " us"), (1e-9, " ns")),
    "B": ((1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB"), (1, " B")),
    "B/s": ((1e9, " GB/s"), (1e6, " MB/s"), (1, " B/s")),
    "1/s": ((1e3, " k/s"), (1, " /s")),
    "": ((1, ""),),
}


@dataclass(frozen=True)
class Quantity:
    """A number and its unit; as text with three digits, in the unit in which it is at least 1."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        scales = _SCALES[self.unit] if self.value else _SCALES[self.unit][:1]
        scale, name = next((each for each in scales if abs(self.value) >= each[0]), scales[-1])
        scaled = self.value / scale
        return f"{scaled:,.0f}{name}" if abs(scaled) >= 100 else f"{scaled:.3g}{name}"


@dataclass(frozen=True)
class Finding:
    """What was measured.

    Attributes:
        value: what the limit is compared with.
        measured: the figure itself.
        reference, reference_name: what it was measured against, if there is such a thing.
        note: what else has to be known about it.
    """

    value: Quantity
    measured: Quantity
    reference: Quantity | None = None
    reference_name: str = ""
    note: str = ""


def plain(value: float, unit: Unit, note: str = "") -> Finding:
    """A figure that is compared with a limit of its own."""
    return Finding(Quantity(value, unit), Quantity(value, unit), note=note)


def ratio(measured: float, reference: float, name: str, unit: Unit = "s", note: str = "") -> Finding:
    """How many times the reference it is."""
    return Finding(Quantity(measured / reference, "x"), Quantity(measured, unit), Quantity(reference, unit), name, note)


def speedup(measured: float, reference: float, name: str, note: str = "") -> Finding:
    """How many times faster than the reference: both in seconds."""
    return Finding(Quantity(reference / measured, "x"), Quantity(measured, "s"), Quantity(reference, "s"), name, note)


@dataclass(frozen=True)
class Limit:
    """What a value is compared with.

    Attributes:
        bound: must be kept.
        unit: of both.
        upper: whether the bound is the most that is allowed, or the least.
        goal: what is hoped for, beyond the bound.
    """

    bound: float
    unit: Unit
    upper: bool
    goal: float | None = None

    def __str__(self) -> str:
        return f"at {'most' if self.upper else 'least'} {Quantity(self.bound, self.unit)}"

    def verdict(self, value: float) -> str:
        """ "met", or "missed by ..."."""
        return self._judge(value, self.bound)

    def goal_verdict(self, value: float) -> str:
        """The same of the goal; empty if there is none."""
        return "" if self.goal is None else f"{Quantity(self.goal, self.unit)}: {self._judge(value, self.goal)}"

    def _judge(self, value: float, limit: float) -> str:
        """By how much in per cent of the limit; in multiples of it from twice on; absolute if the limit is 0."""
        if not math.isfinite(value):
            raise ValueError(f"{value} is no measurement")
        if value <= limit if self.upper else value >= limit:
            return "met"
        if limit == 0:
            return f"missed by {Quantity(abs(value), self.unit)}"
        share = abs(value - limit) / limit
        factor = value / limit if self.upper else limit / value if value > 0 else 1.0
        if factor >= 2:
            return f"missed by a factor of {factor:.3g}"
        return f"missed by {share:.0%}" if share >= 0.01 else "missed by less than 1%"


def at_most(bound: float, unit: Unit = "x", goal: float | None = None) -> Limit:
    return Limit(bound, unit, True, goal)


def at_least(bound: float, unit: Unit = "x", goal: float | None = None) -> Limit:
    return Limit(bound, unit, False, goal)


@dataclass(frozen=True)
class Row:
    """One target, measured or not.

    Attributes:
        number: of the target and the row in it, e.g. ``"4.3"``.
        what: is measured.
        limit: that it is compared with.
        finding: None if it could not be measured.
        error: why not; what a process has printed may follow in further lines.
        left_out: whether it was not even tried.
    """

    number: str
    what: str
    limit: Limit
    finding: Finding | None = None
    error: str = ""
    left_out: bool = False

    @property
    def failed(self) -> bool:
        return self.finding is None and not self.left_out

    @property
    def command(self) -> str:
        """Measures just this row."""
        return f"{COMMAND} --only {self.number}"

    @property
    def verdict(self) -> str:
        if self.finding is None:
            return "not measured: " + next(iter(self.error.splitlines()), "")
        return self.limit.verdict(self.finding.value.value)

    @property
    def goal(self) -> str:
        return "" if self.finding is None else self.limit.goal_verdict(self.finding.value.value)

    def as_json(self) -> dict[str, Any]:
        found = None if self.finding is None else asdict(self.finding)
        return {
            "number": self.number,
            "what": self.what,
            "limit": asdict(self.limit),
            "bound": str(self.limit),
            "finding": found,
            "failed": self.failed,
            "error": self.error,
            "verdict": self.verdict,
            "goal": self.goal,
            "command": self.command,
        }
