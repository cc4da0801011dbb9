"""What a channel over shared memory survives: peers that die, stop, lie and flood."""

from __future__ import annotations

import array
import gc
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from heros import limits
from heros.exceptions import CallTimeout, OutOfSharedMemory, PeerLost, RemoteTransportError
from heros.transport import Payload
from heros.wire import FRAME, Kind
from heros.workers import Workers
from tests.harness import Child, wait_until
from tests.oracle import Oracle, holdings

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

from heros.shm import FramePool, handshake, layout, segment
from heros.shm.arena import Arena, process_arena
from heros.shm.channel import ShmChannel, connect
from heros.shm.server import ShmLink, ShmServer
from tests.system.shm_peer import NODE, Do, Server, Silent, own, warm_up

PEER = Path(__file__).with_name("shm_peer.py")


@pytest.fixture
def child(path: str) -> Iterator[Child]:
    """A server in another process."""
    with Child(PEER, "serve", path) as process:
        process.ready()
        yield process


@pytest.fixture
def server(path: str) -> Iterator[ShmServer]:
    """A server in this process."""
    group = Workers("server")
    listening = ShmServer(path, own(NODE), group, Server())
    yield listening
    listening.close()
    group.stop()


def serving(server: ShmServer) -> Server:
    receiver = server._receiver
    assert isinstance(receiver, Server)
    return receiver


def only_link(server: ShmServer) -> ShmLink:
    wait_until(lambda: len(server.links) == 1)
    return server.links[0]


def dial(path: str, workers: Workers) -> ShmChannel:
    return connect(path, own("clientnode"), NODE, workers, Silent())


def still_serves(path: str, workers: Workers) -> None:
    other = dial(path, workers)
    assert other.call(0, Do.ECHO, 0, 0, b"fine", (), 20).header == b"fine"
    other.close()


# -- death ------------------------------------------------------------------------------------------------------


def kill_in_mid_call(path: str, workers: Workers) -> None:
    with Child(PEER, "serve", path) as child:
        child.ready()
        receiver = Silent()
        channel = connect(path, own("clientnode"), NODE, workers, receiver)
        channel.call(0, Do.POOLED, 1 << 20, 0, b"", (), 20)
        outcomes: list[object] = []

        def wait() -> None:
            try:
                channel.call(0, Do.NEVER, 0, 0, b"", [np.zeros(100_000, "u1")], None)
            except PeerLost as error:
                outcomes.append(error)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        channel.submit(0, Do.NEVER, 0, 0, b"", (), outcomes.append)
        wait_until(lambda: channel._reading and len(channel._pending) == 3)
        child.kill9()
        wait_until(lambda: len(outcomes) == 4)
        for thread in threads:
            thread.join(20)
        assert all(isinstance(outcome, PeerLost) and NODE in str(outcome) for outcome in outcomes)
        wait_until(lambda: receiver.lost)
        assert len(receiver.lost) == 1
        os.unlink(path)


def test_kill_the_server_in_mid_call(path: str, workers: Workers) -> None:
    warm = Path(path).with_name("warm")
    with Child(PEER, "serve", warm) as child:
        child.ready()
        still_serves(str(warm), workers)
    process_arena().allocate(100_000)  # what a process has once, it keeps
    warm_up(workers)
    oracle = Oracle()
    for _ in range(5):
        kill_in_mid_call(path, workers)
    gc.collect()  # the exceptions above refer to the frames that caught them
    oracle.check(deadline=20)


def test_kill_a_client_that_holds_frames(server: ShmServer, path: str) -> None:
    for _ in range(5):
        with Child(PEER, "hold", path, 4) as client:
            client.ready()
            link = only_link(server)
            (pool,) = serving(server).pools.values()
            wait_until(lambda: len(link._lent.loans) == 2)  # noqa: B023  # half the pool; it got the rest as copies
            frames = [pool.acquire(timeout=20) for _ in range(2)]
            assert pool.acquire_nowait() is None
            del frames
            client.kill9()
            frames = [pool.acquire(timeout=20) for _ in range(4)]
            del frames
        wait_until(lambda: not server.links)
    assert len(serving(server).closed_links) == 5


