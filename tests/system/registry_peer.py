"""A process of its own for the tests of the registry: does what it is told on stdin, a line of JSON each.

``python registry_peer.py <directory>``; a command is ``[name, *arguments]``, its answer one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

from heros.entry import Entry
from heros.exceptions import HEROSError, NameInUse
from heros.registry import Registry, entries, locks
from heros.workers import Workers


def kill_self(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def stop_self(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class Peer:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry: Registry
        self.entries: dict[str, Entry] = {}

    def open(self) -> str:
        self.registry = Registry(self.directory, uuid.uuid4().hex, Workers())
        return self.registry.node_id

    def add(self, name: str, exclusive: bool = False) -> str:
        entry = Entry("lab", name, uuid.uuid4().hex, self.registry.node_id, os.getpid(), "here", "Peer")
        try:
            self.registry.add(entry, exclusive)
        except NameInUse:
            return ""
        self.entries[name] = entry
        return entry.instance

    def add_many(self, count: int) -> None:
        for number in range(count):
            self.add(f"s{number}")

    def remove(self, name: str) -> None:
        self.registry.remove(self.entries.pop(name))

    def find(self, name: str) -> list[str]:
        return [entry.instance for entry in self.registry.find("lab", name)]

    def add_at(self, when: float, name: str) -> str:
        """Try for a name at a given time of the monotonic clock, which all processes share."""
        while time.monotonic() < when:
            pass
        return self.add(name, True)

    def storm(self, seconds: float, seed: int) -> list[int]:
        """Add, remove, look up and list a few names for some time; how often, and how often an own one was missing."""
        choose = random.Random(seed)
        rounds = missing = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rounds += 1
            name = f"s{choose.randrange(4)}"
            if name in self.entries:
                self.remove(name)
            else:
                self.add(name, choose.random() < 0.3)
            for own in self.entries.values():
                missing += own.instance not in self.find(own.name)
            listed = {entry.instance for entry in self.registry.entries("lab")}
            missing += len({own.instance for own in self.entries.values()} - listed)
        return [rounds, missing]

    def rejoin(self, seconds: float) -> int:
        """Join and leave again and again, each time with a HERO; how often."""
        rounds = 0
        workers = Workers()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            registry = Registry(self.directory, uuid.uuid4().hex, workers)
            entry = Entry("lab", "rejoin", uuid.uuid4().hex, registry.node_id)
            registry.add(entry)
            assert entry in registry.find("lab", "rejoin")
            registry.close()
            rounds += 1
        workers.stop()
        return rounds

    def sweep(self, seconds: float) -> int:
        """Clean up without a pause."""
        rounds = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.registry._sweep()
            self.registry._entries.sweep()
            rounds += 1
        return rounds

    def fork(self, abandon: bool) -> int:
        """A child that lives on after its parent."""
        pid = os.fork()
        if pid == 0:
            if abandon:
                self.registry.abandon()
            else:
                for name in ("0", "1", "2"):
                    os.close(int(name))
            signal.pause()
        return pid

    def die_before_rename(self, name: str) -> None:
        os.rename = kill_self  # type: ignore[assignment]
        self.add(name)

    def die_before_lock(self) -> None:
        locks.take = kill_self  # type: ignore[assignment]
        self.open()

    def stop_before_rename(self, name: str) -> None:
        rename = os.rename

        def stop_and_rename(*arguments: Any, **keywords: Any) -> None:
            stop_self()
            rename(*arguments, **keywords)

        os.rename = stop_and_rename
        self.add(name)

    def fork_before_rename(self, name: str) -> int:
        """Fork in the middle of an addition; the child keeps its copies of the descriptors."""
        rename, children = os.rename, []

        def fork_and_rename(*arguments: Any, **keywords: Any) -> None:
            children.append(self.fork(False))
            rename(*arguments, **keywords)

        os.rename = fork_and_rename
        self.add(name)
        os.rename = rename
        return children[0]

    def patience(self, seconds: float) -> None:
        entries.LOCK_SECONDS = seconds  # type: ignore[misc]

    def close(self) -> None:
        self.registry.close()


def main() -> None:
    peer = Peer(Path(sys.argv[1]))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = {"value": getattr(peer, command)(*arguments)}
        except HEROSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
