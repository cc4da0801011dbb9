"""What comes out of a run: a figure for each peer and case, as dataclasses and as JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from .driver import Sample

__all__ = ["Figure", "Results", "figure"]


@dataclass
class Figure:
    """One case of one peer, over all rounds.

    Attributes:
        count: operations, or samples received.
        p50, p99: seconds for one operation; None for events.
        rounds: the p50, or the rate, of each round: the spread.
        rate: samples received in a second, the median of the rounds; None otherwise.
        published, lost: samples.
    """

    count: int
    rounds: list[float]
    p50: float | None = None
    p99: float | None = None
    rate: float | None = None
    published: int = 0
    lost: int = 0


def figure(samples: Sequence[Sample]) -> Figure:
    """Of all rounds of one case."""
    if samples[0].nanoseconds:
        taken = [each / 1e9 for sample in samples for each in sample.nanoseconds]
        rounds = [statistics.median(sample.nanoseconds) / 1e9 for sample in samples]
        p99 = statistics.quantiles(taken, n=100, method="inclusive")[98] if len(taken) > 1 else taken[0]
        return Figure(len(taken), rounds, p50=statistics.median(taken), p99=p99)
    received, published = sum(sample.received for sample in samples), sum(sample.published for sample in samples)
    rates = [sample.rate for sample in samples]
    return Figure(received, rates, rate=statistics.median(rates), published=published, lost=published - received)


@dataclass
class Results:
    """A run.

    Attributes:
        figures: peer, then case, as ``Case.key``.
        missing: peer, case, and why there is no figure.
        failures: peer, and what went wrong.
        titles, versions: of the peers.
    """

    rounds: int
    quick: bool
    seconds: float = 0.0
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    python: str = field(default_factory=platform.python_version)
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} CPUs")
    titles: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def get(self, peer: str, case: str) -> Figure | None:
        return self.figures.get(peer, {}).get(case)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["figures"] = {
            peer: {case: Figure(**each) for case, each in figures.items()} for peer, figures in data["figures"].items()
        }
        return cls(**data)
