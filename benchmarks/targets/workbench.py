"""A child process of a ``Lab``: offers HEROs, calls, publishes, subscribes, as it is asked to.

A script of the peers' line protocol (``benchmarks/peers/peer.py``): each public method of ``Workbench`` is a request.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

import heros
from benchmarks.peers.peer import Tally, content, serve
from benchmarks.targets import codec_loops
from heros.bound import Inbox
from heros.node import current
from heros.shm.channel import ShmChannel, connect
from heros.transport import Peer
from heros.wire import NodeMember
from heros.workers import Workers

__all__ = ["Instrument", "Workbench"]

COLD = 10
"""Calls at the beginning of a block that do not count: another server was called before."""


class Instrument(heros.LocalHERO):
    """A HERO of ten members, which is a typical one."""

    gain: float = 1.0
    offset: float = 0.0
    exposure: float = 0.01
    label: str = "instrument"
    computes: bool = False

    def add(self, a: int, b: int) -> int:
        return a + b

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self, channel: int = 0) -> float:
        return self.gain * channel + self.offset

    @heros.event
    def sample(self, data: Any) -> Any:
        return data


class Workbench:
    """See the module."""

    def __init__(self) -> None:
        self._heroes: dict[str, Instrument] = {}
        self._proxies: dict[str, Any] = {}
        self._channels: list[ShmChannel] = []
        self._workers: Workers | None = None
        self._tally = Tally()

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        if self._workers is not None:
            self._workers.stop()

    # -- offering ---------------------------------------------------------------------------------------------

    def offer(self, prefix: str, count: int) -> dict[str, Any]:
        """Make HEROs ``prefix-0`` ...: seconds of each, and what all of them have added to this process."""
        gc.collect()
        process, taken = psutil.Process(), []
        before, threads = process.memory_full_info(), threading.active_count()
        for number in range(count):
            name = f"{prefix}-{number}"
            start = time.perf_counter()
            hero = Instrument(name)
            taken.append(time.perf_counter() - start)
            self._heroes[name] = hero
        gc.collect()
        after = process.memory_full_info()
        return {
            "seconds": taken,
            "rss": after.rss - before.rss,
            "uss": after.uss - before.uss,
            "threads": threading.active_count() - threads,
        }

    def compute(self, name: str, switch_interval: float | None, at_most: float) -> float:
        """Keep the main thread computing in Python until a client sets ``computes`` to False; the switch interval."""
        before, hero = sys.getswitchinterval(), self._heroes[name]
        if switch_interval is not None:
            sys.setswitchinterval(switch_interval)
        try:
            used, total, end = sys.getswitchinterval(), 0, time.monotonic() + at_most
            hero.computes = True
            while hero.computes:
                for number in range(2_000):
                    total += number * number
                if time.monotonic() > end:
                    raise TimeoutError(f"nobody has ended the computation within {at_most:g} s")
        finally:
            hero.computes = False
            sys.setswitchinterval(before)
        return used

    # -- calling ----------------------------------------------------------------------------------------------

    def reach(self, names: list[str]) -> list[float]:
        """Make proxies of HEROs, and call each once: the seconds of each."""
        taken = []
        for name in names:
            start = time.perf_counter()
            proxy: Any = heros.RemoteHERO(name, wait=20.0)
            proxy.add(1, 2)
            taken.append(time.perf_counter() - start)
            if (used := heros.transport_of(proxy)) != "shm":
                raise RuntimeError(f"calls go over {used}, not over shared memory")
            self._proxies[name] = proxy
        return taken

    def calls(self, names: list[str], block: int, rounds: int) -> dict[str, list[int]]:
        """Nanoseconds of ``add(1, 2)`` of each HERO: a block of calls of each in turn, so often."""
        clock, taken = time.perf_counter_ns, {name: [0] * 0 for name in names}
        for _ in range(rounds):
            for name in names:
                add, times = self._proxies[name].add, taken[name]
                for number in range(-COLD, block):
                    start = clock()
                    result = add(1, 2)
                    spent = clock() - start
                    if result != 3:
                        raise ValueError(f"{name} says that 1 + 2 is {result!r}")
                    if number >= 0:
                        times.append(spent)
        return taken

    def calls_while_computing(self, name: str, repeat: int, pause: float) -> list[int]:
        """Nanoseconds of ``add(1, 2)`` while the server computes; then it may stop.

        Before each call there is a pause of some seconds: of calls one right after the other, the first waits for the
        GIL, and the others come while the thread that serves them still has it.
        """
        proxy, clock, taken = self._proxies[name], time.perf_counter_ns, []
        end = time.monotonic() + 20.0
        while not proxy.computes:
            if time.monotonic() > end:
                raise TimeoutError(f"{name} does not compute")
            time.sleep(0.001)
        try:
            for _ in range(repeat):
                time.sleep(pause)
                start = clock()
                proxy.add(1, 2)
                taken.append(clock() - start)
            return taken
        finally:
            proxy.computes = False

    def lookups(self, names: list[str]) -> list[float]:
        """Seconds of ``RemoteHERO(name)``, of HEROs whose process is connected."""
        taken = []
        for name in names:
            start = time.perf_counter()
            proxy = heros.RemoteHERO(name)
            taken.append(time.perf_counter() - start)
            proxy._destroy_hero()
        return taken

    def observe(self, repeat: int, expected: int) -> list[float]:
        """Seconds of ``HEROObserver()``, which then knows all HEROs."""
        taken = []
        for _ in range(repeat):
            start = time.perf_counter()
            observer = heros.HEROObserver()
            taken.append(time.perf_counter() - start)
            if len(observer.known_objects) != expected:
                raise ValueError(f"an observer knows {len(observer.known_objects)} HEROs of {expected}")
            observer._destroy_hero()
        return taken

    def hold_channels(self, name: str, count: int) -> int:
        """Open channels to the process of a HERO, each as another client's, ask it for a description over each of
        them, and keep them; how many are open now."""
        node = current()
        entry = node.registry.find("heros", name)[0]
        workers = self._workers = self._workers or Workers("held")
        for _ in range(count):
            own = Peer(secrets.token_hex(16), os.getpid(), node.peer.host)
            channel = connect(entry.address, own, entry.node_id, workers, Inbox())
            self._channels.append(channel)
            node.call_node(channel, NodeMember.BIND, [entry.realm, entry.name, entry.instance])
        return self.held()

    def held(self) -> int:
        """How many of these channels are open."""
        return sum(not channel.closed for channel in self._channels)

    # -- events -----------------------------------------------------------------------------------------------

    def subscribe(self, name: str) -> None:
        """Count the samples of a HERO from now on."""
        self._proxies[name].sample.connect(self._tally.take)

    def count(self, expected: int, quiet: float) -> dict[str, Any]:
        """As ``Client.count`` of the peers."""
        return self._tally.settle(expected, quiet)

    def publish(self, name: str, nbytes: int, seconds: float, limit: int) -> int:
        """Publish an array as fast as possible, for so long and at most so many; how many it were."""
        send, data, clock = self._heroes[name].sample, array(nbytes), time.perf_counter
        end, count = clock() + seconds, 0
        while count < limit and clock() < end:
            send(data)
            count += 1
        return count

    def publish_bursts(self, name: str, nbytes: int, bursts: int, burst: int, pause: float) -> list[float]:
        """Publish a few samples, again and again, with pauses in which the subscribers take them: for each burst the
        seconds of one sample. Of this thread's processor: the subscribers share it, and their time is not meant."""
        send, clock, taken = self._heroes[name].sample, time.thread_time, []
        data: Any = content(nbytes) if nbytes < 1024 else array(nbytes)
        for _ in range(bursts):
            start = clock()
            for _ in range(burst):
                send(data)
            taken.append((clock() - start) / burst)
            time.sleep(pause)
        return taken

    def memcpy(self, nbytes: int, repeat: int, targets: int = 1) -> list[float]:
        """Seconds of one copy of the same array into memory that was touched, of several targets in turn."""
        source, clock, taken = array(nbytes), time.perf_counter, []
        memory = [np.ones_like(source) for _ in range(targets)]
        for number in range(repeat):
            target = memory[number % targets]
            start = clock()
            np.copyto(target, source)
            taken.append(clock() - start)
        return taken

    # -- codec ------------------------------------------------------------------------------------------------

    def codec(self, loops: int, rounds: int) -> dict[str, list[float]]:
        """See ``codec_loops.measure``."""
        return codec_loops.measure(loops, rounds)

    def pid(self) -> int:
        return os.getpid()


_arrays: dict[int, NDArray[np.uint8]] = {}


def array(nbytes: int) -> NDArray[np.uint8]:
    """An ordinary array of the program's own, made once."""
    if nbytes not in _arrays:
        _arrays[nbytes] = np.frombuffer(content(nbytes), np.uint8).copy()
    return _arrays[nbytes]


if __name__ == "__main__":
    serve(Workbench)
