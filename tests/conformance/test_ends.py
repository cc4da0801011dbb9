"""The end of a channel: closed by either side, or because the peer has died; and Ctrl-C, which must not end it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from heros.exceptions import PeerLost
from heros.wire import Kind
from tests.conformance.pairs import Client, Pair
from tests.conformance.service import Do, crc, make_array
from tests.harness import Child, wait_until
from tests.oracle import Oracle

KIB, MIB = 1024, 1024 * 1024


def assert_every_use_raises(client: Client) -> None:
    channel, told = client.channel, list[object]()
    assert channel.closed
    for timeout in (None, 1.0):
        with pytest.raises(PeerLost):
            client.call(Do.ECHO, timeout=timeout)
    with pytest.raises(PeerLost):
        client.submit(Do.ECHO, None, told.append)
    with pytest.raises(PeerLost):
        channel.post(Kind.ONEWAY, 1, 0, 0, 0, b"null")
    with pytest.raises(PeerLost):
        client.call(Do.ECHO, buffers=[make_array("plain", [MIB])])
    channel.forget(1)
    assert told == []


class Waiting:
    """Calls that are under way: some by ``call`` in threads, some by ``submit``."""

    def __init__(self, client: Client) -> None:
        self.outcomes: list[object] = []
        self._threads = [threading.Thread(target=self._call, args=(client, number)) for number in range(4)]
        for thread in self._threads:
            thread.start()
        for _ in range(4):
            client.submit(Do.NEVER, None, self.outcomes.append)

    def _call(self, client: Client, number: int) -> None:
        try:
            self.outcomes.append(client.call(Do.NEVER, timeout=None if number % 2 else 60))
        except PeerLost as error:
            self.outcomes.append(error)

    def assert_lost(self) -> None:
        wait_until(lambda: len(self.outcomes) == 8, 20, lambda: f"only {len(self.outcomes)} of 8 calls have ended")
        for thread in self._threads:
            thread.join()
        assert all(isinstance(outcome, PeerLost) for outcome in self.outcomes)


def pending(pair: Pair) -> Waiting:
    waiting = Waiting(pair.client)
    for _ in range(8):
        pair.expect("CALLED")
    return waiting


def assert_told_once(client: Client) -> None:
    wait_until(lambda: client.recorder.ended, 20, "the client's receiver is told of the end")
    assert isinstance(client.recorder.ended[0], PeerLost)
    assert len(client.recorder.ended) == 1
    assert client.recorder.wrong == []


# -- closing --------------------------------------------------------------------------------------------------


def test_the_client_closes(pair: Pair, client: Client) -> None:
    other = pair.connect()
    waiting = pending(pair)
    client.channel.close()
    waiting.assert_lost()
    assert_every_use_raises(client)
    client.channel.close()
    assert_told_once(client)
    wait_until(lambda: other.ask(Do.LOG)["ended"], 20, "the server's receiver is told of the end")
    assert len(other.ask(Do.LOG)["ended"]) == 1
    assert other.ask(Do.LOG)["wrong"] == []
    assert other.recorder.ended == []


def test_the_server_closes(pair: Pair, client: Client) -> None:
    other = pair.connect()
    waiting = pending(pair)
    with pytest.raises(PeerLost, match="on purpose"):
        client.call(Do.DISCONNECT, "on purpose")
    waiting.assert_lost()
    assert_every_use_raises(client)
    assert_told_once(client)
    assert "on purpose" in str(client.recorder.ended[0])
    client.channel.close()
    assert_told_once(client)
    wait_until(lambda: other.ask(Do.LOG)["ended"], 20, "the server's receiver is told of the end")
    assert len(other.ask(Do.LOG)["ended"]) == 1
    assert other.ask(Do.LOG)["wrong"] == []


def test_everybody_closes_at_once(pair: Pair) -> None:
    other = pair.connect()
    for count in range(1, 11):
        client = pair.connect()
        client.call(Do.ECHO)
        client.submit(Do.DISCONNECT, "on purpose", lambda reply: None)
        threads = [threading.Thread(target=client.channel.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.channel.closed
        assert_told_once(client)
        wait_until(lambda count=count: len(other.ask(Do.LOG)["ended"]) == count, 20)  # type: ignore[misc]
    assert other.ask(Do.LOG)["wrong"] == []


def test_the_end_is_told_after_the_last_frame(pair: Pair, client: Client) -> None:
    """All that was published before the server closes arrives first."""
    events = client.recorder.events
    client.call(Do.PUBLISH, [1, 100, 5 * KIB])
    client.submit(Do.DISCONNECT, "on purpose", lambda reply: None)
    assert_told_once(client)
    assert [event.index for event in events] == [*range(1, 101), 100]


def test_closing_while_frames_arrive(pair: Pair) -> None:
    for _ in range(5):
        client = pair.connect()
        client.submit(Do.PUBLISH, [1, 100_000, 100], lambda reply: None)
        wait_until(lambda client=client: client.recorder.events)  # type: ignore[misc]
        client.channel.close()
        assert_told_once(client)
        indexes = [event.index for event in client.recorder.events]
        assert indexes == list(range(1, len(indexes) + 1))


def test_many_connections_leave_nothing(transport: str, pair: Pair) -> None:
    pids = [pair.server.pid] if pair.server else []
    for _ in range(3):  # what is kept for later use is there now
        connect_and_close(pair)
    oracle = Oracle(pids=pids)
    for _ in range(20):
        connect_and_close(pair)
    # Spare threads are not counted: how many there are depends on what overlapped by chance.
    wait_until(
        lambda: all("thread" in leak for leak in oracle.leaks()),
        20,
        lambda: "no leak, but:\n" + "\n".join(oracle.leaks()),
    )


def connect_and_close(pair: Pair) -> None:
    client = pair.connect()
    array = make_array("plain", [MIB])
    assert crc(client.call(Do.ECHO, buffers=[array]).buffers[0]) == crc(array)
    client.call(Do.PUBLISH, [1, 10, 10 * KIB])
    client.channel.close()
    assert_told_once(client)


# -- death ----------------------------------------------------------------------------------------------------


def kill(pair: Pair) -> None:
    assert pair.server is not None
    pair.server.kill9()


def let_it_kill_itself(pair: Pair) -> None:
    with pytest.raises(PeerLost):
        pair.client.call(Do.DIE)
    server = pair.server
    assert server is not None
    wait_until(lambda: not server.alive)  # its connection ends before it does


@pytest.mark.parametrize("end", [kill, let_it_kill_itself])
def test_kill_9_of_the_server_in_mid_call(remote: Pair, end: Callable[[Pair], None]) -> None:
    view = remote.client.call(Do.MAKE, [["plain", [MIB]]]).buffers[0]
    waiting = pending(remote)
    end(remote)
    waiting.assert_lost()
    assert_told_once(remote.client)
    assert_every_use_raises(remote.client)
    assert crc(view) == crc(make_array("plain", [MIB]))


def test_kill_9_of_an_idle_server(remote: Pair) -> None:
    client = remote.client
    client.call(Do.PUBLISH, [1, 20, MIB])
    wait_until(lambda: len(client.recorder.events) == 21, 20)
    kill(remote)
    assert_told_once(client)
    assert_every_use_raises(client)
    for event in client.recorder.events[:-1]:
        assert crc(event.buffers[0]) == int(event.header)


def test_kill_9_of_the_server_while_it_publishes(remote: Pair) -> None:
    client = remote.client
    client.submit(Do.PUBLISH, [1, 1_000_000, 3000], lambda reply: None)
    wait_until(lambda: len(client.recorder.events) > 100, 20)
    kill(remote)
    assert_told_once(client)
    events = client.recorder.events
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    for event in events:
        assert crc(event.buffers[0]) == int(event.header)


def test_a_stopped_server_is_not_a_dead_one(remote: Pair) -> None:
    assert remote.server is not None
    client, replies = remote.client, list[object]()
    remote.server.stop()
    client.submit(Do.ECHO, 1, replies.append)
    with pytest.raises(TimeoutError):
        client.call(Do.ECHO, timeout=0.5)
    assert not client.channel.closed
    assert replies == []
    remote.server.cont()
    wait_until(lambda: replies, 20)
    for number in range(20):
        assert client.ask(Do.ECHO, number) == number


CLIENT = """
import sys, threading
from pathlib import Path
from tests.conformance.pairs import open_pair
from tests.conformance.service import Do
with open_pair(sys.argv[1], Path(sys.argv[2])) as pair:
    client = pair.client
    for timeout in (None, 60.0):
        assert client.ask(Do.ECHO, 1) == 1
        try:
            threading.Thread(target=lambda: (pair.expect("CALLED"), print("IN-CALL", flush=True))).start()
            client.call(Do.SLEEP, 30, timeout=timeout)
            print("NOT-INTERRUPTED", flush=True)
        except KeyboardInterrupt:
            pass
        for number in range(100):
            assert client.ask(Do.ECHO, number) == number
        print("WORKS", flush=True)
    print("READY", client.recorder.ended, flush=True)
    sys.stdin.readline()
