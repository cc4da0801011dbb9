"""Peers measured side by side.

All are started first and asked in turn, case by case and round by round, so that a machine that changes its speed
changes it for all of them. One that cannot be started or fails is reported, and the others go on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping

from rich.console import Console
from rich.progress import Progress

from .cases import Case, effort
from .driver import Missing, Pair, PeerFailed, Sample
from .results import Results, figure
from .roster import ROSTER

__all__ = ["Plan", "measure"]

Plan = Mapping[str, Collection[Case]]
"""Peers, and the cases that are wanted of each."""

Samples = dict[str, dict[Case, list[Sample]]]


def measure(plan: Plan, rounds: int, quick: bool, console: Console) -> Results:
    """Measure what ``plan`` says: peers, and the cases of each."""
    results, begin = Results(rounds, quick), time.monotonic()
    pairs = _open(list(plan), results, console)
    samples: Samples = defaultdict(lambda: defaultdict(list))
    cases = list(dict.fromkeys(case for wanted in plan.values() for case in wanted))
    try:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("peers", total=rounds * len(cases))
            for number in range(rounds):
                for case in cases:
                    progress.update(task, advance=1, description=f"round {number + 1} of {rounds}: {case.key}")
                    asked = {name: pair for name, pair in pairs.items() if case in plan[name]}
                    for name in _ask_all(asked, case, quick, samples, results, console):
                        del pairs[name]
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
) -> list[str]:
    """One case of these; returns those that have failed."""
    failed = []
    for name, pair in pairs.items():
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
            failed.append(name)
            pair.close(in_order=False)
    return failed


def _close(pair: Pair, results: Results, console: Console) -> None:
    try:
        pair.close()
    except PeerFailed as error:
        _failed(pair.name, error, results, console)


def _failed(name: str, error: Exception, results: Results, console: Console) -> None:
    results.failures[name] = str(error)
    console.print(f"[red]{name} has failed[/]", highlight=False)
    console.print(str(error), markup=False, highlight=False)