def test_kill_a_client_that_is_being_published_to(server: ShmServer, path: str, workers: Workers) -> None:
    for _ in range(5):
        with Child(PEER, "listen", path) as client:
            client.ready()
            link = only_link(server)
            client.kill9()
            wait_until(lambda: link.closed)  # noqa: B023
        wait_until(lambda: not server.links)
    still_serves(path, workers)


def test_what_a_dead_server_has_published_still_arrives(path: str, workers: Workers) -> None:
    for _ in range(5):
        receiver = Silent()
        with Child(PEER, "serve", path) as child:
            child.ready()
            channel = connect(path, own("clientnode"), NODE, workers, receiver)
            channel.submit(0, Do.EVENTS, 1 << 60, 0, b"", (), lambda reply: None)
            wait_until(lambda: len(receiver.samples) > 1000)  # noqa: B023
            child.kill9()
            wait_until(lambda: receiver.lost)  # noqa: B023
        count = len(receiver.samples)
        assert [fields[5] for fields, _ in receiver.samples] == list(range(1, count + 1))
        os.unlink(path)


def test_a_forked_child_does_not_hide_the_death_of_its_parent(path: str, workers: Workers) -> None:
    with Child(PEER, "serve", path) as child:
        child.ready()
        channel = dial(path, workers)
        forked = int(channel.call(0, Do.FORK, 0, 0, b"", (), 20).header)
        try:
            assert channel.call(0, Do.ECHO, 0, 0, b"unharmed", (), 20).header == b"unharmed"
            wait_until(lambda: not any("socket" in what for what in holdings(forked)), what="the child lets go")
            child.kill9()
            wait_until(lambda: channel.closed)
        finally:
            os.kill(forked, 9)


# -- stopped processes ------------------------------------------------------------------------------------------


def test_a_stopped_server_is_not_a_dead_one(child: Child, path: str, workers: Workers) -> None:
    channel = dial(path, workers)
    child.stop()
    with pytest.raises(CallTimeout):
        channel.call(0, Do.ECHO, 0, 0, b"late", (), 0.1)
    while channel._requests.send(layout.FRAME, FRAME.pack(Kind.ONEWAY, 0, 0, 0, 0, 0, 0, 20_000, 0) + b"." * 20_000):
        pass
    with pytest.raises(CallTimeout, match="takes no requests"):
        channel.call(0, Do.ECHO, 0, 0, b"." * 20_000, (), 0.01)
    assert not channel.closed
    child.cont()
    assert channel.call(0, Do.ECHO, 0, 0, b"now", (), 20).header == b"now"
    assert not channel._pending
    channel.close()


def test_a_full_ring_takes_submitted_calls_later(child: Child, path: str, workers: Workers) -> None:
    channel = dial(path, workers)
    child.stop()
    replies: list[object] = []
    for _ in range(100):
        channel.submit(0, Do.ECHO, 0, 0, b"." * 20_000, (), replies.append)
    child.cont()
    wait_until(lambda: len(replies) == 100, deadline=30)
    channel.close()


