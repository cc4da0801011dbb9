"""The results as tables: for the terminal, and as Markdown.

A cell has the figure, and in brackets its ratio to that of this package over shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from .cases import EVENTS, SIZES, Case, Kind, Memory, size_name
from .results import Figure, Results
from .roster import REFERENCE

__all__ = ["markdown", "show"]

DASH = "-"


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        title: what it shows.
        head: of each column, without the peers'.
        rows: a peer's title, then a text for each column.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    for grid in _grids(results):
        table = Table(title=grid.title, title_justify="left")
        table.add_column("peer", no_wrap=True)
        for name in grid.head:
            table.add_column(name, justify="right")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)


def markdown(results: Results) -> str:
    """The tables, and what was measured, in Markdown."""

    parts = [
        f"Made by `make peers` on {results.date[:10]}: {results.machine}, Python {results.python}, "
        f"{results.rounds} rounds, interleaved. In brackets: how many times the figure of this package over shared "
        "memory. A dash: not offered, or too slow to be measured."
    ]
    for grid in _grids(results):
        lines = [("peer", *grid.head), (":--", *["--:"] * len(grid.head)), *grid.rows]
        parts.append(f"**{grid.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    for peer, text in results.failures.items():
        parts.append(f"{results.titles.get(peer, peer)} has failed: {text.splitlines()[0]}")
    versions = sorted({f"{name} {number}" for each in results.versions.values() for name, number in each.items()})
    parts.append("Versions: " + ", ".join(versions) + ".")
    return "\n\n".join(parts) + "\n"


def _grids(results: Results) -> Iterator[Grid]:
    """Those in which anybody has something to say."""
    return (grid for grid in _all_grids(results) if grid.rows)


def _all_grids(results: Results) -> Iterator[Grid]:
    yield _calls(results)
    kinds: tuple[tuple[Kind, str], ...] = (("result", "An array as result"), ("argument", "An array as argument"))
    memories: tuple[tuple[Memory, str], ...] = (("ordinary", "the program's own"), ("pooled", "from a pool, or a loan"))
    for kind, title in kinds:
        for memory, whose in memories:
            yield _arrays(results, kind, memory, f"{title}, {whose}: p50")
    yield _events(results)


def _calls(results: Results) -> Grid:
    cases = [Case("call"), Case("call", silence=1e-3), Case("call", silence=10e-3)]
    rows = []
    for peer, title in results.titles.items():
        cells = [_time(results, peer, case) for case in cases]
        warm = results.get(peer, cases[0].key)
        cells.insert(1, _duration(warm.p99) if warm and warm.p99 is not None else DASH)
        rows.append([title, *cells])
    return Grid("add(1, 2)", ["p50", "p99", "p50 after 1 ms of silence", "after 10 ms"], _told(rows))


def _arrays(results: Results, kind: Kind, memory: Memory, title: str) -> Grid:
    cases = [Case(kind, nbytes, memory) for nbytes in SIZES]
    rows = [[name, *(_time(results, peer, case) for case in cases)] for peer, name in results.titles.items()]
    return Grid(title, [size_name(nbytes) for nbytes in SIZES], _told(rows))


def _events(results: Results) -> Grid:
    rows = []
    for peer, title in results.titles.items():
        rows.append([title, *(_rate(results, peer, Case("events", nbytes, memory)) for nbytes, memory in EVENTS)])
    head = [f"{size_name(nbytes)}, {memory}" for nbytes, memory in EVENTS]
    return Grid("Events to one subscriber: received per second, and lost", head, _told(rows))


def _told(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Without the peers that have nothing to say in this table."""
    return [row for row in rows if any(cell != DASH for cell in row[1:])]


def _time(results: Results, peer: str, case: Case) -> str:
    found: Figure | None = results.get(peer, case.key)
    if found is None or found.p50 is None:
        return DASH
    reference = results.get(REFERENCE, case.key)
    return _duration(found.p50) + _ratio(found.p50, reference.p50 if reference else None, peer)


def _rate(results: Results, peer: str, case: Case) -> str:
    found = results.get(peer, case.key)
    if found is None or found.rate is None:
        return DASH
    reference = results.get(REFERENCE, case.key)
    lost = f", {found.lost / found.published:.1%} lost" if found.published else ""
    return f"{found.rate:,.0f}{_ratio(found.rate, reference.rate if reference else None, peer)}{lost}"


def _ratio(value: float, reference: float | None, peer: str) -> str:
    if not reference or peer == REFERENCE:
        return ""
    ratio = value / reference
    return f" ({ratio:.2g})" if ratio < 10 else f" ({ratio:,.0f})"


def _duration(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
