"""Which HEROs are in a realm: announcing our own, finding others, and being told of changes.

Finding asks the queryables of all HEROs of a name. Watching follows nodes and not HEROs: a liveliness token of two
HEROs that share a name is one key, and the end of one of them would not show. So a watcher fetches the directory of
each node that is alive, once, and then applies the numbered changes that the node publishes; a number that is missing
makes it fetch the directory again. When the node's token goes, so do its HEROs.

What is sent
    - A query carries the payload ``heros2``; one without it is of protocol 1.0, which ``legacy`` answers. The answers
      are JSON in UTF-8, with the encoding ``application/json``.
    - ``_discover`` answers with the entry of the HERO (``entry``).
    - ``directory`` answers with ``{"version": n, "entries": [entry, ...]}``: all HEROs of the node after its change
      number n, in any order. The number is 0 before the first.
    - ``changes`` carries ``{"version": n, "added": true or false, "entry": entry}``: change number n added that HERO to
      the directory, or removed it.

HEROs of protocol 1.0 answer a query whatever its payload, in CBOR; so they are found by the same query. Watching them
is ``legacy.following``'s.

Everything that changes the tables of a watcher, and every call of a watcher, runs on one strand, in order.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from heros import limits
from heros.entry import Entry, OnEntry
from heros.exceptions import DecodeError, RemoteTransportError
from heros.net import keys
from heros.net.bus import Answer, Bus, Declared, Question
from heros.net.legacy.following import Following, read_answers
from heros.net.legacy.gateway import Gateway
from heros.transport import Task
from heros.workers import Strand, Workers

__all__ = ["OUR_QUERY", "Directory", "Discovery", "Finder", "change_to_json", "checked_entry"]

log = logging.getLogger("heros.net")

OUR_QUERY: Final = b"heros2"
"""Payload of our discovery queries. Those of protocol 1.0 have none; they are not answered here."""

DECLARE_SECONDS: Final = 1.0
"""How long the making of a HERO waits for zenoh to declare it, which takes well below a millisecond."""

LOOK_SECONDS: Final = 0.25
"""How often it is looked whether anybody is connected by now: zenoh does not tell."""

FETCH_SECONDS: Final = 5.0
"""How long the answer with a node's directory is waited for; it comes in milliseconds, unless the node is stopped."""

REFETCH_SECONDS: Final = 1.0
"""After which a directory that did not come is asked for again, so that a stopped node costs next to nothing."""


