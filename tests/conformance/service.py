"""What the conformance tests talk to: receivers for both ends, below the runtime, with plain JSON in the headers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heros.buffers import Buffer, buffer_nbytes
from heros.transport import Channel, Link, Payload, Task
from heros.wire import Fault, Fields, Kind
from heros.workers import Strand

__all__ = ["Do", "Event", "Recorder", "Service", "crc", "make_array", "overwrite"]


class Do(IntEnum):
    """Members of the service; the header of a call is JSON, ``null`` where nothing is said."""

    ECHO = 1  # RESULT with the same header and buffers
    LOOK = 2  # -> for each buffer [type, length, number of dimensions, read-only, crc]
    SLEEP = 3  # seconds -> null
    NEVER = 4  # no reply
    FAIL = 5  # ERROR, with what was sent as header
    MAKE = 6  # [[kind, shape], ...] -> null, the arrays as buffers, which are overwritten afterwards
    HOLD = 7  # keep the buffers -> null
    HELD = 8  # -> for each kept buffer whether it is unchanged
    LOG = 9  # -> what has arrived
    QUEUED = 10  # seconds -> null; one at a time, in order
    PUBLISH = 11  # [subscription, count, size] -> null; waits for room; overwrites each array after it was published
    FLOOD = 12  # [subscription, most, size]: publish until there is no room; says "FLOODED accepted" -> accepted
    PUBLISH_ALL = 13  # [subscription, size]: one payload on all links -> whether it was staged once
    TWICE = 14  # two replies
    DISCONNECT = 15  # reason: closes the link, and does not reply
    DIE = 16  # kill -9


def crc(buffer: Buffer) -> int:
    return zlib.crc32(buffer.tobytes(order="A") if isinstance(buffer, np.ndarray) else buffer)


def overwrite(array: NDArray[Any]) -> None:
    array[...] = np.zeros((), array.dtype) if array.dtype.names else 7


def make_array(kind: str, shape: Sequence[int]) -> NDArray[Any]:
    """A writable array whose bytes are never all the same."""
    count = int(np.prod(shape, dtype=np.int64))
    if kind == "structured":
        array: NDArray[Any] = np.zeros(shape, [("a", "<i4"), ("b", ">f8"), ("c", "S3")])
        array["a"] = np.arange(count).reshape(shape)
        return array
    if kind == "big-endian":
        return np.arange(count, dtype=">u4").reshape(shape)
    if kind == "datetime":
        return np.arange(count).astype("datetime64[us]").reshape(shape)
    flat = (np.arange(count, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(24)).astype(np.uint8)
    if kind == "fortran":
        return np.asfortranarray(flat.reshape(shape))
    if kind == "strided":
        return np.repeat(flat, 2).reshape(*shape[:-1], 2 * shape[-1])[..., ::2]
    if kind == "backwards":
        return flat.reshape(shape)[::-1]
    return flat.reshape(shape)


class _Watched:
    """Notes when a receiver is entered by two threads at once, or after it was told of the end."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._inside: set[int] = set()
        self._gone: weakref.WeakSet[Any] = weakref.WeakSet()

    def enter(self, source: object) -> None:
        if id(source) in self._inside:
            self.wrong.append("entered by two threads")
        if source in self._gone:
            self.wrong.append("a frame after the end")
        self._inside.add(id(source))

    def leave(self, source: object) -> None:
        self._inside.discard(id(source))

    def end(self, source: object) -> None:
        if id(source) in self._inside:
            self.wrong.append("told of the end within a frame")
        if source in self._gone:
            self.wrong.append("told of the end twice")
        self._gone.add(source)


