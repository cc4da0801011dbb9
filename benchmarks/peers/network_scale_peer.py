"""Many HEROs in one process, and many proxies in another one: of this package, and of the original, which have the same
API. ``network_scale`` starts it: ``network_scale_peer.py [WITHOUT]``, where ``WITHOUT`` is a module that
shall not be there.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import zenoh
from declarations import count_declarations
from peer import serve

declared = count_declarations(zenoh)
if len(sys.argv) > 1:
    sys.modules[sys.argv[1]] = None  # type: ignore[assignment]

import heros  # noqa: E402


class Instrument(heros.LocalHERO):
    """Ten members: five methods, three attributes, two events."""

    gain: float = 1.0
    exposure: float = 0.01
    label: str = "instrument"

    def add(self, a: int, b: int) -> int:
        return a + b

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self, channel: int = 0) -> float:
        return self.gain * channel

    def move(self, position: float, speed: float = 1.0) -> float:
        return position / speed

    @heros.event
    def sample(self, data: Any) -> Any:
        return data

    @heros.event
    def finished(self, count: int) -> int:
        return count


class Peer:
    """Each public method is a request; see ``peer.py``."""

    def __init__(self) -> None:
        self._heroes: list[Instrument] = []
        self._proxies: list[Any] = []
        self._observers: list[Any] = []

    def close(self) -> None:
        os._exit(0)  # threads of the original keep their process, and to take back everything is not measured

    def start(self) -> dict[str, str]:
        import numpy  # noqa: F401  # which both need, and one may import later

        return {name: version(name) for name in ("heros", "eclipse-zenoh")} | {
            "python": ".".join(map(str, sys.version_info[:3]))
        }

    def offer(self, first: int, last: int) -> list[float]:
        """Make the HEROs of these numbers, without the last: the seconds of each."""
        taken, clock = [], time.perf_counter
        for number in range(first, last):
            start = clock()
            hero = Instrument(f"hero-{number}")
            taken.append(clock() - start)
            self._heroes.append(hero)
        return taken

    def observe(self, expected: int, at_most: float) -> float:
        """Seconds until a new ``HEROObserver`` knows so many HEROs, the making of it included."""
        clock = time.perf_counter
        start = clock()
        observer = heros.HEROObserver()
        while len(observer.known_objects) < expected:
            if clock() - start > at_most:
                raise TimeoutError(f"an observer knows {len(observer.known_objects)} HEROs of {expected}")
            time.sleep(0.001)
        taken = clock() - start
        self._observers.append(observer)
        return taken

    def use(self, first: int, last: int) -> dict[str, float]:
        """Make proxies of these HEROs, then call a method of each: the seconds of both."""
        clock = time.perf_counter
        start = clock()
        proxies = [heros.RemoteHERO(f"hero-{number}") for number in range(first, last)]
        made = clock()
        for proxy in proxies:
            if (result := proxy.add(1, 2)) != 3:  # type: ignore[attr-defined]
                raise ValueError(f"1 + 2 is {result!r}")
        called = clock()
        self._proxies += proxies
        for proxy in proxies if hasattr(heros, "transport_of") else ():
            if (used := heros.transport_of(proxy)) != "net":
                raise RuntimeError(f"calls go over {used}, not over the network")
        return {"made": made - start, "called": called - made}

    def state(self) -> dict[str, Any]:
        """Entities, threads, and bytes that this process alone has."""
        gc.collect()
        private = 0
        with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    private += int(line.split()[1]) * 1024
        return {
            "entities": {name: count for name, count in declared.items() if count},
            "threads": len(os.listdir("/proc/self/task")),
            "memory": private,
        }


if __name__ == "__main__":
    serve(Peer)
