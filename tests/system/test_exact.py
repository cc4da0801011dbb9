"""What a call and a sample cost, where it can be counted: copies, packs, bytes in the rings, system calls.

A time varies and these do not, so each is asserted exactly. That a channel takes three descriptors a side, and a HERO
neither a thread nor a descriptor, is counted in ``test_shm_channel`` and ``test_life``; in the network, it is here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.declarations import count_declarations
from heros import LocalHERO, RemoteHERO, event, node, workers
from heros.codec import decoding, encode, encode_arguments, encoding
from tests.harness import DEADLINE, Child, wait_until

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

from heros.net import engine
from heros.net.legacy import cbor
from heros.shm import FramePool, arena, layout, views
from heros.shm.channel import ShmChannel
from heros.shm.server import ShmLink
from heros.wire import FRAME

MIB = 1 << 20
NBYTES = 4 * MIB


class Camera(LocalHERO):
    gain: float = 1.5

    def __init__(self) -> None:
        self.pool = FramePool(NBYTES, np.uint8, 8)
        self.image = np.ones(NBYTES, np.uint8)
        self.last: Any = None
        super().__init__("camera")

    def add(self, a: int, b: int) -> int:
        return a + b

    def pooled(self) -> np.ndarray:
        self.last = self.pool.acquire()
        return self.last

    def ordinary(self) -> np.ndarray:
        return self.image

    def take(self, array: np.ndarray) -> None:
        self.last = array

    @event
    def frame(self, image: object) -> object:
        return image


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[Camera]:
    """Both ends are in this process, so that everything can be counted; the transport is the same as between two."""
    monkeypatch.setenv("HEROS_TRANSPORT", "shm")
    with Camera() as hero:
        yield hero
        hero.pool.close()


@pytest.fixture
def proxy(camera: Camera) -> RemoteHERO:
    proxy = RemoteHERO("camera")
    assert proxy.add(1, 2) == 3
    return proxy


@pytest.fixture
def warm(proxy: RemoteHERO) -> RemoteHERO:
    """Every segment is known to both sides."""
    for _ in range(3):
        proxy.pooled()
        proxy.ordinary()
        proxy.take(np.ones(NBYTES, np.uint8))
    return proxy


def ends(proxy: RemoteHERO) -> tuple[ShmChannel, ShmLink]:
    """Both ends of the channel."""
    channel: Any = proxy._binding.bound.channel
    server: Any = node.current()._server
    (link,) = server.links
    return channel, link


# -- the payload's bytes ----------------------------------------------------------------------------------------


class Copies:
    """What passes over a payload's bytes from now on: copies into shared memory, and private memory as large as one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nbytes = 0
        copy_buffer = arena.copy_buffer

        def counting(buffer: Any, target: memoryview) -> None:
            self.nbytes += target.nbytes
            copy_buffer(buffer, target)

        monkeypatch.setattr(arena, "copy_buffer", counting)

    def of(self, step: Callable[[], object]) -> tuple[int, bool]:
        """Bytes that ``step`` copied into the arena, and whether it took private memory for as much as a payload."""
        self.nbytes = 0
        tracemalloc.start()
        try:
            result = step()  # until the end: what it refers to is not to be freed, and made again, unseen
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        del result
        return self.nbytes, peak > NBYTES // 2


def place(array: np.ndarray) -> tuple[int, int]:
    """Where an array lies: the inode of the shared memory, and the offset in it."""
    found = views.find(array)
    assert found is not None, "it does not lie in shared memory"
    segment = found[0].segment
    return os.fstat(segment.fd).st_ino, array.__array_interface__["data"][0] - segment.address


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    return Copies(monkeypatch)


NONE, ONCE = (0, False), (NBYTES, False)


def test_a_pooled_result_is_copied_by_nobody(camera: Camera, warm: RemoteHERO, copies: Copies) -> None:
    got: list[np.ndarray] = []
    assert copies.of(lambda: got.append(warm.pooled())) == NONE
    assert place(got[0]) == place(camera.last)


def test_a_pooled_argument_is_copied_by_nobody(camera: Camera, warm: RemoteHERO, copies: Copies) -> None:
    frame = camera.pool.acquire()
    assert copies.of(lambda: warm.take(frame)) == NONE
    assert place(camera.last) == place(frame)


def test_an_ordinary_result_is_copied_once(warm: RemoteHERO, copies: Copies) -> None:
    got: list[np.ndarray] = []
    assert copies.of(lambda: got.append(warm.ordinary())) == ONCE
    place(got[0])


