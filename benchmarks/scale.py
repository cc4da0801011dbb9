"""What grows with the number of HEROs, of client channels and of names in the registry, and what does not.

For each number there are processes of their own; all are started first and asked in turn, so that a machine that
changes its speed changes it for all of them. A part that cannot be measured is reported, and the exit code is 1.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.peers.paths import ROOT
from benchmarks.peers.process import Process
from benchmarks.targets.bench import Lab, NotMeasured
from benchmarks.targets.row import Quantity, Unit

OUTPUT: Final = ROOT / "benchmarks" / "results" / "scale.json"
PLOT: Final = ROOT / "docs" / "_static" / "scale.svg"

HEROS: Final = (1, 10, 100, 1_000)
CHANNELS: Final = (1, 10, 50, 200)
NAMES: Final = (1, 100, 1_000, 2_000)

CHANNELS_PER_HOLDER: Final = 50
"""Idle channels are held by processes that each open as many as so many clients would."""

BLOCK: Final = 100
"""Calls of one HERO before those of the next."""


@dataclass(frozen=True)
class Series:
    """One quantity over a number of something.

    Attributes:
        title: of the panel.
        of: what there are so many of.
        unit: of the values.
        values: number to value, in the order of the numbers.
    """

    title: str
    of: str
    unit: Unit
    values: Mapping[int, float]


def heros(quick: bool) -> list[Series]:
    """A process with so many HEROs: a call to one of them, and what each of them costs."""
    numbers = HEROS[:2] if quick else HEROS
    with Lab() as lab:
        servers = {number: lab.start(f"server with {number} HEROs") for number in numbers}
        client = lab.start("client")
        made: dict[int, dict[str, Any]] = {}
        for number, server in servers.items():
            server.ask("offer", prefix=f"first-of-{number}", count=1)  # which also makes what a process has one of
            made[number] = server.ask("offer", prefix=f"of-{number}", count=number)
        names = {number: f"of-{number}-{number // 2}" for number in numbers}
        calls = p50s(client.ask, names, quick)
    return [
        Series("A call, p50", "HEROs in the process", "s", calls),
        Series(
            "To create a HERO",
            "HEROs in the process",
            "s",
            {number: statistics.median(each["seconds"]) for number, each in made.items()},
        ),
        *(
            Series(
                f"Memory per HERO, {kind.upper()}",
                "HEROs in the process",
                "B",
                {number: each[kind] / number for number, each in made.items()},
            )
            for kind in ("uss", "rss")
        ),
    ]


def channels(quick: bool) -> list[Series]:
    """A call to a process to which so many channels are open, all but that one idle."""
    numbers = CHANNELS[:2] if quick else CHANNELS
    with Lab() as lab:
        servers = {number: lab.start(f"server with {number} channels") for number in numbers}
        client = lab.start("client")
        names = {number: f"with-{number}-0" for number in numbers}
        for number, server in servers.items():
            server.ask("offer", prefix=f"with-{number}", count=1)
        holders: list[Process] = []
        idle = sum(numbers) - len(numbers)
        for number in numbers:
            for begin in range(1, number, CHANNELS_PER_HOLDER):
                holders.append(lab.start(f"holder {len(holders)}"))
                holders[-1].send("hold_channels", name=names[number], count=min(CHANNELS_PER_HOLDER, number - begin))
        for holder in holders:
            holder.answer()
        calls = p50s(client.ask, names, quick)
        if (held := sum(holder.ask("held") for holder in holders)) != idle:
            raise NotMeasured(f"of {idle} idle channels {held} are still open")
    return [Series("A call, p50", "client channels of the process", "s", calls)]


def names(quick: bool) -> list[Series]:
    """A registry of so many names: to look one of them up, and to begin to observe all."""
    numbers = NAMES[:2] if quick else NAMES
    repeat, rounds = (2, 1) if quick else (5, 6)
    looked_up: dict[int, list[float]] = {number: [] for number in numbers}
    observed: dict[int, list[float]] = {number: [] for number in numbers}
    with Lab() as lab:
        clients = {}
        for number in numbers:
            lab.start(f"server of {number} names", f"r{number}").ask("offer", prefix="name", count=number)
            clients[number] = [lab.start(f"client of {number} names", f"r{number}") for _ in range(2)]
            clients[number][0].ask("reach", names=["name-0"])
        for turn in range(rounds):
            for number, (client, observer) in clients.items():
                several = [f"name-{(turn * repeat + each) * 37 % number}" for each in range(repeat)]
                looked_up[number] += client.ask("lookups", names=several)
                observed[number] += observer.ask("observe", repeat=1 if quick else 2, expected=number)
    return [
        Series("RemoteHERO(name), median", "names in the registry", "s", medians(looked_up)),
        Series("HEROObserver(), median", "names in the registry", "s", medians(observed)),
    ]


def p50s(ask: Callable[..., Any], names: Mapping[int, str], quick: bool) -> dict[int, float]:
    """p50 of a call of each of these HEROs, by a client that calls them in turn."""
    ask("reach", names=list(names.values()))
    taken = ask("calls", names=list(names.values()), block=BLOCK, rounds=2 if quick else 30)
    return {number: statistics.median(taken[name]) / 1e9 for number, name in names.items()}


def medians(taken: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {number: statistics.median(each) for number, each in taken.items()}


PARTS: Final = (heros, channels, names)


def table(all_series: Sequence[Series]) -> Table:
    """A line for each series: number and value, from few to many."""
    shown = Table(title="Scale", title_justify="left")
    shown.add_column("what")
    shown.add_column("over")
    shown.add_column("at", justify="right")
    shown.add_column("value", justify="right")
    shown.add_column("times the first", justify="right")
    for series in all_series:
        first = next(iter(series.values.values()))
        for row, (number, value) in enumerate(series.values.items()):
            head = (series.title, series.of) if row == 0 else ("", "")
            times = f"{value / first:.3g}" if row and first else ""
            shown.add_row(*head, f"{number:,}", str(Quantity(value, series.unit)), times)
        shown.add_section()
    return shown


def draw(all_series: Sequence[Series], path: Path) -> None:
    """Write the figure, a small panel for each series, to ``path``, an SVG. Readable on light and on dark."""
    import matplotlib as mpl  # needed for this only
    from matplotlib.figure import Figure

    from benchmarks.peers.plot import COLOURS, STYLE

    columns = 4
    rows = -(-len(all_series) // columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    style: Any = {**STYLE, "font.size": 8}
    with mpl.rc_context(style):
        canvas = Figure(figsize=(10, 2.4 * rows), layout="constrained")
        panels = list(canvas.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(all_series) :]:
            axes.set_axis_off()
        for axes, series in zip(panels, all_series, strict=False):
            scale, unit = (1e6, "microseconds") if series.unit == "s" else (1 / 1024, "KiB")
            numbers, values = list(series.values), [value * scale for value in series.values.values()]
            if series.unit == "s" and max(values) >= 2_000:
                values, unit = [value / 1e3 for value in values], "milliseconds"
            axes.plot(numbers, values, marker="o", markersize=4, color=COLOURS["heros-shm"])
            axes.set_xscale("log")
            axes.set_xticks(numbers, [short(number) for number in numbers])
            axes.minorticks_off()
            axes.set_ylim(0, max(*values, 1e-9) * 1.3)  # from zero, or what is flat would seem to move
            axes.set_title(series.title, fontsize=8)
            axes.set_xlabel(series.of)
            axes.set_ylabel(unit)
            axes.grid(visible=True)
        canvas.savefig(path, transparent=True, metadata={"Date": None})


def short(number: int) -> str:
    """``"2k"``: the labels of 1,000 and 2,000 lie side by side."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Small numbers and few repetitions: only to see whether everything works.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write the figures there, as JSON, and nothing else; otherwise to {OUTPUT.name}, with a plot.",
)
def main(quick: bool, output: Path | None) -> None:
    if output is None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("matplotlib is missing, which draws the plot: use `make scale`, or --output")
    console, begin = Console(), time.monotonic()
    all_series: list[Series] = []
    failures: dict[str, str] = {}
    for part in PARTS:
        with console.status(part.__name__):
            try:
                all_series += part(quick)
            except Exception as error:
                failures[part.__name__] = f"{type(error).__name__}: {error}"
    console.print(table(all_series), highlight=False)
    for name, text in failures.items():
        console.print(f"{name} could not be measured: {text}", markup=False, highlight=False)
    written = [output or OUTPUT]
    write_json(written[0], all_series, failures, quick)
    if output is None and all_series:
        draw(all_series, PLOT)
        written.append(PLOT)
    places = ", ".join(map(os.path.relpath, written))
    console.print(f"{time.monotonic() - begin:.0f} s; written: {places}", soft_wrap=True)
    if failures:
        raise SystemExit(1)


def write_json(path: Path, all_series: Sequence[Series], failures: Mapping[str, str], quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} CPUs",
        "python": platform.python_version(),
        "quick": quick,
        "failures": dict(failures),
        "series": [
            {
                "title": series.title,
                "of": series.of,
                "unit": series.unit,
                "points": [[number, value] for number, value in series.values.items()],
            }
            for series in all_series
        ],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
