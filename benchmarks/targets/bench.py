"""What a target is given to measure with: the peers' figures, and a laboratory of child processes."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from benchmarks.peers.cases import Case
from benchmarks.peers.paths import ROOT
from benchmarks.peers.process import Process
from benchmarks.peers.results import Figure, Results

from .row import Finding, Limit

__all__ = ["Bench", "Lab", "LeftOut", "NotMeasured", "Target", "median"]

T = TypeVar("T")

median: Final = statistics.median


class NotMeasured(Exception):
    """A figure that a row needs is not there; the text says why."""


class LeftOut(NotMeasured):
    """It was not asked for: a quick run, or one of some peers only."""


class Bench:
    """What all rows of one run share.

    Args:
        results: of the peers.
        quick: measure little, only to see that everything works.
    """

    def __init__(self, results: Results, quick: bool) -> None:
        self.results, self.quick = results, quick
        self._done: dict[Callable[[Bench], Any], Any] = {}

    def once(self, measure: Callable[[Bench], T]) -> T:
        """What ``measure(self)`` returns, measured the first time only: for rows that stand on one measurement.

        Raises:
            Exception: whatever it has raised the first time.
        """
        if measure not in self._done:
            try:
                self._done[measure] = measure(self)
            except Exception as error:
                self._done[measure] = error
        found = self._done[measure]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    def few(self, count: int, quick: int = 2) -> int:
        """A number of repetitions: much less if it shall be quick."""
        return quick if self.quick else count

    def figure(self, peer: str, case: Case) -> Figure:
        """One case of one peer.

        Raises:
            NotMeasured: it was tried.
            LeftOut: it was not.
        """
        found = self.results.get(peer, case.key)
        if found is None:
            why = self.results.failures.get(peer) or self.results.missing.get(peer, {}).get(case.key)
            if why is None:
                raise LeftOut(f"{peer}, {case.key}: not part of this run")
            raise NotMeasured(f"{peer}, {case.key}: {why.splitlines()[0]}")
        return found

    def p50(self, peer: str, case: Case) -> float:
        """Seconds of one operation, median."""
        found = self.figure(peer, case).p50
        if not found:
            raise NotMeasured(f"{peer}, {case.key}: no time")
        return found


@dataclass(frozen=True)
class Target:
    """One row that can be measured.

    Attributes:
        number, what, limit: as in ``Row``.
        find: measures it.
        needs: the peers' cases that it takes its figures from.
    """

    number: str
    what: str
    limit: Limit
    find: Callable[[Bench], Finding]
    needs: Sequence[tuple[str, Case]] = ()


class Lab:
    """Child processes that run ``workbench.py``, in runtime directories of their own. Use it in a ``with`` block.

    What is in one *room* finds each other, and nobody else.
    """

    def __init__(self) -> None:
        # Short, as the path of a unix socket has at most 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="targets-", dir="/tmp"))
        self._processes: list[Process] = []

    def start(self, title: str, room: str = "r") -> Process:
        """Start a process, without waiting until it is ready."""
        process = Process(title, [sys.executable, "-m", "benchmarks.targets.workbench"], self._env(room), ROOT)
        self._processes.append(process)
        return process

    def run(self, program: str, *arguments: str, room: str = "r") -> Any:
        """What a new interpreter that runs this program prints, as JSON."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HEROS_", "PYTHON"))}
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(
            command, env=env | self._env(room), cwd=self._directory, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise NotMeasured(f"a new process ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def _env(self, room: str) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",  # a second import shall not compile again
            "HEROS_RUNTIME_DIR": str(self._directory / room),
            "HEROS_NET": "off",
            "HEROS_TRANSPORT": "shm",
        }

    def close(self) -> list[str]:
        """End all of them; returns their complaints."""
        for process in self._processes:
            process.hang_up()  # all at once: each takes a while to end
        complaints = [complaint for process in reversed(self._processes) if (complaint := process.end())]
        self._processes.clear()
        shutil.rmtree(self._directory, ignore_errors=True)
        return complaints

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (complaints := self.close()) and error is None:
            raise NotMeasured("; ".join(complaints))
