"""One file a HERO, and the folders that make a lookup cheap.

::

    realms/<realm>/<name>/<instance>.json

A lookup of one name opens one folder and reads the files in it, however many other names there are. Realm and name
are percent-encoded; what would be too long for a file name is cut and completed by a hash. The entry has the true
names, and counts only where it says what its place says.

Adding
    An entry is written aside (``nodes/<node id>.new``) and renamed into its folder, so nobody sees half of one. While
    a process looks who has the name and then puts its entry there, it holds the lock of the folder: of two that want
    the name for themselves exactly one gets it.

Removing
    takes no lock. Whoever removes the last entry removes the folder too, and may do so in the middle of an addition,
    because that addition does everything through a descriptor of the folder: a rename into a folder that has been
    removed fails, and the addition begins anew. It can never end up in a second folder of the same name, whose lock
    somebody else may hold.

Telling
    After each change the folder's times are set. To one who watches the realm's folder with inotify this is an event
    that carries the name's folder, so that one watch is enough for a realm and says which name to look at; to one
    who polls, it is a new time stamp. (Coarse kernel time could repeat itself, so the time is set in nanoseconds.)

Order
    Entries of one name are ordered by the files' times. The adder sets its file's time after all that it finds there,
    so the order is right even if the clock was set back.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from heros.entry import Entry
from heros.exceptions import DecodeError, HEROSError
from heros.limits import MAX_ENTRY_BYTES
from heros.registry import locks
from heros.registry.checks import name_in_use
from heros.registry.nodes import ATTEMPTS, LOCK_SECONDS, Nodes

__all__ = ["Entries", "folder_name"]

log = logging.getLogger("heros.registry")

SUFFIX: Final = ".json"
LONGEST: Final = 200
"""Characters of an encoded name that are kept before the hash; a file name can have 255."""

MAX_COMPLAINTS: Final = 1000
"""Files that are logged as no entries, each once; bounds what a folder full of them costs."""

_OPEN_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_OPEN_FILE: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not block
_NO_FOLDER: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM})


class _Found(NamedTuple):
    time: int
    entry: Entry


class Entries:
    """The entries of this host. Thread-safe.

    Args:
        directory: the folder of the realms.
        nodes: who is alive.
        on_dead: called when the entry of a dead node was found, and removed.
    """

    def __init__(self, directory: Path, nodes: Nodes, on_dead: Callable[[], None]) -> None:
        self.directory = directory
        self._nodes = nodes
        self._on_dead = on_dead
        self._complained: set[str] = set()

    # -- changing ---------------------------------------------------------------------------------------------

    def add(self, entry: Entry, exclusive: bool) -> list[Entry]:
        """Put an entry into its place; the live entries of its name that were there, the newest first.

        One thread of a node at a time: there is one place aside.

        Raises:
            NameInUse: ``exclusive`` and there is one; nothing was changed.
            HEROSError: it is too large, or other processes do not let it through.
            OSError: it cannot be written.
        """
        data = entry.to_json()
        if len(data) > MAX_ENTRY_BYTES:
            raise HEROSError(
                f"what HERO {entry.name!r} says of itself takes {len(data)} bytes; at most {MAX_ENTRY_BYTES} are "
                "allowed. Give it less extra_metadata, or fewer tags."
            )
        aside = self._nodes.aside_path(entry.node_id)
        realm = self.directory / folder_name(entry.realm)
        folder = realm / folder_name(entry.name)
        try:
            for _ in range(ATTEMPTS):
                try:
                    _write(aside, data)
                    _make_folder(realm)
                    _make_folder(folder)
                    fd = os.open(folder, _OPEN_FOLDER)
                    try:
                        return self._add_to_folder(fd, entry, exclusive, aside)
                    finally:
                        locks.release(fd)
                except FileNotFoundError:
                    continue  # the folder was removed with its last entry, at this very moment
        finally:
            aside.unlink(missing_ok=True)
        raise HEROSError(
            f"cannot add HERO {entry.name!r}: {self.directory.parent} has been deleted, or is again and again. Leave "
            "it alone while programs run, and restart this one."
        )

    def _add_to_folder(self, fd: int, entry: Entry, exclusive: bool, aside: Path) -> list[Entry]:
        if not locks.take(fd, LOCK_SECONDS):
            raise HEROSError(
                f"another process has been adding a HERO {entry.name!r} for {LOCK_SECONDS:g} s, which takes less than "
                "a millisecond. Is it stopped (SIGSTOP, a debugger)? Resume or end it."
            )
        found = self._scan(fd, folder_name(entry.realm), folder_name(entry.name))
        there = [other for other in found if other.entry.instance != entry.instance]
        if exclusive and there:
            raise name_in_use(there[0].entry)
        now = max(time.time_ns(), there[0].time + 1 if there else 0)
        os.utime(aside, ns=(now, now))
        os.rename(aside, entry.instance + SUFFIX, dst_dir_fd=fd)
        os.utime(fd, ns=(now, now))
        return [other.entry for other in there]

    def remove(self, entry: Entry) -> None:
        """Remove an entry; nothing happens if it is not there."""
        fd = self._open(folder_name(entry.realm), folder_name(entry.name))
        if fd is None:
            return
        try:
            os.unlink(entry.instance + SUFFIX, dir_fd=fd)
        except FileNotFoundError:
            pass
        else:
            self._announce(fd, folder_name(entry.realm), folder_name(entry.name))
        finally:
            os.close(fd)

    def _announce(self, fd: int, realm: str, name: str) -> None:
        """After a removal: remove the folders, if they are empty now, or tell those who watch."""
        try:
            os.rmdir(self.directory / realm / name)
        except FileNotFoundError:
            return
        except OSError:  # there are others in it
            now = time.time_ns()
            os.utime(fd, ns=(now, now))
            return
        _try_rmdir(self.directory / realm)

    def sweep(self) -> None:
        """Remove every entry that a dead node has left, and every folder that was made and never filled."""
        alive: dict[str, bool] = {}
        for realm in self.realms():
            for name in self.names(realm):
                self.live(realm, name, alive)
                _try_rmdir(self.directory / realm / name)
            _try_rmdir(self.directory / realm)

    # -- looking ----------------------------------------------------------------------------------------------

    def find(self, realm: str, name: str) -> list[Entry]:
        """The live entries of one name, the newest first."""
        return self.live(folder_name(realm), folder_name(name))

    def live(self, realm: str, name: str, alive: dict[str, bool] | None = None) -> list[Entry]:
        """The live entries in one folder, the newest first. What dead nodes have left there is removed.

        Args:
            realm: the folder of the realm.
            name: the folder of the name.
            alive: what is known of the nodes, to be used and filled in by one who looks at many folders.
        """
        fd = self._open(realm, name)
        if fd is None:
            return []
        try:
            return [found.entry for found in self._scan(fd, realm, name, alive)]
        finally:
            os.close(fd)

    def realms(self) -> list[str]:
        """The folders of the realms."""
        return [folder.name for folder in self._folders(self.directory)]

    def names(self, realm: str) -> dict[str, int]:
        """The folders of the names in a realm's folder, and when each was last changed."""
        times: dict[str, int] = {}
        for folder in self._folders(self.directory / realm):
            try:
                times[folder.name] = folder.stat(follow_symlinks=False).st_mtime_ns
            except FileNotFoundError:
                pass
        return times

    def _folders(self, directory: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as listing:
                return [item for item in listing if item.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return []
            raise

    def _open(self, realm: str, name: str) -> int | None:
        try:
            return os.open(self.directory / realm / name, _OPEN_FOLDER)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return None
            raise

    # -- one folder -------------------------------------------------------------------------------------------

    def _scan(self, fd: int, realm: str, name: str, alive: dict[str, bool] | None = None) -> list[_Found]:
        alive = {} if alive is None else alive
        found: list[_Found] = []
        removed = False
        for file in os.listdir(fd):
            item = self._read(fd, realm, name, file)
            if item is None:
                continue
            node_id = item.entry.node_id
            if node_id not in alive:
                alive[node_id] = self._nodes.is_alive(node_id)
            if alive[node_id]:
                found.append(item)
            else:
                removed |= _try_unlink(fd, file)
        if removed:
            self._announce(fd, realm, name)
            self._on_dead()
        return sorted(found, key=lambda each: each.time, reverse=True)

    def _read(self, folder: int, realm: str, name: str, file: str) -> _Found | None:
        """The entry in one file; None if it has gone, or is none."""
        try:
            return _parse(folder, realm, name, file)
        except FileNotFoundError:
            return None
        except DecodeError as error:
            self._complain(os.path.join(realm, name, file), error)
            return None

    def _complain(self, path: str, error: DecodeError) -> None:
        if path not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(path)
            log.warning("%s is no entry of a HERO and is ignored: %s. Delete it.", self.directory / path, error)


def folder_name(name: str) -> str:
    """``name``, as the name of a file: of any length and any characters, and never ``.``, ``..`` or empty."""
    quoted = quote(name, safe="", errors="surrogatepass")
    if len(quoted) > LONGEST:
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{quoted[:LONGEST]}%h{digest}"  # "%h" is no percent-encoding, so this is never another name's
    if quoted.startswith("."):
        return "%2E" + quoted[1:]
    return quoted or "%"


def _parse(folder: int, realm: str, name: str, file: str) -> _Found:
    """Read one file. Raises ``DecodeError`` unless it holds the entry that its place promises."""
    try:
        fd = os.open(file, _OPEN_FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise DecodeError(error.strerror) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ENTRY_BYTES:
            raise DecodeError("it is not a file, or too large")
        data = os.read(fd, MAX_ENTRY_BYTES)
    finally:
        os.close(fd)
    entry = Entry.from_json(data)
    if (folder_name(entry.realm), folder_name(entry.name), entry.instance + SUFFIX) != (realm, name, file):
        raise DecodeError("it belongs into another place")
    return _Found(status.st_mtime_ns, entry)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _try_unlink(folder: int, file: str) -> bool:
    """Remove what a dead node has left. One who may not do it (a read-only directory) can still look things up."""
    try:
        os.unlink(file, dir_fd=folder)
    except OSError:
        return False
    return True


def _make_folder(path: Path) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # or existed: mkdir(exist_ok=True) looks once more, and fails if it has been removed in between


def _try_rmdir(path: Path) -> None:
    """Remove a folder if it is empty. Harmless in the middle of an addition, which then begins anew."""
    try:
        os.rmdir(path)
    except OSError:
        pass
