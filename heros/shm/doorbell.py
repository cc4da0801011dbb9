"""A doorbell: an eventfd that wakes a sleeping reader in another process."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["CLOSED", "Doorbell"]


class Doorbell:
    """Owns one eventfd and closes it when nobody refers to it any more.

    That way no thread can ring a descriptor number that has been closed, and given to something else, under its hands.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int | None = None) -> None:
        """``fd``: an eventfd that was received; it is this object's from now on. Default: a new one."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if fd is None else fd

    def ring(self) -> None:
        """Wake the reader. Never blocks."""
        try:
            os.eventfd_write(self.fd, 1)
        except (OSError, ValueError):
            pass  # rung 2**64 times without being heard; or gone, when its number is -1

    def clear(self) -> None:
        """Take note: the next ``poll`` of the descriptor waits again."""
        try:
            os.eventfd_read(self.fd)
        except (OSError, ValueError):
            pass  # it has not rung, or is gone

    def abandon(self) -> None:
        """Close the descriptor now. For a forked child, in which no other thread exists."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        try:
            self.abandon()
        except (OSError, AttributeError, TypeError):
            pass  # the constructor has failed, or the interpreter is ending


CLOSED: Final = Doorbell(-1)
"""Rings for nobody."""