def test_an_ordinary_argument_is_copied_once(camera: Camera, warm: RemoteHERO, copies: Copies) -> None:
    array = np.ones(NBYTES, np.uint8)
    assert copies.of(lambda: warm.take(array)) == ONCE
    place(camera.last)


@pytest.mark.parametrize("subscribers", [1, 4])
def test_a_pooled_sample_is_copied_by_nobody(
    camera: Camera, warm: RemoteHERO, copies: Copies, subscribers: int
) -> None:
    got = follow(warm, subscribers)
    frame = camera.pool.acquire()
    assert copies.of(lambda: publish(camera, frame, got, subscribers)) == NONE
    assert {place(each) for each in got} == {place(frame)}


@pytest.mark.parametrize("subscribers", [1, 4])
def test_an_ordinary_sample_is_copied_once_for_all(
    camera: Camera, warm: RemoteHERO, copies: Copies, subscribers: int
) -> None:
    got = follow(warm, subscribers)
    assert copies.of(lambda: publish(camera, camera.image, got, subscribers)) == ONCE
    assert len({place(each) for each in got}) == 1


def follow(proxy: RemoteHERO, subscribers: int) -> list[Any]:
    """As many subscriptions, whose samples come into one list."""
    got: list[Any] = []
    proxies = [proxy, *(RemoteHERO("camera") for _ in range(subscribers - 1))]
    for each in proxies:
        each.frame.connect(got.append)
    return got


def publish(camera: Camera, value: object, got: list[Any], subscribers: int) -> None:
    expected = len(got) + subscribers
    camera.frame(value)
    wait_until(lambda: len(got) == expected)


# -- packs, records and their bytes -----------------------------------------------------------------------------


