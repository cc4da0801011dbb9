"""What each step of one call, ``add(1, 2)`` over shared memory, costs by itself, and the floor of that step.

    python benchmarks/budget.py [--loops N]

Everything runs in one thread of one process, both ends on the same rings, so that nothing waits and no cache line
travels: what a real call takes beyond the sum is the way between two processors. Each figure is the best of five
loops, as the least disturbed. The floor is the one operation that the step cannot do without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import msgpack
from rich.console import Console
from rich.table import Table

from heros.codec import decode, encode, encode_arguments
from heros.dispatch import Dispatcher, Exported, Gate, Member
from heros.entry import Entry
from heros.shm import layout
from heros.shm.inbox import Inbox
from heros.shm.outbox import Outbox
from heros.wire import FRAME, Kind
from heros.workers import Workers


class Calculator:
    def add(self, a: int, b: int) -> int:
        return a + b


class Sink:
    """A link that keeps nothing."""

    def reply(self, *_: object) -> None:
        pass


def best(step: Callable[[], object], loops: int) -> float:
    """Microseconds for one step, the loop around it taken off."""

    def nothing() -> None:
        pass

    def once(what: Callable[[], object]) -> float:
        repeat = range(loops)
        start = time.perf_counter()
        for _ in repeat:
            what()
        return time.perf_counter() - start

    return max(0.0, min(once(step) for _ in range(5)) - min(once(nothing) for _ in range(5))) / loops * 1e6


def steps() -> list[tuple[str, Callable[[], object], str, Callable[[], object]]]:
    """Name, the step, name of its floor, the floor."""
    workers = Workers("budget")
    dispatcher = Dispatcher("node", workers)
    hero = Calculator()
    exported = Exported(Entry("budget", "calculator", "1", "node", 1, "here"), [], [])
    exported.members = (Member(hero, "add", "method", Gate()),)
    dispatcher.export(exported)
    memory = memoryview(bytearray(layout.ring_bytes(1 << 16)))
    outbox, inbox = Outbox(memory, lambda: None, workers), Inbox(memory, Kind, lambda *_: b"")
    body = bytearray(1 << 10)
    view = memoryview(body)
    words = view.cast("Q")
    lock = threading.Lock()
    request, _ = encode([[1, 2], {}])
    result, _ = encode(3)
    fields = (int(Kind.CALL), 0, 0, 0, 1, exported.object_id, 0x100, len(request), 0)
    frame = FRAME.pack(*fields)
    data = frame + request
    link: Any = Sink()

    def store_and_load() -> None:
        words[0] = words[8]

    def copy() -> None:
        view[8 : 8 + len(data)] = data

    def fence() -> None:
        lock.acquire()
        lock.release()

    def through() -> None:
        outbox.send_short(fields[0], 0, 0, 1, exported.object_id, 0x100, request)
        inbox.read_frame()

    def awake() -> None:
        inbox.sleep()
        inbox.wake()

    def serve() -> None:
        task = dispatcher.receive(link, fields, request, ())
        assert task is not None
        task()

    return [
        ("arguments to header", partial(encode_arguments, (1, 2), {}), "packb", partial(msgpack.packb, [[1, 2], {}])),
        ("into a ring and out of it", through, "copy of as many bytes", copy),
        ("asleep and awake", awake, "fence", fence),
        ("dispatch and call", serve, "hero.add(1, 2)", lambda: hero.add(1, 2)),
        ("  of which arguments", lambda: decode(request), "unpackb", partial(msgpack.unpackb, request)),
        ("  of which result", lambda: encode(3), "packb", partial(msgpack.packb, 3)),
        ("result to value", lambda: decode(result), "unpackb", partial(msgpack.unpackb, result)),
        ("one look at a ring", partial(inbox.spin, 1), "load and store", store_and_load),
    ]


@click.command(help=__doc__)
@click.option("--loops", default=20_000, show_default=True)
def main(loops: int) -> None:
    table = Table("step", "us", "floor", "us ")
    for name, step, floor_name, floor in steps():
        table.add_row(name, f"{best(step, loops):.2f}", floor_name, f"{best(floor, loops):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
