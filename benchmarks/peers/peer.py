"""What a peer's two processes have in common: the cases that they offer, the clock, and the line protocol.

Standard library only, as it also runs in the environment of the original, which has nothing of ours.

A script ``x_peer.py`` subclasses ``Server`` and ``Client`` and ends with ``main(XServer, XClient)``. The driver starts
it twice, ``x_peer.py server OPTIONS`` and ``x_peer.py client OPTIONS`` (a JSON object), and then:

- One line of JSON on standard input is one request, ``{"do": "publish", ...arguments}``; one line on standard output is
  its answer: ``{"ok": value}``, ``{"missing": why}`` if the peer does not offer that, ``{"error": text}``.
- Requests are answered in order, by the main thread, one at a time.
- The first request is ``start``. The end of standard input ends the process.
- Whatever else is printed goes to standard error, which the driver shows when something has failed.

What is timed lies between two readings of the clock in ``_timed_call`` and ``_timed_get``, the same for every peer.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, ClassVar

__all__ = ["FIRST", "LAST", "Client", "Loop", "Peer", "Server", "Tally", "checksum", "content", "main", "serve"]

FIRST, LAST = 0x5A, 0xA5
"""First and last byte of every array, which the receiver looks at, and nothing else of it."""

SLOWEST = 3.0
"""Seconds; a peer that needs longer for one operation gets a dash for that case."""

Memory = str
"""``"ordinary"``: made once, and sent again and again. ``"pooled"``: memory of the library's own, filled in place."""

WARM_SECONDS = 0.05
"""The operations before those that count take so long at the least, where none is preceded by silence: both sides were
asleep, and the kernel may need as long to see that they run at the same time, and to give each a processor."""


class TooSlow(Exception):
    """One single operation has taken longer than ``SLOWEST``."""


@functools.cache
def content(nbytes: int) -> bytes:
    """What an array of that size contains: noise, so that nothing gains by compressing it, between the two marks."""
    return bytes([FIRST]) + os.urandom(nbytes - 2) + bytes([LAST])


def checksum(array: Any) -> int:
    """What the server answers to an array it was given: proof that it has seen both ends of it."""
    return int(array[0]) << 8 | int(array[-1])


class Peer:
    """What both processes have.

    Attributes:
        options: what the roster says to this process: always ``directory``, for sockets and files.
        distributions: the packages whose versions belong into the result.
    """

    distributions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.directory: str = options["directory"]

    def open(self) -> None:
        """Get ready; when the server returns from this, a client may come."""

    def close(self) -> None:
        """Let go of everything."""

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in self.distributions}

    def start(self) -> dict[str, str]:
        """The first request: ``open``; returns the versions."""
        self.open()
        return self.versions()


class Server(Peer):
    """The process that is called, and that publishes. What is left as it is here, the peer does not offer."""

    def begin(self, kind: str, memory: Memory) -> None:
        """A case begins. Only between this and ``end`` may a server that polls use the processor."""

    def end(self) -> None:
        """The case is over."""

    def publisher(self, nbytes: int, memory: Memory) -> Callable[[], None]:
        """A function that publishes one sample of that size."""
        raise NotImplementedError

    def publish(self, nbytes: int, memory: Memory, seconds: float, limit: int) -> int:
        """Publish as fast as possible, for so long and at most so many; how many it were."""
        send, clock = self.publisher(nbytes, memory), time.perf_counter
        end, count = clock() + seconds, 0
        while count < limit and clock() < end:
            send()
            count += 1
        return count


