"""What the kernel tells about directories: as much of inotify as the registry needs, through the C library."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ATTRIB", "CREATE", "DELETE", "IGNORED", "OVERFLOW", "Inotify", "Told"]

ATTRIB: Final = 0x4
CREATE: Final = 0x100
DELETE: Final = 0x200
OVERFLOW: Final = 0x4000
"""Events were lost: look at everything."""
IGNORED: Final = 0x8000
"""The watch has ended, because it was removed or its directory was."""

_ONLYDIR: Final = 0x01000000
_DONT_FOLLOW: Final = 0x02000000

_EVENT: Final = struct.Struct("=iIII")  # watch, mask, cookie, bytes of the name
_READ_BYTES: Final = 65536


class Told(NamedTuple):
    """One event: which watch, what (a mask of the constants above), and the name of the file in that directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance. Not thread-safe. Raises ``OSError`` where, or when, there is none to be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError("this C library has no inotify") from None
        _check(self.fd)

    def add(self, directory: Path, mask: int) -> int:
        """Watch a directory; the number of the watch, the same again if it is watched already."""
        watch: int = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), mask | _ONLYDIR | _DONT_FOLLOW)
        return _check(watch)

    def remove(self, watch: int) -> None:
        """End a watch; it may have ended by itself."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[Told]:
        """What has happened since the last time. Does not block."""
        while True:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return
            offset = 0
            while offset < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                yield Told(watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0")))
                offset += length

    def close(self) -> None:
        os.close(self.fd)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
