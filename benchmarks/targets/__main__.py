"""How far this package is from its targets: one row each, measured against a reference of the same run.

Targets 1 to 4 and 8 take figures from the peers, which are measured for it; `make peers` shows the same rows with the
figures of its own run. A row that cannot be measured is reported, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from rich.console import Console

from benchmarks.peers.measure import measure
from benchmarks.peers.results import Results

from . import report, table
from .row import COMMAND

ROUNDS = 3
"""Of the peers, when they are measured for this."""


@click.command(help=__doc__)
@click.option("--only", default="", help='Some targets or rows, separated by commas: "5", "4.3,9". Nothing is written.')
@click.option("--quick", is_flag=True, help="Measure little: only to see whether everything works.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write the rows there, as JSON, and nothing else; otherwise to {report.OUTPUT.name}, with a table.",
)
def main(only: str, quick: bool, output: Path | None) -> None:
    console, begin = Console(), time.monotonic()
    numbers = [number.strip() for number in only.split(",") if number.strip()]
    try:
        targets = report.selected(numbers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from None
    rounds = 1 if quick else ROUNDS
    plan = report.needed(targets)
    results = measure(plan, rounds, quick, console) if plan else Results(rounds, quick)
    with console.status("targets") as status:
        rows = report.find_rows(targets, results, quick, tell=status.update)
    table.show(rows, console)
    written: list[Path] = []
    if output is not None:
        report.write_json(output, rows, results, quick)
        written = [output]
    elif not numbers:
        written = report.publish(rows, results, quick, f"`{COMMAND}`")
    places = f"; written: {', '.join(map(os.path.relpath, written))}" if written else ""
    console.print(f"{time.monotonic() - begin:.0f} s{places}", soft_wrap=True)
    if results.failures or any(row.failed for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
