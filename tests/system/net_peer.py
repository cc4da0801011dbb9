"""A node on the network, for tests: as an object in the test's process, or as a process of its own.

As a process (:func:`spawn`) it reads commands as JSON lines and answers each with a JSON line.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heros.buffers import Buffer, buffer_nbytes
from heros.demo.loopback import zenoh_config
from heros.entry import Entry
from heros.exceptions import HEROSError
from heros.net.session import Network
from heros.transport import Channel, Link, Payload, Peer, Reply, Task
from heros.wire import Fields, Kind
from heros.workers import Workers

ECHO, ADD, FAIL, SLEEP, RESULT_OF, CHECKSUM, PUBLISH, LINKS, SUMS = range(9)

PAIR = struct.Struct("<qq")


@functools.lru_cache(8)
def pattern(nbytes: int) -> NDArray[np.uint8]:
    """Bytes that differ from place to place, so that a misplaced chunk shows."""
    return (np.arange(-(-nbytes // 4), dtype=np.uint32) * np.uint32(2654435761)).view(np.uint8)[:nbytes]


def checksum(buffers: Sequence[Buffer]) -> int:
    return sum(int(np.frombuffer(buffer, np.uint8).sum(dtype=np.uint64)) for buffer in buffers if buffer_nbytes(buffer))


class Server:
    """The receiver of server ends: serves the members above."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.ended: list[Link] = []
        self.acks: list[tuple[int, int]] = []
        self.oneways: list[bytes] = []
        self.sums: list[int] = []
        self.published: dict[int, tuple[int, int]] = {}

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        if source not in self.links:
            self.links.append(source)  # type: ignore[arg-type]
        if fields[0] == Kind.ACK:
            self.acks.append((fields[4], fields[5]))
            return None
        if fields[0] == Kind.ONEWAY:
            self.oneways.append(bytes(header))
            return None
        return lambda: self.serve(source, fields, bytes(header), buffers)  # type: ignore[arg-type]

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self.ended.append(source)  # type: ignore[arg-type]

    def serve(self, link: Link, fields: Fields, header: bytes, buffers: Sequence[Buffer]) -> None:
        member, ident = fields[3], fields[4]
        answer: tuple[bytes, Sequence[Buffer]] = (b"", ())
        if member == ECHO:
            answer = (header, buffers)
        elif member == ADD:
            first, second = PAIR.unpack(header)
            answer = (PAIR.pack(first + second, 0), ())
        elif member == FAIL:
            link.reply(Kind.ERROR, 0, ident, b"it failed", ())
            return
        elif member == SLEEP:
            time.sleep(float(header))
        elif member == RESULT_OF:
            answer = (b"", [pattern(int(header))])
        elif member == CHECKSUM:
            self.sums.append(checksum(buffers))
            answer = (str(self.sums[-1]).encode(), ())
        elif member == PUBLISH:
            self.publish(link, **json.loads(header))
        elif member == SUMS:
            answer = (json.dumps(self.sums).encode(), ())
        elif member == LINKS:
            answer = (json.dumps([len(self.links), len(self.ended)]).encode(), ())
        link.reply(Kind.RESULT, 0, ident, *answer)

    def publish(self, link: Link, ident: int, count: int, size: int, reliable: bool) -> None:
        """Publish ``count`` samples; the sample's number is its header."""
        index = 0
        for sequence in range(1, count + 1):
            payload = Payload(str(sequence).encode(), [pattern(size)] if size else [])
            while not link.publish(Kind.SAMPLE, ident, sequence, index + 1, payload):
                if not reliable or link.closed:
                    break
                time.sleep(0.001)
            else:
                index += 1
        self.published[ident] = (count, index)
        link.publish(Kind.END, ident, count, index + 1, Payload(b"done", ()))


class Client:
    """The receiver of client ends: keeps what arrives."""

    def __init__(self, check: bool = True) -> None:
        self.check = check
        self.frames: list[tuple[Fields, bytes, int]] = []
        self.ends: list[BaseException] = []
        self.done = threading.Event()

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        self.frames.append((fields, bytes(header), checksum(buffers) if self.check else 0))
        if fields[0] == Kind.END:
            self.done.set()
        return None

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self.ends.append(reason)


class Node:
    """A node in this process."""

    def __init__(self, realm: str) -> None:
        self.peer = Peer(uuid.uuid4().hex, os.getpid(), socket.gethostname())
        self.workers = Workers()
        self.server = Server()
        self.net = Network(realm, self.peer, self.workers, self.server)

    def entry(self, name: str) -> Entry:
        return Entry(self.net.realm, name, uuid.uuid4().hex, self.peer.node_id, self.peer.pid, self.peer.host)

    def close(self) -> None:
        self.net.close()
        self.workers.stop()


def call(
    channel: Channel,
    member: int,
    header: bytes = b"",
    buffers: Sequence[Buffer] = (),
    timeout: float | None = 30.0,
) -> Reply:
    return channel.call(0, member, 1, 0, header, buffers, timeout)


class Process:
    """A node in a process of its own, which offers HEROs and connects to others' on command."""

    def __init__(self, realm: str, port: int, listen: bool) -> None:
        environment = {**os.environ, "HEROS_ZENOH_CONFIG": zenoh_config(port, listen)}
        root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.system.net_peer", realm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=root,
        )
        self.pid = self.popen.pid
        self.node_id: str = self.ask("ready")

    def ask(self, command: str, *arguments: Any) -> Any:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, f"the process ended with {self.popen.wait()} at {command}"
        return json.loads(line)

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.popen.pid, os.WSTOPPED)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End the process and take its descriptors back, whatever state it is in."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def main() -> None:
    node = Node(sys.argv[1])
    channels: dict[str, tuple[Channel, Client]] = {}
    offered: dict[str, Entry] = {}
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: Any = None
        if command == "ready":
            assert node.net.ready(20)
            answer = node.peer.node_id
        elif command == "announce":
            (name,) = arguments
            offered[name] = node.entry(name)
            node.net.announce(offered[name])
            answer = offered[name].instance
        elif command == "withdraw":
            node.net.withdraw(offered.pop(arguments[0]))
        elif command == "find":
            answer = [entry.instance for entry in node.net.find(*arguments)]
        elif command == "connect":
            (name,) = arguments
            client = Client()
            channels[name] = (node.net.connect(node.net.find(name, 20)[0], client), client)
        elif command == "add":
            name, first, second = arguments
            try:
                answer = PAIR.unpack(call(channels[name][0], ADD, PAIR.pack(first, second)).header)[0]
            except HEROSError as error:
                answer = type(error).__name__
        elif command == "links":
            answer = [len(node.server.links), len(node.server.ended)]
        elif command == "published":
            answer = node.server.published.get(arguments[0])
        elif command == "hang":  # a call that does not end, by a thread of its own
            threading.Thread(
                target=call, args=(channels[arguments[0]][0], SLEEP, b"600", (), None), daemon=True
            ).start()
        elif command == "flood":  # more than fits into any queue, to one that may not read
            channels[arguments[0]][0].submit(0, CHECKSUM, 1, 0, b"", [pattern(64 << 20)], lambda reply: None)
        elif command == "publish-and-exit":  # to the first client, as the last thing that it does
            node.server.publish(node.server.links[0], *arguments, reliable=True)
            node.net.close()
            sys.exit(7)
        elif command == "exit":
            node.net.close()
            sys.exit(7)
        elif command == "exit-without-close":
            sys.exit(7)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
