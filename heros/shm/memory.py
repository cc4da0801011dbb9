"""How much memory this process can still take, so that it asks for no more.

Allocating more than there is does not fail on Linux: the kernel looks for a process to kill. So segments are checked
against what is available before they are allocated; that is the machine's, or what is left in a control group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["available"]

_GROUPS: Final = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that can be allocated without taking memory away from anybody; None when the system does not say."""
    amounts = [amount for amount in (_machine(Path("/proc/meminfo")), *map(_left, _groups())) if amount is not None]
    return min(amounts, default=None)


def _machine(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups() -> Iterator[Path]:
    """The control groups (version 2) that this process is in, from the innermost outwards."""
    for line in _lines(Path("/proc/self/cgroup")):
        if line.startswith("0::"):
            group = _GROUPS / line[3:].strip().lstrip("/")
            while group != _GROUPS and _GROUPS in group.parents:
                yield group
                group = group.parent


def _left(group: Path) -> int | None:
    """What a control group may still take; what it holds of unused files does not count as taken."""
    try:
        limit = int(_lines(group / "memory.max")[0])
        taken = int(_lines(group / "memory.current")[0])
    except (IndexError, ValueError):  # no such file, or "max"
        return None
    unused = sum(int(line.split()[1]) for line in _lines(group / "memory.stat") if line.startswith("inactive_file "))
    return max(0, limit - taken + unused)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
