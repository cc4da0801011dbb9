"""What runs on the hosts of a test: a station, whose HEROs are called and followed, and a desk, which does so.

``hosts_peer.py station REALM NAME RUN FOLDER`` offers an instrument NAME that publishes, 200 times a second, the number
of its run and of the sample, and a datasource NAME-source. What it has published so far stands in FOLDER, also when it
was killed. Told to be ``quiet``, it publishes no more. It ends in an orderly manner with its standard input.

``hosts_peer.py desk REALM NAME ...`` calls and follows these from many threads at once, without a line that knows of
interruptions. Asked with ``status``, it says what each of them has seen; ``stop`` ends the callers first.

``hosts_peer.py router PORT`` is a Zenoh router and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heros import (
    DatasourceObserver,
    EventObserver,
    HEROObserver,
    LocalHERO,
    PolledLocalDatasourceHERO,
    RemoteHERO,
    event,
)
from heros.exceptions import HEROSError

PERIOD = 0.005
"""Seconds between two samples."""

PAUSE = 0.002
"""Seconds between two calls of one caller."""

_COUNT = struct.Struct("=q")


def published(folder: Path, name: str, run: int) -> int:
    """How many samples the run of a station has published."""
    count: int = _COUNT.unpack((folder / f"{name}-{run}").read_bytes())[0]
    return count


# -- the station ----------------------------------------------------------------------------------------------


class Instrument(LocalHERO):
    def __init__(self, name: str, realm: str, run: int, folder: Path) -> None:
        self._run = run
        path = folder / f"{name}-{run}"
        path.write_bytes(bytes(_COUNT.size))
        with open(path, "r+b") as file:
            self._published = mmap.mmap(file.fileno(), _COUNT.size)
        self._number = 0
        super().__init__(name, realm=realm)

    def add(self, a: int, b: int) -> int:
        return a + b

    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return self._run

    def host(self) -> str:
        return os.uname().nodename

    def _publish(self) -> None:
        self._number += 1
        _COUNT.pack_into(self._published, 0, self._number)
        self.tick((self._run, self._number))

    @event
    def tick(self, value: tuple[int, int]) -> tuple[int, int]:
        return value


class Source(PolledLocalDatasourceHERO):
    _observables = {"pressure": {"raw_unit": "mbar"}}  # noqa: RUF012
    pressure: float = 1013.25


def station(realm: str, name: str, run: str, folder: str) -> None:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    instrument = Instrument(name, realm, int(run), Path(folder))
    source = Source(f"{name}-source", realm=realm, loop=loop, interval=0.02)
    over = threading.Event()

    def tick() -> None:
        while not over.wait(PERIOD):
            instrument._publish()

    ticker = threading.Thread(target=tick)
    ticker.start()
    print("READY", flush=True)
    for line in sys.stdin:
        if line == "quiet\n":
            over.set()
            ticker.join()
            print("QUIET", flush=True)
    over.set()
    ticker.join()
    instrument._destroy_hero()
    source._destroy_hero()


# -- the desk -------------------------------------------------------------------------------------------------


class Follower:
    """What one subscriber was given: for each run the first and the last number, and how many."""

    def __init__(self) -> None:
        self.runs: dict[int, list[int]] = {}
        self.wrong: list[str] = []
        self.longest = 0.0
        self._last = 0, 0
        self._at: float | None = None

    def __call__(self, value: list[int]) -> None:
        now = time.monotonic()
        if self._at is not None:
            self.longest = max(self.longest, now - self._at)
        self._at = now
        run, number = value
        if (run, number) <= self._last:
            self.wrong.append(f"{run}/{number} after {self._last}")
        self._last = run, number
        seen = self.runs.setdefault(run, [number, number, 0])
        seen[1] = number
        seen[2] += 1


class Caller:
    """A thread that calls again and again, and how each call has ended."""

    def __init__(self, hero: RemoteHERO, call: Callable[[], Callable[..., int]], arguments: tuple[Any, ...]) -> None:
        self.ends: dict[str, int] = {}
        self.wrong: list[str] = []
        self.longest = 0.0
        self.since: float | None = None
        self._call = call
        self._arguments = arguments
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while not self._over.wait(PAUSE):
            self.since = time.monotonic()
            try:
                result = self._call()(*self._arguments)
                end = "result"
                if self._arguments == (2, 3) and result != 5:
                    self.wrong.append(repr(result))
            except HEROSError as error:
                end = type(error).__name__
            except BaseException as error:
                end = "wrong"
                self.wrong.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - self.since)
            self.since = None
            self.ends[end] = self.ends.get(end, 0) + 1

    def stop(self) -> None:
        self._over.set()


class Desk:
    """Everything that follows one station."""

    def __init__(self, realm: str, name: str, everybody: HEROObserver) -> None:
        self.name = name
        self.everybody = everybody
        self.hero = RemoteHERO(name, realm=realm, wait=30.0)
        self.direct, self.observed = Follower(), Follower()
        self.hero.tick.connect(self.direct)
        self.observer = EventObserver(name, "tick", realm=realm)
        self.observer.register_callback(lambda _, value: self.observed(value))
        self.data = 0
        self.datasource = DatasourceObserver(f"{name}-source", realm=realm)
        self.datasource.register_observable_data_callback(self._on_data)
        self.callers = [
            Caller(self.hero, lambda: self.hero.add, (2, 3)),
            Caller(self.hero, lambda: self.hero.add, (2, 3)),
            Caller(self.hero, lambda: self.hero.nap, (0.05,)),
            Caller(self.hero, lambda: self.hero.add.options(timeout=0.5), (2, 3)),
        ]

    def _on_data(self, name: str, data: object) -> None:
        self.data += 1

    def stop(self) -> None:
        for caller in self.callers:
            caller.stop()
        for caller in self.callers:
            caller.thread.join()

    def status(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "transport": self.hero._binding.bound.transport,
            "direct": vars(self.direct) | {"missed": self.hero.tick.missed},
            "observed": vars(self.observed) | {"missed": self.observer.missed.get(self.name, 0)},
            "data": self.data,
            "known": self.name in self.everybody.known_objects,
            "callers": [
                {
                    "ends": dict(caller.ends),
                    "wrong": caller.wrong,
                    "longest": caller.longest,
                    "since": None if caller.since is None else now - caller.since,
                }
                for caller in self.callers
            ],
        }


def desk(realm: str, *names: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S")
    everybody = HEROObserver(realm)
    desks = {name: Desk(realm, name, everybody) for name in names}
    print("READY", flush=True)
    for line in sys.stdin:
        if line == "stop\n":
            for each in desks.values():
                each.stop()
        print("STATUS", json.dumps({name: each.status() for name, each in desks.items()}), flush=True)


def router(port: str) -> None:
    import zenoh

    config = zenoh.Config()
    for key, value in {
        "mode": "router",
        "listen/endpoints": [f"tcp/0.0.0.0:{port}"],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }.items():
        config.insert_json5(key, json.dumps(value))
    with zenoh.open(config):
        print("READY", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    {"station": station, "desk": desk, "router": router}[sys.argv[1]](*sys.argv[2:])
