"""The runtime directory: where the processes of one user on one host meet.

Whoever can write into it can pretend to be a HERO. So it belongs to the user, nobody else may write to it, and it is
what it seems to be (no symbolic link).
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heros.exceptions import HEROSError

__all__ = ["explained", "prepare", "runtime_directory"]

PRIVATE = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def runtime_directory() -> Path:
    """The directory in which this user's processes find each other; made, with mode 0700, if it is not there.

    ``$HEROS_RUNTIME_DIR``; else ``heros`` in ``$XDG_RUNTIME_DIR``, if that is a directory of this user; else
    ``heros-<uid>`` in the temporary directory.

    Raises:
        HEROSError: it cannot be made, belongs to somebody else, is a symbolic link, or others may write to it.
    """
    chosen = os.environ.get("HEROS_RUNTIME_DIR", "")
    if chosen:
        return prepare(Path(chosen))
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if session and _is_ours(session):
        return prepare(Path(session, "heros"))
    return prepare(Path(tempfile.gettempdir(), f"heros-{_uid()}"))


def prepare(directory: Path) -> Path:
    """Make ``directory`` if need be, check it and return its absolute path. Raises ``HEROSError``."""
    directory = Path(os.path.abspath(directory))  # not resolve(): it would follow the very link that is refused
    with explained("make the runtime directory", directory):
        try:
            directory.mkdir(PRIVATE, parents=True, exist_ok=True)
        except FileExistsError:
            raise HEROSError(f"{directory} is not a directory. {_ADVICE}") from None
        status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise HEROSError(f"{directory} is a symbolic link, which somebody else may have put there. {_ADVICE}")
    if hasattr(os, "getuid"):  # elsewhere neither owner nor mode mean what they mean here
        if status.st_uid != os.getuid():
            raise HEROSError(f"{directory} belongs to user {status.st_uid}, not to user {os.getuid()}. {_ADVICE}")
        if status.st_mode & WRITABLE_BY_OTHERS:
            raise HEROSError(
                f"others may write to {directory} (mode {stat.S_IMODE(status.st_mode):04o}), and so pretend to be a "
                f"HERO. {_ADVICE}"
            )
    return directory


@contextmanager
def explained(doing: str, directory: Path) -> Iterator[None]:
    """Turn an error of the operating system into a ``HEROSError`` that says what could not be done, and the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0, _ADVICE)
        raise HEROSError(f"cannot {doing} ({directory}): {reason}. {remedy}") from error


_ADVICE = "Set HEROS_RUNTIME_DIR to a directory that belongs to you."
_NO_ROOM = "Make room, or set HEROS_RUNTIME_DIR to a directory on another disk."
_TOO_MANY = "Raise the limit of open files (ulimit -n), or close some."
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
}


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_ours(path: str) -> bool:
    """Whether it is a directory of this user; after ``su`` the variable may still name that of the user before."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _uid()
