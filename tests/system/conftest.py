"""Fixtures of more than one of these files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heros.workers import Workers
from tests.system.net_lab import Lab


@pytest.fixture
def path(runtime_directory: Path) -> str:
    """Where a server of shared memory may listen."""
    runtime_directory.mkdir(exist_ok=True)
    return str(runtime_directory / "s")


@pytest.fixture
def workers() -> Iterator[Workers]:
    """The workers of a client in this process."""
    group = Workers("client")
    yield group
    group.stop()


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A node in this process and others in processes of their own, in one realm, on loopback."""
    laboratory = Lab(monkeypatch)
    yield laboratory
    laboratory.close()
