"""The other process of the tests of shared memory: ``python tests/system/shm_peer.py ROLE SOCKET ...``.

It serves the frames themselves, without the runtime above the transport. A CALL's ``member`` says what to do with it.
"""

from __future__ import annotations

import gc
import os
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np

from heros.buffers import Buffer
from heros.shm import FramePool, arena, channel, reset_after_fork
from heros.shm.server import ShmServer
from heros.transport import Channel, Link, Payload, Peer, Task
from heros.wire import Fields, Kind
from heros.workers import Workers
from tests.harness import wait_until

NODE = "servernode"
WORD = struct.Struct("=Q")


class Do(IntEnum):
    ECHO = 1
    """Reply with what came."""
    SLEEP = 2
    """Sleep for as long as the header says, in seconds; then echo."""
    NEVER = 3
    """Do not reply."""
    KEEP = 4
    """Keep the buffers, until LET_GO."""
    LET_GO = 5
    EVENTS = 6
    """Publish ``object_id`` samples that carry their index, waiting for room, to subscription 5; then reply."""
    FRAMES = 7
    """Publish ``object_id`` frames out of a pool of 8, dropping what has no room; reply with how many were sent.
    "paced": each when the one before it has been read."""
    LOANS = 8
    """Reply with how many buffers are lent to this client."""
    POOLED = 9
    """Reply with a frame of ``object_id`` bytes out of a pool; its first word is its address."""
    FORK = 10
    """Fork a child that lives on; reply with its pid."""
    ONEWAYS = 11
    """Reply with how many ONEWAYs have come."""
    BUSY = 12
    """Compute for a while without letting go of the GIL by itself; then echo."""


class Server:
    """A Receiver that does what ``Do`` says."""

    def __init__(self) -> None:
        self.kept: list[Sequence[Buffer]] = []
        self.oneways: Counter[int] = Counter()
        self.closed_links: list[BaseException] = []
        self.pools: dict[int, FramePool] = {}
        self.lock = threading.Lock()

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        link = source
        kind, _, _, member, call_id, object_id, _, _, _ = fields
        if kind != Kind.CALL:
            self.oneways[int(kind)] += 1
            return None

        def run() -> None:
            self.serve(link, member, call_id, object_id, bytes(header), buffers)  # type: ignore[arg-type]

        return run

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self.closed_links.append(reason)

    def serve(
        self, link: Link, member: int, call_id: int, object_id: int, header: bytes, buffers: Sequence[Buffer]
    ) -> None:
        result: Sequence[Buffer] = ()
        match member:
            case Do.ECHO:
                result = buffers
            case Do.SLEEP:
                time.sleep(float(header))
                result = buffers
            case Do.NEVER:
                return
            case Do.KEEP:
                self.kept.append(buffers)
            case Do.LET_GO:
                self.kept.clear()
            case Do.EVENTS:
                header = self.events(link, object_id)
            case Do.FRAMES:
                header = self.frames(link, object_id, paced=bytes(header) == b"paced")
            case Do.LOANS:
                header = str(len(link._lent.loans)).encode()  # type: ignore[attr-defined]
            case Do.POOLED:
                result = [self.pooled(object_id)]
            case Do.FORK:
                header = str(fork()).encode()
            case Do.ONEWAYS:
                header = str(self.oneways[Kind.ONEWAY]).encode()
            case Do.BUSY:
                end = time.monotonic() + float(header)
                while time.monotonic() < end:
                    pass
        link.reply(Kind.RESULT, 0, call_id, header, result)

    def events(self, link: Link, count: int) -> bytes:
        for index in range(1, count + 1):
            payload = Payload(WORD.pack(index), ())
            while not link.publish(Kind.SAMPLE, 5, index, index, payload):
                if link.closed:
                    return b""
                time.sleep(0.0005)
        return str(count).encode()

    def frames(self, link: Link, count: int, paced: bool) -> bytes:
        pool = FramePool(1 << 20, "u1", 8)
        sent = 0
        for sequence in range(1, count + 1):
            frame = pool.acquire_nowait()
            if frame is None:
                continue
            frame[:] = sequence & 0xFF
            frame[:8] = np.frombuffer(WORD.pack(sequence), "u1")
            sent += link.publish(Kind.SAMPLE, 5, sequence, sent + 1, Payload(b"", [frame]))
            del frame
            if paced:
                wait_until(lambda: link._events.consumed)  # type: ignore[attr-defined]
        return f"{sent} {pool.skipped}".encode()

    def pooled(self, nbytes: int) -> Buffer:
        with self.lock:
            pool = self.pools.setdefault(nbytes, FramePool(nbytes, "u1", 4))
        frame = pool.acquire(5.0)
        frame[:] = 7
        frame[:8] = np.frombuffer(WORD.pack(frame.__array_interface__["data"][0]), "u1")
        return frame


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        reset_after_fork()
        time.sleep(1000)
    return pid