class Directory:
    """The HEROs of this node that can be asked for, with a number that grows with every change. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._version = 0
        self.zid = ""
        """The id of the session, once there is one."""

    def add(self, entry: Entry) -> int:
        """The number of this change."""
        with self._lock:
            self._entries[entry.instance] = entry
            self._version += 1
            return self._version

    def remove(self, entry: Entry) -> int | None:
        """The number of this change; None when the entry was not there."""
        with self._lock:
            if self._entries.pop(entry.instance, None) is None:
                return None
            self._version += 1
            return self._version

    def tagged(self, entry: Entry) -> Entry:
        """``entry`` with the tag by which existing programs tell sessions apart."""
        return replace(entry, tags=(*entry.tags, f"_zid:{self.zid}")) if self.zid else entry

    def to_json(self) -> bytes:
        with self._lock:
            entries = b",".join(self.tagged(entry).to_json() for entry in self._entries.values())
            return b'{"version":%d,"entries":[%b]}' % (self._version, entries)


def change_to_json(version: int, added: Entry | None, removed: Entry | None) -> bytes:
    entry = added or removed
    return b'{"version":%d,"added":%s,"entry":%b}' % (
        version,
        b"true" if added else b"false",
        entry.to_json() if entry else b"null",
    )


def _parse(data: bytes) -> dict[str, Any]:
    """The fields of a directory or a change, of which ``version`` is checked. Raises ``DecodeError``."""
    if len(data) > limits.NET_DIRECTORY_BYTES:
        raise DecodeError(f"a directory of {len(data)} bytes; the limit is {limits.NET_DIRECTORY_BYTES}")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("version"), int):
        raise DecodeError("a directory without a version")
    return fields


class Finder:
    """Asks for HEROs and waits for the answers. Thread-safe; every method needs an open session."""

    def __init__(self, realm: str, bus: Bus) -> None:
        self._realm = realm
        self._bus = bus
        self.settled = time.monotonic() + limits.NET_SETTLE_SECONDS
        """When the session is old enough to have met everybody, on a quiet network."""

    def find(self, name: str, timeout: float) -> list[Entry]:
        """The HEROs called ``name``; ``*`` means all.

        Returns as soon as everybody has answered. Without an answer it waits, up to ``timeout`` seconds, while it is
        too early to tell: nobody is connected, or not for long enough for everybody to be.
        """
        deadline = time.monotonic() + timeout
        appeared = threading.Event()
        token: Declared | None = None
        settled = self.settled
        connected = self._bus.connected()
        try:
            while True:
                found = self._ask(name, max(0.05, deadline - time.monotonic()))
                now = time.monotonic()
                if found or now >= deadline or (connected and now >= settled):
                    return found
                if token is None:
                    key = keys.health(self._realm, name)
                    token = self._bus.watch_tokens(key, lambda _, present: appeared.set() if present else None)
                elif connected:
                    appeared.wait(min(deadline, settled) - now)
                else:
                    appeared.wait(min(deadline - now, LOOK_SECONDS))
                appeared.clear()
                if not connected and self._bus.connected():
                    connected = True
                    settled = max(settled, time.monotonic() + limits.NET_SETTLE_SECONDS)
        finally:
            if token is not None:
                self._bus.undeclare(token)

    def _ask(self, name: str, timeout: float) -> list[Entry]:
        found: dict[tuple[str, str], Entry] = {}
        others: list[Answer] = []
        done = threading.Event()

        def on_reply(key: str, data: bytes) -> None:
            try:
                entry = checked_entry(Entry.from_json(data[: limits.NET_DIRECTORY_BYTES]), self._realm, None)
            except DecodeError as error:
                log.warning("An answer to a discovery is ignored: %s", error)
                return
            if key == keys.discover(self._realm, entry.name):
                found[entry.node_id, entry.instance] = entry

        self._bus.ask(keys.discover(self._realm, name), OUR_QUERY, timeout, on_reply, done.set, others.append)
        done.wait(timeout + LOOK_SECONDS)
        entries = list(found.values())
        if others:
            entries.extend(read_answers(others, self._realm).values())
        return entries


def checked_entry(entry: Entry, realm: str, node_id: str | None) -> Entry:
    """``entry``, if it is of ``realm`` and, where that is given, of the node. Raises ``DecodeError``."""
    if entry.realm != realm or (node_id is not None and entry.node_id != node_id):
        raise DecodeError(f"HERO {entry.name!r} claims another realm or node: {entry.realm!r}, {entry.node_id}")
    return entry


@dataclass
class _Node:
    """What a watcher knows of one node."""

    version: int | None = None
    """Of the directory that ``entries`` is; None until it was fetched."""
    newest: int = 0
    fetching: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class _Watcher:
    added: OnEntry
    removed: OnEntry


class Discovery:
    """What this node announces, and what its watchers know. Thread-safe.

    Args:
        own: this node's id.
        gateway: answers what programs of protocol 1.0 ask our HEROs.
    """

    def __init__(self, realm: str, own: str, bus: Bus, workers: Workers, gateway: Gateway) -> None:
        self.directory = Directory()
        self._gateway = gateway
        self._realm = realm
        self._own = own
        self._bus = bus
        self._workers = workers
        self._strand = Strand()
        self._running = 0
        """The thread that runs a task of the strand."""
        self._announced: dict[str, Entry] = {}
        self._declared: dict[str, list[Declared]] = {}
        self._opened = False
        self._watchers: list[_Watcher] = []
        self._nodes: dict[str, _Node] = {}
        self._others = Following(realm, bus, OUR_QUERY, self._after, self._our_names, self._tell)
        self._alive: set[str] = set()
        self._following = False
        self._closed = False

    def _later(self, task: Task) -> None:
        """Run ``task`` after everything before it, on a worker."""
        self._strand.post(partial(self._tolerant, task), self._workers)

    def _after(self, delay: float, task: Task) -> None:
        if delay:
            self._workers.call_later(delay, partial(self._later, task))
        else:
            self._later(task)

    def _tolerant(self, task: Task) -> None:
        if self._closed:
            return
        self._running = threading.get_ident()
        try:
            task()
        except RemoteTransportError as error:
            log.warning("Discovery in realm %s: %s", self._realm, error)
        finally:
            self._running = 0

    # -- our own HEROs ----------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The session is open: announce what was to be announced before, and follow others if somebody watches."""
        self._later(self._open)

    def announce(self, entry: Entry) -> None:
        """Returns when it is declared, if the session is open: who is then told of the HERO, and is a program of
        protocol 1.0, asks for it at once, and only once."""
        self._later(partial(self._announce, entry))
        if self._opened and self._running != threading.get_ident():
            done = threading.Event()
            self._strand.post(done.set, self._workers)
            done.wait(DECLARE_SECONDS)

    def withdraw(self, entry: Entry) -> None:
        self._later(partial(self._withdraw, entry))

    def _open(self) -> None:
        self._opened = True
        self.directory.zid = self._bus.zid
        self._gateway.open()
        for entry in self._announced.values():
            self._offer(entry)
        if self._watchers:
            self._follow()

    def _offer(self, entry: Entry) -> None:
        """Let others find a HERO. Whoever hears of it, by its token or from the directory, may ask for it at once."""
        tagged = self.directory.tagged(entry)
        self._gateway.offer(tagged)
        queryable = self._bus.serve(
            keys.under(self._realm, entry.name), partial(self._on_question, tagged, tagged.to_json())
        )
        token = self._bus.token(keys.health(self._realm, entry.name))
        self._declared[entry.instance] = [queryable, token]
        change = change_to_json(self.directory.add(entry), tagged, None)
        self._bus.put(keys.changes(self._realm, self._own), change)

    def _on_question(self, entry: Entry, answer: bytes, question: Question) -> None:
        if question.payload != OUR_QUERY:
            self._gateway.take(entry, question)
            return
        if keys.asked_member(question.key) == "_discover":
            question.reply(keys.discover(self._realm, entry.name), answer, "json")
        question.close()

    def _announce(self, entry: Entry) -> None:
        if entry.instance not in self._announced:
            self._announced[entry.instance] = entry
            if self._opened:
                self._offer(entry)
            self._tell("added", [entry])

    def _withdraw(self, entry: Entry) -> None:
        if self._announced.pop(entry.instance, None) is None:
            return
        version = self.directory.remove(entry)
        self._gateway.withdraw(entry)
        for declared in self._declared.pop(entry.instance, []):
            self._bus.undeclare(declared)  # the token last: programs of the original ask once more when it goes
        if version is not None:
            self._bus.put(keys.changes(self._realm, self._own), change_to_json(version, None, entry))
        self._tell_gone([entry])

    # -- watching ---------------------------------------------------------------------------------------------

    def watch(self, added: OnEntry, removed: OnEntry) -> Callable[[], None]:
        watcher = _Watcher(added, removed)
        self._later(partial(self._begin, watcher))
        return partial(self._later, partial(self._stop, watcher))

    def node_came(self, node_id: str) -> None:
        self._later(partial(self._came, node_id))

    def node_went(self, node_id: str) -> None:
        self._later(partial(self._went, node_id))

    def close(self) -> None:
        self._closed = True

    # -- on the strand ----------------------------------------------------------------------------------------

    def _begin(self, watcher: _Watcher) -> None:
        self._watchers.append(watcher)
        for entry in [*self._our_entries(), *self._others.entries()]:
            self._call(watcher.added, entry)
        if self._opened:
            self._follow()

    def _our_entries(self) -> list[Entry]:
        """Of all nodes, as far as they are known."""
        return list(self._announced.values()) + [
            entry for node in self._nodes.values() for entry in node.entries.values()
        ]

    def _our_names(self) -> set[str]:
        return {entry.name for entry in self._our_entries()}

    def _stop(self, watcher: _Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _follow(self) -> None:
        """Begin to keep the tables, with the first watcher. They are kept from then on."""
        if not self._following:
            self._following = True
            self._bus.subscribe(keys.changes(self._realm), self._on_change)
            self._others.follow()
            for node_id in self._alive:
                self._fetch(node_id)

    def _came(self, node_id: str) -> None:
        if node_id != self._own:
            self._alive.add(node_id)
            if self._following:
                self._fetch(node_id)

    def _went(self, node_id: str) -> None:
        self._alive.discard(node_id)
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._tell_gone(list(node.entries.values()))

    def _fetch(self, node_id: str) -> None:
        node = self._nodes.setdefault(node_id, _Node())
        if node.fetching:
            return
        node.fetching = True
        answers: list[bytes] = []
        self._bus.ask(
            keys.directory(self._realm, node_id),
            OUR_QUERY,
            FETCH_SECONDS,
            lambda _, data: answers.append(data),
            lambda: self._later(partial(self._fetched, node_id, node, answers)),
        )

    def _fetched(self, node_id: str, node: _Node, answers: list[bytes]) -> None:
        node.fetching = False
        if self._nodes.get(node_id) is not node:
            return  # it went, meanwhile
        if answers:
            try:
                version, entries = self._read_directory(node_id, answers[0])
            except DecodeError as error:
                log.warning("The directory of node %s is ignored: %s", node_id, error)
                return
            self._replace(node, version, entries)
            if version >= node.newest:
                return
        self._workers.call_later(
            0.0 if answers else REFETCH_SECONDS, partial(self._later, partial(self._refetch, node_id, node))
        )

    def _refetch(self, node_id: str, node: _Node) -> None:
        if self._nodes.get(node_id) is node:
            self._fetch(node_id)

    def _read_directory(self, node_id: str, data: bytes) -> tuple[int, dict[str, Entry]]:
        fields = _parse(data)
        if not isinstance(fields.get("entries"), list):
            raise DecodeError("it has no entries")
        entries = (checked_entry(Entry.from_dict(item), self._realm, node_id) for item in fields["entries"])
        return fields["version"], {entry.instance: entry for entry in entries}

    def _replace(self, node: _Node, version: int, entries: dict[str, Entry]) -> None:
        before, node.entries, node.version = node.entries, entries, version
        self._tell_gone([entry for instance, entry in before.items() if instance not in entries])
        self._tell("added", [entry for instance, entry in entries.items() if instance not in before])

    def _on_change(self, key: str, data: bytes, attachment: bytes | None) -> None:
        node_id = keys.node_of(key)
        if node_id != self._own:
            self._later(partial(self._change, node_id, data))

    def _change(self, node_id: str, data: bytes) -> None:
        node = self._nodes.get(node_id)
        if node is None:
            return  # its token is still to come, and with it the directory
        try:
            fields = _parse(data)
            entry = checked_entry(Entry.from_dict(fields.get("entry")), self._realm, node_id)
        except DecodeError as error:
            log.warning("A change of the directory of node %s is ignored: %s", node_id, error)
            return
        version = fields["version"]
        node.newest = max(node.newest, version)
        if node.version is None or version <= node.version:
            return  # what is being fetched, or was fetched, has it
        if version != node.version + 1:
            self._fetch(node_id)
        elif fields.get("added"):
            self._replace(node, version, {**node.entries, entry.instance: entry})
        else:
            self._replace(node, version, {i: e for i, e in node.entries.items() if i != entry.instance})

    def _tell_gone(self, entries: list[Entry]) -> None:
        self._tell("removed", entries)
        self._others.look_again(entries)

    def _tell(self, what: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            for watcher in list(self._watchers):
                self._call(watcher.added if what == "added" else watcher.removed, entry)

    def _call(self, callback: OnEntry, entry: Entry) -> None:
        try:
            callback(entry)
        except Exception:
            log.exception("A callback for added or removed HEROs raised")
