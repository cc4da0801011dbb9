"""Calls and events over Zenoh between real processes: this one listens, the others connect to it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heros import limits, wire
from heros.exceptions import CallTimeout, HEROSError, HEROUnavailable, PeerLost, RemoteTransportError
from heros.net import keys
from heros.net.packets import CLIENT, REPLIES, head
from heros.net.packets import Kind as PacketKind
from heros.transport import Payload, Reply
from heros.wire import Kind
from tests.harness import wait_until
from tests.system.net_lab import Lab
from tests.system.net_peer import (
    ADD,
    CHECKSUM,
    ECHO,
    FAIL,
    LINKS,
    PAIR,
    PUBLISH,
    RESULT_OF,
    SLEEP,
    SUMS,
    Client,
    call,
    checksum,
    pattern,
)

pytestmark = pytest.mark.timeout(120)


def add(channel: Any, first: int = 2, second: int = 3, timeout: float | None = 30.0) -> int:
    result: int = PAIR.unpack(call(channel, ADD, PAIR.pack(first, second), timeout=timeout).header)[0]
    return result


def test_calls_errors_and_values(lab: Lab) -> None:
    server = lab.process("dev")
    channel, _ = lab.connect("dev")
    assert channel.transport == "net"
    assert channel.peer.node_id == server.node_id
    assert channel.peer.pid == server.pid
    assert add(channel, 20, 22) == 42
    reply = call(channel, FAIL)
    assert reply.fields[0] == Kind.ERROR
    assert bytes(reply.header) == b"it failed"
    arrays = [np.arange(10.0), b"", b"bytes", np.zeros((2, 3), order="F")]
    reply = call(channel, ECHO, b"header", arrays)
    assert bytes(reply.header) == b"header"
    assert [bytes(buffer) for buffer in reply.buffers] == [np.arange(10.0).tobytes(), b"", b"bytes", bytes(48)]
    channel.post(Kind.ACK, 0, 5, 17, 0)
    assert add(channel) == 5
    channel.close()
    with pytest.raises(PeerLost):
        add(channel)


@pytest.mark.parametrize("nbytes", [1, 100_000, 2 * limits.MIB, 2 * limits.MIB + 1, 64 * limits.MIB])
def test_large_arguments_and_results(lab: Lab, nbytes: int) -> None:
    lab.process("dev")
    channel, _ = lab.connect("dev")
    reply = call(channel, RESULT_OF, str(nbytes).encode())
    (result,) = reply.buffers
    assert np.array_equal(np.asarray(result), pattern(nbytes))
    assert not np.asarray(result).flags.writeable
    argument = pattern(nbytes).copy()
    expected = checksum([argument, argument])
    reply = call(channel, CHECKSUM, b"", [argument, argument])
    assert int(bytes(reply.header)) == expected
    channel.close()
    assert np.array_equal(np.asarray(result), pattern(nbytes))


def test_an_argument_is_the_callers_again_once_it_gives_up(lab: Lab) -> None:
    server = lab.process("dev")
    channel, _ = lab.connect("dev")
    argument = pattern(64 * limits.MIB).copy()
    right = checksum([argument])
    server.stop()
    with pytest.raises(CallTimeout):
        call(channel, CHECKSUM, b"", [argument], timeout=0.5)
    argument[:] = 0
    server.resume()
    assert add(channel) == 5
    argument[:] = pattern(argument.nbytes)
    assert int(bytes(call(channel, CHECKSUM, b"", [argument]).header)) == right
    assert set(json.loads(bytes(call(channel, SUMS).header))) == {right}


def test_concurrent_callers(lab: Lab) -> None:
    lab.process("dev")
    channel, _ = lab.connect("dev")

    def work(thread: int) -> None:
        for number in range(50):
            assert add(channel, thread, number) == thread + number
            if number % 10 == 0:
                reply = call(channel, RESULT_OF, str(3 * limits.MIB + thread).encode())
                assert len(reply.buffers[0]) == 3 * limits.MIB + thread

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_a_slow_call_does_not_delay_others(lab: Lab) -> None:
    lab.process("dev")
    channel, _ = lab.connect("dev")
    replies: list[Reply | BaseException] = []
    channel.submit(0, SLEEP, 1, 0, b"30", (), replies.append)
    assert add(channel) == 5
    assert not replies


def test_submit_and_forget(lab: Lab) -> None:
    lab.process("dev")
    channel, _ = lab.connect("dev")
    replies: list[Reply | BaseException] = []
    for number in range(200):
        channel.submit(0, ADD, 1, 0, PAIR.pack(number, 1), (), replies.append)
    wait_until(lambda: len(replies) == 200)
    assert sorted(PAIR.unpack(reply.header)[0] for reply in replies if isinstance(reply, Reply)) == list(range(1, 201))
    forgotten: list[Reply | BaseException] = []
    channel.forget(channel.submit(0, SLEEP, 1, 0, b"0.01", (), forgotten.append))
    call(channel, SLEEP, b"0.05")
    assert forgotten == []


@pytest.mark.parametrize(("count", "size"), [(20_000, 0), (300, limits.MIB), (20, 9 * limits.MIB)])
def test_events_arrive_in_order_and_none_is_lost_without_a_word(lab: Lab, count: int, size: int) -> None:
    server = lab.process("dev")
    channel, client = lab.connect("dev")
    call(channel, PUBLISH, json.dumps({"ident": 9, "count": count, "size": size, "reliable": False}).encode())
    assert client.done.wait(60)
    published, sent = server.ask("published", 9)
    samples = [frame for frame in client.frames if frame[0][0] == Kind.SAMPLE]
    assert published == count
    assert len(samples) == sent
    assert [fields[6] for fields, _, _ in samples] == list(range(1, sent + 1))
    assert [fields[5] for fields, _, _ in samples] == sorted({fields[5] for fields, _, _ in samples})
    assert all(int(header) == fields[5] for fields, header, _ in samples)
    assert {total for _, _, total in samples} <= {checksum([pattern(size)]) if size else 0}
    assert client.frames[-1][0][0] == Kind.END


@pytest.mark.parametrize(("count", "size"), [(1000, 0), (20, limits.MIB)])
def test_the_last_samples_of_a_program_that_ends_arrive(lab: Lab, count: int, size: int) -> None:
    server = lab.process("dev")
    channel, client = lab.connect("dev")
    assert add(channel) == 5
    assert server.popen.stdin is not None
    server.popen.stdin.write(json.dumps(["publish-and-exit", 9, count, size]).encode() + b"\n")
    server.popen.stdin.flush()
    assert server.popen.wait(30) == 7
    wait_until(lambda: client.ends)
    assert [fields[5] for fields, _, _ in client.frames if fields[0] == Kind.SAMPLE] == list(range(1, count + 1))
    assert client.frames[-1][0][0] == Kind.END


def test_a_stopped_subscriber_does_not_delay_the_publisher_or_others(lab: Lab) -> None:
    """FAULTS 6: the backlog is bounded, ``publish`` says so at once, and what was accepted arrives when it resumes."""
    reader = lab.process()
    lab.node.net.announce(lab.node.entry("camera"))
    reader.ask("connect", "camera")
    (link,) = wait_until(lambda: lab.node.net._ends.values())
    other = lab.process("dev")
    channel, _ = lab.connect("dev")
    reader.stop()
    results = [link.publish(Kind.SAMPLE, 1, n, n, Payload(b"x", [pattern(limits.MIB)])) for n in range(1, 201)]
    assert True in results
    assert False in results  # and perhaps True once more: its socket takes some for a while
    assert add(channel, timeout=10) == 5
    assert not link.closed
    reader.resume()
    wait_until(lambda: link._outbox.backlog == 0)
    assert link.publish(Kind.SAMPLE, 1, 201, 201, Payload(b"x", [pattern(limits.MIB)]))
    assert reader.ask("find", "dev", 5)
    assert other.popen.poll() is None


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not tell the names of threads")
def test_zenoh_has_threads_to_spare(lab: Lab) -> None:
    """A connection that is closed may keep one that sends, and one that receives, for seconds."""
    lab.process("dev")
    channel, _ = lab.connect("dev")
    assert add(channel) == 5
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert sum(name.startswith("tx-") for name in names) >= 4
    assert sum(name.startswith("rx-") for name in names) >= 4
    assert "ZENOH_RUNTIME" not in os.environ


def test_server_killed_in_a_call(lab: Lab) -> None:
    """FAULTS 2."""
    server = lab.process("dev")
    channel, client = lab.connect("dev")
    threading.Timer(0.3, server.kill).start()
    with pytest.raises(PeerLost, match="is gone"):
        call(channel, SLEEP, b"600", timeout=None)
    wait_until(lambda: client.ends)
    assert channel.closed
    assert len(client.ends) == 1
    with pytest.raises(PeerLost):
        channel.post(Kind.ACK, 0, 1, 1, 0)


def test_server_killed_while_it_sends(lab: Lab) -> None:
    """FAULTS 3: what is incomplete never arrives."""
    server = lab.process("dev")
    channel, client = lab.connect("dev")
    request = json.dumps({"ident": 1, "count": 10_000, "size": 5 * limits.MIB, "reliable": True}).encode()
    channel.submit(0, PUBLISH, 1, 0, request, (), lambda reply: None)
    wait_until(lambda: len(client.frames) >= 2)
    server.kill()
    wait_until(lambda: client.ends)
    count = len(client.frames)
    assert {total for _, _, total in client.frames} == {checksum([pattern(5 * limits.MIB)])}
    lab.process("other")
    lab.connect("other")  # a round trip through the same session: what had come before it is there
    assert len(client.frames) == count  # nothing follows the end


def test_server_dead_before_the_call(lab: Lab) -> None:
    """FAULTS 1."""
    server = lab.process("dev")
    (entry,) = wait_until(lambda: lab.node.net.find("dev", 10))
    server.kill()
    wait_until(lambda: entry.node_id not in lab.node.net._alive)
    with pytest.raises(HEROUnavailable, match="gone"):
        lab.node.net.connect(entry, Client())


def test_client_killed(lab: Lab) -> None:
    """The link is closed, the receiver told once, and a half received message freed."""
    lab.node.net.announce(lab.node.entry("camera"))
    client = lab.process()
    client.ask("connect", "camera")
    assert client.ask("add", "camera", 1, 2) == 3
    client.ask("hang", "camera")
    server = lab.node.server
    (link,) = server.links
    client.kill()
    wait_until(lambda: server.ended == [link])
    assert link.closed
    link.reply(Kind.RESULT, 0, 1, b"", ())  # to a peer that is gone: nothing
    assert lab.node.net._ends == {}


def test_server_stopped_and_resumed(lab: Lab) -> None:
    """FAULTS 7: a time-out if one was set, and the late reply is discarded."""
    server = lab.process("dev")
    channel, client = lab.connect("dev")
    assert add(channel) == 5
    server.stop()
    with pytest.raises(CallTimeout, match="no reply"):
        add(channel, 1, 1, timeout=0.3)
    with pytest.raises(CallTimeout):  # also when zenoh's queue is full
        call(channel, CHECKSUM, b"", [pattern(64 * limits.MIB)], timeout=0.5)
    server.resume()
    assert add(channel, 4, 5) == 9
    assert not client.ends
    assert channel._pending == {}


def test_a_call_without_a_time_out_waits_for_a_stopped_server(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_PING_SECONDS", 0.05)
    server = lab.process("dev")
    channel, _ = lab.connect("dev")
    server.stop()
    threading.Timer(1.0, server.resume).start()
    assert add(channel, timeout=None) == 5


def test_close_with_pending_calls(lab: Lab) -> None:
    lab.process("dev")
    channel, client = lab.connect("dev")
    errors: list[BaseException] = []

    def hang() -> None:
        try:
            call(channel, SLEEP, b"600", timeout=None)
        except PeerLost as error:
            errors.append(error)

    threads = [threading.Thread(target=hang) for _ in range(4)]
    for thread in threads:
        thread.start()
    submitted: list[Reply | BaseException] = []
    channel.submit(0, SLEEP, 1, 0, b"600", (), submitted.append)
    wait_until(lambda: len(channel._pending) == 5)
    channel.close()
    channel.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 4
    wait_until(lambda: submitted)
    assert isinstance(submitted[0], PeerLost)
    assert len(client.ends) == 1
    again, _ = lab.connect("dev")
    links, ended = wait_until(lambda: _both(json.loads(bytes(call(again, LINKS).header)), [2, 1]))
    assert (links, ended) == (2, 1)


def _both(value: list[int], expected: list[int]) -> list[int] | None:
    return value if value == expected else None


def test_ctrl_c_ends_a_call(lab: Lab) -> None:
    """FAULTS 40."""
    lab.process("dev")
    channel, _ = lab.connect("dev")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        call(channel, SLEEP, b"600", timeout=None)
    assert add(channel) == 5
    assert channel._pending == {}


@pytest.mark.parametrize("how", ["exit", "exit-without-close"])
def test_a_process_with_pending_calls_exits_with_its_own_code(lab: Lab, how: str) -> None:
    server = lab.process("dev")
    client = lab.process()
    client.ask("connect", "dev")
    client.ask("hang", "dev")
    server.stop()  # not even a peer that does not read holds it up
    client.ask("flood", "dev")
    assert client.popen.stdin is not None
    client.popen.stdin.write(json.dumps([how]).encode() + b"\n")
    client.popen.stdin.flush()
    assert client.popen.wait(30) == 7


def test_garbage_does_not_harm(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "heros.net")
    lab.process("dev")
    channel, client = lab.connect("dev")
    network = lab.node.net
    key = keys.inbox(network.realm, lab.node.peer.node_id, CLIENT, channel.peer.node_id)
    fields = wire.FRAME.pack(Kind.SAMPLE, 0, 0, 0, 1, 0, 0, 0, 1 << 31)
    garbage = [
        b"",
        b"\xff" * 7,
        b"\xff" * 500,
        head(PacketKind.HELLO, 0, 1) + b"{",
        head(PacketKind.WELCOME, 1, 1) + b"\xff",
        head(PacketKind.BYE, 1, 4711),
        head(PacketKind.FRAMES, 1, 4711, 1),
        head(12, 1, 1),
        head(PacketKind.FRAMES, 1, channel.channel, 1 << 63),
        head(PacketKind.FRAMES, 1, channel.channel, 0) + bytes(8) + fields,
    ]
    for packet in garbage:
        network._bus.put(key, packet)
    assert add(channel) == 5
    assert client.frames == []
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1


def test_replies_that_nobody_waits_for_do_not_fill_the_mailbox(lab: Lab) -> None:
    """Anybody may send them, also to a node that calls nobody; and Zenoh waits for room in the mailbox."""
    server = lab.process("dev")
    channel, _ = lab.connect("dev")
    key = keys.inbox(lab.realm, server.node_id, REPLIES, "stranger")
    for _ in range(3 * limits.NET_MAILBOX_PACKETS):
        lab.node.net._bus.put(key, bytes(2000))
    assert add(channel) == 5


def test_a_call_ends_with_its_peer_while_all_workers_wait(lab: Lab) -> None:
    """They may be waiting for the same peer."""
    server = lab.process("dev")
    channel, _ = lab.connect("dev")
    workers = lab.node.workers
    workers._limit = count = len(workers._threads) + 4
    errors: list[BaseException] = []

    def hang() -> None:
        try:
            call(channel, SLEEP, b"600", timeout=None)
        except PeerLost as error:
            errors.append(error)

    for _ in range(2 * count):
        workers.post(hang)
    wait_until(lambda: workers._tasks and not workers.spare())
    wait_until(lambda: len(channel._pending) >= count - 2)  # Zenoh's requests are read by two workers
    server.kill()
    wait_until(lambda: len(errors) == 2 * count, 60)


def test_a_time_out_passes_while_all_workers_are_busy(lab: Lab) -> None:
    lab.process("dev")
    channel, _ = lab.connect("dev")
    free = threading.Event()
    workers = lab.node.workers
    workers._limit = len(workers._threads)
    for _ in range(2 * workers._limit):
        workers.post(free.wait)
    wait_until(lambda: workers._tasks and not workers.spare())
    try:
        with pytest.raises(CallTimeout):
            call(channel, SLEEP, b"600", timeout=0.5)
    finally:
        free.set()


def test_versions_that_do_not_match_are_refused_in_words(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 44."""
    lab.process("dev")
    monkeypatch.setattr(wire, "PROTOCOL", 99)
    with pytest.raises(RemoteTransportError, match=r"version 99 .* version 2; install"):
        lab.connect("dev")
    monkeypatch.undo()
    channel, _ = lab.connect("dev")
    assert add(channel) == 5


