"""The leak oracle: what a process holds, and what lies around on the host, before and after.

``Oracle`` notes at its beginning what every watched process holds; ``check`` waits until nothing is held that was not
held before, or fails and prints what there is too much of. It compares *more than before* only: to hold less is no
leak. A process that has been waited for holds nothing.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Leak", "Oracle", "holdings"]

Holdings = Counter[str]

_NUMBER = re.compile(r"\d+")
_SHARED_MEMORY = Path("/dev/shm")


class Leak(AssertionError):
    """Something is held that was not held before."""


def holdings(pid: int) -> Holdings:
    """What process ``pid`` holds, by kind; empty when there is no such process, or nobody has waited for it yet."""
    held: Holdings = Counter()
    process = Path(f"/proc/{pid}")
    try:
        for fd in os.listdir(process / "fd"):
            try:
                held[f"descriptor {_kind(os.readlink(process / 'fd' / fd))}"] += 1
            except FileNotFoundError:
                pass  # the descriptor of this very listing, or closed meanwhile
        for line in (process / "maps").read_text().splitlines():
            if "/memfd:" in line:
                held["mapping of a memfd"] += 1
        held["thread"] = len(os.listdir(process / "task"))
    except (FileNotFoundError, ProcessLookupError):
        return Counter()
    return held


def _kind(target: str) -> str:
    """``socket:[1234]`` and ``/memfd:heros (deleted)`` without what differs from one to the next."""
    return target if target.startswith("/dev/") else _NUMBER.sub("N", target)


def _files(directories: Iterable[Path]) -> Holdings:
    found: Holdings = Counter()
    for directory in directories:
        if directory.exists():
            found.update(f"file {path}" for path in directory.rglob("*") if not path.is_dir())
    return found


class Oracle:
    """Begin before the test does anything, then :meth:`check`.

    Args:
        directories: where no file may be left; ``/dev/shm`` always is one of them.
        pids: processes to watch from now on; this one always is.
    """

    def __init__(self, directories: Iterable[Path] = (), pids: Iterable[int] = ()) -> None:
        self._directories = [_SHARED_MEMORY, *directories]
        self._files = _files(self._directories)
        self._held: dict[int, Holdings] = {}
        self.watch(os.getpid(), *pids)

    def watch(self, *pids: int) -> None:
        """Watch these processes too; what they hold now is what they may hold in the end."""
        for pid in pids:
            self._held[pid] = holdings(pid)

    def leaks(self) -> list[str]:
        """What there is too much of now, one line each."""
        lines = []
        for pid, before in self._held.items():
            who = "this process" if pid == os.getpid() else f"process {pid}"
            for what, count in sorted((holdings(pid) - before).items()):
                lines.append(f"{who}: {count} more of {what} than the {before[what]} before")
        lines.extend(sorted(_files(self._directories) - self._files))
        return lines

    def check(self, deadline: float = 5.0) -> None:
        """Wait until nothing is held that was not held before.

        Raises:
            Leak: it still is after ``deadline`` seconds.
        """
        end = time.monotonic() + deadline
        while leaks := self.leaks():
            if time.monotonic() >= end:
                names = ", ".join(thread.name for thread in threading.enumerate())
                raise Leak("\n".join(["left behind:", *leaks, f"threads of this process: {names}"]))
            time.sleep(0.01)
