"""Ctrl-C at every point of a call at which CPython lets a signal handler run: others go on, and so does the channel.

CPython looks for signals when a Python function is entered, when a C function has returned, and where a loop begins
again. A profile function sees the first two, and may raise. What is raised in a finaliser CPython swallows.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import numpy as np
import pytest

import heros
from heros.demo.loopback import free_port, zenoh_config
from heros.net.channel import NetChannel
from heros.shm.channel import ShmChannel, connect
from tests.harness import ROOT, Child, wait_until
from tests.system import net_peer
from tests.system.net_lab import Lab
from tests.system.shm_peer import NODE, Do, Silent, own

PEER = Path(__file__).with_name("shm_peer.py")
PACKAGE = str(ROOT / "heros")
FINALISERS = ("__del__", "_gone")

Place = tuple[CodeType, str, int]


class Subject(NamedTuple):
    """A channel, and how its peer is asked."""

    channel: ShmChannel | NetChannel
    echo: Callable[..., bytes]
    sleep: Callable[[str], object]
    """For so many seconds."""

    def is_quiet(self) -> bool:
        """Whether nothing is left of any call."""
        if isinstance(self.channel, ShmChannel):
            return not self.channel._pending and not self.channel._parked and not self.channel._reading
        replies = self.channel._surroundings.replies
        return not self.channel._pending and not replies._parked and not replies._received and replies._role_is_free()


@pytest.fixture(params=["shm", "net"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "net":
        lab: Lab = request.getfixturevalue("lab")
        lab.process("dev")
        there, _ = lab.connect("dev")

        def echo_there(header: bytes, *buffers: np.ndarray) -> bytes:
            return bytes(net_peer.call(there, net_peer.ECHO, header, buffers, 20.0).header)

        yield Subject(there, echo_there, lambda seconds: net_peer.call(there, net_peer.SLEEP, seconds.encode()))
        there.close()
        return
    path: str = request.getfixturevalue("path")
    with Child(PEER, "serve", path) as server:
        server.ready()
        here = connect(path, own("client"), NODE, request.getfixturevalue("workers"), Silent())

        def call(do: Do, header: bytes, buffers: Sequence[np.ndarray] = ()) -> bytes:
            return bytes(here.call(0, do, 0, 0, header, buffers, 20.0).header)

        yield Subject(
            here,
            lambda header, *buffers: call(Do.ECHO, header, buffers),
            lambda seconds: call(Do.SLEEP, seconds.encode()),
        )
        here.close()


@contextmanager
def profiled(look: Callable[[Place], object]) -> Iterator[None]:
    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event in ("call", "c_return") and code.co_filename.startswith(PACKAGE) and code.co_name not in FINALISERS:
            look((code, event, frame.f_lasti))

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def places(run: Callable[[], object]) -> list[Place]:
    """Every place in heros at which ``run`` may be interrupted."""
    seen: dict[Place, None] = {}
    with profiled(seen.setdefault):
        run()
    return list(seen)


def interrupt(run: Callable[[], object], where: Place) -> bool:
    """Run, with Ctrl-C when it comes there for the first time; whether it came there."""
    fired = False

    def look(place: Place) -> None:
        nonlocal fired
        if place == where and not fired:
            fired = True
            raise KeyboardInterrupt

    try:
        with profiled(look):
            run()
    except KeyboardInterrupt:
        pass
    return fired


RUNS: dict[str, Callable[[Subject], object]] = {
    "short": lambda subject: subject.echo(b"x"),
    "with an array": lambda subject: subject.echo(b"x", np.arange(50_000)),
    "that takes its time": lambda subject: subject.sleep("0.002"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what was interrupted in its making
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_call(subject: Subject, run: Callable[[Subject], object]) -> None:
    run(subject)
    found = places(lambda: run(subject))
    fired = sum(interrupt(lambda: run(subject), where) for where in found)
    assert fired > 10
    assert subject.echo(b"again") == b"again"
    assert not subject.channel.closed
    wait_until(subject.is_quiet)


def test_a_call_beside_others(subject: Subject) -> None:
    """Other threads get their replies, from wherever in the reading thread's way the interrupt comes."""
    stop = threading.Event()
    done: list[int] = []
    failed: list[BaseException] = []

    def others(number: int) -> None:
        try:
            while not stop.is_set():
                subject.sleep(f"0.00{number}")
                assert subject.echo(b"%d" % number) == b"%d" % number
                done.append(number)
        except BaseException as error:
            failed.append(error)

    def run() -> None:
        subject.sleep("0.01")

    threads = [threading.Thread(target=others, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    try:
        found = {place: None for _ in range(5) for place in places(run)}
        for where in found:
            interrupt(run, where)
            before = {number: done.count(number) for number in (1, 2, 3)}
            wait_until(
                lambda before=before: failed or all(done.count(number) > count for number, count in before.items()),
                what=f"all go on after Ctrl-C in {where[0].co_qualname} ({where[1]})",
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not failed
    assert len(found) > 20


SERVER = """
import sys, threading, heros
class Stage(heros.LocalHERO):
    stopped = threading.Event()
    def move(self):
        print("MOVING", flush=True)
        return self.stopped.wait(20)
    def stop(self):
        self.stopped.set()
stage = Stage("stage")
print("READY", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("transport", ["shm", "net"])
def test_a_signal_handler_may_call_what_the_main_thread_waits_for(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    port = free_port()
    monkeypatch.setenv("HEROS_TRANSPORT", transport)
    monkeypatch.setenv("HEROS_NET", "on" if transport == "net" else "off")
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(port, listen=True))
    with Child(SERVER, env={"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)}) as server:
        server.ready()
        stage = heros.RemoteHERO("stage")
        before = signal.signal(signal.SIGUSR1, lambda *_: stage.stop())
        try:
            main = threading.get_ident()

            def ask_to_stop() -> None:
                server.expect("MOVING")
                signal.pthread_kill(main, signal.SIGUSR1)

            helper = threading.Thread(target=ask_to_stop)
            helper.start()
            assert stage.move() is True
            helper.join(20)
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_call_in_the_middle_of_sending_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("HEROS_TRANSPORT", "net")
    monkeypatch.setenv("HEROS_NET", "on")
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(port, listen=True))
    with Child(SERVER, env={"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)}) as server:
        server.ready()
        stage = heros.RemoteHERO("stage", timeout=20.0)
        outbox = stage._binding.bound.channel._outbox
        put = outbox._put

        def put_once_and_be_interrupted(payload: object, attachment: bytes | None = None) -> None:
            outbox._put = put
            put(payload, attachment)
            signal.raise_signal(signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda *_: stage.stop())
        try:
            outbox._put = put_once_and_be_interrupted
            assert stage.move() is True
        finally:
            signal.signal(signal.SIGUSR1, before)
