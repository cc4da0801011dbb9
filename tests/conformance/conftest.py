"""The transports, one after the other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.pairs import TRANSPORTS, Client, Pair, open_pair
from tests.conformance.service import Do


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "shm" and not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("shared memory needs Linux")
    return name


@pytest.fixture
def pair(transport: str, runtime_directory: Path) -> Iterator[Pair]:
    """A connected pair. In the end, no receiver may have seen a violation of the contract."""
    with open_pair(transport, runtime_directory) as pair:
        yield pair
        if pair.server is None or pair.server.alive:
            assert pair.connect().ask(Do.LOG)["wrong"] == []
        assert pair.client.recorder.wrong == []


@pytest.fixture
def client(pair: Pair) -> Client:
    return pair.client


@pytest.fixture
def remote(pair: Pair) -> Pair:
    """A pair whose server is another process."""
    if pair.server is None:
        pytest.skip("client and server are one process")
    return pair
