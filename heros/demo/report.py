"""The table at the end of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from heros.demo.frames import SHAPE
from heros.demo.measured import Acquisition, Reading, problems

__all__ = ["show", "table"]

FRAME_MB: Final = SHAPE[0] * SHAPE[1] / 1e6
NUMBERS: Final = (
    "call p50\n(us)",
    "call p99\n(us)",
    "frames/s",
    "MB/s",
    "missed,\ncounted",
    "missed,\nreported",
    "frames\nverified",
)


def show(console: Console, plain: Acquisition, slowed: Acquisition, readings: Sequence[Reading]) -> bool:
    """Print the table, the notes and the verdict; return whether the demo succeeded.

    Args:
        console: where to print.
        plain: the acquisition with the two readers.
        slowed: the acquisition with a slow reader beside them.
        readings: one of each reader.
    """
    console.print(table(readings))
    ratio = _rate(slowed) / _rate(plain) if plain.frames else 0.0
    longest = 1e3 * max(plain.longest_publish, slowed.longest_publish)
    console.print(
        f"The camera published {_rate(plain):,.0f} frames/s, and {_rate(slowed):,.0f} frames/s with the slow reader "
        f"beside (x {ratio:.2f}). The longest publish took {longest:.1f} ms. "
        f"{plain.skipped + slowed.skipped:,} frames were skipped because readers held the whole pool.",
        highlight=False,
    )
    found = problems([plain, slowed], readings)
    for problem in found:
        console.print(f"[bold red]FAILED[/] {problem}", soft_wrap=True, highlight=False)
    if not found:
        console.print("[bold green]OK[/] Every frame that arrived was intact; every other was reported as missed.")
    return not found


def table(readings: Sequence[Reading]) -> Table:
    """One row a reader."""
    result = Table(title="calls: add(1, 2); frames: 1 MiB", box=SIMPLE_HEAD, padding=0, show_edge=False)
    result.add_column("reader")
    result.add_column("transport")
    for heading in NUMBERS:
        result.add_column(heading, justify="right")
    for reading in readings:
        calls, frames = reading.calls, reading.frames
        rate = frames.in_time / reading.seconds
        result.add_row(
            reading.reader,
            ", ".join(sorted(set(calls.transports.values()))),
            f"{1e6 * calls.p50:,.1f}",
            f"{1e6 * calls.p99:,.1f}",
            f"{rate:,.1f}",
            f"{rate * FRAME_MB:,.0f}",
            f"{frames.counted:,}",
            f"{frames.reported:,}",
            f"{frames.intact:,}",
        )
    return result


def _rate(acquisition: Acquisition) -> float:
    return acquisition.frames / acquisition.seconds
