"""All targets: which there are, the run, and where its results go."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.cases import Case
from benchmarks.peers.paths import ROOT
from benchmarks.peers.process import Missing, PeerFailed
from benchmarks.peers.results import Results

from . import arrays, busy, calls, codec, events, many, network, starting, table
from .bench import Bench, LeftOut, NotMeasured, Target
from .row import Row

__all__ = ["OUTPUT", "TABLE_MD", "TARGETS", "find_rows", "needed", "publish", "selected", "write_json"]

OUTPUT: Final = ROOT / "benchmarks" / "results" / "targets.json"
TABLE_MD: Final = ROOT / "docs" / "_generated" / "targets.md"

TARGETS: Final[Sequence[Target]] = (
    *calls.TARGETS,
    *arrays.TARGETS,
    *events.TARGETS,
    *busy.TARGETS,
    *many.TARGETS,
    *starting.TARGETS,
    *network.TARGETS,
    *codec.TARGETS,
)


def selected(numbers: Collection[str]) -> list[Target]:
    """The targets of these numbers, each a target's ("4") or a row's ("4.3"); all of them for none.

    Raises:
        ValueError: there is no such number.
    """
    for number in numbers:
        if not any(_is(target, number) for target in TARGETS):
            raise ValueError(f"there is no target {number}: there are {', '.join(each.number for each in TARGETS)}")
    return [target for target in TARGETS if not numbers or any(_is(target, number) for number in numbers)]


def _is(target: Target, number: str) -> bool:
    return target.number == number or target.number.split(".")[0] == number


def needed(targets: Sequence[Target]) -> dict[str, list[Case]]:
    """The peers, and the cases of each, that these targets take figures from."""
    plan: dict[str, dict[Case, None]] = {}
    for target in targets:
        for peer, case in target.needs:
            plan.setdefault(peer, {})[case] = None
    return {peer: list(cases) for peer, cases in plan.items()}


def find_rows(
    targets: Sequence[Target], results: Results, quick: bool, tell: Callable[[str], object] = lambda text: None
) -> list[Row]:
    """Measure these; what cannot be measured says so in its row.

    Args:
        results: of the peers.
        tell: gets the number and name of what is measured next.
    """
    bench = Bench(results, quick)
    return [_find(target, bench, tell) for target in targets]


def _find(target: Target, bench: Bench, tell: Callable[[str], object]) -> Row:
    tell(f"{target.number} {target.what}")
    try:
        row = Row(target.number, target.what, target.limit, target.find(bench))
        row.verdict  # noqa: B018  # a figure that is no number is none
        return row
    except Exception as error:
        told = isinstance(error, (NotMeasured, PeerFailed, Missing))  # they are sentences
        text = str(error) if told else f"{type(error).__name__}: {error}"
        return Row(target.number, target.what, target.limit, error=text, left_out=isinstance(error, LeftOut))


def write_json(path: Path, rows: Sequence[Row], results: Results, quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "date": results.date,
        "machine": results.machine,
        "python": results.python,
        "quick": quick,
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def publish(rows: Sequence[Row], results: Results, quick: bool, made_by: str) -> list[Path]:
    """Write the rows to their places."""
    write_json(OUTPUT, rows, results, quick)
    heading = (
        f"Made by {made_by} on {results.date[:10]}: {results.machine}, Python {results.python}. Medians, "
        "each measured against a reference of the same run."
    )
    TABLE_MD.parent.mkdir(parents=True, exist_ok=True)
    TABLE_MD.write_text(table.markdown(rows, heading), encoding="utf-8")
    return [OUTPUT, TABLE_MD]
