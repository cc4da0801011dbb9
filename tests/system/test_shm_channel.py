"""Channels over shared memory between real processes: calls, arrays, events, leases."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from heros import limits
from heros.buffers import Buffer
from heros.exceptions import CallTimeout, PeerLost, RemoteTransportError
from heros.transport import Payload, Reply
from heros.wire import Kind
from heros.workers import Workers
from tests.harness import Child, wait_until
from tests.oracle import Oracle

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

from heros.shm import FramePool, views
from heros.shm.arena import process_arena
from heros.shm.channel import ShmChannel, connect
from heros.shm.server import ShmServer
from tests.system.shm_peer import NODE, WORD, Do, Server, Silent, own, warm_up

PEER = Path(__file__).with_name("shm_peer.py")


@pytest.fixture
def server(path: str) -> Iterator[Child]:
    with Child(PEER, "serve", path) as child:
        child.ready()
        yield child


@pytest.fixture
def receiver() -> Silent:
    return Silent()


@pytest.fixture
def channel(server: Child, path: str, workers: Workers, receiver: Silent) -> Iterator[ShmChannel]:
    connection = connect(path, own("clientnode"), NODE, workers, receiver)
    yield connection
    connection.close()
    assert connection.caught == 0


def call(
    channel: ShmChannel,
    member: int,
    header: bytes = b"",
    buffers: Sequence[Buffer] = (),
    timeout: float | None = 20.0,
    number: int = 0,
) -> Reply:
    return channel.call(0, member, number, 0, header, buffers, timeout)


def content(buffer: Buffer) -> bytes:
    return bytes(memoryview(buffer))  # type: ignore[arg-type]


# -- calls ------------------------------------------------------------------------------------------------------


def test_the_peers_know_each_other(channel: ShmChannel, server: Child) -> None:
    assert channel.peer == (NODE, server.pid, "testhost")
    assert channel.transport == "shm"
    assert not channel.closed


def test_calls_return_what_was_sent(channel: ShmChannel) -> None:
    for length in [0, 1, 100, 30_000, 40_000, 1_000_000]:
        header = os.urandom(length)
        reply = call(channel, Do.ECHO, header)
        assert reply.header == header
        assert reply.fields[0] == Kind.RESULT


@pytest.mark.parametrize("sizes", [[1], [4096], [4097], [256 * 1024], [8 << 20], [64 << 20], [0, 5, 9000, 3, 100_000]])
def test_buffers_travel_both_ways(channel: ShmChannel, sizes: list[int]) -> None:
    buffers = [np.random.default_rng(size).integers(0, 255, size, dtype="u1") for size in sizes]
    for _ in range(3):
        reply = call(channel, Do.ECHO, b"x", buffers)
        assert [content(buffer) for buffer in reply.buffers] == [buffer.tobytes() for buffer in buffers]
    del reply
    wait_until(lambda: call(channel, Do.LOANS).header == b"0", what="the server's buffers are given back")
    wait_until(lambda: not channel._lent.loans, what="the client's buffers are given back")


def test_more_calls_than_a_ring_holds(channel: ShmChannel) -> None:
    replies: queue.Queue[Reply | BaseException] = queue.Queue()
    count = 5000
    for index in range(count):
        channel.submit(0, Do.ECHO, 0, 0, WORD.pack(index) + b"." * 300, (), replies.put)
    seen = set()
    for _ in range(count):
        reply = replies.get(timeout=30)
        assert isinstance(reply, Reply)
        seen.add(WORD.unpack(bytes(reply.header[:8]))[0])
    assert seen == set(range(count))


def test_eight_threads_call_at_once(channel: ShmChannel) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for index in range(300):
                header = f"{number} {index}".encode()
                buffers = [np.full(10_000, number, "u1")] if index % 10 == 0 else []
                reply = call(channel, Do.ECHO, header, buffers)
                assert reply.header == header
                assert [content(buffer) for buffer in reply.buffers] == [content(buffer) for buffer in buffers]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert not channel._pending


def test_a_slow_call_delays_no_other(channel: ShmChannel) -> None:
    done = threading.Event()

    def wait() -> None:
        call(channel, Do.SLEEP, b"1.5")
        done.set()

    slow = threading.Thread(target=wait)
    slow.start()
    wait_until(lambda: channel._reading)
    for _ in range(200):
        call(channel, Do.ECHO, b"fast")
    assert not done.is_set()
    slow.join(20)
    assert done.is_set()


def test_sleeping_callers_are_woken(channel: ShmChannel) -> None:
    for _ in range(20):
        assert call(channel, Do.SLEEP, b"0.005").header == b"0.005"


def test_submit_beside_sleeping_callers(channel: ShmChannel) -> None:
    replies: queue.Queue[Reply | BaseException] = queue.Queue()
    for _ in range(20):
        channel.submit(0, Do.SLEEP, 0, 0, b"0.02", (), replies.put)
        call(channel, Do.SLEEP, b"0.005")
        assert isinstance(replies.get(timeout=20), Reply)
    forgotten = channel.submit(0, Do.SLEEP, 0, 0, b"0.05", (), replies.put)
    channel.forget(forgotten)
    call(channel, Do.SLEEP, b"0.1")
    assert replies.empty()


def test_a_timeout_leaves_the_channel_usable(channel: ShmChannel) -> None:
    with pytest.raises(CallTimeout, match=NODE):
        call(channel, Do.SLEEP, b"0.2", timeout=0.02)
    for _ in range(5):
        assert call(channel, Do.SLEEP, b"0.1").header == b"0.1"  # the late reply is discarded by its id
    with pytest.raises(CallTimeout):
        call(channel, Do.NEVER, timeout=0.0)
    assert not channel._pending


def test_a_parked_caller_times_out_alone(channel: ShmChannel) -> None:
    slow = threading.Thread(target=lambda: call(channel, Do.SLEEP, b"0.5"))
    slow.start()
    wait_until(lambda: channel._reading)
    with pytest.raises(CallTimeout):
        call(channel, Do.NEVER, timeout=0.05)
    slow.join(20)
    assert call(channel, Do.ECHO, b"x").header == b"x"


def test_posts_arrive_also_just_before_the_end(server: Child, path: str, workers: Workers) -> None:
    first = connect(path, own("a"), NODE, workers, Silent())
    for _ in range(1000):
        first.post(Kind.ONEWAY, 1, 0, 0, 0, b"header", [np.zeros(5000, "u1")])
    first.close()
    second = connect(path, own("b"), NODE, workers, Silent())
    wait_until(lambda: call(second, Do.ONEWAYS).header == b"1000", what="every ONEWAY has arrived")
    second.close()


def test_ctrl_c_leaves_the_channel_usable(server: Child, path: str) -> None:
    with Child(PEER, "call", path, int(Do.SLEEP), "1") as client:
        client.ready()
        wait_until(lambda: "S" in Path(f"/proc/{client.pid}/stat").read_text().rpartition(")")[2][:3])
        client.interrupt()
        client.expect("INTERRUPTED")
        assert client.expect("REPLY") == "b'again' {}"


def test_use_after_close(channel: ShmChannel, receiver: Silent) -> None:
    channel.close()
    channel.close()
    assert channel.closed
    with pytest.raises(PeerLost):
        call(channel, Do.ECHO)
    with pytest.raises(PeerLost):
        channel.submit(0, Do.ECHO, 0, 0, b"", (), lambda reply: None)
    with pytest.raises(PeerLost):
        channel.post(Kind.ONEWAY, 0, 0, 0, 0)
    wait_until(lambda: receiver.lost)
    assert len(receiver.lost) == 1


def test_close_ends_waiting_calls(channel: ShmChannel) -> None:
    outcome: queue.Queue[object] = queue.Queue()

    def wait() -> None:
        try:
            outcome.put(call(channel, Do.NEVER, timeout=None))
        except PeerLost as error:
            outcome.put(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    channel.submit(0, Do.NEVER, 0, 0, b"", (), outcome.put)
    wait_until(lambda: channel._reading and len(channel._pending) == 3)
    channel.close()
    for _ in range(4):
        assert isinstance(outcome.get(timeout=20), PeerLost)
    for thread in threads:
        thread.join(20)


# -- events -----------------------------------------------------------------------------------------------------


def test_events_arrive_in_order(channel: ShmChannel, receiver: Silent) -> None:
    count = 100_000
    call(channel, Do.EVENTS, number=count, timeout=100)
    wait_until(lambda: len(receiver.samples) == count, deadline=30)
    assert [fields[5] for fields, _ in receiver.samples] == list(range(1, count + 1))


def test_a_call_does_not_make_a_worker_forget_that_it_was_rung_for_samples(
    channel: ShmChannel, receiver: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_socket = channel._read_socket
    beside: list[BaseException | None] = []

    def read_socket_beside_a_call() -> BaseException | None:
        gone = read_socket()  # of the doorbell, among others
        if not beside:
            beside.append(gone)
            call(channel, Do.ECHO)
        return gone

    monkeypatch.setattr(channel, "_read_socket", read_socket_beside_a_call)
    call(channel, Do.EVENTS, number=1)
    wait_until(lambda: receiver.samples)
    assert beside == [None]


def test_frames_are_dropped_rather_than_mixed(channel: ShmChannel, receiver: Silent) -> None:
    sent, _skipped = map(int, call(channel, Do.FRAMES, number=300, timeout=60).header.split())  # type: ignore[union-attr]
    wait_until(lambda: len(receiver.samples) == sent)
    assert sent > 0
    for fields, (frame,) in receiver.samples:
        data = content(frame)
        assert WORD.unpack(data[:8])[0] == fields[5]
        assert set(data[8:]) == {fields[5] & 0xFF}


def test_a_hoarder_does_not_starve_the_publisher(channel: ShmChannel, receiver: Silent) -> None:
    # The receiver keeps every sample for ever; half the pool at most stays with it, the rest it gets as copies.
    for _ in range(3):
        before = len(receiver.samples)
        sent, _skipped = map(int, call(channel, Do.FRAMES, b"paced", number=100, timeout=60).header.split())  # type: ignore[union-attr]
        wait_until(lambda: len(receiver.samples) == before + sent)  # noqa: B023
        assert sent > 4
    shared = [frame for _, (frame,) in receiver.samples if isinstance(frame, np.ndarray)]
    assert len(shared) <= 3 * 4


# -- memory -----------------------------------------------------------------------------------------------------


def mapped(buffer: Buffer) -> str:
    """The line of /proc/self/maps that an array lies in."""
    assert isinstance(buffer, np.ndarray)
    address = buffer.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= address < last:
            return line
    return ""


def test_a_pooled_frame_arrives_without_a_copy(channel: ShmChannel) -> None:
    (frame,) = call(channel, Do.POOLED, number=8 << 20).buffers
    line = mapped(frame)
    assert "heros-arena" in line
    assert line.split()[1] == "r--s"
    assert isinstance(frame, np.ndarray)
    assert not frame.flags.writeable
    assert (frame[8:] == 7).all()
    found = views.find(frame)
    assert found is not None
    # What the server wrote at the place where its own array lies is what this process sees at the same offset.
    assert WORD.unpack(content(frame)[:8])[0] % 4096 == frame.__array_interface__["data"][0] % 4096


def test_views_give_their_frames_back(channel: ShmChannel) -> None:
    for _ in range(20):
        (frame,) = call(channel, Do.POOLED, number=1 << 20).buffers
        part = frame[100:]  # type: ignore[index]
        del frame
        assert (part == 7).all()  # type: ignore[union-attr]
        del part


def test_leases_come_back_without_further_calls(path: str, workers: Workers) -> None:
    serving = Workers("server")
    server = ShmServer(path, own(NODE), serving, Server())
    channel = connect(path, own("clientnode"), NODE, workers, Silent())
    (frame,) = call(channel, Do.POOLED, number=1 << 20).buffers
    (link,) = server.links
    assert len(link._lent.loans) == 1
    del frame
    wait_until(lambda: not link._lent.loans, what="the frame is given back")
    pool = FramePool(1 << 20, "u1", 1)
    sent = pool.acquire()
    call(channel, Do.KEEP, buffers=[sent])
    del sent
    assert pool.acquire_nowait() is None
    server._receiver.kept.clear()  # type: ignore[attr-defined]
    assert pool.acquire(timeout=20).flags.writeable
    channel.close()
    server.close()
    serving.stop()


def test_what_was_sent_is_frozen(channel: ShmChannel) -> None:
    pool = FramePool((100, 100), "f4", 2)
    frame = pool.acquire()
    frame[:] = 3
    call(channel, Do.ECHO, buffers=[frame])
    with pytest.raises(ValueError, match="read-only"):
        frame[0, 0] = 1
    ordinary = np.zeros(100_000, "u1")
    call(channel, Do.ECHO, buffers=[ordinary])
    ordinary[0] = 1


def test_an_array_is_passed_on_without_a_copy(server: Child, path: str) -> None:
    with Child(PEER, "serve", path + "2") as second:
        second.ready()
        with Child(PEER, "relay", path, path + "2") as client:
            assert client.expect("OWNED") == "0"
            client.say("go on")


def test_argument_buffers_are_freed_when_the_server_dies(channel: ShmChannel, server: Child, receiver: Silent) -> None:
    pool = FramePool(100_000, "u1", 1)
    frame = pool.acquire()
    call(channel, Do.KEEP, buffers=[frame])
    del frame
    assert pool.acquire_nowait() is None
    server.kill9()
    assert pool.acquire(timeout=20).shape == (100_000,)
    wait_until(lambda: receiver.lost)


def test_views_outlive_server_and_channel(channel: ShmChannel, server: Child) -> None:
    (frame,) = call(channel, Do.POOLED, number=1 << 20).buffers
    server.kill9()
    channel.close()
    assert (frame[8:] == 7).all()  # type: ignore[index, union-attr]


def test_a_payload_is_staged_once_for_all_links(path: str, workers: Workers) -> None:
    serving = Workers("server")
    server = ShmServer(path, own(NODE), serving, Server())
    receivers = [Silent(), Silent()]
    channels = [
        connect(path, own(f"client{index}"), NODE, workers, receiver) for index, receiver in enumerate(receivers)
    ]
    wait_until(lambda: len(server.links) == 2)
    before = process_arena().owned
    payload = Payload(b"", [np.arange(3 << 20, dtype="u1")])
    for link in server.links:
        assert link.publish(Kind.SAMPLE, 1, 1, 1, payload)
    loans = [loan for link in server.links for loan in link._lent.loans.values()]
    assert len(loans) == 2
    assert loans[0] is loans[1]
    assert process_arena().owned <= before + limits.SEGMENT_BYTES
    del loans
    for receiver in receivers:
        wait_until(lambda: receiver.samples)  # noqa: B023
        assert content(receiver.samples[0][1][0]) == payload.buffers[0].tobytes()  # type: ignore[union-attr]
    for channel in channels:
        channel.close()
    server.close()
    serving.stop()


# -- descriptors, threads, connections --------------------------------------------------------------------------


def test_a_channel_takes_three_descriptors_a_side(server: Child, path: str) -> None:
    # The client is a process of its own: in this one the channels of earlier tests may still be closing.
    with Child(PEER, "connect_many", path, "50") as client:
        client.ready()
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        client.say("go")
        assert client.expect("DESCRIPTORS") == "150 50"
        assert len(os.listdir(f"/proc/{server.pid}/fd")) - before == 150


def test_two_hundred_connections_leave_nothing(server: Child, path: str, workers: Workers) -> None:
    def visit() -> None:
        receiver = Silent()
        channel = connect(path, own("visitor"), NODE, workers, receiver)
        call(channel, Do.ECHO, b"x", [np.zeros(100_000, "u1")])
        channel.close()
        wait_until(lambda: receiver.lost)

    warm_up(workers)
    for _ in range(5):
        visit()
    oracle = Oracle(pids=[server.pid])
    for _ in range(200):
        visit()
    oracle.check(deadline=30)  # workers that were needed for a moment stay for ten seconds


def test_nobody_there(path: str, workers: Workers) -> None:
    with pytest.raises(RemoteTransportError, match="no shared memory"):
        connect(path, own("clientnode"), NODE, workers, Silent())


def test_another_node_than_expected(server: Child, path: str, workers: Workers) -> None:
    with pytest.raises(RemoteTransportError, match="another node"):
        connect(path, own("clientnode"), "someoneelse", workers, Silent())


def test_a_server_that_closes_takes_its_path_along(path: str, workers: Workers) -> None:
    serving = Workers("server")
    server = ShmServer(path, own(NODE), serving, Server())
    receiver = Silent()
    channel = connect(path, own("clientnode"), NODE, workers, receiver)
    with pytest.raises(RemoteTransportError, match="cannot listen"):
        ShmServer(path, own(NODE), serving, Server())
    wait_until(lambda: server.links)
    server.close()
    server.close()
    assert not os.path.exists(path)
    wait_until(lambda: receiver.lost)
    assert "closing" in str(receiver.lost[0])
    with pytest.raises(PeerLost):
        call(channel, Do.ECHO)
    assert server.links == []
    serving.stop()


def test_a_caller_that_gave_up_is_not_given_the_role(channel: ShmChannel) -> None:
    """Of two that wait while a third reads, one gives up; when the third is done, the other must get the role."""
    replies: list[bytes | memoryview] = []

    def ask(seconds: bytes) -> threading.Thread:
        thread = threading.Thread(target=lambda: replies.append(call(channel, Do.SLEEP, seconds, timeout=10.0).header))
        thread.start()
        return thread

    threads = [ask(b"0.5")]
    wait_until(lambda: channel._reading)
    threads.append(ask(b"1.0"))
    wait_until(lambda: channel._parked)
    with pytest.raises(CallTimeout):
        call(channel, Do.NEVER, timeout=0.05)
    for thread in threads:
        thread.join(20)
    assert len(replies) == 2
    assert not channel._pending
