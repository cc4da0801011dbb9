"""Finding and watching HEROs over Zenoh between real processes, and how a node's presence begins and ends."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest

from heros.demo.loopback import free_port, zenoh_config
from heros.entry import Entry
from heros.exceptions import HEROSError
from heros.net import keys
from heros.net.session import Network
from heros.workers import Workers
from tests.harness import wait_until
from tests.system.net_lab import Lab
from tests.system.net_peer import ADD, PAIR, Node, Process, Server, call

pytestmark = pytest.mark.timeout(120)


class Watcher:
    """What a watcher was told, in order."""

    def __init__(self, node: Node) -> None:
        self.told: list[tuple[str, str]] = []
        self.present: dict[str, Entry] = {}
        self.stop = node.net.watch(self._added, self._removed)

    def _added(self, entry: Entry) -> None:
        assert entry.instance not in self.present, "each HERO once"
        self.present[entry.instance] = entry
        self.told.append(("added", entry.name))

    def _removed(self, entry: Entry) -> None:
        del self.present[entry.instance]
        self.told.append(("removed", entry.name))

    @property
    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.present.values())


def test_find(lab: Lab) -> None:
    server = lab.process()
    instance = server.ask("announce", "dev")
    (entry,) = wait_until(lambda: lab.node.net.find("dev", 10))
    assert (entry.realm, entry.name, entry.instance) == (lab.realm, "dev", instance)
    assert (entry.node_id, entry.pid) == (server.node_id, server.pid)
    assert lab.node.net.find("nobody", 10) == []
    own = lab.node.entry("own")
    lab.node.net.announce(own)
    (found,) = wait_until(lambda: lab.node.net.find("own", 1))
    assert found == replace(own, tags=(*own.tags, f"_zid:{lab.node.net.zid}"))
    assert wait_until(lambda: server.ask("find", "own", 1)) == [own.instance]
    server.ask("withdraw", "dev")
    wait_until(lambda: lab.node.net.find("dev", 1) == [])
    assert lab.node.net.entries(5) == [found]


def test_find_waits_for_a_hero_that_appears_while_nobody_is_connected(lab: Lab) -> None:
    found: list[list[Entry]] = []
    thread = threading.Thread(target=lambda: found.append(lab.node.net.find("dev", 60)))
    thread.start()
    server = lab.process("dev")
    thread.join(60)
    assert [entry.node_id for entry in found[0]] == [server.node_id]


def test_find_gives_up_when_nobody_is_there(lab: Lab) -> None:
    started = time.monotonic()
    assert lab.node.net.find("dev", 0.4) == []
    assert time.monotonic() - started >= 0.4


def test_heros_of_one_name_are_told_apart(lab: Lab) -> None:
    first, second = lab.process("dev"), lab.process("dev")
    entries = wait_until(lambda: _if_count(lab.node.net.find("dev", 5), 2))
    assert {entry.node_id for entry in entries} == {first.node_id, second.node_id}
    for entry in entries:
        channel = lab.node.net.connect(entry, Server())
        assert channel.peer.node_id == entry.node_id
        assert PAIR.unpack(call(channel, ADD, PAIR.pack(1, 2)).header)[0] == 3


def _if_count(items: list[Entry], count: int) -> list[Entry] | None:
    return items if len(items) == count else None


def test_two_that_connect_to_a_third_find_each_other(lab: Lab) -> None:
    first, second = lab.process("one"), lab.process("two")
    wait_until(lambda: second.ask("find", "one", 5))
    second.ask("connect", "one")
    assert second.ask("add", "one", 1, 2) == 3
    lab.node.close()  # they are connected directly
    assert second.ask("add", "one", 3, 4) == 7
    assert first.ask("links") == [1, 0]


def test_watch(lab: Lab) -> None:
    early = lab.process("a", "b")
    watcher = Watcher(lab.node)
    wait_until(lambda: watcher.names == ["a", "b"])
    early.ask("announce", "c")
    early.ask("withdraw", "a")
    late = lab.process("a")
    wait_until(lambda: watcher.names == ["a", "b", "c"])
    lab.node.net.announce(lab.node.entry("own"))
    wait_until(lambda: "own" in watcher.names)
    second = Watcher(lab.node)
    wait_until(lambda: second.names == ["a", "b", "c", "own"])
    second.stop()
    early.kill()
    wait_until(lambda: watcher.names == ["a", "own"])
    late.ask("withdraw", "a")
    wait_until(lambda: watcher.names == ["own"])
    assert second.names == ["a", "b", "c", "own"]


def test_watch_tells_apart_heros_of_one_name(lab: Lab) -> None:
    watcher = Watcher(lab.node)
    first, second = lab.process("dev"), lab.process("dev")
    wait_until(lambda: watcher.names == ["dev", "dev"])
    first.ask("withdraw", "dev")
    wait_until(lambda: watcher.names == ["dev"])
    assert [entry.node_id for entry in watcher.present.values()] == [second.node_id]


def test_watch_survives_a_missed_change(lab: Lab) -> None:
    server = lab.process("a")
    watcher = Watcher(lab.node)
    wait_until(lambda: watcher.names == ["a"])
    lab.node.net._discovery._nodes[server.node_id].version = -5
    server.ask("announce", "b")
    wait_until(lambda: watcher.names == ["a", "b"])


def test_malformed_discovery_is_ignored(lab: Lab) -> None:
    server = lab.process("dev")
    watcher = Watcher(lab.node)
    wait_until(lambda: watcher.names == ["dev"])
    bus = lab.node.net._bus
    lying = Entry("other", "liar", "i", server.node_id).to_json()
    for garbage in (b"", b"[]", b'{"version": 1}', b'{"version": 99, "added": true, "entry": %b}' % lying, b"\xff"):
        bus.put(keys.changes(lab.realm, server.node_id), garbage)
        bus.put(keys.changes(lab.realm, "nobody"), garbage)
    bus.answer(keys.discover(lab.realm, "liar"), lambda query: [b"\xff", b"{}", lying])
    assert lab.node.net.find("liar", 0.5) == []
    server.ask("announce", "next")
    wait_until(lambda: watcher.names == ["dev", "next"])
    assert lab.node.net.find("dev", 5)


def test_what_was_announced_before_the_session_is_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Lab(monkeypatch)
    try:
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(laboratory.port, listen=False))
        node = Node(laboratory.realm)
        early = node.entry("early")
        node.net.announce(early)
        assert [entry.instance for entry in laboratory.node.net.find("early", 60)] == [early.instance]
        node.close()
    finally:
        laboratory.close()


def test_an_endpoint_that_is_taken_is_told(lab: Lab) -> None:
    node = Node(f"{lab.realm}-b")  # it listens on the same port
    try:
        with pytest.raises(HEROSError, match=r"cannot be opened.*HEROS_ZENOH_CONFIG"):
            node.net.ready(20)
        with pytest.raises(HEROSError, match="cannot be opened"):
            node.net.find("early", 1)
    finally:
        node.close()


def test_a_session_that_cannot_be_configured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", "{nonsense")
    node = Node(f"test-{uuid.uuid4().hex}")
    try:
        with pytest.raises(HEROSError, match="HEROS_ZENOH_CONFIG is not a valid"):
            node.net.ready(20)
        node.net.announce(node.entry("x"))
        assert node.net.zid == ""
    finally:
        node.close()


def test_what_one_hero_declares(lab: Lab) -> None:
    bus = lab.node.net._bus
    before = 7
    wait_until(lambda: len(bus._kept) == before)  # the last of them is declared after the session is ready
    threads = threading.active_count()
    entries = [lab.node.entry(f"hero-{number}") for number in range(50)]
    for entry in entries:
        lab.node.net.announce(entry)
    wait_until(lambda: len(bus._kept) == before + 2 * len(entries))
    assert threading.active_count() <= threads + 4  # workers, of which there may be a few at any time
    server = lab.process()
    wait_until(lambda: len(lab.node.net.entries(5)) == 50)
    assert server.ask("find", "hero-7", 5) == [entries[7].instance]
    for entry in entries:
        lab.node.net.withdraw(entry)
    wait_until(lambda: len(bus._kept) == before)


def test_a_channel_leaves_nothing_behind(lab: Lab) -> None:
    lab.process("dev")
    bus = lab.node.net._bus
    for _ in range(20):
        channel, _ = lab.connect("dev")
        call(channel, ADD, PAIR.pack(1, 2))
        channel.close()
    wait_until(lambda: len(bus._kept) == 7)
    assert lab.node.net._ends == {}
    assert lab.node.net._attempts == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_forgets_the_session_and_opens_its_own(lab: Lab) -> None:
    """FAULTS 27."""
    lab.process("dev")
    channel, _ = lab.connect("dev")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: Any = "nothing"
        try:
            lab.node.net.abandon()
            del channel
            os.environ["HEROS_ZENOH_CONFIG"] = zenoh_config(lab.port, listen=False)
            own = lab.node.peer._replace(node_id=uuid.uuid4().hex, pid=os.getpid())
            node = Network(lab.realm, own, Workers(), Server())
            child = node.connect(node.find("dev", 20)[0], Server())
            answer = PAIR.unpack(call(child, ADD, PAIR.pack(20, 22)).header)[0]
            node.close()
        except BaseException as error:
            answer = repr(error)
        finally:
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert json.loads(pipe.read()) == 42
    os.waitpid(pid, 0)
    assert PAIR.unpack(call(channel, ADD, PAIR.pack(1, 2)).header)[0] == 3


def test_the_order_of_starting_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    port, realm = free_port(), f"test-{uuid.uuid4().hex[:12]}"
    early = Process(realm, port, listen=False)
    try:
        early.ask("announce", "early")
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(port, listen=True))
        node = Node(realm)
        try:
            assert [entry.name for entry in node.net.find("early", 60)] == ["early"]
        finally:
            node.close()
    finally:
        early.end()
