"""Which nodes of this host are alive.

Each node has up to three files, named after its id, which is never used again::

    <node id>.lock    locked by its process for as long as that lives; says which process it is
    <node id>.sock    its unix socket
    <node id>.new     an entry on its way to its place

Alive or not is a fact
    The kernel drops the lock with the process. A node whose lock file is free, or is not there, is dead; no pid and
    no time-out has a say in it. One asks with a *shared* lock: so those who ask at the same moment do not take each
    other for the owner.

The lock file comes first and goes last
    A node makes its lock file before anything else, and whoever cleans up after a dead one removes it after
    everything else, entries included. So as long as there may be something to clean up, there is a file that says so.

Who removes it, and who makes it
    Both lock first and then look whether the path still names the file that they have locked. A cleaner may find a
    lock file in the moment between its making and its locking; it then removes it, and the owner, which gets the lock
    when the cleaner has left, sees that and begins anew. A cleaner cannot remove the second file by mistake: it holds
    the lock of the first, for which the owner waits.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from heros.exceptions import HEROSError
from heros.registry import locks

__all__ = ["ATTEMPTS", "LOCK_SECONDS", "Nodes"]

ATTEMPTS: Final = 100
"""How often what somebody else undid at the same moment is tried again; twice in a row is rare already."""

LOCK_SECONDS: Final = 5.0
"""How long others may hold a lock which they need for less than a millisecond; only a stopped process takes longer."""

_SUFFIXES: Final = (".lock", ".sock", ".new")
_NOT_A_LOCK_FILE: Final = frozenset({errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENOTDIR, errno.EINVAL})


class Nodes:
    """The directory of the nodes. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def socket_path(self, node_id: str) -> Path:
        return self._directory / f"{node_id}.sock"

    def aside_path(self, node_id: str) -> Path:
        """Where the node writes what it then renames into place."""
        return self._directory / f"{node_id}.new"

    def _lock_path(self, node_id: str) -> Path:
        return self._directory / f"{node_id}.lock"

    # -- this process's own -----------------------------------------------------------------------------------

    def join(self, node_id: str) -> int:
        """Make and lock this process's file; the descriptor that keeps it locked.

        Raises:
            HEROSError: a live node has this id.
            OSError: the file cannot be made.
        """
        path = self._lock_path(node_id)
        for _ in range(ATTEMPTS):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if not locks.take(fd, LOCK_SECONDS):
                    raise HEROSError(f"another process is the node {node_id} already; every node needs its own id")
                if locks.names(path, fd):
                    os.pwrite(fd, f"{os.getpid()} {_pid_namespace()}\n".encode(), 0)
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise HEROSError(f"{path} is removed again and again by another process. Set HEROS_RUNTIME_DIR to another one.")

    def remove_files(self, node_id: str) -> None:
        """Remove the files of a node: its own, before it lets go of the lock, or those of a dead one."""
        for path in (self.socket_path(node_id), self.aside_path(node_id), self._lock_path(node_id)):
            try:
                path.unlink(missing_ok=True)
            except IsADirectoryError:
                pass  # not ours

    # -- the others -------------------------------------------------------------------------------------------

    def is_alive(self, node_id: str) -> bool:
        """Whether the process of this node lives. Raises ``OSError`` when that cannot be found out."""
        fd = self._open_if_dead(node_id)
        if fd is None:
            return True
        if fd >= 0:
            locks.release(fd)
        return False

    def dead(self) -> set[str]:
        """Ids of the dead nodes that have left files."""
        ids = {path.stem for path in self._directory.iterdir() if path.suffix in _SUFFIXES}
        return {node_id for node_id in ids if not self.is_alive(node_id)}

    def remove_if_dead(self, node_id: str) -> None:
        """Remove the files of a dead node. To be called when its entries have been removed."""
        path = self._lock_path(node_id)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NOT_A_LOCK_FILE and error.errno != errno.EISDIR:
                raise
            self.remove_files(node_id)
            return
        try:
            # Alone, and with a lock file even if there was none: the node may come at this moment, and who found it
            # dead before may not remove what it has made since.
            if locks.take(fd, 0.0) and locks.names(path, fd):
                self.remove_files(node_id)
        finally:
            locks.release(fd)

    def pid(self, node_id: str) -> int | None:
        """The pid of a live node, as this process sees it; None if it cannot (another pid namespace).

        Only for watching: what it says of life and death is to be verified by :meth:`is_alive`.
        """
        try:
            pid, namespace = self._lock_path(node_id).read_bytes()[:64].split()
            return int(pid) if namespace == _pid_namespace().encode() != b"unknown" else None
        except (OSError, ValueError):
            return None

    def _open_if_dead(self, node_id: str) -> int | None:
        """None if the node is alive; else its lock file, locked so that nobody becomes this node; -1 if it has none."""
        path = self._lock_path(node_id)
        while True:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return -1
            except OSError as error:
                if error.errno in _NOT_A_LOCK_FILE:  # somebody has put something else there: no node of ours
                    return -1
                raise
            try:
                if not locks.share(fd):
                    os.close(fd)
                    return None
                if locks.names(path, fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            locks.release(fd)  # it was removed meanwhile; look at what is there now


def _pid_namespace() -> str:
    """Which pid namespace this process is in; pids of another one mean other processes here."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "unknown"