class Service:
    """The receiver of the server ends. ``say`` tells the test something without using the transport."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._watched = _Watched()
        self._links: list[Link] = []
        self._arrived: list[list[object]] = []
        self._ended: list[str] = []
        self._held: list[tuple[Buffer, int]] = []
        self._strand = Strand()

    # -- transport.Receiver -----------------------------------------------------------------------------------

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        link: Link = source  # type: ignore[assignment]
        self._watched.enter(link)
        try:
            if link not in self._links:
                self._links.append(link)
            kind, _, op, member, ident, first, second, header_length, buffer_count = fields
            if (header_length, buffer_count) != (len(header), len(buffers)):
                self._watched.wrong.append(f"fields {fields} do not fit {len(header)} and {len(buffers)}")
            if kind != Kind.CALL:
                self._arrived.append([kind, op, member, ident, first, second, bytes(header).decode(), len(buffers)])
                return None
            task = partial(self._serve, link, Do(member), fields, header, buffers)
            if member == Do.QUEUED:
                ready = self._strand.enter(task)
                return None if ready is None else partial(self._strand.go_on, ready)
            return task
        finally:
            self._watched.leave(link)

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self._watched.end(source)
        self._ended.append(type(reason).__name__)
        if source in self._links:
            self._links.remove(source)  # type: ignore[arg-type]

    # -- the members ------------------------------------------------------------------------------------------

    def _serve(self, link: Link, do: Do, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        call_id = fields[4]
        if do == Do.ECHO:
            link.reply(Kind.RESULT, 0, call_id, bytes(header), buffers)
        elif do == Do.MAKE:
            arrays = [make_array(kind, shape) for kind, shape in json.loads(bytes(header))]
            link.reply(Kind.RESULT, 0, call_id, b"null", arrays)
            for array in arrays:
                overwrite(array)
        elif do == Do.FAIL:
            link.reply(Kind.ERROR, Fault.RAISED, call_id, bytes(header), ())
        elif do == Do.NEVER:
            self._say("CALLED")
        elif do == Do.DISCONNECT:
            link.close(json.loads(bytes(header)))
        elif do == Do.DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            result = self._perform(link, do, json.loads(bytes(header)), buffers)
            text = json.dumps(result).encode()
            link.reply(Kind.RESULT, 0, call_id, text, ())
            if do == Do.TWICE:
                link.reply(Kind.RESULT, 0, call_id, b'"again"', ())

    def _perform(self, link: Link, do: Do, argument: Any, buffers: Sequence[Buffer]) -> object:
        if do == Do.LOOK:
            return [_look(buffer) for buffer in buffers]
        if do in (Do.SLEEP, Do.QUEUED):
            if argument and argument > 1:
                self._say("CALLED")
            time.sleep(argument)
        elif do == Do.HOLD:
            self._held.extend((buffer, crc(buffer)) for buffer in buffers)
        elif do == Do.HELD:
            return [crc(buffer) == before for buffer, before in self._held]
        elif do == Do.LOG:
            return {"arrived": self._arrived, "ended": self._ended, "wrong": self._watched.wrong}
        elif do == Do.PUBLISH:
            _publish(link, *argument)
        elif do == Do.FLOOD:
            accepted = _flood(link, *argument)
            self._say(f"FLOODED {accepted}")
            return accepted
        elif do == Do.PUBLISH_ALL:
            return self._publish_all(*argument)
        return None

    def _publish_all(self, ident: int, size: int) -> bool:
        payload = Payload(b"0", [make_array("plain", [size])])
        staged: list[object] = []
        for link in list(self._links):
            wait_for_room(link, partial(link.publish, Kind.SAMPLE, ident, 1, 1, payload))
            staged.append(list((payload.staged or {}).items()))
        return len(staged) > 1 and bool(staged[0]) and all(each == staged[0] for each in staged)


def _look(buffer: Buffer) -> list[object]:
    if isinstance(buffer, np.ndarray):
        read_only = not buffer.flags.writeable
        return [f"{buffer.dtype}", buffer.nbytes, buffer.ndim, read_only, crc(buffer)]
    return [type(buffer).__name__, buffer_nbytes(buffer), 1, isinstance(buffer, bytes), crc(buffer)]


def _publish(link: Link, ident: int, count: int, size: int) -> None:
    for number in range(1, count + 1):
        if link.closed:
            return
        array = make_array("plain", [size])
        array += number % 251
        buffers: list[Buffer] = [array] if size else []
        payload = Payload(json.dumps(crc(array)).encode(), buffers)
        wait_for_room(link, partial(link.publish, Kind.SAMPLE, ident, number, number, payload))
        overwrite(array)
    wait_for_room(link, partial(link.publish, Kind.END, ident, count, count, Payload(b"done", ())))


def _flood(link: Link, ident: int, most: int, size: int) -> int:
    for number in range(1, most + 1):
        array = make_array("plain", [size])
        payload = Payload(json.dumps(crc(array)).encode(), [array])
        if not link.publish(Kind.SAMPLE, ident, number, number, payload):
            return number - 1
    return most


def wait_for_room(link: Link, publish: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not publish() and not link.closed:
        if time.monotonic() > end:
            raise TimeoutError("no room for an event")
        time.sleep(0.001)


class Event(NamedTuple):
    kind: int
    ident: int
    sequence: int
    index: int
    header: bytes
    buffers: Sequence[Buffer]


class Recorder:
    """The receiver of a client end: keeps what arrives. While ``reading`` is cleared, nobody reads.

    Attributes:
        events: in the order in which ``receive`` got them.
        done: how many of the tasks that ``receive`` returned have run.
        task_threads: which threads ran them.
        ended: the reasons with which the end was reported.
        wrong: violations of the contract.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.done = 0
        self.task_threads: set[threading.Thread] = set()
        self.ended: list[BaseException] = []
        self.reading = threading.Event()
        self.reading.set()
        self._lock = threading.Lock()
        self._watched = _Watched()
        self.wrong = self._watched.wrong

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        self._watched.enter(source)
        self.reading.wait(60)
        kind, _, _, _, ident, sequence, index, _, _ = fields
        self.events.append(Event(kind, ident, sequence, index, bytes(header), buffers))
        self._watched.leave(source)
        return self._task

    def _task(self) -> None:
        with self._lock:
            self.done += 1
            self.task_threads.add(threading.current_thread())

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self._watched.end(source)
        self.ended.append(reason)
