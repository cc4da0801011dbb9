"""Who comes and who goes on this host.

Theory of operation
    For each watch the watcher remembers what it has told. Whatever happens, it does one thing: it reads a name's
    folder again, compares, and tells the difference. So it does not matter whether an event comes twice, late, or
    stands for many, and a lost event is made good by the next.

What wakes it
    - inotify: one watch on the folder of the realm, where additions and removals show as events that carry the folder
      of the name (see ``entries``: Telling); and one on the folder of the realms, as a realm's folder comes and goes.
    - pidfd, one for each node that has HEROs here: the kernel's word that a process has ended. It is only an occasion
      to look at the lock, which decides. A pid can have been reused before the pidfd was opened: so the lock is looked
      at once more after that. If the node lived then, its pid was still its own.
    - a look every ``POLL_SECONDS`` at what cannot be watched so: nodes in another pid namespace; a node whose lock is
      held although its process has ended (by a child that it has just forked); all, by their folders' times, where
      there is no inotify or no more of it (by default 128 instances a user); and again what could not be read.

Threads
    All state belongs to one strand. ``watch``, its end and the handlers of the descriptors only queue tasks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from heros.entry import Entry, OnEntry
from heros.registry.checks import tell
from heros.registry.entries import Entries, folder_name
from heros.registry.inotify import ATTRIB, CREATE, DELETE, IGNORED, OVERFLOW, Inotify
from heros.registry.nodes import Nodes
from heros.transport import Task
from heros.workers import Strand, Timer, Workers

__all__ = ["Watcher"]

log = logging.getLogger("heros.registry")

POLL_SECONDS: Final = 1.0
"""Between two looks at what the kernel does not tell of: soon enough for people, and nothing for the CPU."""


class _Watch:
    """One call of ``watch``: whom to tell, and what was told."""

    def __init__(self, realm: str, added: OnEntry, removed: OnEntry) -> None:
        self.realm = realm
        self.folder = folder_name(realm)
        self.added = added
        self.removed = removed
        self.active = True
        self.known: dict[str, dict[str, Entry]] = {}  # folder of the name -> instance -> entry
        self.times: dict[str, int] = {}  # folder of the name -> its time when it was last polled

    def tell(self, callback: OnEntry, entry: Entry) -> None:
        if self.active:
            tell(callback, entry)


class _Guard:
    """What tells of a node's end: a pidfd, or a timer."""

    def __init__(self) -> None:
        self.entries = 0
        self.pidfd = -1
        self.timer: Timer | None = None


