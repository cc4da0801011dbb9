"""What every benchmark gets: ``compare``, its guard, and its line in the table.

The numbers go through pytest-benchmark, with all that it can do with them (``--benchmark-json`` and so on): each round
of a case is one of its rounds, and the reference is in ``extra_info``.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured, Round, measure
from tests.conftest import _own_node, _session_directory, runtime_directory

__all__ = ["_own_node", "_session_directory", "runtime_directory"]  # fixtures: no benchmark meets the user's HEROs

GUARDS = Path(__file__).with_name("guards.toml")
ROUNDS = 60
"""Many short ones: one that is shorter than a time slice has a chance of not being disturbed, on whatever machine."""
ATTEMPTS = 3
PAUSE_SECONDS = 0.5
"""Before a case is measured again: what disturbed it may be gone by then."""

TABLE_WIDTH = 140
"""Whatever the terminal's: a table that is cut is of no use in a log."""

Compare = Callable[..., None]


class Line(NamedTuple):
    """One line of the table."""

    case: str
    against: str
    measured: Measured
    ceiling: float
    attempts: int

    @property
    def passed(self) -> bool:
        return self.measured.ratio <= self.ceiling

    @property
    def verdict(self) -> str:
        again = f", measured {self.attempts}x" if self.attempts > 1 else ""
        return ("[green]ok" if self.passed else "[bold red]TOO SLOW") + again


class Replay:
    """The clock that pytest-benchmark reads. It shows time that has been measured already, in turn with a reference."""

    __name__ = "replay"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


_clock = Replay()
_lines = pytest.StashKey[list[Line]]()
_guards = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the benchmarks that are marked slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds, or needs a quieter machine than CI has")
    tables = tomllib.loads(GUARDS.read_text())
    config.stash[_guards] = {f"{table}.{name}": value for table, of in tables.items() for name, value in of.items()}
    config.stash[_lines] = []


def _case(item: Any) -> str:
    """``test_ring.py::test_spin[x]`` is ``ring.spin[x]``."""
    return f"{item.path.stem}.{item.name}".replace("test_", "")


@pytest.hookimpl(tryfirst=True)  # before any other hook deselects some
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases = {_case(item): item for item in items if "compare" in getattr(item, "fixturenames", ())}
    modules = {case.split(".")[0] for case in cases}
    whole_modules = not any("::" in argument for argument in config.args if "benchmarks" in argument)
    guards = {case for case in config.stash[_guards] if case.split(".")[0] in modules and whole_modules}
    wrong = [f"{case} has no guard" for case in sorted(cases.keys() - config.stash[_guards].keys())]
    wrong += [f"{guard} is a guard of no case" for guard in sorted(guards - cases.keys())]
    if wrong:
        raise pytest.UsageError(f"{GUARDS}: " + "; ".join(wrong))
    for item in cases.values():
        item.add_marker(pytest.mark.benchmark(timer=_clock))
    if config.getoption("fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: Any) -> Compare:
    """``compare(case, reference, against)``: measure both, and fail if the case takes more of the reference's time than
    its guard allows. ``against`` names the reference in the table; ``rounds`` is for what takes long.
    """
    name = _case(request.node)
    ceiling = request.config.stash[_guards][name]

    def run(case: Round, reference: Round, against: str, rounds: int = ROUNDS) -> None:
        if not benchmark.enabled:
            benchmark.pedantic(case)
            return
        attempts = 1
        best = measure(case, reference, rounds)
        while best.ratio > ceiling and attempts < ATTEMPTS:
            time.sleep(PAUSE_SECONDS)
            best = min(best, measure(case, reference, rounds), key=lambda measured: measured.ratio)
            attempts += 1
        line = Line(name, against, best, ceiling, attempts)
        request.config.stash[_lines].append(line)
        figures = iter(best.case)

        def advance() -> None:
            _clock.now += next(figures)

        benchmark.extra_info.update(
            reference=against, reference_rounds=best.reference, ratio=best.ratio, ceiling=ceiling, attempts=attempts
        )
        benchmark.pedantic(advance, rounds=len(best.case))
        if not line.passed:
            pytest.fail(f"{name}: {best.ratio:.2f} times {against}; the guard is {ceiling}", pytrace=False)

    return run


def _time(seconds: float) -> str:
    for unit, factor in [("s", 1.0), ("ms", 1e3), ("us", 1e6)]:
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash[_lines]
    if not lines:
        return
    table = Table(title="Benchmarks: best round of the case, of its reference, and the ratio of the two")
    for heading in ["case", "time", "reference", "time ", "ratio", "ceiling", "verdict"]:
        is_number = heading.strip() in ("time", "ratio", "ceiling")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for line in lines:
        table.add_row(
            line.case.replace("[", r"\["),
            _time(min(line.measured.case)),
            line.against,
            _time(min(line.measured.reference)),
            f"{line.measured.ratio:.2f}",
            f"{line.ceiling:g}",
            line.verdict,
        )
    console = Console(width=TABLE_WIDTH, force_terminal=terminalreporter.hasmarkup)
    with console.capture() as text:
        console.print(table)
    terminalreporter.write(text.get())
