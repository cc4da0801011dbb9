"""Rings between two processes: every byte of very many records."""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from collections.abc import Iterator

import pytest

from heros.shm import layout
from heros.shm.ring import Reader, Writer

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

RECORDS = 200_000
PATTERN = random.Random(7).randbytes(1 << 16)


def bodies(seed: int, longest: int) -> Iterator[bytes]:
    """The same random records in both processes."""
    source = random.Random(seed)
    while True:
        length = source.randrange(longest + 1) if source.random() < 0.05 else source.randrange(48)
        start = source.randrange(len(PATTERN) - longest)
        yield PATTERN[start : start + length]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("capacity", [256, 1 << 12, 1 << 16])
def test_every_byte_arrives(capacity: int, ordered: bool) -> None:
    memory = memoryview(mmap.mmap(-1, -(-layout.ring_bytes(capacity) // 4096) * 4096))[: layout.ring_bytes(capacity)]
    count = RECORDS if ordered else RECORDS // 4
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            writer = Writer(memory, ordered)
            source = bodies(capacity, writer.max_record)
            for index in range(count):
                body = next(source)
                while not writer.write(index % 5 + 2, body):
                    time.sleep(0)
            code = 0
        finally:
            os._exit(code)
    reader = Reader(memory, ordered)
    source = bodies(capacity, reader.max_record)
    deadline = time.monotonic() + 100
    for index in range(count):
        while (item := reader.read()) is None:
            assert time.monotonic() < deadline
            time.sleep(0)
        assert item == (index % 5 + 2, next(source))
    assert reader.read() is None
    assert os.waitpid(pid, 0)[1] == 0


def test_a_killed_writer_leaves_whole_records_only() -> None:
    for attempt in range(10):
        memory = memoryview(mmap.mmap(-1, 16384))[: layout.ring_bytes(4096)]
        pid = os.fork()
        if pid == 0:
            writer = Writer(memory)
            source = bodies(attempt, writer.max_record)
            while True:
                body = next(source)
                while not writer.write(2, body):
                    time.sleep(0)
        reader = Reader(memory)
        source = bodies(attempt, reader.max_record)
        try:
            for _ in range(1000 + attempt * 37):
                while (item := reader.read()) is None:
                    time.sleep(0)
                assert item == (2, next(source))
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        while (item := reader.read()) is not None:
            assert item == (2, next(source))
