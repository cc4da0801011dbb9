"""The choice of a transport."""

from __future__ import annotations

import pytest

from heros import select
from heros.entry import Entry
from heros.exceptions import HEROSError


def entry(name: str, address: str = "") -> Entry:
    return Entry("realm", name, "1", "2", address=address)


OWN, HOST, REMOTE = entry("own"), entry("host", "/run/socket"), entry("remote")


def chosen() -> list[tuple[str, Entry]]:
    return list(select.ways(lambda: [OWN], lambda: [HOST], lambda: [REMOTE]))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("HEROS_TRANSPORT", raising=False)
    monkeypatch.delenv("HEROS_NET", raising=False)


def test_the_nearest_comes_first():
    assert chosen() == [("inproc", OWN), ("shm", HOST), ("net", REMOTE)]


@pytest.mark.parametrize(("value", "expected"), [("shm", [("shm", HOST)]), ("net", [("net", REMOTE)])])
def test_the_environment_narrows_it(monkeypatch, value, expected):
    monkeypatch.setenv("HEROS_TRANSPORT", value)
    assert chosen() == expected


def test_without_network_nobody_asks_it(monkeypatch):
    monkeypatch.setenv("HEROS_NET", "off")

    def network() -> list[Entry]:
        raise AssertionError("the network was asked")

    assert list(select.ways(lambda: [], lambda: [HOST], network)) == [("shm", HOST)]


def test_a_lookup_is_made_only_when_needed():
    def host() -> list[Entry]:
        raise AssertionError("the host was asked")

    assert next(select.ways(lambda: [OWN], host, host)) == ("inproc", OWN)


def test_a_hero_without_a_socket_is_not_reached_through_shared_memory():
    assert list(select.ways(lambda: [], lambda: [entry("host")], lambda: [])) == []


@pytest.mark.parametrize("variable", ["HEROS_TRANSPORT", "HEROS_NET"])
def test_an_unknown_value_is_refused_with_its_name(monkeypatch, variable):
    monkeypatch.setenv(variable, "shmm")
    with pytest.raises(HEROSError, match=variable):
        chosen()
