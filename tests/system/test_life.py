"""Processes that come and go: threads, descriptors, forks, exits, kills, and machines with less than usual."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heros
from heros import LocalHERO, RemoteHERO, event, limits
from heros.demo.loopback import zenoh_config
from heros.exceptions import CallTimeout, HEROUnavailable, NameInUse, PeerLost
from heros.node import current
from tests.harness import DEADLINE, Child, wait_until
from tests.system import lab

LAB = Path(lab.__file__)
linux = pytest.mark.skipif(sys.platform != "linux", reason="shared memory is used on Linux only")


# -- how much a process is ------------------------------------------------------------------------------------

MANY = """
import sys, threading, heros, os
class Hero(heros.LocalHERO):
    x: int = 1
    def add(self, a, b): return a + b
    def stats(self): return threading.active_count(), len(os.listdir("/proc/self/fd"))
    @heros.event
    def tick(self): return 1
heroes = [Hero("0")]
print("READY", flush=True)
for line in sys.stdin:
    heroes += [Hero(str(len(heroes) + i)) for i in range(int(line))]
    print("MORE", flush=True)
"""


@linux
def test_500_heros_have_no_thread_and_no_descriptor_more_than_one():
    with Child(MANY) as child:
        child.ready()
        hero = RemoteHERO("0")
        hero.add(1, 2)
        one = hero.stats()
        child.say("499")
        child.expect("MORE")
        assert RemoteHERO("499").add(1, 2) == 3
        assert hero.stats() == one


NO_NETWORK = """
import sys, heros
class Hero(heros.LocalHERO):
    def add(self, a, b): return a + b
    def has_zenoh(self): return any(name.split(".")[0] == "zenoh" for name in sys.modules)
with Hero("hero"):
    print("READY", flush=True)
    sys.stdin.read()
"""

NO_NETWORK_CLIENT = """
import sys, heros
hero = heros.RemoteHERO("hero", wait=10)
assert heros.transport_of(hero) == "shm"
assert hero.add(1, 2) == 3
observer = heros.HEROObserver()
assert list(observer.known_objects) == ["hero"]
assert not hero.has_zenoh()
assert not any(name.split(".")[0] == "zenoh" for name in sys.modules)
try:
    heros.RemoteHERO("nobody")
except NameError as error:
    assert "HEROS_NET" in str(error), error
print("DONE", flush=True)
"""


@linux
def test_without_network_everything_on_the_host_works_and_zenoh_is_not_imported():
    """In a network namespace of its own there is not even a loopback interface that is up."""
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []  # the rest holds all the same
    with Child(NO_NETWORK) as child:
        child.ready()
        finished = subprocess.run([*alone, sys.executable, "-c", NO_NETWORK_CLIENT], capture_output=True, timeout=60)
        assert finished.returncode == 0, finished.stderr.decode()


def test_a_system_without_what_linux_has_imports_and_runs():
    hide = """
import asyncio, logging, os, random, select, socket, subprocess, sys
sys.platform = "darwin"
for module, names in {os: ["memfd_create", "eventfd", "eventfd_write", "eventfd_read", "EFD_CLOEXEC", "pidfd_open",
                           "register_at_fork", "sched_getaffinity", "posix_fallocate"],
                      select: ["epoll", "poll"], socket: ["SO_PEERCRED", "SCM_RIGHTS"]}.items():
    for name in names:
        if hasattr(module, name): delattr(module, name)
sys.modules["fcntl"] = None
sys.modules["resource"] = None
import heros, numpy
class Hero(heros.LocalHERO):
    def total(self, array): return int(array.sum())
    @heros.event
    def tick(self, value): return value
pool = heros.shm.FramePool((4, 4), numpy.uint8, 2)
with Hero("hero") as hero:
    proxy = heros.RemoteHERO("hero")
    assert heros.transport_of(proxy) == "inproc"
    frame = pool.acquire()
    frame[:] = 2
    assert proxy.total(frame) == 32
    got = []
    proxy.tick.connect(got.append)
    hero.tick(5)
    import time
    end = time.monotonic() + 10
    while not got and time.monotonic() < end: time.sleep(0.01)
    assert got == [5]
