"""This process's hand in the host's registry: what it adds, what it looks up, what it cleans up.

Cleaning up
    A process that was killed leaves its lock file, its socket and its entries. Whoever looks up a name removes the
    dead entries in that name's folder on the spot, and never returns one of them. The rest is done by a *sweep*, which
    goes through all entries and removes the dead nodes' lock files last. A sweep runs when a lookup has met something
    dead (on a worker), and when a process joins or leaves and finds that there is a dead node.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from heros.entry import Entry, OnEntry
from heros.exceptions import HEROSError
from heros.registry import locks
from heros.registry.checks import check_addition
from heros.registry.entries import Entries, folder_name
from heros.registry.nodes import Nodes
from heros.registry.runtime import explained, prepare
from heros.registry.watch import Watcher
from heros.workers import Workers

__all__ = ["Registry"]

log = logging.getLogger("heros.registry")

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a unix socket on Linux (sun_path, less the terminating zero)."""


class Registry:
    """The HEROs of this host, and this process's place among them. Thread-safe.

    Every method raises ``HEROSError``, in words, when the runtime directory cannot be used (full, read-only, too many
    open files).

    Args:
        directory: the runtime directory, see :func:`heros.registry.runtime_directory`.
        node_id: of this process; letters and digits.
        workers: run the callbacks of :meth:`watch`, and clean up.

    Attributes:
        socket_path: where this node's unix socket is to be bound. Removed by :meth:`close`.
    """

    def __init__(self, directory: Path, node_id: str, workers: Workers) -> None:
        self.directory = prepare(directory)
        self.node_id = node_id
        self._workers = workers
        self._lock = threading.Lock()
        self._own: dict[str, Entry] = {}
        self._sweep_due = False
        self._closed = False
        self._nodes = Nodes(self.directory / "nodes")
        self._entries = Entries(self.directory / "realms", self._nodes, self._sweep_soon)
        self._watcher = Watcher(self._entries, self._nodes, node_id, workers)
        self.socket_path = self._nodes.socket_path(node_id)
        self._check_socket_path()
        with explained("join the registry", self.directory):
            for folder in ("nodes", "realms"):
                (self.directory / folder).mkdir(0o700, exist_ok=True)
            self._directory_fd = _keep_from_aging(self.directory)
            try:
                self._lock_fd = self._nodes.join(node_id)
            except BaseException:
                os.close(self._directory_fd)
                raise
            if self._nodes.dead():
                self._sweep_soon()

    # -- this process's HEROs ---------------------------------------------------------------------------------

    def add(self, entry: Entry, exclusive: bool = False) -> list[Entry]:
        """Add a HERO of this node, or replace what is known of it (same instance).

        Returns:
            The live HEROs of this name that were there before, the newest first: a duplicate, which the caller reports.

        Raises:
            NameInUse: ``exclusive`` and there is one; nothing was added. Of any number of processes that add one name
                with ``exclusive`` at the same time, exactly one succeeds.
            ValueError: the name, or the realm, cannot be one; or the HERO is another node's.
        """
        with self._lock:
            check_addition(entry, self.node_id, self._closed)
            with explained(f"add HERO {entry.name!r}", self.directory):
                there = self._entries.add(entry, exclusive)
            self._own[entry.instance] = entry
            return there

    def remove(self, entry: Entry) -> None:
        """Withdraw a HERO of this node; nothing happens if it is not there."""
        with self._lock:
            self._own.pop(entry.instance, None)
            if not self._closed:
                with explained(f"remove HERO {entry.name!r}", self.directory):
                    self._entries.remove(entry)

    # -- everybody's ------------------------------------------------------------------------------------------

    def find(self, realm: str, name: str) -> list[Entry]:
        """The live HEROs of this name, the newest first. Costs the same however many other names there are."""
        with explained(f"look up HERO {name!r}", self.directory):
            return [entry for entry in self._entries.find(realm, name) if entry.name == name and entry.realm == realm]

    def entries(self, realm: str) -> list[Entry]:
        """All live HEROs of a realm, those of one name together, the newest of them first."""
        alive: dict[str, bool] = {}
        folder = folder_name(realm)
        with explained(f"list realm {realm!r}", self.directory):
            return [
                entry
                for name in sorted(self._entries.names(folder))
                for entry in self._entries.live(folder, name, alive)
                if entry.realm == realm
            ]

    def realms(self) -> list[str]:
        """The realms in which there is a live HERO, sorted."""
        alive: dict[str, bool] = {}
        found: set[str] = set()
        with explained("list the realms", self.directory):
            for folder in self._entries.realms():
                for name in self._entries.names(folder):
                    live = self._entries.live(folder, name, alive)
                    if live:
                        found.add(live[0].realm)
                        break
        return sorted(found)

    def watch(self, realm: str, added: OnEntry, removed: OnEntry) -> Callable[[], None]:
        """Be told of the HEROs of a realm: first of all that are there, then of those that come and go.

        Told promptly, also when a process is killed, and without any polling where the system allows it. The callbacks
        of all watches of this registry are called on a worker, in order, one at a time. One that raises is logged. An
        entry that is replaced is removed and added.

        Returns:
            A function that ends it: once it has returned, no callback starts.
        """
        if self._closed:
            raise HEROSError(f"cannot watch realm {realm!r}: this process has left the registry")
        return self._watcher.watch(realm, added, removed)

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Withdraw this process's HEROs and remove its files. May be called more than once; never raises."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._watcher.close()
            try:
                for entry in self._own.values():
                    self._entries.remove(entry)
                self._sweep()
                self._nodes.remove_files(self.node_id)
            except OSError as error:  # what is left is garbage from now on, and the next process that joins removes it
                log.warning("Leaving the registry in %s failed: %s", self.directory, error)
            finally:
                locks.release(self._lock_fd)
                os.close(self._directory_fd)

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent, without a change to anything.

        The child must not keep the copy of the parent's lock, which would keep the parent alive in everybody's eyes.
        """
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if not self._closed:
            self._closed = True
            self._watcher.abandon()
            os.close(self._lock_fd)  # not unlocked, only closed: the lock is the parent's
            os.close(self._directory_fd)

    def _check_socket_path(self) -> None:
        excess = len(os.fsencode(self.socket_path)) - SOCKET_PATH_BYTES
        if excess > 0:
            raise HEROSError(
                f"{self.directory} is {excess} bytes too long to hold a unix socket ({SOCKET_PATH_BYTES} bytes at "
                "most, with the socket's name). Set HEROS_RUNTIME_DIR to a shorter path."
            )

    def _sweep_soon(self) -> None:
        if not self._sweep_due and not self._closed:  # two at a time would do no harm
            self._sweep_due = True
            self._workers.post(self._sweep_in_background)

    def _sweep_in_background(self) -> None:
        self._sweep_due = False  # now, so that what is met from here on brings another sweep
        try:
            self._sweep()
        except OSError as error:
            log.warning("Cleaning up in %s failed: %s", self.directory, error)

    def _sweep(self) -> None:
        dead = self._nodes.dead()  # before the entries are read: these nodes write no more
        if dead:
            self._entries.sweep()
            for node_id in dead:
                self._nodes.remove_if_dead(node_id)


def _keep_from_aging(directory: Path) -> int:
    """Hold a shared lock on the directory, which tells systemd-tmpfiles not to remove old files from it.

    The default directory may be below /tmp, and the entries of an instrument server can be months old.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    locks.share(fd)
    return fd
