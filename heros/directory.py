"""All HEROs of a realm, on this host and on the network, each once.

A HERO of this host is usually seen twice: in the host's registry and on the network. It is one HERO (one instance
id), and it is there as long as either of the two sees it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from heros import select
from heros.entry import Entry, OnEntry
from heros.exceptions import HEROSError
from heros.node import Node
from heros.workers import Strand

__all__ = ["Watch", "entries"]

log = logging.getLogger("heros.directory")

CONFIRM_SECONDS: Final = 1.0
"""How long the host and the network have to tell of a HERO that was listed, until the list is made again."""


def _sources() -> tuple[bool, bool]:
    """Whether to look on the host, and on the network."""
    allowed = select.preference()
    return "shm" in allowed, "net" in allowed and select.network_enabled()


def entries(node: Node, realm: str, timeout: float) -> list[Entry]:
    """The HEROs of ``realm``, each once; those of this host first. ``timeout`` in seconds, for the network."""
    host, network = _sources()
    found: dict[str, Entry] = {}
    if host:
        found.update((entry.instance, entry) for entry in node.registry.entries(realm))
    if network:
        for entry in node.network(realm).entries(timeout):
            found.setdefault(entry.instance, entry)
    return list(found.values())


class Watch:
    """Tells of HEROs that come and go. Callbacks run on workers, one at a time, in order; first for those that are
    already there. A callback may block; it holds up only the others of its watch.

    The host and the network tell of those that are there when they come to it. :meth:`look` lists them now: the list is
    one more source. A HERO may be listed and gone before the others have seen it, and then none of them ever tells of
    its end. So what only the list knows is looked for again, until they know it or it is gone.

    Args:
        added, removed: called with the entry of a HERO.
    """

    def __init__(self, node: Node, realm: str, added: OnEntry, removed: OnEntry) -> None:
        self._node = node
        self._realm = realm
        self._added = added
        self._removed = removed
        self._lock = threading.Lock()
        self._strand = Strand()
        self._workers = node.workers
        self._seen: dict[str, set[str]] = {}
        self._listed: dict[str, Entry] = {}
        self._closed = False
        host, network = _sources()
        self._unsubscribe: list[Callable[[], None]] = []
        if host:
            self._unsubscribe.append(
                node.registry.watch(realm, partial(self._came, "host"), partial(self._went, "host"))
            )
        if network:
            self._unsubscribe.append(node.network(realm).watch(partial(self._came, "net"), partial(self._went, "net")))

    def look(self, timeout: float) -> bool:
        """List who is there, and wait until the callbacks are done with them: at most ``timeout`` seconds for the
        network and as many for the callbacks. Returns whether they are. Not to be called from a callback."""
        self._list(timeout)
        done = threading.Event()
        self._strand.post(done.set, self._workers)
        return done.wait(timeout)

    def _list(self, timeout: float) -> None:
        found = {entry.instance: entry for entry in entries(self._node, self._realm, timeout)}
        with self._lock:
            before, self._listed = self._listed, found
        for entry in found.values():
            self._came("list", entry)
        for instance, entry in before.items():
            if instance not in found:
                self._went("list", entry)
        self._workers.call_later(CONFIRM_SECONDS, self._confirm)

    def _confirm(self) -> None:
        """Let go of what the host or the network has told of, and look for the rest again."""
        if self._closed:
            return
        with self._lock:
            listed = self._listed
            self._listed = {i: entry for i, entry in listed.items() if self._seen.get(i) == {"list"}}
        for instance, entry in listed.items():
            if instance not in self._listed:
                self._went("list", entry)
        if self._listed:
            try:
                self._list(CONFIRM_SECONDS)
            except HEROSError as error:
                log.warning("The HEROs of realm %s could not be listed: %s. Trying again.", self._realm, error)
                self._workers.call_later(CONFIRM_SECONDS, self._confirm)

    def close(self) -> None:
        """No callback starts after this."""
        self._closed = True
        for unsubscribe in self._unsubscribe:
            unsubscribe()

    def _came(self, source: str, entry: Entry) -> None:
        with self._lock:
            sources = self._seen.setdefault(entry.instance, set())
            sources.add(source)
            if len(sources) == 1:
                self._strand.post(partial(self._tell, self._added, entry), self._workers)

    def _went(self, source: str, entry: Entry) -> None:
        with self._lock:
            sources = self._seen.get(entry.instance)
            if sources is None:
                return
            sources.discard(source)
            if not sources:
                del self._seen[entry.instance]
                self._strand.post(partial(self._tell, self._removed, entry), self._workers)

    def _tell(self, callback: OnEntry, entry: Entry) -> None:
        if self._closed:
            return
        try:
            callback(entry)
        except Exception:
            log.exception("A callback for HERO %s failed", entry.name)
