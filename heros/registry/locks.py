"""flock, as the registry uses it.

A lock of this kind belongs to an open file description. The kernel drops it when the last descriptor of that is
closed, so it never outlives its process; but a forked child has a copy of every descriptor. Therefore ``release``
unlocks in so many words: that ends the lock whoever has copies.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

__all__ = ["names", "release", "share", "take"]

PAUSE_SECONDS: Final = 0.0005
"""Between two tries for a lock: about as long as others hold it."""


def take(fd: int, seconds: float) -> bool:
    """Take the lock for this descriptor alone; False if others held it for all of ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            # Polled, because a wait in the kernel has no deadline, and a holder can be a stopped process.
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE_SECONDS)


def share(fd: int) -> bool:
    """Take the lock together with others; False, at once, if somebody has it alone."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(fd: int) -> None:
    """Give up the lock of this descriptor, if it has one, and close it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def names(path: Path, fd: int) -> bool:
    """Whether ``path`` is still the name of the file that ``fd`` has open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
