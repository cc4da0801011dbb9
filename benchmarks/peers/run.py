"""This package and its peers, side by side: calls, arrays, events.

All peers are started first and asked in turn, case by case and round by round, so that a machine that changes its
speed changes it for all of them. A peer that cannot be started or fails is reported, the others go on, and the exit
code is 1.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections import defaultdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from . import table
from .cases import Case, all_cases, effort
from .driver import Missing, Pair, PeerFailed, Sample
from .paths import PLOT, RESULTS, TABLES_MD, TABLES_RST
from .results import Results, figure
from .roster import ROSTER

Samples = dict[str, dict[Case, list[Sample]]]


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
    console = Console()
    names = [name.strip() for name in peers.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ROSTER]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(ROSTER)}", param_hint="--peers")
    if output is None and importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("matplotlib is missing, which draws the plot: use `make peers`, or --output")
    results = measure(names, 1 if quick else rounds, quick, console)
    table.show(results, console)
    written = [output or RESULTS]
    results.write(written[0])
    if output is None:
        written += _publish(results)
    console.print(f"{results.seconds:.0f} s; written: {', '.join(map(os.path.relpath, written))}", soft_wrap=True)
    if results.failures:
        raise SystemExit(1)


def _publish(results: Results) -> list[Path]:
    """Write the tables and the plot to their places."""
    from .plot import draw  # matplotlib is needed for this only

    TABLES_MD.parent.mkdir(parents=True, exist_ok=True)
    TABLES_MD.write_text(table.markdown(results), encoding="utf-8")
    TABLES_RST.write_text(table.rst(results), encoding="utf-8")
    draw(results, PLOT)
    return [TABLES_MD, TABLES_RST, PLOT]


def measure(names: list[str], rounds: int, quick: bool, console: Console) -> Results:
    """Everything, of these peers."""
    results, begin = Results(rounds, quick), time.monotonic()
    pairs = _open(names, results, console)
    samples: Samples = defaultdict(lambda: defaultdict(list))
    cases = list(all_cases(quick))
    try:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("peers", total=rounds * len(cases))
            for number in range(rounds):
                for case in cases:
                    progress.update(task, advance=1, description=f"round {number + 1} of {rounds}: {case.key}")
                    _ask_all(pairs, case, quick, samples, results, console)
    finally:
        for pair in list(pairs.values()):
            _close(pair, results, console)
    for name in results.titles:
        results.figures[name] = {case.key: figure(taken) for case, taken in samples[name].items()}
    results.seconds = time.monotonic() - begin
    return results


def _open(names: list[str], results: Results, console: Console) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    for name in names:
        results.titles[name] = ROSTER[name].title
        try:
            pairs[name] = Pair(ROSTER[name])
            results.versions[name] = pairs[name].versions
        except (PeerFailed, Missing) as error:
            _failed(name, error, results, console)
    return pairs


def _ask_all(
    pairs: dict[str, Pair], case: Case, quick: bool, samples: Samples, results: Results, console: Console
) -> None:
    for name, pair in list(pairs.items()):
        missing = results.missing.setdefault(name, {})
        if case.key in missing:
            continue
        try:
            samples[name][case].append(pair.measure(case, effort(case, quick)))
        except Missing as error:
            missing[case.key] = str(error)
            samples[name].pop(case, None)  # too slow in one round is too slow
        except PeerFailed as error:
            samples[name].pop(case, None)
            _failed(name, error, results, console)
            del pairs[name]
            pair.close(in_order=False)


def _close(pair: Pair, results: Results, console: Console) -> None:
    try:
        pair.close()
    except PeerFailed as error:
        _failed(pair.name, error, results, console)


def _failed(name: str, error: Exception, results: Results, console: Console) -> None:
    results.failures[name] = str(error)
    console.print(f"[red]{name} has failed[/]", highlight=False)
    console.print(str(error), markup=False, highlight=False)


if __name__ == "__main__":
    main()
