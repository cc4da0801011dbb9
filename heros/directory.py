"""All HEROs of a realm, on this host and on the network, each once.

A HERO of this host is usually seen twice: in the host's registry and on the network. It is one HERO (one instance
id), and it is there as long as either of the two sees it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from heros import select
from heros.entry import Entry, OnEntry
from heros.node import Node
from heros.workers import Strand

__all__ = ["Watch", "entries"]

log = logging.getLogger("heros.directory")


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

    Args:
        added, removed: called with the entry of a HERO.
    """

    def __init__(self, node: Node, realm: str, added: OnEntry, removed: OnEntry) -> None:
        self._added = added
        self._removed = removed
        self._lock = threading.Lock()
        self._strand = Strand()
        self._workers = node.workers
        self._seen: dict[str, set[str]] = {}
        self._closed = False
        host, network = _sources()
        self._unsubscribe: list[Callable[[], None]] = []
        if host:
            self._unsubscribe.append(
                node.registry.watch(realm, partial(self._came, "host"), partial(self._went, "host"))
            )
        if network:
            self._unsubscribe.append(node.network(realm).watch(partial(self._came, "net"), partial(self._went, "net")))

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
