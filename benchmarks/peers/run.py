"""This package and its peers, side by side: calls, arrays, events.

All peers are started first and asked in turn, case by case and round by round, so that a machine that changes its
speed changes it for all of them. A peer that cannot be started or fails is reported, the others go on, and the exit
code is 1. At the end the same run is compared with the targets (``benchmarks/targets``).
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.targets import report
from benchmarks.targets import table as targets
from benchmarks.targets.row import Row

from . import table
from .cases import all_cases
from .measure import measure
from .paths import PLOT, RESULTS, TABLES_MD
from .results import Results
from .roster import ROSTER


@click.command(help=__doc__)
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="How often everything is measured."
)
@click.option("--peers", default=",".join(ROSTER), show_default=True, help="Which, separated by commas.")
@click.option("--quick", is_flag=True, help="One round of few operations: only to see whether everything works.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write the results there, as JSON, and nothing else; otherwise to {RESULTS.name}, with tables and plot.",
)
def main(rounds: int, peers: str, quick: bool, output: Path | None) -> None:
    console, begin = Console(), time.monotonic()
    names = [name.strip() for name in peers.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ROSTER]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(ROSTER)}", param_hint="--peers")
    if output is None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("matplotlib is missing, which draws the plot: use `make peers`, or --output")
    cases = list(all_cases(quick))
    results = measure(dict.fromkeys(names, cases), 1 if quick else rounds, quick, console)
    table.show(results, console)
    written = [output or RESULTS]
    results.write(written[0])
    rows: list[Row] = []
    if output is None:
        written += _publish(results)
        with console.status("targets") as status:
            rows = report.find_rows(report.TARGETS, results, quick, tell=status.update)
        targets.show(rows, console)
        written += report.publish(rows, results, quick, "`make peers`")
    console.print(
        f"{time.monotonic() - begin:.0f} s; written: {', '.join(map(os.path.relpath, written))}", soft_wrap=True
    )
    if results.failures or any(row.failed for row in rows):
        raise SystemExit(1)


def _publish(results: Results) -> list[Path]:
    """Write the tables and the plot to their places."""
    from .plot import draw  # matplotlib is needed for this only

    TABLES_MD.parent.mkdir(parents=True, exist_ok=True)
    TABLES_MD.write_text(table.markdown(results), encoding="utf-8")
    draw(results, PLOT)
    return [TABLES_MD, PLOT]


if __name__ == "__main__":
    main()
