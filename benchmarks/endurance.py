"""What must never happen, looked for many times over: a wrong byte in a ring, a wake-up that is lost.

    python benchmarks/endurance.py [--records 10000000] [--calls 10000000]

*Records*: one process writes records of random sizes and contents into a ring, another reads them and compares every
byte. *Calls*: ``add`` between two processes over shared memory, every result checked, with random pauses in between,
from none to some milliseconds, so that both sides are met awake, spinning, falling asleep and asleep. A sleeping reader
wakes up by itself after a second; ``caught`` counts how often that was what woke it, and must be 0.

Not a test, as it takes minutes; ``make test`` has the same on a small scale.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import click

import heros
from heros.node import shutdown
from heros.shm import layout
from heros.shm.channel import ShmChannel
from heros.shm.ring import Reader, Writer

RING_BYTES = 1 << 14
SOURCE_BYTES = 1 << 16
SERVER = """
import sys, heros
class Calculator(heros.LocalHERO):
    def add(self, a, b):
        return a + b
with Calculator("calculator"):
    print("READY", flush=True)
    sys.stdin.read()
"""


def bodies(seed: int, longest: int) -> Callable[[], bytes]:
    """A function that returns one random piece after the other of random bytes; the same ones for the same seed."""
    chance = random.Random(seed)
    source = chance.randbytes(SOURCE_BYTES)
    draw = chance.random

    def body() -> bytes:
        length = int(draw() ** 4 * longest)  # mostly short, as records are, and all lengths in the end
        start = int(draw() * (SOURCE_BYTES - length))
        return source[start : start + length]

    return body


def records(count: int, seed: int) -> str:
    """Send ``count`` records through a ring from a forked process to this one."""
    memory = memoryview(mmap.mmap(-1, layout.ring_bytes(RING_BYTES) + mmap.PAGESIZE))[: layout.ring_bytes(RING_BYTES)]
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            writer = Writer(memory)
            body = bodies(seed, writer.max_record)
            for number in range(count):
                data = body()
                while not writer.write(number % 5 + 2, data):
                    os.sched_yield()
            code = 0
        finally:
            os._exit(code)
    reader = Reader(memory)
    body = bodies(seed, reader.max_record)
    nbytes = 0
    for number in range(count):
        while (item := reader.read()) is None:
            os.sched_yield()
        expected = body()
        if item != (number % 5 + 2, expected):
            raise SystemExit(f"record {number} of seed {seed} is not what was written")
        nbytes += len(expected)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the writer has failed")
    return f"{count:,} records, {nbytes:,} bytes, every one as written, in {time.monotonic() - begin:.0f} s"


def calls(count: int, seed: int) -> str:
    """Make ``count`` calls with random pauses."""
    chance = random.Random(seed)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        os.environ.update(HEROS_RUNTIME_DIR=directory, HEROS_NET="off", HEROS_TRANSPORT="shm")
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdout.readline()
        hero = heros.RemoteHERO("calculator")
        channel = hero._binding.bound.channel
        assert isinstance(channel, ShmChannel)
        add, pauses, number = hero.add, 0, 0
        while number < count:
            for _ in range(min(count - number, int(chance.random() ** 3 * 4000) + 1)):
                number += 1
                if add(number, 1) != number + 1:
                    raise SystemExit(f"call {number} of seed {seed} has a wrong result")
            end = time.perf_counter() + 10 ** chance.uniform(-6, -2.3)
            pauses += 1
            if chance.random() < 0.5:
                time.sleep(max(0.0, end - time.perf_counter()))
            while time.perf_counter() < end:
                pass
        caught = channel.caught
        hero._destroy_hero()
        shutdown()
        server.stdin.close()
        server.wait(20)
    if caught:
        raise SystemExit(f"{caught} wake-ups were lost, and caught by the net")
    return f"{count:,} calls, {pauses:,} pauses, no wake-up lost, in {time.monotonic() - begin:.0f} s"


@click.command(help=__doc__)
@click.option("--records", "record_count", default=10_000_000, show_default=True)
@click.option("--calls", "call_count", default=10_000_000, show_default=True)
@click.option("--seed", default=0, help="Default: another one each time.")
def main(record_count: int, call_count: int, seed: int) -> None:
    seed = seed or random.SystemRandom().randrange(1, 1 << 32)
    click.echo(f"seed {seed}")
    click.echo(records(record_count, seed))
    click.echo(calls(call_count, seed))


if __name__ == "__main__":
    main()