"""


def test_ctrl_c_interrupts_a_call_and_the_channel_works_afterwards(transport: str, runtime_directory: Path) -> None:
    with Child(CLIENT, transport, runtime_directory) as child:
        for _ in range(2):
            child.expect("IN-CALL")
            child.interrupt()
            child.expect("WORKS")
        assert child.ready() == "[]"
        assert "NOT-INTERRUPTED" not in child.output
        child.say("end")


def test_kill_9_of_a_client_is_seen_by_the_server(remote: Pair) -> None:
    """Its link ends, once; the other clients are unaffected."""
    assert remote.address is not None
    client = remote.client
    with Child(LATE_CLIENT, *remote.address) as child:
        child.ready()
        child.kill9()
    wait_until(lambda: client.ask(Do.LOG)["ended"], 20, "the server's receiver is told of the end")
    assert client.ask(Do.LOG)["ended"] == ["PeerLost"]
    assert client.ask(Do.LOG)["wrong"] == []
    assert client.recorder.ended == []


LATE_CLIENT = """
import sys
from tests.conformance.pairs import join_pair
from tests.conformance.service import Do
with join_pair(*sys.argv[1:]) as client:
    kept = client.call(Do.MAKE, [["plain", [1 << 20]]] * 10).buffers
    client.call(Do.ECHO, buffers=kept)
    client.submit(Do.NEVER, None, print)
    print("READY", flush=True)
    sys.stdin.readline()
"""