print("DONE")
"""
    finished = subprocess.run([sys.executable, "-c", hide], capture_output=True, timeout=60)
    assert finished.returncode == 0, finished.stderr.decode()


# -- arrays ---------------------------------------------------------------------------------------------------

POOL = """
import sys, heros, numpy
class Camera(heros.LocalHERO):
    def __init__(self, name):
        self.pool = heros.shm.FramePool((8 << 20,), numpy.uint8, 4)
        super().__init__(name)
    def frame(self):
        frame = self.pool.acquire(timeout=5)
        frame[:] = 7
        return frame
with Camera("camera"):
    print("READY", flush=True)
    sys.stdin.read()
"""


def shared_mappings() -> list[tuple[int, int]]:
    """The address ranges of shared memory that this process has mapped read-only."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and "memfd:" in fields[5] and fields[1].startswith("r--s"):
            start, end = fields[0].split("-")
            found.append((int(start, 16), int(end, 16)))
    return found


@linux
def test_a_pooled_frame_arrives_without_a_copy():
    with Child(POOL) as child:
        child.ready()
        camera = RemoteHERO("camera")
        frame = camera.frame()
        address = frame.ctypes.data
        assert any(start <= address and address + frame.nbytes <= end for start, end in shared_mappings())
        assert frame.sum() == 7 * (8 << 20)
        assert not frame.flags.writeable
        with pytest.raises(ValueError, match=r"(?i)writeable"):
            frame.flags.writeable = True


@linux
def test_frames_that_are_let_go_are_used_again():
    with Child(POOL) as child:
        child.ready()
        camera = RemoteHERO("camera")
        for _ in range(50):  # the pool holds 4
            assert camera.frame()[-1] == 7


# -- names ----------------------------------------------------------------------------------------------------


def test_a_duplicate_name_is_reported_loudly(caplog):
    with LocalHERO("double"), LocalHERO("double"):
        pass
    (record,) = [each for each in caplog.records if "double" in each.message]
    assert record.levelname == "ERROR"
    assert str(os.getpid()) in record.message


def test_arguments_behind_the_name_are_ignored_and_logged(caplog):
    with LocalHERO("lamp", "lab") as hero:
        assert hero._realm == "heros"
    assert "give realm by name" in caplog.text


def test_exclusive_refuses_to_be_the_second():
    with LocalHERO("single"):
        with pytest.raises(NameInUse, match="single"):
            LocalHERO("single", exclusive=True)
        assert RemoteHERO("single")._hero_tags
    with LocalHERO("single", exclusive=True):
        pass


def test_the_callers_lists_are_left_alone():
    tags, implements, extra = ["a"], ["b"], {"c": "d"}
    with LocalHERO("polite", tags=tags, implements=implements, extra_metadata=extra):
        assert (tags, implements, extra) == (["a"], ["b"], {"c": "d"})


class Mixin:
    def __init__(self) -> None:
        self.mixed = 5

    def mixed_in(self) -> int:
        return self.mixed


class Mixed(Mixin, LocalHERO):
    colour: str

    def __init__(self, name: str) -> None:
        LocalHERO.__init__(self, name)
        Mixin.__init__(self)
        self.colour = "red"


def test_a_hero_may_be_one_of_several_base_classes():
    with Mixed("mixed"):
        proxy = RemoteHERO("mixed")
        assert (proxy.mixed_in(), proxy.colour) == (5, "red")


# -- fork, spawn, forkserver ----------------------------------------------------------------------------------


class Adder(LocalHERO):
    def add(self, a: int, b: int) -> int:
        return a + b

    @event
    def tick(self, value: int) -> int:
        return value


def use(hero: Any, results: Any) -> None:
    """Runs in a child process, with a proxy that came along."""
    results.put((hero.add(1, 2), heros.transport_of(hero)))


