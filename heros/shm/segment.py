"""A segment: a piece of memory behind a memfd, made by one process and mapped by others.

The maker allocates every page before anyone touches one (a full memory is then an error and not a SIGBUS), maps the
segment and seals it, so that it can never be cut under a reader. A receiver checks the seals and the size before it
maps, and that all of it has been allocated: mapping allocates what has not. An arena segment is also sealed against
writing by anyone but the maker, and receivers map it read-only.

The mapping is made with the C library's ``mmap`` and not with the module of that name, which keeps a descriptor of its
own for every mapping until Python 3.13. It is undone when the last view is gone, never earlier: every view of it
refers to the mapped memory, directly or through other views.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import weakref
from functools import cache
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from heros import limits
from heros.exceptions import DecodeError, OutOfSharedMemory
from heros.shm import memory

__all__ = ["Segment", "create_shared", "map_shared"]

_SEAL_FUTURE_WRITE: Final = 0x10  # fcntl.F_SEAL_FUTURE_WRITE, which Python 3.11 lacks
_FIXED_SIZE: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_FIXED_SIZE_READ_ONLY: Final = _FIXED_SIZE | _SEAL_FUTURE_WRITE
_BLOCK: Final = 512  # bytes in the unit of ``st_blocks``
_MAP_FAILED: Final = ctypes.c_void_p(-1).value

_numbers = itertools.count(1)


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t,
    )  # fmt: skip
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


def _map(fd: int, size: int, writable: bool) -> NDArray[np.uint8]:
    """Map the whole of ``fd``. The mapping lives as long as the array or any view of it."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    address = _libc().mmap(None, size, protection, mmap.MAP_SHARED | mmap.MAP_POPULATE, fd, 0)
    if address is None or address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"mapping {size} bytes of shared memory: {os.strerror(code)}")
    mapped = (ctypes.c_ubyte * size).from_address(address)
    # At exit the kernel unmaps; doing it earlier would pull the memory away from under living views.
    weakref.finalize(mapped, _libc().munmap, address, size).atexit = False
    view: NDArray[np.uint8] = np.frombuffer(cast(Any, mapped), dtype=np.uint8)
    return view


def _create(name: str, size: int, seals: int) -> tuple[int, NDArray[np.uint8]]:
    if size > limits.MAX_SEGMENT_BYTES:
        raise OutOfSharedMemory(_explain(size, f"a segment has at most {limits.MAX_SEGMENT_BYTES} bytes"))
    left = memory.available()
    if left is not None and size > left:
        raise OutOfSharedMemory(_explain(size, f"{left} bytes are available"))
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.posix_fallocate(fd, 0, size)
        view = _map(fd, size, writable=True)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd, view
    except BaseException as error:
        if fd >= 0:
            os.close(fd)
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise OutOfSharedMemory(
                "no file descriptor is left for shared memory. Close something, or raise the limit (ulimit -n)."
            ) from error
        if isinstance(error, OSError):
            raise OutOfSharedMemory(_explain(size, str(error.strerror))) from error
        raise


def _explain(size: int, why: str) -> str:
    return (
        f"the system has no {size} bytes of shared memory to give ({why}). Release arrays that came from heros, or use "
        "smaller or fewer frames."
    )


def create_shared(name: str, size: int) -> tuple[int, NDArray[np.uint8]]:
    """A new segment that both sides may write, for rings: its descriptor and its memory.

    Raises:
        OutOfSharedMemory: no memory or no descriptor is left.
    """
    return _create(name, size, _FIXED_SIZE)


def map_shared(fd: int, size: int) -> NDArray[np.uint8]:
    """Map a received segment of rings. The descriptor stays the caller's.

    Raises:
        DecodeError: its size is not ``size``, it is not sealed, or not all there.
        OSError: it cannot be mapped.
    """
    if _checked_size(fd, _FIXED_SIZE) != size:
        raise DecodeError(f"a received segment has not the {size} bytes that were agreed upon")
    return _map(fd, size, writable=True)


def _checked_size(fd: int, seals: int) -> int:
    """The size of a received segment, which its seals keep as it is."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise DecodeError("a received descriptor is not a segment of shared memory") from None
    if found & seals != seals:
        raise DecodeError(
            f"a received segment is not sealed (0x{found:x}; 0x{seals:x} is needed): it could be cut short"
        )
    status = os.fstat(fd)
    if status.st_size > limits.MAX_SEGMENT_BYTES:
        raise DecodeError(
            f"a received segment has {status.st_size} bytes; {limits.MAX_SEGMENT_BYTES} is the most it may have"
        )
    if status.st_blocks * _BLOCK < status.st_size:
        raise DecodeError(
            f"a received segment is not allocated: {status.st_blocks * _BLOCK} of its {status.st_size} bytes are there"
        )
    return status.st_size


class Segment:
    """Arena memory of this process, or that of another one, which is then read-only.

    Attributes:
        number: names it, in this process, for good.
        fd: its descriptor, for handing it to peers.
        size: in bytes.
        memory: all of it, as an array of bytes.
        address: of its first byte, in this process.
    """

    __slots__ = ("__weakref__", "address", "fd", "memory", "number", "size")

    def __init__(self, fd: int, view: NDArray[np.uint8]) -> None:
        self.number = next(_numbers)
        self.fd = fd
        self.size = view.nbytes
        self.memory = memoryview(cast(Any, view))
        self.address: int = view.__array_interface__["data"][0]

    @classmethod
    def create(cls, size: int) -> Segment:
        """Raises ``OutOfSharedMemory``."""
        return cls(*_create("heros-arena", size, _FIXED_SIZE_READ_ONLY))

    @classmethod
    def receive(cls, fd: int) -> Segment:
        """Map a peer's segment. The descriptor is this object's from now on, and is closed when this fails.

        Raises:
            DecodeError: it is not sealed, not all there, too large, or no shared memory at all.
            OSError: it cannot be mapped.
        """
        try:
            view = _map(fd, _checked_size(fd, _FIXED_SIZE_READ_ONLY), writable=False)
        except BaseException:
            os.close(fd)
            raise
        view.flags.writeable = False
        return cls(fd, view)

    def __del__(self) -> None:
        try:
            os.close(self.fd)
        except (OSError, AttributeError, TypeError):
            pass  # the constructor has failed, or the interpreter is ending
