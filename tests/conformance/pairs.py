"""A client and a server connected by one of the transports; for shm and net, the server is another process.

Run as a program, this is that server: ``pairs.py shm PATH NODE_ID``, or ``pairs.py net REALM NODE_ID``. It ends with
its standard input.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from heros import inproc
from heros.demo.loopback import free_port, zenoh_config
from heros.entry import Entry
from heros.transport import Channel, OnReply, Peer, Reply
from heros.workers import Workers
from tests.conformance.service import Do, Recorder, Service
from tests.harness import DEADLINE, Child

__all__ = ["TRANSPORTS", "Address", "Client", "Pair", "join_pair", "open_pair"]

TRANSPORTS = ("inproc", "shm", "net")


class Client:
    """One channel to the server of a pair, and what it receives."""

    def __init__(self, channel: Channel, recorder: Recorder) -> None:
        self.channel = channel
        self.recorder = recorder

    def call(self, do: Do, argument: Any = None, buffers: Any = (), timeout: float | None = None) -> Reply:
        return self.channel.call(0, do, 1, 0, json.dumps(argument).encode(), buffers, timeout)

    def ask(self, do: Do, argument: Any = None, buffers: Any = ()) -> Any:
        """The value that the service returned."""
        return json.loads(bytes(self.call(do, argument, buffers).header))

    def submit(self, do: Do, argument: Any, on_reply: OnReply, buffers: Any = ()) -> int:
        return self.channel.submit(0, do, 1, 0, json.dumps(argument).encode(), buffers, on_reply)


class Address(NamedTuple):
    """Where a server in another process is: a socket's path for shm, a realm for net."""

    transport: str
    place: str
    node_id: str
    pid: int


class _Connector:
    """What one process needs to open channels to ``address``."""

    def __init__(self, address: Address, workers: Workers, stack: ExitStack) -> None:
        self._address = address
        self._workers = workers
        self._own = _peer(uuid.uuid4().hex)
        self._node: Any = None
        if address.transport == "net":
            from heros.net.session import Network

            self._node = Network(address.place, self._own, workers, Service(print))
            stack.callback(self._node.close)
            assert self._node.ready(DEADLINE)

    def connect(self, recorder: Recorder) -> Channel:
        transport, place, node_id, pid = self._address
        if transport == "shm":
            from heros.shm.channel import connect

            return connect(place, self._own, node_id, self._workers, recorder, DEADLINE)
        entry = Entry(place, "service", "1", node_id, pid, socket.gethostname())
        channel: Channel = self._node.connect(entry, recorder)
        return channel


class Pair:
    """What the tests are given.

    Attributes:
        client: the first channel.
        server: the server's process; None if it is this one.
        address: where other processes find it; None if they cannot.
    """

    def __init__(self, transport: str, directory: Path, stack: ExitStack) -> None:
        self.transport = transport
        self.server: Child | None = None
        self.address: Address | None = None
        self._workers = Workers(f"{transport}-client")
        self._said: queue.Queue[str] = queue.Queue()
        stack.callback(self._workers.stop, 10)
        if transport == "inproc":
            service = Service(self._said.put)
            own = _peer(uuid.uuid4().hex)
            self._open: Callable[[Recorder], Channel] = lambda recorder: inproc.connect(
                own, service, recorder, self._workers
            )
        else:
            self.server, self.address = _start_server(transport, directory, stack)
            self._open = _Connector(self.address, self._workers, stack).connect
        # Weak: a channel that was closed is to be forgotten, with everything that its recorder has kept.
        self._channels: weakref.WeakKeyDictionary[Channel, threading.Event] = weakref.WeakKeyDictionary()
        stack.callback(self._close)
        self.client = self.connect()

    def connect(self) -> Client:
        """One more channel to the same server."""
        recorder = Recorder()
        channel = self._open(recorder)
        self._channels[channel] = recorder.reading
        return Client(channel, recorder)

    def _close(self) -> None:
        for channel, reading in list(self._channels.items()):
            reading.set()
            channel.close()

    def expect(self, word: str) -> str:
        """Wait until the service says ``word``, past the transport, and return what follows."""
        if self.server is not None:
            return self.server.expect(word)
        while True:
            said, _, rest = self._said.get(timeout=DEADLINE).partition(" ")
            if said == word:
                return rest


@contextmanager
def open_pair(transport: str, directory: Path) -> Iterator[Pair]:
    """Connect a client in this process with a server; everything is closed in the end."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield Pair(transport, directory, stack)


@contextmanager
def join_pair(transport: str, place: str, node_id: str, pid: str) -> Iterator[Client]:
    """Connect another process to the server of a pair, given its address."""
    with ExitStack() as stack:
        workers = Workers(f"{transport}-client")
        stack.callback(workers.stop, 10)
        recorder = Recorder()
        channel = _Connector(Address(transport, place, node_id, int(pid)), workers, stack).connect(recorder)
        stack.callback(channel.close)
        yield Client(channel, recorder)


def _start_server(transport: str, directory: Path, stack: ExitStack) -> tuple[Child, Address]:
    port = free_port()
    place = str(directory / "node") if transport == "shm" else f"test-{uuid.uuid4().hex[:12]}"
    node_id = uuid.uuid4().hex
    environment = {"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=True), "HEROS_NET": None}
    server = stack.enter_context(Child(Path(__file__), transport, place, node_id, env=environment))
    os.environ["HEROS_ZENOH_CONFIG"] = zenoh_config(port, listen=False)  # the fixture restores it
    server.ready()
    return server, Address(transport, place, node_id, server.pid)


def _peer(node_id: str) -> Peer:
    return Peer(node_id, os.getpid(), socket.gethostname())


def _serve(transport: str, place: str, node_id: str) -> None:
    workers = Workers(f"{transport}-server")
    saying = threading.Lock()

    def say(line: str) -> None:
        with saying:  # else the line and its end come apart
            print(line, flush=True)

    service = Service(say)
    server: Any
    if transport == "shm":
        from heros.shm.server import ShmServer

        server = ShmServer(place, _peer(node_id), workers, service)
    else:
        from heros.net.session import Network

        server = Network(place, _peer(node_id), workers, service)
        assert server.ready(DEADLINE)
        server.announce(Entry(place, "service", "1", node_id, os.getpid(), socket.gethostname()))
    print("READY", flush=True)
    sys.stdin.read()
    server.close()
    workers.stop(1)


if __name__ == "__main__":
    _serve(*sys.argv[1:4])