@linux
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_proxy_works_in_a_child_process(method):
    with Child(LAB, "realm") as server:
        server.ready()
        hero = RemoteHERO("one", "realm")
        assert hero.add(1, 2) == 3
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        child = context.Process(target=use, args=(hero, results))
        child.start()
        assert results.get() == (3, "shm")
        child.join(20)
        assert child.exitcode == 0
        assert hero.add(1, 2) == 3


@linux
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_heros_alone():
    with Adder("parents") as hero:
        got: list[int] = []
        RemoteHERO("parents").tick.connect(got.append)
        child = os.fork()
        if child == 0:
            try:
                hero.tick(-1)
                hero._destroy_hero()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        hero.tick(1)
        wait_until(lambda: got == [1], what=lambda: str(got))
        assert RemoteHERO("parents").add(1, 2) == 3


def add(hero: Any, a: int, b: int) -> tuple[int, str]:
    """Runs in a child process, with a proxy that came along."""
    return hero.add_up(a, b), heros.transport_of(hero)


class Summing(LocalHERO):
    def __init__(self, name: str) -> None:
        self.sums: list[int] = []
        super().__init__(name)

    def add_up(self, a: int, b: int) -> int:
        self.sums.append(a + b)
        return a + b


@linux
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_childs_proxy_of_a_hero_of_its_parent_reaches_the_parent():
    with Summing("parents") as hero:
        proxy = RemoteHERO("parents")
        assert add(proxy, 1, 2) == (3, "inproc")
        proxy._binding.bound.channel._sending.acquire()  # as another thread may, at the moment of the fork
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if add(proxy, 3, 4) == (7, "shm") else 1)
        proxy._binding.bound.channel._sending.release()
        assert os.waitpid(child, 0)[1] == 0
        assert hero.sums == [3, 7]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.starmap(partial(add, proxy), [(n, 1) for n in range(20)]) == [(n + 1, "shm") for n in range(20)]
        assert sorted(hero.sums[2:]) == list(range(1, 21))
        assert add(proxy, 1, 2) == (3, "inproc")


@linux
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_returns_from_a_method_serves_nothing_that_is_its_parents(tmp_path: Path):
    program = """
import os, sys, threading, heros
class Hero(heros.LocalHERO):
    def fork(self, wait):
        if wait:
            print("ENTERED", flush=True)
            go.wait()
            if os.fork():
                os.wait()
        with open(sys.argv[1], "a") as file:
            print(os.getpid(), file=file)
        return os.getpid()
go = threading.Event()
hero = Hero("forking")
print("READY", flush=True)
sys.stdin.readline()
go.set()
sys.stdin.read()
"""
    calls = tmp_path / "calls"
    with Child(program, calls) as server:
        server.ready()
        hero = RemoteHERO("forking")
        results: list[int] = []
        callers = [threading.Thread(target=lambda: results.append(hero.fork(True)))]
        callers[0].start()
        server.expect("ENTERED")
        callers += [threading.Thread(target=lambda: results.append(hero.fork(False))) for _ in range(3)]
        for caller in callers[1:]:
            caller.start()
        channel = hero._binding.bound.channel
        wait_until(lambda: len(channel._pending) + 1 == 4 and channel._requests.consumed)  # three wait for the method
        server.say("go on")
        for caller in callers:
            caller.join(20)
        assert results == [server.pid] * 4
        # Once in the child, for the call that forked, and never for those that waited behind it.
        assert sorted(Counter(calls.read_text().split()).values()) == [1, 4]


@linux
def test_a_proxy_of_a_stopped_process_waits_no_longer_than_its_time_out():
    with Child(LAB, "realm") as server:
        server.ready()
        hero = RemoteHERO("one", "realm")
        server.stop()
        with pytest.raises(CallTimeout, match=r"realm/two did not answer within 0\.1 s"):
            RemoteHERO("two", "realm", timeout=0.1)
        server.cont()
        assert hero.add(1) == 3


