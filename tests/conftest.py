"""What every test gets: an environment of its own that touches neither the user's HEROs nor the network."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from heros.demo.loopback import free_port, zenoh_config
from tests.oracle import Oracle

_numbers = itertools.count(1)
_SILENT = '{mode: "peer", scouting: {multicast: {enabled: false}}, listen: {endpoints: []}}'

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs in the background; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _session_directory() -> Iterator[Path]:
    """Short, as the path of a unix socket has at most 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="heros-", dir="/tmp" if os.path.isdir("/tmp") else None))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def runtime_directory(_session_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of this test and of the processes it starts; returns its runtime directory, not yet made.

    There is no network, and if there were, it would find nobody. ``net_realm`` changes that.
    """
    for name in [name for name in os.environ if name.startswith("HEROS_")]:
        monkeypatch.delenv(name)
    directory = _session_directory / str(next(_numbers))
    monkeypatch.setenv("HEROS_RUNTIME_DIR", str(directory))
    monkeypatch.setenv("HEROS_NET", "off")
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", _SILENT)
    return directory


@pytest.fixture(autouse=True)
def _own_node(runtime_directory: Path) -> Iterator[None]:
    """What this process offers and uses in a test ends with it."""
    yield
    node = sys.modules.get("heros.node")
    if node is not None:
        node.shutdown()


@pytest.fixture
def net_realm(monkeypatch: pytest.MonkeyPatch) -> str:
    """Switch the network on, on loopback, and return the name of a realm that no other test uses.

    This process listens; children connect to it with ``zenoh_config(port, listen=False)``, where the port is
    ``HEROS_TEST_PORT``.
    """
    port = free_port()
    monkeypatch.delenv("HEROS_NET")
    monkeypatch.setenv("HEROS_TEST_PORT", str(port))
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(port, listen=True))
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def leak_oracle(runtime_directory: Path) -> Iterator[Oracle]:
    """Checks at the end of the test that this process, and those given to ``watch``, hold nothing new.

    Ask for it first: what fixtures that come before it set up is none of its business, what comes later is.
    """
    gc.collect()
    oracle = Oracle([runtime_directory])
    yield oracle
    gc.collect()
    oracle.check()
