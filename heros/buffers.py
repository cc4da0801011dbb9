"""Buffers: what travels beside a msgpack header."""

from __future__ import annotations

import mmap
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer", "buffer_nbytes", "copy_buffer", "settle_buffer"]

Buffer: TypeAlias = "NDArray[Any] | bytes | bytearray | memoryview"
"""To be sent, an array of any strides or a bytes-like object; as received, a one-dimensional read-only uint8 array, or
bytes."""


def buffer_nbytes(buffer: Buffer) -> int:
    """Bytes that ``buffer`` takes when it is sent."""
    return len(buffer) if isinstance(buffer, (bytes, bytearray)) else buffer.nbytes


def copy_buffer(buffer: Buffer, target: memoryview) -> None:
    """Copy ``buffer`` into ``target``, a writable byte view of the same size, in one pass.

    An array is written in Fortran order when it is Fortran- but not C-contiguous, else in C order: the order that the
    codec has noted in the header.
    """
    if isinstance(buffer, np.ndarray):
        if buffer.nbytes == 0:
            return
        flags = buffer.flags
        order: Literal["F", "C"] = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
        np.copyto(np.frombuffer(target, dtype=buffer.dtype).reshape(buffer.shape, order=order), buffer)
    else:
        target[:] = memoryview(buffer).cast("B")


def settle_buffer(buffer: Buffer) -> Buffer:
    """The bytes of ``buffer`` as they are now: bytes, or a flat read-only uint8 array. A copy if they could change."""
    if isinstance(buffer, bytes):
        return buffer
    if isinstance(buffer, np.ndarray) and buffer.nbytes and _is_settled(buffer):
        flags = buffer.flags
        if flags.c_contiguous or flags.f_contiguous:
            return buffer.reshape(-1, order="A").view(np.ndarray).view(np.uint8)
    copy: NDArray[np.uint8] = np.empty(buffer_nbytes(buffer), np.uint8)
    copy_buffer(buffer, copy.data)
    copy.flags.writeable = False
    return np.frombuffer(copy.data.toreadonly(), np.uint8) if copy.nbytes else b""


def _is_settled(memory: object) -> bool:
    """Whether nobody in this process can write to ``memory``, short of setting an array's flag by force."""
    given_out_read_only = False
    while True:
        if isinstance(memory, np.ndarray):
            if memory.flags.writeable or isinstance(memory, np.memmap):  # others can write to the file
                return False
            if memory.base is None:  # whoever owns the memory may well have cleared the flag only for a while
                return given_out_read_only
            memory = memory.base
        elif isinstance(memory, memoryview):
            if not memory.readonly:
                return False
            given_out_read_only = True
            memory = memory.obj
        elif isinstance(memory, mmap.mmap):
            return memoryview(memory).readonly
        else:
            return isinstance(memory, bytes)