FORK = """
import os, heros
from heros import node
class Hero(heros.LocalHERO):
    pass
def complaint(of):
    try:
        of.registry
    except heros.exceptions.HEROSError as error:
        return str(error)
hero = Hero("parents")
child = os.fork()
if child == 0:
    os._exit(0 if "stayed with the parent process" in complaint(hero._node) else 1)
assert os.waitpid(child, 0)[1] == 0
node.shutdown()
assert "shut down: make a new one" in complaint(hero._node), complaint(hero._node)
with Hero("parents") as hero:
    print("READY", flush=True)
"""


@linux
def test_what_is_left_of_a_closed_node_says_why():
    with Child(FORK) as child:
        child.ready()
        assert child.end() == 0


@linux
def test_a_killed_server_with_a_forked_child_is_gone_all_the_same():
    program = """
import os, sys, time, heros
class Hero(heros.LocalHERO):
    def wait(self): time.sleep(60)
    def fork(self):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return child
hero = Hero("parent")
print("READY", flush=True)
sys.stdin.read()
"""
    with Child(program) as server:
        server.ready()
        hero = RemoteHERO("parent")
        grandchild = hero.fork()
        try:
            threading.Timer(0.2, server.kill9).start()
            with pytest.raises(PeerLost):
                hero.wait()
        finally:
            os.kill(grandchild, signal.SIGKILL)


# -- exits ----------------------------------------------------------------------------------------------------

EXIT = """
import sys, threading, heros
class Hero(heros.LocalHERO):
    @heros.event
    def tick(self): return 1
hero = Hero("mine")
other = heros.RemoteHERO("one", "realm", wait=10)
other.tick.connect(print)
threading.Thread(target=other.wait, daemon=True).start()
array = other.image(1 << 20)
print("READY", flush=True)
sys.exit(5)
"""


@linux
def test_a_program_ends_with_its_own_exit_code_and_without_noise():
    with Child(LAB, "realm") as server:
        server.ready()
        client = Child(EXIT)
        client.ready()
        assert client.wait() == 5
        assert client.errors == ""
        assert RemoteHERO("one", "realm").add(1) == 3
        client.close()


@linux
def test_a_stopped_server_does_not_keep_its_client_from_ending():
    with Child(LAB, "realm") as server:
        server.ready()
        client = Child(EXIT.replace("sys.exit(5)", "sys.stdin.readline(); sys.exit(5)"))
        client.ready()
        server.stop()
        client.say("go")
        assert client.wait() == 5
        server.cont()
        client.close()


EXIT_NET = """
import logging, sys, threading, heros
hero = heros.RemoteHERO("one", sys.argv[1], wait=20)
assert heros.transport_of(hero) == "net"
hero.tick.connect(print)
logging.basicConfig(level=logging.INFO)
def again():
    while True: hero.add(1)
for target in (hero.wait, hero.wait, again, again):
    threading.Thread(target=target, daemon=True).start()
hero.add(1)
print("READY", flush=True)
sys.exit(5)
"""


def test_a_program_with_calls_over_the_network_ends_without_noise(net_realm):
    config = zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)
    server = lab.Instrument("one", net_realm)
    with Child(EXIT_NET, net_realm, env={"HEROS_ZENOH_CONFIG": config, "HEROS_TRANSPORT": "net"}) as client:
        client.ready()
        assert client.wait() == 5
        assert client.errors == ""
    server.go.set()


INTERRUPTED = """
import sys, heros
hero = heros.RemoteHERO("one", "realm", wait=10)
print("READY", flush=True)
try:
    hero.wait()
except KeyboardInterrupt:
    print("INTERRUPTED", hero.add(1), flush=True)
    hero.let_go()
"""


@linux
def test_ctrl_c_ends_a_call_and_the_proxy_works_on():
    with Child(LAB, "realm") as server:
        server.ready()
        with Child(INTERRUPTED) as client:
            client.ready()
            assert RemoteHERO("one", "realm").wait_until_busy()
            client.interrupt()
            assert client.expect("INTERRUPTED").strip() == "3"
            assert client.wait() == 0


