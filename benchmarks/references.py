"""References with a second process: rounds of a bare ``Pipe``, a bare eventfd, a bare word of shared memory.

Each is a context manager that starts ``echo.py`` and gives what a round of the reference is made of.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.echo import APART, MEMORY_BYTES, MESSAGE, Sleeper, rings
from benchmarks.measure import Round, loop
from heros.shm.doorbell import Doorbell
from heros.shm.ring import Reader, Writer
from tests.harness import Child

__all__ = ["bells", "flood", "pipe", "ring_bells", "spin_ring", "spin_word"]

_ECHO = Path(__file__).with_name("echo.py")


@contextmanager
def _pipe_to(mode: str, *fds: int) -> Iterator[Connection]:
    own, other = Pipe()
    with own, Child(_ECHO, mode, other.fileno(), *fds, pass_fds=(other.fileno(), *fds)) as child:
        other.close()
        child.ready()
        yield own


@contextmanager
def _memory() -> Iterator[tuple[int, memoryview]]:
    """Shared memory for two rings, zeroed: its descriptor, and all of it."""
    fd = os.memfd_create("heros-benchmark")
    try:
        os.ftruncate(fd, MEMORY_BYTES)
        yield fd, memoryview(mmap.mmap(fd, MEMORY_BYTES))
    finally:
        os.close(fd)


@contextmanager
def pipe() -> Iterator[Callable[[], object]]:
    """A step: 64 bytes to the other process and back over a ``multiprocessing.Pipe``."""
    with _pipe_to("pipe") as connection:

        def step() -> None:
            connection.send_bytes(MESSAGE)
            connection.recv_bytes()

        yield step


@contextmanager
def flood(count: int) -> Iterator[Round]:
    """A round: ``count`` messages of 64 bytes, one way, over a ``multiprocessing.Pipe``."""
    with _pipe_to("flood") as connection:

        def one_round() -> float:
            start = time.perf_counter()
            connection.send_bytes(b"%d" % count)
            for _ in range(count):
                connection.recv_bytes()
            return (time.perf_counter() - start) / count

        yield one_round


@contextmanager
def bells() -> Iterator[Callable[[], object]]:
    """A step: one eventfd to wake the other process, another one to be woken by it."""
    with ExitStack() as stack:
        there, back = os.eventfd(0), os.eventfd(0)
        stack.callback(os.close, there)
        stack.callback(os.close, back)
        stack.enter_context(Child(_ECHO, "eventfd", there, back, pass_fds=(there, back))).ready()

        def step() -> None:
            os.eventfd_write(there, 1)
            os.eventfd_read(back)

        yield step


@contextmanager
def ring_bells() -> Iterator[Callable[[], object]]:
    """A step: a record there and back between two processes that sleep and ring for each other."""
    with _memory() as (fd, memory):
        there, back = Doorbell(), Doorbell()
        fds = fd, there.fd, back.fd
        with Child(_ECHO, "doorbell", *fds, pass_fds=fds) as child:
            child.ready()
            outgoing, incoming = rings(memory)
            sleeper = Sleeper(incoming, outgoing, back, there)

            def step() -> None:
                sleeper.send(2, MESSAGE)
                sleeper.receive()

            yield step


@contextmanager
def spin_word(count: int) -> Iterator[Round]:
    """A round: ``count`` times a word there and back, both processes spinning; the floor of all that is in Python."""
    with _memory() as (fd, memory), _pipe_to("word", fd) as connection:
        words = memory.cast("Q")

        def exchange() -> None:
            words[0] = value = words[0] + 1
            while words[APART] != value:
                pass

        yield _together(connection, exchange, count)


@contextmanager
def spin_ring(count: int) -> Iterator[Round]:
    """A round: ``count`` times a record there and back over two rings, both processes spinning."""
    with _memory() as (fd, memory), _pipe_to("ring", fd) as connection:
        outgoing, incoming = rings(memory)
        writer, reader = Writer(outgoing), Reader(incoming)

        def exchange() -> None:
            writer.write(2, MESSAGE)
            while reader.read() is None:
                pass

        yield _together(connection, exchange, count)


def _together(connection: Connection, exchange: Callable[[], object], count: int) -> Round:
    """A round of ``count`` exchanges with a process that spins for no longer than that."""
    timed = loop(exchange, count)

    def one_round() -> float:
        connection.send_bytes(b"%d" % (count + 1))
        exchange()  # the other process is there now
        return timed()

    return one_round
