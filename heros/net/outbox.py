"""The sending half of a channel's end: frames in, a numbered stream of packets out.

How it works
    One thread at a time sends. A thread that finds nobody at it, and that may wait, sends its frame itself. All others
    leave a copy of theirs in the queue, which a worker sends, many small frames in one packet. So a peer that does
    not read holds up one thread, and never one that must not wait: a publisher, or a thread of zenoh.

SYNC POINT: sending
    ``_turn`` is held by whoever sends. A frame is queued before the turn is tried; the turn is given up before the
    queue is looked at for the last time. So either the sender sees the frame or the other thread gets the turn.

Interrupts
    Ctrl-C comes between any two steps of the main thread (``docs/decisions/0008``). So the turn is an RLock, which can
    be asked whether this thread has it; and a packet of which it is not sure whether it was sent is sent again: the
    receiver drops what it has seen before, but would wait for a number that is missing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from heros import wire
from heros.buffers import Buffer
from heros.exceptions import RemoteTransportError
from heros.net.bus import in_callback
from heros.net.packets import ALIGNMENT, BATCH_BYTES, HEAD, PADDING, SHORT, Body, Kind, framed
from heros.transport import Task
from heros.workers import Workers

__all__ = ["Lent", "Outbox", "Put", "Staged"]

YIELD_SECONDS: Final = 10e-6
"""Any sleep gives up the global lock for long enough that a thread which waits for it gets it."""

SENT_OVERHEAD: Final = 100
"""Bytes that a packet costs beside its body, in round numbers."""


_SHORT: Final = SHORT.pack
_FRAMES: Final = int(Kind.FRAMES)
_PROTOCOL: Final = wire.PROTOCOL


class Put(Protocol):
    """How a packet is sent. The payload is copied. Blocks while the peer is slow; raises RemoteTransportError."""

    def __call__(self, payload: object, attachment: bytes | None = None) -> None: ...


class Staged(NamedTuple):
    """A body that needs nothing of its sender any more: bytes when small, else pieces that can be sent many times."""

    nbytes: int
    small: bytes | None
    pieces: list[object]

    @classmethod
    def copy(cls, body: Body, share: Callable[[bytes | bytearray], object]) -> Staged:
        if body.nbytes <= BATCH_BYTES:
            return cls(body.nbytes, body.joined(), [])
        return cls(body.nbytes, None, [share(piece) for piece in body.pieces()])


class Lent:
    """A body whose buffers are lent until :meth:`take_back`: a worker copies them piece by piece, as it sends."""

    def __init__(self, body: Body) -> None:
        self.nbytes = body.nbytes
        self._body = body
        self._copying = threading.Lock()
        self._taken_back = False

    def take_back(self) -> None:
        """The buffers are not read any more. Waits for the copy of one piece at most; what was not sent will not be."""
        with self._copying:
            self._taken_back = True

    def pieces(self) -> Iterator[bytes | bytearray]:
        """What is to be sent, until it is taken back."""
        pieces = self._body.pieces()
        while True:
            with self._copying:
                piece = None if self._taken_back else next(pieces, None)
            if piece is None:
                return
            yield piece


class _Queued(NamedTuple):
    nbytes: int
    small: bytes | None
    """One frame, as it stands in a FRAMES packet."""
    frame: bytes
    pieces: Iterable[object]
    control: int
    """The kind of a packet that is a head, and ``frame``, which is a text then."""
    done: Task | None = None
    """What is run once it was sent."""


class Outbox:
    """See the module. Thread-safe.

    Args:
        put: sends one packet.
        share: see ``Bus.share``.
        inbox: which inbox of the other end the packets are for.
        workers: where queued frames are sent from.
        failed: called, on any thread, when sending has failed; nothing more will be sent.
    """

    def __init__(
        self,
        put: Put,
        share: Callable[[bytes | bytearray], object],
        inbox: int,
        channel: int,
        workers: Workers,
        failed: Callable[[RemoteTransportError], None],
    ) -> None:
        self._put = put
        self._share = share
        self._inbox = inbox
        self._channel = channel
        self._workers = workers
        self._failed = failed
        self._turn = threading.RLock()
        self._woken = False
        """Whether a worker was told of the queue and has not come yet."""
        self._unsure: tuple[int, object, bytes | None] | None = None
        """What is just being sent: its number, payload and attachment."""
        self._count = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._sequence = 0
        self._closed = False
        """Whether nothing more is taken."""
        self._dropped = False
        self._next_pause = 0.0
        self._patience = 0.0
        self.backlog = 0
        """Bytes in the queue."""
        self.sent = 0
        """Bytes that were given to zenoh so far."""

    @property
    def packets(self) -> int:
        """How many were sent so far."""
        return self._sequence

    # -- any thread -------------------------------------------------------------------------------------------

    @property
    def sending_here(self) -> bool:
        """Whether the calling thread is in the middle of sending, further down its stack."""
        return bool(self._turn._is_owned())  # type: ignore[attr-defined]

    def send(self, frame: bytes, header: bytes, buffers: Sequence[Buffer], may_wait: bool) -> None:
        """Send a frame; its buffers are free afterwards. Without ``may_wait`` it never blocks.

        Raises:
            EncodeError: it is too large.
        """
        if not buffers and len(header) <= BATCH_BYTES:
            self._send_small(framed(frame, header), may_wait)
            return
        body = Body(header, buffers)
        if body.nbytes <= BATCH_BYTES:
            self._send_small(framed(frame, body.joined()), may_wait)
        elif not may_wait or not self._may_send():
            self.enqueue(frame, Staged.copy(body, self._share))
        else:
            try:
                if self._turn.acquire(False):
                    self._send_large(frame, body.nbytes, body.pieces())
                    self._end_turn()
                    return
            except BaseException as error:
                self._fail_turn(error)
                return
            self.enqueue(frame, Staged.copy(body, self._share))

    def send_short(
        self, kind: int, op: int, member: int, ident: int, first: int, second: int, header: bytes | memoryview
    ) -> bool:
        """Send a frame without buffers, at once. False, and nothing is done, when others are sending."""
        turn = self._turn
        if self._queue or in_callback() or turn._is_owned():  # type: ignore[attr-defined]
            return False
        try:
            if not turn.acquire(False):
                return False
            length = len(header)
            number = self._sequence + 1
            packet = b"".join((
                _SHORT(
                    _FRAMES, self._inbox, _PROTOCOL, 0, self._channel, number, 0,
                    length, kind, 0, op, member, ident, first, second, length, 0,
                ),
                header,
                PADDING[length % ALIGNMENT],
            ))  # fmt: skip
            self._emit(number, packet)
            self.sent += len(packet) + SENT_OVERHEAD
            self._end_turn()
        except BaseException as error:
            self._fail_turn(error)
        return True

    def _send_small(self, small: bytes, may_wait: bool) -> None:
        if may_wait and self._may_send():
            try:
                if self._turn.acquire(False):
                    self._send_batch([small])
                    self._end_turn()
                    return
            except BaseException as error:
                self._fail_turn(error)
                return
        self._append(_Queued(len(small), small, b"", (), 0))

    def _may_send(self) -> bool:
        """Whether this thread may try to get the turn: nothing waits, and it is in the middle of no other packet."""
        return not self._queue and not in_callback() and not self._turn._is_owned()  # type: ignore[attr-defined]

    def _end_turn(self) -> None:
        """Give up the turn, if this thread has it."""
        turn = self._turn
        if turn._is_owned():  # type: ignore[attr-defined]
            try:
                if self._unsure is not None:
                    self._emit(*self._unsure)
            finally:
                turn.release()
        if self._queue:
            self._wake()

    def _fail_turn(self, error: BaseException) -> None:
        """Give up the turn after ``error``, which is raised again unless it means that nothing more can be sent."""
        try:
            self._end_turn()
        except RemoteTransportError as second:
            error = second
        if not isinstance(error, RemoteTransportError):
            raise error
        self._fail(error)

    def enqueue(self, frame: bytes, body: Staged) -> None:
        """Have a worker send a frame. Never blocks."""
        if body.small is not None:
            small = framed(frame, body.small)
            self._append(_Queued(len(small), small, b"", (), 0))
        else:
            self._append(_Queued(body.nbytes, None, frame, body.pieces, 0))

    def lend(self, frame: bytes, body: Lent) -> None:
        """Have a worker send a large frame. Never blocks."""
        self._append(_Queued(body.nbytes, None, frame, body.pieces(), 0))

    def let_by(self, every: float = 0.0) -> None:
        """To be called by a thread that may well send more: let the worker at the queue have the global lock, if that
        is what it waits for. It waits for the peer meanwhile more often, and then this does nothing."""
        now = time.monotonic()
        if now < self._next_pause:
            return
        sent = self.sent
        time.sleep(YIELD_SECONDS)
        self._patience = 0.0 if self.sent != sent else min(max(1.5 * self._patience, 1e-4), 0.1)
        self._next_pause = now + every + self._patience

    def control(self, kind: Kind) -> None:
        """Have a worker send a PING or a PONG, after all that is queued. Never blocks."""
        self._append(_Queued(HEAD.size, None, b"", (), kind))

    def finish(self, text: bytes, done: Task) -> None:
        """Have a worker send what is queued, say BYE with ``text``, and run ``done``. Nothing more is taken."""
        self._closed = True
        self._queue.append(_Queued(0, None, text, (), Kind.BYE, done))
        self._wake()

    def close(self) -> None:
        """Forget what is queued."""
        self._closed = self._dropped = True
        self._queue.clear()

    def _append(self, queued: _Queued) -> None:
        if self._closed:
            return
        with self._count:
            self.backlog += queued.nbytes
        self._queue.append(queued)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            try:
                self._workers.post(self._drain)
            except BaseException:  # Ctrl-C: perhaps nobody was told
                self._workers.post(self._drain)
                raise

    # -- whoever has the turn ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._woken = False
        try:
            if self._turn.acquire(False):  # else who has it looks at the queue after giving it up
                self._send_queued()
                self._end_turn()
        except BaseException as error:
            self._fail_turn(error)

    def _send_queued(self) -> None:
        batch: list[bytes] = []
        room = BATCH_BYTES
        taken = 0
        while True:
            try:
                queued = self._queue.popleft()
            except IndexError:
                break
            if queued.small is not None and len(queued.small) <= room:
                batch.append(queued.small)
                room -= len(queued.small)
                taken += queued.nbytes
                continue
            if batch:
                self._send_batch(batch)
                batch, room = [], BATCH_BYTES
            if queued.small is not None:
                batch.append(queued.small)
                room -= len(queued.small)
                taken += queued.nbytes
                continue
            if queued.control:
                self._send_packet(queued.control, queued.frame)
            else:
                self._send_large(queued.frame, queued.nbytes, queued.pieces)
            self._settle(queued.nbytes + taken)
            taken = 0
            if queued.done is not None:
                queued.done()
        if batch:
            self._send_batch(batch)
        self._settle(taken)

    def _settle(self, nbytes: int) -> None:
        with self._count:
            self.backlog -= nbytes

    def _head(self, kind: int, total: int = 0) -> tuple[int, bytes]:
        """The number and the head of the next packet."""
        number = self._sequence + 1
        return number, HEAD.pack(kind, self._inbox, _PROTOCOL, 0, self._channel, number, total)

    def _emit(self, number: int, payload: object, attachment: bytes | None = None) -> None:
        self._unsure = (number, payload, attachment)
        try:
            self._put(payload, attachment)
        except RemoteTransportError:
            self._unsure = None
            raise
        self._sequence = number
        self._unsure = None

    def _send_packet(self, kind: int, text: bytes) -> None:
        number, head = self._head(kind)
        self._emit(number, head + text)
        self.sent += HEAD.size + len(text) + SENT_OVERHEAD

    def _send_batch(self, frames: list[bytes]) -> None:
        number, head = self._head(Kind.FRAMES)
        packet = b"".join([head, *frames])
        self._emit(number, packet)
        self.sent += len(packet) + SENT_OVERHEAD

    def _send_large(self, frame: bytes, total: int, pieces: Iterable[object]) -> None:
        first = True
        for piece in pieces:
            if self._dropped:
                return
            number, head = self._head(Kind.BEGIN, total) if first else self._head(Kind.MORE)
            self._emit(number, piece, head + frame if first else head)
            first = False
        self.sent += total + SENT_OVERHEAD

    def _fail(self, error: RemoteTransportError) -> None:
        self.close()
        self._failed(error)