class Watcher:
    """Tells of the HEROs that come and go. Thread-safe. It has no descriptor while nobody watches."""

    def __init__(self, entries: Entries, nodes: Nodes, node_id: str, workers: Workers) -> None:
        self._entries = entries
        self._nodes = nodes
        self._node_id = node_id
        self._workers = workers
        self._strand = Strand()
        self._watches: list[_Watch] = []
        self._guards: dict[str, _Guard] = {}
        self._inotify: Inotify | None = None
        self._folders: dict[int, str] = {}  # number of an inotify watch -> folder of a realm; "": that of the realms
        self._timer: Timer | None = None
        self._closed = False

    def watch(self, realm: str, added: OnEntry, removed: OnEntry) -> Callable[[], None]:
        watch = _Watch(realm, added, removed)

        def stop() -> None:
            watch.active = False
            self._soon(partial(self._end, watch))

        self._soon(partial(self._begin, watch))
        return stop

    def close(self) -> None:
        """Tell nobody any more, and close the descriptors: now, or when the callback that is running has ended."""
        self._closed = True
        self._strand.run(self._shut)

    def abandon(self) -> None:
        """In a forked child: close the copies. The parent's epoll, which this process shares, is left alone."""
        self._closed = True
        for fd in [guard.pidfd for guard in self._guards.values()] + [self._inotify.fd if self._inotify else -1]:
            if fd >= 0:
                os.close(fd)
        self._guards.clear()
        self._inotify = None

    # -- everything below runs in the strand ------------------------------------------------------------------

    def _soon(self, task: Task) -> None:
        self._strand.post(task, self._workers)

    def _begin(self, watch: _Watch) -> None:
        if self._closed or not watch.active:
            return
        self._watches.append(watch)
        if self._inotify is None and self._timer is None:
            self._open_inotify()
        self._attach(watch.folder)
        self._look_at_all([watch])

    def _end(self, watch: _Watch) -> None:
        if watch not in self._watches:
            return
        self._watches.remove(watch)
        for entries in watch.known.values():
            self._count(entries.values(), -1)
        if not self._watches:
            self._shut()
        elif self._inotify and all(other.folder != watch.folder for other in self._watches):
            for number in [number for number, folder in self._folders.items() if folder == watch.folder]:
                self._inotify.remove(number)  # its IGNORED event removes it from the table

    def _shut(self) -> None:
        for watch in self._watches:
            watch.active = False
        self._watches.clear()
        for node_id in list(self._guards):
            self._unguard(node_id)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_inotify()

    # -- reading and comparing --------------------------------------------------------------------------------

    def _look_at_all(self, watches: Iterable[_Watch]) -> None:
        alive: dict[str, bool] = {}
        for watch in list(watches):
            try:
                there = self._entries.names(watch.folder)
            except OSError as error:
                self._look_again(error)
                continue
            for name in there.keys() | watch.known.keys():
                self._look(watch, name, alive)

    def _look(self, watch: _Watch, name: str, alive: dict[str, bool] | None = None) -> None:
        """Read one folder and tell what has changed in it."""
        if not watch.active:
            return
        try:
            live = self._entries.live(watch.folder, name, alive)
        except OSError as error:
            watch.times.pop(name, None)
            self._look_again(error)
            return
        before = watch.known.get(name, {})
        now = {entry.instance: entry for entry in reversed(live) if entry.realm == watch.realm}
        gone = [entry for instance, entry in before.items() if now.get(instance) != entry]
        come = [entry for instance, entry in now.items() if before.get(instance) != entry]
        if now:
            watch.known[name] = now
        else:
            watch.known.pop(name, None)
        self._count(come, +1)
        self._count(gone, -1)
        for entry in gone:
            watch.tell(watch.removed, entry)
        for entry in come:
            watch.tell(watch.added, entry)

    def _look_again(self, error: OSError) -> None:
        """Something could not be read; try again later, everything."""
        if self._timer is None:
            log.warning("Watching the registry in %s: %s. Trying again.", self._entries.directory, error)
            self._timer = self._workers.call_later(POLL_SECONDS, partial(self._strand.run, self._poll))

    def _poll(self) -> None:
        """Look at all that seems to have changed since the last time; and again later, if that is the only way."""
        if self._timer is None:
            return  # shut meanwhile
        self._timer.cancel()
        self._timer = None
        if self._inotify is not None:
            self._look_at_all(self._watches)
            return
        self._timer = self._workers.call_later(POLL_SECONDS, partial(self._strand.run, self._poll))
        for watch in list(self._watches):
            try:
                times = self._entries.names(watch.folder)
            except OSError:
                continue  # the next time, then
            before, watch.times = watch.times, times
            for name in times.keys() | watch.known.keys():
                if times.get(name) != before.get(name):
                    self._look(watch, name)

    # -- inotify ----------------------------------------------------------------------------------------------

    def _open_inotify(self) -> None:
        try:
            self._inotify = Inotify()
            self._folders[self._inotify.add(self._entries.directory, CREATE)] = ""
            self._workers.watch(self._inotify.fd, partial(self._soon, self._read_inotify))
        except OSError as error:
            self._do_without_inotify(error)

    def _attach(self, folder: str) -> None:
        """Watch the folder of a realm; when there is none yet, the folder of the realms will tell when it is made."""
        if self._inotify is None:
            return
        try:
            self._folders[self._inotify.add(self._entries.directory / folder, CREATE | DELETE | ATTRIB)] = folder
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._do_without_inotify(error)

    def _read_inotify(self) -> None:
        if self._inotify is None:
            return
        changed: dict[tuple[str, str], None] = {}  # in order, each once
        remade: dict[str, None] = {}
        watched = {watch.folder for watch in self._watches}
        for told in self._inotify.read():
            folder = self._folders.get(told.watch)
            if told.mask & OVERFLOW:
                remade.update(dict.fromkeys(watched))
            elif told.mask & IGNORED:
                self._folders.pop(told.watch, None)
            elif folder == "":
                remade.update(dict.fromkeys({told.name} & watched))
            elif folder is not None and told.name:
                changed[folder, told.name] = None
        for folder in remade:
            self._attach(folder)  # before it is read, so that no change is missed
            self._look_at_all([watch for watch in self._watches if watch.folder == folder])
        for folder, name in changed:
            if folder not in remade:
                for watch in [watch for watch in self._watches if watch.folder == folder]:
                    self._look(watch, name)

    def _do_without_inotify(self, error: OSError) -> None:
        log.info(
            "Looking for changes in the registry once in %g s, as inotify is not to be had (%s). "
            "Raise fs.inotify.max_user_instances and max_user_watches to be told at once.",
            POLL_SECONDS,
            error,
        )
        self._close_inotify()
        if self._timer is None:
            self._timer = self._workers.call_later(POLL_SECONDS, partial(self._strand.run, self._poll))

    def _close_inotify(self) -> None:
        self._folders.clear()
        if self._inotify is not None:
            self._workers.unwatch(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    # -- the ends of nodes ------------------------------------------------------------------------------------

    def _count(self, entries: Iterable[Entry], change: int) -> None:
        """Guard every node that has entries in a watched realm, and no other."""
        for entry in entries:
            node_id = entry.node_id
            if node_id == self._node_id:
                continue
            guard = self._guards.get(node_id)
            if guard is None:
                guard = self._guards[node_id] = _Guard()
                self._guard(node_id, guard)
            guard.entries += change
            if guard.entries == 0:
                self._unguard(node_id)

    def _guard(self, node_id: str, guard: _Guard) -> None:
        pid = self._nodes.pid(node_id)
        if pid is not None and hasattr(os, "pidfd_open"):
            try:
                guard.pidfd = os.pidfd_open(pid)
                self._workers.watch(guard.pidfd, partial(self._soon, partial(self._may_have_ended, node_id)))
            except OSError:  # it has ended already, or there are no descriptors left
                pass
        # Looks at the lock: at once, in case the pid is no longer the node's, if there is a pidfd; else now and then.
        if guard.pidfd >= 0:
            self._soon(partial(self._verify, node_id))
        else:
            self._check_later(node_id, guard)

    def _unguard(self, node_id: str) -> None:
        guard = self._guards.pop(node_id)
        if guard.timer is not None:
            guard.timer.cancel()
        self._close_pidfd(guard)

    def _close_pidfd(self, guard: _Guard) -> None:
        if guard.pidfd >= 0:
            self._workers.unwatch(guard.pidfd)
            os.close(guard.pidfd)
            guard.pidfd = -1

    def _check_later(self, node_id: str, guard: _Guard) -> None:
        guard.timer = self._workers.call_later(
            POLL_SECONDS, partial(self._strand.run, partial(self._may_have_ended, node_id))
        )

    def _may_have_ended(self, node_id: str) -> None:
        """The pidfd or the timer says so. If the lock is held nevertheless, only the timer can tell more."""
        guard = self._guards.get(node_id)
        if guard is not None and not self._verify(node_id):
            self._close_pidfd(guard)
            self._check_later(node_id, guard)

    def _verify(self, node_id: str) -> bool:
        """Look at the lock, and if the node is dead, at what it has left. Whether it is dead."""
        try:
            if self._nodes.is_alive(node_id):
                return False
        except OSError:
            return False  # to be found out the next time
        for watch in list(self._watches):
            for name, entries in list(watch.known.items()):
                if any(entry.node_id == node_id for entry in entries.values()):
                    self._look(watch, name)
        return True