@linux
@pytest.mark.parametrize("victim", ["server", "client"])
def test_kill_9_leaves_nothing_behind(leak_oracle, victim):
    with Child(LAB, "realm") as server:
        server.ready()
        hero = RemoteHERO("one", "realm")
        image = hero.image(8 << 20)
        hero.tick.connect(lambda value: None)
        with Child(EXIT.replace("sys.exit(5)", "sys.stdin.read()")) as client:
            client.ready()
            if victim == "client":
                client.kill9()
                assert hero.add(1) == 3
            else:
                server.kill9()
                wait_until(partial(fails, hero), what="calls to fail")
        assert image.sum() == np.arange(8 << 20, dtype=np.uint8).sum(), "a view outlives its owner, unchanged"
        if victim == "client":
            assert server.end() == 0
    del image, hero
    heros.node.shutdown()
    with heros.HEROObserver("realm") as observer:  # whoever comes next clears away what a killed process has left
        assert observer.known_objects == {}
    heros.node.shutdown()


def fails(hero: RemoteHERO) -> bool:
    try:
        hero.add(1)
    except (PeerLost, NameError):
        return True
    return False


@linux
def test_a_hundred_connects_leave_nothing(leak_oracle):
    with Child(LAB, "realm") as server:
        server.ready()
        for _ in range(100):
            assert RemoteHERO("one", "realm").add(1) == 3
            heros.node.shutdown()
        assert server.end() == 0


# -- the way back to the network ------------------------------------------------------------------------------


@linux
def test_without_shared_memory_the_network_is_used_and_said_so_once(net_realm, monkeypatch, caplog):
    from heros.exceptions import RemoteTransportError
    from heros.shm import channel

    def refuse(*args: object, **kwargs: object) -> None:
        raise RemoteTransportError("no shared memory today")

    monkeypatch.setattr(channel, "connect", refuse)
    config = zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)
    with heros.HEROObserver(net_realm), Child(LAB, net_realm, env={"HEROS_ZENOH_CONFIG": config}) as server:
        server.ready()
        caplog.set_level("INFO", "heros")
        for name in ("one", "two"):
            hero = RemoteHERO(name, net_realm, wait=10)
            assert hero.add(1) == 3
            assert heros.transport_of(hero) == "net"
        said = [each for each in caplog.records if "shared memory" in each.message]
        assert [each.levelname for each in said] == ["INFO"]


def test_what_is_not_found_because_nobody_is_connected_says_so(net_realm, monkeypatch):
    monkeypatch.setattr(limits, "DISCOVERY_SECONDS", 0.05)
    network = current().network(net_realm)
    assert network.ready(DEADLINE)
    with pytest.raises(HEROUnavailable, match="No other program is connected"):
        RemoteHERO("nobody", net_realm)
    config = zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)
    with Child(LAB, net_realm, env={"HEROS_ZENOH_CONFIG": config}) as other:
        other.ready()
        wait_until(lambda: not network.alone(), what="the connection")
        with pytest.raises(HEROUnavailable, match=r"spelled so\?$"):
            RemoteHERO("nobody", net_realm)


def test_an_idle_process_uses_no_cpu():
    with Adder("idle"):
        hero = RemoteHERO("idle")
        hero.tick.connect(lambda value: None)
        hero.add(1, 2)
        with Child(LAB, "realm") as server:
            server.ready()
            RemoteHERO("one", "realm").add(1)
            before, switches = time.process_time(), switches_of(server.pid)
            threading.Event().wait(1.0)  # not for a condition: the idle second itself is what is measured
            assert switches_of(server.pid) - switches <= 5, "an idle server wakes up"
            assert time.process_time() - before < 0.05


def switches_of(pid: int) -> int:
    """Voluntary context switches of all threads: how often a process has gone to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