def test_a_node_does_not_open_channels_without_end(lab: Lab) -> None:
    lab.process("dev")
    channels = [lab.connect("dev")[0] for _ in range(limits.NET_LINKS_PER_PEER)]
    with pytest.raises(RemoteTransportError, match="channels to this process already"):
        lab.connect("dev")
    channels[0].close()
    wait_until(lambda: _connects(lab))
    assert add(channels[1]) == 5


def _connects(lab: Lab) -> bool:
    try:
        lab.connect("dev")
    except RemoteTransportError:
        return False
    return True


def test_a_server_that_forgot_the_channel_says_so(lab: Lab) -> None:
    """FAULTS 25: after an interruption that only one side has seen, the client learns of it and connects anew."""
    lab.node.net.announce(lab.node.entry("camera"))
    client = lab.process()
    client.ask("connect", "camera")
    (link,) = lab.node.net._ends.values()
    lab.node.net._forget(link.peer.node_id, link.channel, link.here)
    assert client.ask("add", "camera", 1, 2) == "PeerLost"
    client.ask("connect", "camera")
    assert client.ask("add", "camera", 1, 2) == 3


def test_lost_messages_end_the_channel(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_HELD_SECONDS", 0.1)
    monkeypatch.setattr(limits, "NET_PING_SECONDS", 0.1)
    lab.process("dev")
    channel, client = lab.connect("dev")
    take, lost = channel.inboxes[REPLIES].take_short, []

    def lose_one(sequence: int, fields: wire.Fields, header: bytes) -> bool:
        if lost:
            return take(sequence, fields, header)
        lost.append(fields)
        return True

    monkeypatch.setattr(channel.inboxes[REPLIES], "take_short", lose_one)
    with pytest.raises(PeerLost, match="lost on the network"):
        add(channel, timeout=None)
    assert len(client.ends) == 1


def test_a_node_reaches_itself_over_the_network(lab: Lab) -> None:
    lab.node.net.announce(lab.node.entry("own"))
    channel, client = lab.connect("own")
    assert add(channel) == 5
    call(channel, PUBLISH, json.dumps({"ident": 1, "count": 100, "size": 0, "reliable": True}).encode())
    assert client.done.wait(20)
    assert [fields[5] for fields, _, _ in client.frames[:-1]] == list(range(1, 101))
    (result,) = call(channel, RESULT_OF, str(9 * limits.MIB).encode()).buffers
    assert np.array_equal(np.asarray(result), pattern(9 * limits.MIB))
    channel.close()
    wait_until(lambda: lab.node.server.ended)


def test_calls_go_on_while_the_machine_is_busy(lab: Lab) -> None:
    """FAULTS 8."""
    lab.process("dev")
    channel, client = lab.connect("dev")
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert add(channel, timeout=None) == 5
        assert not client.ends
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_what_was_closed_says_so(lab: Lab) -> None:
    lab.process("dev")
    channel, client = lab.connect("dev")
    lab.node.net.close()
    assert channel.closed
    assert len(client.ends) == 1
    for use in (lambda: add(channel), lambda: lab.node.net.find("dev", 1.0)):
        with pytest.raises(HEROSError, match="closed by this process"):
            use()
    lab.node.net.withdraw(lab.node.entry("nothing"))
    lab.node.net.close()


def test_a_client_that_does_not_read_its_replies_is_disconnected(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_REPLY_BACKLOG_BYTES", 8 * limits.MIB)
    lab.node.net.announce(lab.node.entry("camera"))
    reader, other = lab.process(), lab.process("dev")
    reader.ask("connect", "camera")
    (link,) = lab.node.net._ends.values()
    channel, _ = lab.connect("dev")
    reader.stop()
    result = pattern(64 * limits.MIB)
    blocked = threading.Thread(target=link.reply, args=(Kind.RESULT, 0, 1, b"", [result]), daemon=True)
    blocked.start()
    wait_until(lambda: link._replies._unsure is not None)
    for call_id in range(2, 12):  # none of these blocks
        link.reply(Kind.RESULT, 0, call_id, b"", [result[: limits.MIB]])
    assert link.closed
    assert lab.node.server.ended == [link]
    assert add(channel) == 5  # nobody else notices
    assert other.popen.poll() is None
    reader.kill()
    blocked.join(20)
    assert not blocked.is_alive()