class Client(Peer):
    """The process that calls, measures and subscribes. What is left as it is here, the peer does not offer."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._tally = Tally()
        self._unsubscribe: Callable[[], None] | None = None

    def adder(self) -> Callable[[int, int], int]:
        """A function that adds two integers in the server."""
        raise NotImplementedError

    def getter(self, nbytes: int, memory: Memory) -> Callable[[], Any]:
        """A function that gets an array from the server: anything with ``[0]``, ``[-1]`` and ``len``."""
        raise NotImplementedError

    def giver(self, nbytes: int, memory: Memory) -> Callable[[], int]:
        """A function that gives an array to the server, and returns the server's ``checksum`` of it."""
        raise NotImplementedError

    def subscriber(self, nbytes: int, memory: Memory, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Have ``callback`` called with each sample; returns a function that ends that."""
        raise NotImplementedError

    # -- requests of the driver -------------------------------------------------------------------------------

    def measure(
        self, kind: str, nbytes: int, memory: Memory, silence: float, repeat: int, warmup: int, seconds: float
    ) -> list[int]:
        """Nanoseconds of at most ``repeat`` operations in about ``seconds``, warmed up, after ``silence`` seconds each.

        There is at least one, however slow the peer is, unless it is so slow that it is not measured at all.

        Raises:
            TooSlow: the first operation took more than ``SLOWEST`` seconds.
        """
        if kind == "call":
            once = _timed_call(self.adder(), (1, 2), 3)
        elif kind == "argument":
            once = _timed_call(self.giver(nbytes, memory), (), checksum(content(nbytes)))
        elif kind == "result":
            once = _timed_get(self.getter(nbytes, memory), nbytes)
        else:
            raise ValueError(f"no case of the kind {kind!r}")
        return _repeat(once, silence, repeat, warmup, seconds)

    def subscribe(self, nbytes: int, memory: Memory) -> None:
        self._tally = Tally()
        self._unsubscribe = self.subscriber(nbytes, memory, self._tally.take)

    def count(self, expected: int, quiet: float) -> dict[str, Any]:
        """Wait until ``expected`` samples are here, or none has come for ``quiet`` seconds; tell, and begin anew."""
        return self._tally.settle(expected, quiet)

    def unsubscribe(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None


class Tally:
    """The subscriber's callback: counts, looks at both ends of a sample, and at the clock."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.received = self.wrong = self.first = self.last = 0

    def take(self, sample: Any) -> None:
        self.last = time.perf_counter_ns()
        if not self.received:
            self.first = self.last
        self.received += 1
        if sample[0] != FIRST or sample[-1] != LAST:
            self.wrong += 1

    def settle(self, expected: int, quiet: float) -> dict[str, Any]:
        seen, end = self.received, time.monotonic() + quiet
        while self.received < expected and time.monotonic() < end:
            time.sleep(0.005)
            if self.received != seen:
                seen, end = self.received, time.monotonic() + quiet
        result = {"received": self.received, "wrong": self.wrong, "nanoseconds": self.last - self.first}
        self._begin()
        return result


def _timed_call(function: Callable[..., int], arguments: tuple[int, ...], expected: int) -> Callable[[], int]:
    clock = time.perf_counter_ns

    def once() -> int:
        start = clock()
        result = function(*arguments)
        taken = clock() - start
        if result != expected:
            raise ValueError(f"the server answered {result!r}, not {expected}")
        return taken

    return once


def _timed_get(function: Callable[[], Any], nbytes: int) -> Callable[[], int]:
    """As in a program's loop, the array before is let go of when the next one is there, and in its time."""
    clock, array = time.perf_counter_ns, None

    def once() -> int:
        nonlocal array
        start = clock()
        array = function()
        first, last = array[0], array[-1]
        taken = clock() - start
        if first != FIRST or last != LAST or len(array) != nbytes:
            raise ValueError(f"an array of {len(array)} bytes, {first} to {last}, came instead of one of {nbytes}")
        return taken

    return once


def _repeat(once: Callable[[], int], silence: float, repeat: int, warmup: int, seconds: float) -> list[int]:
    if (first := once()) > SLOWEST * 1e9:  # in which arrays and pools are made
        raise TooSlow(f"one operation took {first / 1e9:.1f} s")
    clock, taken = time.monotonic, []
    begin = clock()
    warm, deadline = begin + (0.0 if silence else WARM_SECONDS), begin + seconds
    while warmup > 0 or clock() < warm:
        warmup -= 1
        if silence:
            time.sleep(silence)
        once()
        if clock() > deadline:
            break
    for _ in range(repeat):
        if silence:
            time.sleep(silence)
        taken.append(once())
        if clock() > deadline:
            break
    return taken


# -- the line protocol ----------------------------------------------------------------------------------------


def main(server: type[Server], client: type[Client]) -> None:
    """Be one of the two processes, as the command line says."""
    role, options = sys.argv[1], json.loads(sys.argv[2])
    serve(lambda: server(options) if role == "server" else client(options))


def serve(make: Callable[[], Any]) -> None:
    """Answer requests with the methods of the object that ``make`` returns; call its ``close`` at the end."""
    # The answers get a descriptor that no library can print to.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer = make()
    try:
        for line in sys.stdin:
            answers.write(json.dumps(_answer(peer, json.loads(line))) + "\n")
            answers.flush()
    finally:
        peer.close()


def _answer(peer: Any, request: dict[str, Any]) -> dict[str, Any]:
    do = request.pop("do")
    try:
        return {"ok": getattr(peer, do)(**request)}
    except NotImplementedError:
        return {"missing": "not offered"}
    except TooSlow as error:
        return {"missing": f"too slow: {error}"}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


class Loop:
    """A thread of a server that polls: runs ``step`` again and again, but only between ``begin`` and ``end``."""

    def __init__(self) -> None:
        self._step: Callable[[], None] = _nothing
        self._go, self._running, self._ends = threading.Event(), threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
        self._thread.start()

    def begin(self, step: Callable[[], None]) -> None:
        self._step = step
        self._go.set()

    def end(self) -> None:
        """After this no step is under way."""
        self._go.clear()
        with self._running:
            pass

    def close(self) -> None:
        self.end()
        self._ends = True
        self._go.set()
        self._thread.join()

    def _run(self) -> None:
        go = self._go.is_set
        while True:
            self._go.wait()
            with self._running:
                if self._ends:
                    return
                step = self._step
                while go():
                    step()


def _nothing() -> None:
    pass