def test_a_stopped_client_blocks_nobody(server: ShmServer, path: str, workers: Workers) -> None:
    with Child(PEER, "call", path, int(Do.NEVER), "") as client:
        client.ready()
        link = only_link(server)
        client.stop()
        published = 0
        while link.publish(Kind.SAMPLE, 5, published, published, Payload(b"." * 1000, ())):
            published += 1
        assert published > 100
        while link.publish(Kind.SAMPLE, 5, published, published, Payload(b"", ())):
            published += 1
        pool = FramePool(1 << 16, "u1", 2)
        assert not link.publish(Kind.SAMPLE, 5, 0, 0, Payload(b"", [pool.acquire()]))
        assert pool.acquire(timeout=20) is not None
        still_serves(path, workers)
        for _ in range(2 * limits.QUEUED_BYTES // 20_000):
            link.reply(Kind.RESULT, 0, 77, b"." * 20_000, ())
            if link.closed:
                break
        assert link.closed  # it did not read its replies, up to the bound
        client.cont()
        still_serves(path, workers)


def test_a_stopped_reader_does_not_take_the_pool(server: ShmServer, path: str) -> None:
    with Child(PEER, "call", path, int(Do.NEVER), "") as client:
        client.ready()
        link = only_link(server)
        client.stop()
        pool = FramePool(1 << 16, "u1", 8)
        for sequence in range(100):
            link.publish(Kind.SAMPLE, 5, sequence, sequence, Payload(b"", [pool.acquire(timeout=20)]))
        assert len(link._lent.loans) == 4
        client.cont()


# -- lies -------------------------------------------------------------------------------------------------------


def corrupt(channel: ShmChannel, offset: int, value: int) -> None:
    """Store a word into this client's ring of requests, and ring."""
    ring = channel._requests
    if offset >= layout.DATA:
        ring._prefixes[(offset - layout.DATA) // 8] = value
    else:
        ring._control[offset // 8] = value
    channel._requests._bell()


@pytest.mark.parametrize(("offset", "value"), [(layout.TAIL, 1 << 40), (layout.TAIL, 12)])
def test_a_corrupt_counter_disconnects_that_peer_only(
    child: Child, path: str, workers: Workers, offset: int, value: int
) -> None:
    good, bad = dial(path, workers), dial(path, workers)
    corrupt(bad, offset, value)
    wait_until(lambda: bad.closed)
    with pytest.raises(PeerLost):
        bad.call(0, Do.ECHO, 0, 0, b"", (), 20)
    assert good.call(0, Do.ECHO, 0, 0, b"fine", (), 20).header == b"fine"
    good.close()
    still_serves(path, workers)


@pytest.mark.parametrize(
    "record",
    [
        (layout.FRAME, b"short"),
        (layout.FRAME, FRAME.pack(Kind.CALL, 0, 0, 1, 5, 0, 0, 1000, 0)),
        (layout.FRAME, FRAME.pack(Kind.CALL, 0, 0, 1, 5, 0, 0, 0, 0xFFFFFFFF)),
        (layout.FRAME, FRAME.pack(Kind.CALL, 0, 0, 1, 5, 0, 0, 0, 1) + layout.DESCRIPTOR.pack(99, 0, 0, 8, 1)),
        (layout.FRAME, FRAME.pack(Kind.RESULT, 0, 0, 1, 5, 0, 0, 0, 0)),
        (layout.FRAME, FRAME.pack(200, 0, 0, 1, 5, 0, 0, 0, 0)),
        (layout.RELEASE, b"123"),
        (layout.RELEASE, struct.pack("=Q", 12345)),
        (layout.SPILLED, b""),
        (99, b""),
    ],
)
def test_a_malformed_record_disconnects_that_peer_only(
    child: Child, path: str, workers: Workers, record: tuple[int, bytes]
) -> None:
    good, bad = dial(path, workers), dial(path, workers)
    bad._requests.send(*record)
    wait_until(lambda: bad.closed)
    assert good.call(0, Do.ECHO, 0, 0, b"fine", (), 20).header == b"fine"
    good.close()
    still_serves(path, workers)


def test_a_server_that_writes_nonsense_is_left(server: ShmServer, path: str, workers: Workers) -> None:
    channel = dial(path, workers)
    only_link(server)._replies._control[layout.TAIL // 8] = 1 << 50
    with pytest.raises(PeerLost):
        channel.call(0, Do.NEVER, 0, 0, b"", (), 20)
    still_serves(path, workers)


def test_a_segment_without_seals_disconnects(child: Child, path: str, workers: Workers) -> None:
    channel = dial(path, workers)
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 20)
    oracle = Oracle(pids=[child.pid])
    handshake.send(channel._socket, b"S" + struct.pack("=Q", 500), (fd,))
    os.close(fd)
    wait_until(lambda: channel.closed)
    still_serves(path, workers)
    oracle.check(deadline=20)


def disturb(path: str, workers: Workers, message: bytes, fds: tuple[int, ...]) -> None:
    channel = dial(path, workers)
    handshake.send(channel._socket, message, fds)
    wait_until(lambda: channel.closed)


def test_unexpected_messages_and_descriptors_disconnect(child: Child, path: str, workers: Workers) -> None:
    still_serves(path, workers)
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    oracle = Oracle(pids=[child.pid])
    for data, fds in [(b"?", ()), (b"Sxx", (fd,)), (b"R", (fd,)), (b"Rx", ()), (b"R", (fd,) * 253), (b"x" * 5000, ())]:
        disturb(path, workers, data, fds)
    still_serves(path, workers)
    oracle.check(deadline=20)
    os.close(fd)


# -- handshakes -------------------------------------------------------------------------------------------------


def knock(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(20)
    sock.connect(path)
    return sock


def introduction(**changes: object) -> bytes:
    return json.dumps({**handshake._introduction(own("clientnode")), **changes}).encode()


@pytest.mark.parametrize(
    "hello",
    [b"", b"{", b"[]", b"\xff" * 100, b"[" * 3000, introduction(node=5), introduction(node=""), b"x" * 10_000],
)
def test_a_malformed_hello_is_refused(child: Child, path: str, workers: Workers, hello: bytes) -> None:
    still_serves(path, workers)
    oracle = Oracle(pids=[child.pid])
    with knock(path) as sock:
        if hello:
            sock.send(hello)
        else:
            sock.shutdown(socket.SHUT_WR)
        assert sock.recv(4096) == b""
    still_serves(path, workers)
    oracle.check(deadline=20)


@pytest.mark.parametrize("change", [{"shm": 99}, {"protocol": 1}, {"byteorder": "middle"}, {"rings": [64, 64, 64]}])
def test_other_versions_are_refused_in_words(
    child: Child, path: str, workers: Workers, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    original = handshake._introduction
    monkeypatch.setattr(handshake, "_introduction", lambda peer: {**original(peer), **change})
    with pytest.raises(RemoteTransportError, match=r"refused: .{20,}"):
        dial(path, workers)
    monkeypatch.undo()
    still_serves(path, workers)


def test_a_wrong_nonce_is_refused(child: Child, path: str, workers: Workers) -> None:
    still_serves(path, workers)
    oracle = Oracle(pids=[child.pid])
    with knock(path) as sock:
        sock.send(introduction())
        _, fds = handshake.receive(sock, 3)
        handshake.close_all(fds)
        sock.send(b"0123456789abcdef")
        assert sock.recv(4096) == b""
    oracle.check(deadline=20)


def test_another_user_is_refused(
    server: ShmServer, path: str, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "_credentials", lambda sock: (1, os.geteuid() + 1))
    with pytest.raises(RemoteTransportError, match="belongs to user"):
        dial(path, workers)
    with knock(path) as sock:
        assert sock.recv(4096) == b""
    monkeypatch.undo()
    still_serves(path, workers)


def test_descriptors_in_a_hello_are_closed(child: Child, path: str, workers: Workers) -> None:
    still_serves(path, workers)
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    oracle = Oracle(pids=[child.pid])
    for count in [1, 100, 253]:
        with knock(path) as sock:
            content = array.array("i", [fd] * count)
            sock.sendmsg([introduction()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, content)])
            assert sock.recv(4096) == b""
    oracle.check(deadline=20)
    os.close(fd)


@pytest.mark.parametrize("last", [b"", b"not the nonce", b"n" * layout.NONCE_BYTES])
def test_a_client_that_fails_its_handshake_leaves_nothing(server: ShmServer, path: str, last: bytes) -> None:
    gc.collect()
    gc.disable()  # nothing waits for the collector, although the log keeps the error, and that its traceback
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with knock(path) as sock:
                handshake.send(sock, introduction())
                handshake.close_all(handshake.receive(sock, 3)[1])
                if last:
                    sock.send(last)
                    assert sock.recv(4096) == b""
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, what="no descriptor more than before")
    finally:
        gc.enable()


def test_a_flood_of_silent_clients(child: Child, path: str, workers: Workers) -> None:
    still_serves(path, workers)
    oracle = Oracle(pids=[child.pid])
    flood = [knock(path) for _ in range(100)]
    refused = 0
    for sock in flood:
        sock.settimeout(0.01)
        try:
            refused += sock.recv(4096) == b""
        except TimeoutError:
            pass
    assert refused >= 36
    wait_until(lambda: reachable(path, workers), what="the silent ones are dropped after their time")
    for sock in flood:
        sock.close()
    oracle.check(deadline=20)


def reachable(path: str, workers: Workers) -> bool:
    try:
        still_serves(path, workers)
    except RemoteTransportError:
        return False
    return True


def test_a_server_that_says_nothing(path: str, workers: Workers) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        oracle = Oracle()
        with pytest.raises(RemoteTransportError, match="did not answer"):
            connect(path, own("clientnode"), NODE, workers, Silent(), timeout=0.05)
        oracle.check()


def test_a_server_whose_memory_is_wrong(path: str, workers: Workers) -> None:
    sealed, _ = segment.create_shared("test", 8192)
    unsealed = os.memfd_create("test", os.MFD_CLOEXEC)
    os.ftruncate(unsealed, layout.channel_bytes(handshake._CAPACITIES))
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        oracle = Oracle()
        for fds in [(sealed,) * 3, (unsealed,) * 3, (null,) * 3, (sealed,), (), (null,) * 4]:

            def answer(fds: tuple[int, ...] = fds) -> None:
                sock, _ = listening.accept()
                with sock:
                    sock.recv(4096)
                    handshake.send(sock, introduction(node=NODE), fds)
                    sock.recv(4096)

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(RemoteTransportError, match="no shared memory"):
                dial(path, workers)
            thread.join(20)
        oracle.check()
    for fd in [sealed, unsealed, null]:
        os.close(fd)


# -- limits -----------------------------------------------------------------------------------------------------


def test_no_room_for_arguments_is_a_typed_error(child: Child, path: str, workers: Workers) -> None:
    channel = dial(path, workers)
    channel._arena = Arena(quota=1 << 20)
    with pytest.raises(OutOfSharedMemory):
        channel.call(0, Do.ECHO, 0, 0, b"", [np.zeros(4 << 20, "u1")], 20)
    assert not channel._pending
    assert not channel._lent.loans
    assert channel.call(0, Do.ECHO, 0, 0, b"fine", [np.zeros(100, "u1")], 20).header == b"fine"
    channel.close()


def threads_of(pid: int) -> dict[int, tuple[str, int]]:
    """The state (``S``: it sleeps) of each thread of a process, and how often it has gone to sleep."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        found[int(status.parent.name)] = fields["State"].split()[0], int(fields["voluntary_ctxt_switches"])
    return found


def test_idle_processes_sleep(child: Child, path: str, workers: Workers) -> None:
    """Nobody spins, and nobody wakes up more often than the safety net of a doorbell makes it."""
    channel = dial(path, workers)
    channel.call(0, Do.ECHO, 0, 0, b"", (), 20)
    ours = {thread.native_id for thread in threading.enumerate() if thread.name.startswith(workers._name)}
    assert ours

    def idle() -> dict[int, int]:
        """How often each thread has gone to sleep, once they all do."""
        threads = threads_of(child.pid) | {
            thread: known for thread, known in threads_of(os.getpid()).items() if thread in ours
        }
        asleep = all(state == "S" for state, _ in threads.values())
        return {thread: switches for thread, (_, switches) in threads.items()} if asleep else {}

    before = wait_until(idle, what="a thread that does not sleep")
    time.sleep(1.0)  # in which nothing is to happen
    after = wait_until(idle, what="a thread that does not sleep")
    assert sum(after.values()) - sum(before.get(thread, 0) for thread in after) < 20
    channel.close()
