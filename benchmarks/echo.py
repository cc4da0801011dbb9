"""The other process of a reference: ``python echo.py MODE DESCRIPTOR...`` sends back what it is sent.

    pipe      PIPE             every message
    flood     PIPE             as many messages of ``MESSAGE`` as the one it is sent says
    eventfd   BELL BELL        rings the second when the first has rung
    word      PIPE MEMORY      when told how often on the pipe: the first word of the memory, in the second, spinning
    ring      PIPE MEMORY      the same with records, from the first ring to the second
    doorbell  MEMORY BELL BELL records, and sleeps in between as a channel does

It runs until it is killed, or the pipe ends.
"""

from __future__ import annotations

import mmap
import os
import select
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from heros.shm import layout
from heros.shm.doorbell import Doorbell
from heros.shm.ring import Reader, Writer

MESSAGE = bytes(64)
RING_BYTES = layout.ring_bytes(1 << 16)
MEMORY_BYTES = 2 * RING_BYTES
APART = 128 // layout.WORD
"""Words between two that different processes write, which must not share a cache line."""


def rings(memory: memoryview) -> tuple[memoryview, memoryview]:
    return memory[:RING_BYTES], memory[RING_BYTES:]


class Sleeper:
    """One end of a conversation that sleeps between the records, with a doorbell for either direction."""

    def __init__(self, incoming: memoryview, outgoing: memoryview, own: Doorbell, other: Doorbell) -> None:
        self._reader, self._writer = Reader(incoming), Writer(outgoing)
        self._own, self._other = own, other
        self._poll = select.poll()
        self._poll.register(own.fd, select.POLLIN)

    def receive(self) -> tuple[int, bytes]:
        while (record := self._reader.read()) is None:
            if self._reader.sleep():
                self._poll.poll()
                self._own.clear()
            self._reader.wake()
        return record

    def send(self, tag: int, body: bytes) -> None:
        self._writer.write(tag, body)
        if self._writer.must_ring():
            self._other.ring()


def pipe(fd: int) -> None:
    connection = Connection(fd)
    while True:
        connection.send_bytes(connection.recv_bytes())


def flood(fd: int) -> None:
    connection = Connection(fd)
    while True:
        for _ in range(int(connection.recv_bytes())):
            connection.send_bytes(MESSAGE)


def eventfd(incoming: int, outgoing: int) -> None:
    while True:
        os.eventfd_read(incoming)
        os.eventfd_write(outgoing, 1)


def word(fd: int, memory_fd: int) -> None:
    connection, words = Connection(fd), memoryview(mmap.mmap(memory_fd, MEMORY_BYTES)).cast("Q")
    value = 0
    while True:
        for _ in range(int(connection.recv_bytes())):
            value += 1  # not what the memory says: the other process may be further already
            while words[0] != value:
                pass
            words[APART] = value


def ring(fd: int, memory_fd: int) -> None:
    incoming, outgoing = rings(memoryview(mmap.mmap(memory_fd, MEMORY_BYTES)))
    connection, reader, writer = Connection(fd), Reader(incoming), Writer(outgoing)
    while True:
        for _ in range(int(connection.recv_bytes())):
            while (record := reader.read()) is None:
                pass
            writer.write(*record)


def doorbell(memory_fd: int, incoming_bell: int, outgoing_bell: int) -> None:
    incoming, outgoing = rings(memoryview(mmap.mmap(memory_fd, MEMORY_BYTES)))
    sleeper = Sleeper(incoming, outgoing, Doorbell(incoming_bell), Doorbell(outgoing_bell))
    while True:
        sleeper.send(*sleeper.receive())


MODES: dict[str, Callable[..., Any]] = {mode.__name__: mode for mode in [pipe, flood, eventfd, word, ring, doorbell]}

if __name__ == "__main__":
    print("READY", flush=True)
    try:
        MODES[sys.argv[1]](*map(int, sys.argv[2:]))
    except EOFError:
        pass
