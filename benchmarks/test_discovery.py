"""Finding HEROs on this host, making them, and what a program waits for before it can."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.conftest import Compare
from benchmarks.measure import each
from heros import LocalHERO, RemoteHERO, node

TIMES = 5
RECORD = bytes(2048)
"""As long as what the host's registry holds of one HERO."""


class Small(LocalHERO):
    gain: float = 1.5

    def add(self, a: int, b: int) -> int:
        return a + b


def test_remote_hero(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of a HERO to whose process there is a channel already."""
    monkeypatch.setenv("HEROS_TRANSPORT", "shm")
    record = tmp_path / "record"
    record.write_bytes(RECORD)
    with Small("small"):
        compare(each(partial(RemoteHERO, "small"), TIMES), each(record.read_bytes, TIMES), "reading a file")


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for HEROs and others, in memory, where that of a user's session is. How long a disk takes to make a
    file depends tenfold on what else is written to it."""
    with tempfile.TemporaryDirectory(prefix="heros-", dir="/dev/shm") as directory:
        monkeypatch.setenv("HEROS_RUNTIME_DIR", f"{directory}/heros")
        yield Path(directory)
        node.shutdown()


def test_local_hero(compare: Compare, in_memory: Path) -> None:
    aside, record = in_memory / "aside", in_memory / "record"

    def make() -> None:
        Small("small")._destroy_hero()

    def write() -> None:
        aside.write_bytes(RECORD)
        aside.rename(record)
        record.unlink()

    compare(each(make, TIMES), each(write, TIMES), "a file, made and removed")


@pytest.mark.slow
def test_import(compare: Compare) -> None:
    def a_program(text: str) -> partial[object]:
        return partial(subprocess.run, [sys.executable, "-c", text], check=True)

    compare(each(a_program("import heros"), 1), each(a_program("import numpy"), 1), "import numpy", rounds=7)
