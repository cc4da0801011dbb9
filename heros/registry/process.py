"""The registry where there are no host entries (not Linux): it reaches no further than this process.

HEROs of other processes are then found on the network, on whichever host they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from heros.entry import Entry, OnEntry
from heros.exceptions import HEROSError
from heros.registry.checks import check_addition, name_in_use, tell
from heros.workers import Strand, Workers

__all__ = ["Registry"]


class _Watch:
    def __init__(self, realm: str, added: OnEntry, removed: OnEntry, workers: Workers) -> None:
        self.realm = realm
        self.added = added
        self.removed = removed
        self.workers = workers
        self.active = True
        self.strand = Strand()
        self.known: dict[str, Entry] = {}

    def look_soon(self, table: _Table) -> None:
        self.strand.post(partial(self._look, table), self.workers)

    def _look(self, table: _Table) -> None:
        """Tell the difference to what was told before, so that the order of the tasks does not matter."""
        now = {entry.instance: entry for entry in table.all() if entry.realm == self.realm}
        before, self.known = self.known, now
        for instance, entry in before.items():
            if now.get(instance) != entry:
                self._tell(self.removed, entry)
        for instance, entry in now.items():
            if before.get(instance) != entry:
                self._tell(self.added, entry)

    def _tell(self, callback: OnEntry, entry: Entry) -> None:
        if self.active:
            tell(callback, entry)


class _Table:
    """The HEROs of this process, the oldest first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        self.watches: list[_Watch] = []

    def all(self) -> list[Entry]:
        with self.lock:
            return list(self.entries.values())

    def changed(self) -> None:
        for watch in list(self.watches):
            watch.look_soon(self)


_tables: dict[Path, _Table] = {}  # one for each runtime directory, as on a host that has entries


class Registry:
    """See :class:`heros.registry.host.Registry`: the same, but for the HEROs of this process. Thread-safe."""

    def __init__(self, directory: Path, node_id: str, workers: Workers) -> None:
        self.directory = directory
        self.node_id = node_id
        self.socket_path = directory / "nodes" / f"{node_id}.sock"
        self._workers = workers
        self._table = _tables.setdefault(directory, _Table())
        self._watches: list[_Watch] = []
        self._closed = False

    def add(self, entry: Entry, exclusive: bool = False) -> list[Entry]:
        check_addition(entry, self.node_id, self._closed)
        with self._table.lock:
            found = self._matching(entry.realm, entry.name)
            there = [other for other in found if other.instance != entry.instance]
            if exclusive and there:
                raise name_in_use(there[0])
            self._table.entries.pop(entry.instance, None)  # to the end: it is the newest now
            self._table.entries[entry.instance] = entry
        self._table.changed()
        return there

    def remove(self, entry: Entry) -> None:
        with self._table.lock:
            self._table.entries.pop(entry.instance, None)
        self._table.changed()

    def find(self, realm: str, name: str) -> list[Entry]:
        with self._table.lock:
            return self._matching(realm, name)

    def entries(self, realm: str) -> list[Entry]:
        newest_first = reversed(self._table.all())
        return sorted((entry for entry in newest_first if entry.realm == realm), key=lambda entry: entry.name)

    def realms(self) -> list[str]:
        return sorted({entry.realm for entry in self._table.all()})

    def watch(self, realm: str, added: OnEntry, removed: OnEntry) -> Callable[[], None]:
        if self._closed:
            raise HEROSError(f"cannot watch realm {realm!r}: this process has left the registry")
        watch = _Watch(realm, added, removed, self._workers)
        self._watches.append(watch)
        self._table.watches.append(watch)
        watch.look_soon(self._table)
        return partial(self._stop, watch)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for watch in list(self._watches):
            self._stop(watch)
        for entry in self._table.all():
            if entry.node_id == self.node_id:
                self.remove(entry)

    def abandon(self) -> None:
        self._closed = True
        _tables.pop(self.directory, None)  # this process starts with a table, and a lock, of its own

    def _matching(self, realm: str, name: str) -> list[Entry]:
        return [entry for entry in reversed(self._table.entries.values()) if (entry.realm, entry.name) == (realm, name)]

    def _stop(self, watch: _Watch) -> None:
        watch.active = False
        for watches in (self._watches, self._table.watches):
            if watch in watches:
                watches.remove(watch)