class Silent:
    """A Receiver that notes what comes."""

    def __init__(self) -> None:
        self.samples: list[tuple[Fields, Sequence[Buffer]]] = []
        self.lost: list[BaseException] = []

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        self.samples.append((fields, buffers))
        return None

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self.lost.append(reason)


def warm_up(workers: Workers) -> None:
    """Start the two workers that a process keeps, so that they do not look like a leak."""
    barrier = threading.Barrier(3)
    for _ in range(2):
        workers.post(lambda: barrier.wait(20))
    barrier.wait(20)


def own(node_id: str) -> Peer:
    return Peer(node_id, os.getpid(), "testhost")


def serve(path: str) -> None:
    server = ShmServer(path, own(NODE), Workers("server"), Server())
    print("READY", flush=True)
    for line in sys.stdin:
        if line.strip() == "links":
            print("LINKS", len(server.links), len(arena.process_arena()._classes), flush=True)
    server.close()


def call(path: str, member: str, header: str) -> None:
    """One call; says how it went."""
    connection = channel.connect(path, own("clientnode"), NODE, Workers("client"), Silent())
    print("READY", flush=True)
    try:
        print("REPLY", connection.call(0, int(member), 0, 0, header.encode(), (), None).header, flush=True)
    except KeyboardInterrupt:
        print("INTERRUPTED", flush=True)
        reply = connection.call(0, Do.ECHO, 0, 0, b"again", (), 5.0)
        print("REPLY", reply.header, connection._pending, flush=True)


def hold(path: str, count: str) -> None:
    """Hold ``count`` frames until killed."""
    connection = channel.connect(path, own("clientnode"), NODE, Workers("client"), Silent())
    held = [connection.call(0, Do.POOLED, 1 << 20, 0, b"", (), 5.0).buffers for _ in range(int(count))]
    print("READY", len(held), flush=True)
    sys.stdin.read()


def connect_many(path: str, count: str) -> None:
    """Open channels, and say how many descriptors they have taken in this process."""
    workers = Workers("client")
    warm = channel.connect(path, own("warm"), NODE, workers, Silent())
    warm.call(0, Do.SLEEP, 0, 0, b"0.01", (), 20.0)
    before = len(os.listdir("/proc/self/fd"))
    print("READY", flush=True)
    sys.stdin.readline()
    channels = [channel.connect(path, own(f"client{index}"), NODE, workers, Silent()) for index in range(int(count))]
    echoed = [connection.call(0, Do.ECHO, 0, 0, b"x", (), 20.0).header for connection in channels]
    print("DESCRIPTORS", len(os.listdir("/proc/self/fd")) - before, len(echoed), flush=True)
    sys.stdin.read()


def listen(path: str) -> None:
    """Have frames published to this process for ever."""
    connection = channel.connect(path, own("clientnode"), NODE, Workers("client"), Silent())
    connection.submit(0, Do.EVENTS, 1 << 60, 0, b"", (), lambda reply: None)
    print("READY", flush=True)
    sys.stdin.read()


def relay(path: str, onward: str) -> None:
    """Get a frame from one server and pass it on to another; compare addresses and bytes."""
    workers = Workers("client")
    first = channel.connect(path, own("clientnode"), NODE, workers, Silent())
    second = channel.connect(onward, own("clientnode"), NODE, workers, Silent())
    (frame,) = first.call(0, Do.POOLED, 1 << 20, 0, b"", (), 5.0).buffers
    arena.process_arena()
    second.call(0, Do.KEEP, 0, 0, b"", [frame], 5.0)
    owned = arena.process_arena().owned
    (loan,) = second._lent.loans.values()
    assert loan.holder is frame
    del loan, frame
    gc.collect()
    print("OWNED", owned, flush=True)
    sys.stdin.readline()
    second.call(0, Do.LET_GO, 0, 0, b"", (), 5.0)
    sys.stdin.read()


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {
        "serve": serve, "call": call, "connect_many": connect_many, "hold": hold, "listen": listen, "relay": relay,
    }  # fmt: skip
    roles[sys.argv[1]](*sys.argv[2:])