def record(header: bytes) -> int:
    """Bytes that a frame without buffers takes in a ring."""
    return -(-(layout.WORD + FRAME.size + len(header)) // layout.WORD) * layout.WORD


def test_a_call_writes_one_record_each_way(proxy: RemoteHERO) -> None:
    channel, link = ends(proxy)
    before = channel._requests._tail, link._replies._tail
    for _ in range(10):
        assert proxy.add(1, 2) == 3
    written = channel._requests._tail - before[0], link._replies._tail - before[1]
    assert written == (10 * record(encode_arguments((1, 2), {})[0]), 10 * record(encode(3)[0])) == (560, 560)


def test_a_call_packs_and_unpacks_once_each_way(proxy: RemoteHERO, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[object] = []
    unpacked: list[object] = []

    def counting(function: Callable[..., Any], counts: list[object]) -> Callable[..., Any]:
        def count(value: Any, *args: Any, **kwargs: Any) -> Any:
            counts.append(value)
            return function(value, *args, **kwargs)

        return count

    monkeypatch.setattr(encoding, "_pack_plain", counting(encoding._pack_plain, packed))
    monkeypatch.setattr(encoding, "packb", counting(encoding.packb, packed))
    monkeypatch.setattr(encoding._Encoder, "new_packer", counting(encoding._Encoder.new_packer, packed))
    monkeypatch.setattr(decoding, "unpackb", counting(decoding.unpackb, unpacked))
    assert proxy.add(100, 200) == 300
    assert packed == [((100, 200), {}), 300]
    assert len(unpacked) == 2


@pytest.mark.parametrize("subscribers", [1, 4])
def test_a_sample_is_one_record_a_subscriber(camera: Camera, proxy: RemoteHERO, subscribers: int) -> None:
    got = follow(proxy, subscribers)
    _, link = ends(proxy)
    before = link._events._tail
    camera.frame(300)
    assert link._events._tail - before == subscribers * record(encode(300)[0])
    wait_until(lambda: len(got) == subscribers)


def test_a_sample_that_nobody_follows_is_not_packed(
    camera: Camera, proxy: RemoteHERO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_pack_plain", None)
    monkeypatch.setattr(encoding._Encoder, "new_packer", None)
    camera.frame(300)


# -- system calls -----------------------------------------------------------------------------------------------

SERVER = """
import sys, heros
class Calculator(heros.LocalHERO):
    def add(self, a, b): return a + b
with Calculator("calculator"):
    print("READY", flush=True)
    sys.stdin.read()
"""

CLIENT = """
import select, sys, heros
from heros.shm.doorbell import Doorbell
from heros.shm.placement import Placement
Placement.sign = lambda self: None  # who is watched is so slow that it seems to share its processor
hero = heros.RemoteHERO("calculator")
for _ in range(200): hero.add(1, 2)
counted = []
class Poll:
    def __init__(self, poll): self.real = poll
    def poll(self, timeout): counted.append("poll"); return self.real.poll(timeout)
channel = hero._binding.bound.channel
if sys.argv[1] == "count":
    channel._poll = Poll(channel._poll)
    channel._requests._bell = lambda ring=channel._requests._bell: (counted.append("ring"), ring())
print("READY", flush=True)
for line in sys.stdin:
    hero.add(1, 2)  # it may find the server asleep
    counted.clear()
    for _ in range(int(line)): hero.add(1, 2)
    print("DONE", *counted, flush=True)
"""

SPINNING = {"HEROS_SPIN_US": "300000"}
"""So that a machine which does something else for a while puts neither side to sleep."""

CALLS = 1000


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Child]:
    """A client and a server in two processes; the client calls as often as it is told."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("nobody spins on one processor")
    with Child(SERVER, env=SPINNING) as server:
        server.ready()
        with Child(CLIENT, request.param, env=SPINNING) as client:
            client.ready()
            yield client


@pytest.mark.parametrize("client", ["count"], indirect=True)
def test_a_warm_call_rings_and_polls_never(client: Child) -> None:
    """On a machine that has too much to do, a side may be asleep after all: then it counts whether a hundred calls in
    a row are ever free of it. If calls ring by themselves, none are."""

    def undisturbed() -> bool:
        client.say("100")
        return client.expect("DONE") == ""

    wait_until(undisturbed, DEADLINE, "a hundred calls without a doorbell or a poll")


@pytest.mark.parametrize("client", ["strace"], indirect=True)
def test_a_warm_call_makes_no_system_call(client: Child, tmp_path: Path) -> None:
    """All calls together make as many as it takes to be told of them, and to say that they are done; with the same
    reservation as above. A processor that is offered is not counted: to watch it makes each call so slow that its
    caller has the time."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace")
    command = [strace, "-f", "-c", "-U", "calls,name", "-o", str(tmp_path / "table"), "-p", str(client.pid)]
    made: dict[str, int] = {}

    def undisturbed() -> bool:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            if "attached" not in (said := tracer.stderr.readline()):
                tracer.kill()
                pytest.skip(f"strace may not attach here: {said}")
            client.say(str(CALLS))
            client.expect("DONE")
            tracer.terminate()
            tracer.stderr.read()
        lines = (tmp_path / "table").read_text().splitlines()[2:-2]
        made.clear()
        made.update((name, int(calls)) for calls, name in map(str.split, lines) if name != "sched_yield")
        return sum(made.values()) < CALLS // 100

    wait_until(undisturbed, DEADLINE, lambda: f"{CALLS} calls without system calls; the last made {made}")


# -- what is declared in the network ------------------------------------------------------------------------------

NODE = {"subscriber": 3, "queryable": 1, "liveliness subscriber": 1, "token": 1}
LEGACY = {"publisher": 1, "matching listener": 1}
"""That programs with the original would be noticed by. Without cbor2 nobody could serve them."""


def hero_of(members: int) -> type[LocalHERO]:
    """A class with so many members, of all kinds: half of them methods, some attributes, some events."""

    def method(self: Any) -> None:
        pass

    namespace: dict[str, Any] = {"__annotations__": {}}
    for number in range(members):
        name = f"member_{number}"
        if number % 10 in (1, 3, 5):
            namespace[name] = 1.0
            namespace["__annotations__"][name] = float
        else:
            function = types.FunctionType(method.__code__, {}, name)
            namespace[name] = event(function) if number % 10 in (7, 9) else function
    return type("Many", (LocalHERO,), namespace)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hero_declares_two_things_and_has_no_thread(
    net_realm: str, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    if not legacy:
        monkeypatch.setitem(sys.modules, "cbor2", None)
    elif not cbor.available():
        pytest.skip("cbor2 is not installed")
    declared = count_declarations(engine.load(), monkeypatch.setattr)
    expected = Counter(NODE | LEGACY if legacy else NODE)

    def until_declared(wanted: Counter[str]) -> None:
        wait_until(lambda: declared == wanted, what=lambda: f"{declared} == {wanted}")

    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.2)  # those for whom there is no work any more

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    heroes = [hero_of(1)("first", realm=net_realm)]
    expected += Counter(queryable=1, token=1)
    until_declared(expected)
    before = threads()
    for members in (1, 10, 50):
        kind = hero_of(members)
        heroes += [kind(f"of-{members}-{number}", realm=net_realm) for number in range(5)]
        assert len([each for each in heroes[-1].capabilities if each.name.startswith("member_")]) == members
        expected += Counter(queryable=5, token=5)
        until_declared(expected)
    wait_until(lambda: threads() <= before)
    for hero in heroes:
        hero._destroy_hero()
    expected -= Counter(queryable=len(heroes), token=len(heroes))
    until_declared(expected)
