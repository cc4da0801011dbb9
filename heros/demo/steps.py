"""How far the demo is: a progress bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["Steps"]


class Steps:
    """Use it in a ``with`` statement.

    Args:
        console: where to show it.
        total: seconds that all steps are expected to take.
    """

    def __init__(self, console: Console, total: float) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=total)
        self._done = 0.0
        self._expected = 0.0
        self._began = time.monotonic()

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, description: str, expected: float) -> None:
        """Begin the next step, which is expected to take so many seconds."""
        self._done += self._expected
        self._expected = expected
        self._began = time.monotonic()
        self._progress.update(self._bar, description=description, completed=self._done)
        if self._progress.disable:
            self._console.print(description)

    def tick(self) -> None:
        """Show that time has passed."""
        self._progress.update(self._bar, completed=self._done + min(time.monotonic() - self._began, self._expected))
