"""The sending half of a channel's end: frames in, a numbered stream of packets out.

How it works
    One thread at a time sends. A thread that finds nobody at it, and that may wait, sends its frame itself. All others
    leave a copy of theirs in the queue, which a worker sends, many small frames in one packet. So a peer that does
    not read holds up one thread, and never one that must not wait: a publisher, or a thread of zenoh.

SYNC POINT: sending
    ``_busy`` is held by whoever sends. A frame is queued before ``_busy`` is tried; ``_busy`` is given up before the
    queue is looked at for the last time. So either the sender sees the frame or the other thread gets ``_busy``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from heros import wire
from heros.buffers import Buffer
from heros.exceptions import RemoteTransportError
from heros.net.bus import in_callback
from heros.net.packets import ALIGNMENT, BATCH_BYTES, HEAD, PADDING, SHORT, Body, Kind, framed
from heros.workers import Workers

__all__ = ["Outbox", "Put", "Staged"]

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


class _Queued(NamedTuple):
    nbytes: int
    small: bytes | None
    """One frame, as it stands in a FRAMES packet."""
    frame: bytes
    pieces: Iterable[object]
    control: int


class Outbox:
    """See the module. Thread-safe.

    Args:
        put: sends one packet.
        share: see ``Bus.share``.
        end: which end of the channel the packets are for.
        workers: where queued frames are sent from.
        failed: called, on any thread, when sending has failed; nothing more will be sent.
    """

    def __init__(
        self,
        put: Put,
        share: Callable[[bytes | bytearray], object],
        end: int,
        channel: int,
        workers: Workers,
        failed: Callable[[RemoteTransportError], None],
    ) -> None:
        self._put = put
        self._share = share
        self._end = end
        self._channel = channel
        self._workers = workers
        self._failed = failed
        self._busy = threading.Lock()
        self._count = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._sequence = 0
        self._closed = False
        self._next_pause = 0.0
        self._patience = 0.0
        self.backlog = 0
        """Bytes in the queue."""
        self.sent = 0
        """Bytes that were given to zenoh so far."""

    # -- any thread -------------------------------------------------------------------------------------------

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
        elif not may_wait or not self._begin():
            self.enqueue(frame, Staged.copy(body, self._share))
        else:
            try:
                self._send_large(frame, body.nbytes, body.pieces())
            except RemoteTransportError as error:
                self._fail(error)
            finally:
                self._end_turn()

    def send_short(
        self, kind: int, op: int, member: int, ident: int, first: int, second: int, header: bytes | memoryview
    ) -> bool:
        """Send a frame without buffers, at once. False, and nothing is done, when others are sending."""
        if self._queue or in_callback() or not self._busy.acquire(False):
            return False
        try:
            length = len(header)
            self._sequence += 1
            packet = b"".join((
                _SHORT(
                    _FRAMES, self._end, _PROTOCOL, 0, self._channel, self._sequence, 0,
                    length, kind, 0, op, member, ident, first, second, length, 0,
                ),
                header,
                PADDING[length % ALIGNMENT],
            ))  # fmt: skip
            self._put(packet)
            self.sent += len(packet) + SENT_OVERHEAD
        except RemoteTransportError as error:
            self._fail(error)
        finally:
            self._busy.release()
            if self._queue:
                self._wake()
        return True

    def _send_small(self, small: bytes, may_wait: bool) -> None:
        if not may_wait or not self._begin():
            self._append(_Queued(len(small), small, b"", (), 0))
            return
        try:
            self._send_batch([small])
        except RemoteTransportError as error:
            self._fail(error)
        finally:
            self._end_turn()

    def _begin(self) -> bool:
        """Whether this thread may send now; it then holds _busy."""
        return not self._queue and not in_callback() and self._busy.acquire(False)

    def _end_turn(self) -> None:
        self._busy.release()
        if self._queue:
            self._wake()

    def enqueue(self, frame: bytes, body: Staged) -> None:
        """Have a worker send a frame. Never blocks."""
        if body.small is not None:
            small = framed(frame, body.small)
            self._append(_Queued(len(small), small, b"", (), 0))
        else:
            self._append(_Queued(body.nbytes, None, frame, body.pieces, 0))

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

    def close(self) -> None:
        """Forget what is queued."""
        self._closed = True
        self._queue.clear()

    def _append(self, queued: _Queued) -> None:
        if self._closed:
            return
        with self._count:
            self.backlog += queued.nbytes
        self._queue.append(queued)
        self._wake()

    def _wake(self) -> None:
        if self._busy.acquire(False):
            self._workers.post(self._drain)  # holding _busy, which the worker gives up

    # -- whoever holds _busy ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        try:
            self._send_queued()
        except RemoteTransportError as error:
            self._fail(error)
        finally:
            self._end_turn()

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
                self._send_packet(queued.control)
            else:
                self._send_large(queued.frame, queued.nbytes, queued.pieces)
            self._settle(queued.nbytes + taken)
            taken = 0
        if batch:
            self._send_batch(batch)
        self._settle(taken)

    def _settle(self, nbytes: int) -> None:
        with self._count:
            self.backlog -= nbytes

    def _next(self, kind: int, total: int = 0) -> bytes:
        self._sequence += 1
        return HEAD.pack(kind, self._end, wire.PROTOCOL, 0, self._channel, self._sequence, total)

    def _send_packet(self, kind: int) -> None:
        self._put(self._next(kind))
        self.sent += HEAD.size + SENT_OVERHEAD

    def _send_batch(self, frames: list[bytes]) -> None:
        packet = b"".join([self._next(Kind.FRAMES), *frames])
        self._put(packet)
        self.sent += len(packet) + SENT_OVERHEAD

    def _send_large(self, frame: bytes, total: int, pieces: Iterable[object]) -> None:
        first = True
        for piece in pieces:
            if self._closed:
                return
            self._put(piece, self._next(Kind.BEGIN, total) + frame if first else self._next(Kind.MORE))
            first = False
        self.sent += total + SENT_OVERHEAD

    def _fail(self, error: RemoteTransportError) -> None:
        self.close()
        self._failed(error)
