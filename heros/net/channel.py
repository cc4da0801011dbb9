"""The client end of a network channel: calls, and what arrives for subscriptions.

A call waits on a lock of its own, which the thread of zenoh that reads its reply gives up. It has no deadline of its
own while the server's node lives; PING finds out whether something was lost on the way.

What may block
    zenoh blocks a sender whose peer does not read. A caller must not be caught in that: its time-out and Ctrl-C have
    to work. So it sends by itself only what surely fits into zenoh's queue, because nearly all that was sent before
    has been answered and therefore read; all else is sent by a worker.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

from heros import limits, wire
from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import CallTimeout, HEROSError, PeerLost
from heros.net.end import End, Surroundings
from heros.net.packets import BATCH_BYTES, CLIENT, Kind
from heros.net.waiter import Waiter
from heros.transport import Channel, OnReply, Peer, Receiver, Reply
from heros.workers import Timer

__all__ = ["NetChannel"]

log = logging.getLogger("heros.net")

UNREAD_BYTES: Final = 64 * limits.KIB
"""As much as one batch of zenoh, of which each queue has two."""


class _Pending:
    """A call that waits for its reply."""

    __slots__ = ("deliver", "sent")

    def __init__(self, deliver: OnReply) -> None:
        self.deliver = deliver
        self.sent = 0
        """What the outbox had sent after this call; its reply says that the server has read all of it."""


class NetChannel(End):
    """See :class:`heros.transport.Channel`."""

    here: ClassVar[int] = CLIENT

    def __init__(self, surroundings: Surroundings, peer: Peer, channel: int, receiver: Receiver) -> None:
        self._pending: dict[int, _Pending] = {}
        self._idents = itertools.count(1)
        self._read = 0
        self._ping: Timer | None = None
        self._ping_lock = threading.Lock()
        super().__init__(surroundings, peer, channel, receiver)

    def _self(self) -> Channel:
        return self

    # -- transport.Channel ------------------------------------------------------------------------------------

    def call(
        self,
        op: int,
        member: int,
        object_id: int,
        chain: int,
        header: bytes,
        buffers: Sequence[Buffer],
        timeout: float | None,
    ) -> Reply:
        waiter: Waiter[Reply | BaseException] = Waiter()
        deadline = None if timeout is None else time.monotonic() + timeout
        ident = self._begin(waiter.deliver, op, member, object_id, chain, header, buffers)
        try:
            waiter.wait(deadline, self.name)
        finally:
            self._pending.pop(ident, None)
        reply = waiter.reply
        if reply is None:
            raise CallTimeout(f"no reply from {self.name} within {timeout:g} s; it may still carry out the call")
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def submit(
        self,
        op: int,
        member: int,
        object_id: int,
        chain: int,
        header: bytes,
        buffers: Sequence[Buffer],
        on_reply: OnReply,
    ) -> int:
        # on_reply may run user code, which has no place on the thread that reads.
        deliver = partial(self._hand_over, on_reply)
        return self._begin(deliver, op, member, object_id, chain, header, buffers)

    def forget(self, call_id: int) -> None:
        self._pending.pop(call_id, None)

    def post(
        self,
        kind: int,
        member: int,
        ident: int,
        first: int,
        second: int,
        header: bytes = b"",
        buffers: Sequence[Buffer] = (),
    ) -> None:
        self._check_open()
        self._send(
            wire.FRAME.pack(kind, 0, 0, member, ident, first, second, len(header), len(buffers)), header, buffers
        )

    def close(self) -> None:
        self.end(PeerLost(f"the channel to {self.name} was closed by this process"), tell="closed by the client")

    # -- calls ------------------------------------------------------------------------------------------------

    def _begin(
        self,
        deliver: OnReply,
        op: int,
        member: int,
        object_id: int,
        chain: int,
        header: bytes,
        buffers: Sequence[Buffer],
    ) -> int:
        ident = next(self._idents)
        pending = self._pending[ident] = _Pending(deliver)
        try:
            self._check_open()  # after the call is in the table: _ended empties that after it has closed the channel
            frame = wire.FRAME.pack(wire.Kind.CALL, 0, op, member, ident, object_id, chain, len(header), len(buffers))
            self._send(frame, header, buffers)
        except PeerLost:
            if self._pending.pop(ident, None) is None:
                return ident  # _ended has delivered it
            raise
        except BaseException:
            self._pending.pop(ident, None)
            raise
        pending.sent = self._outbox.sent
        if self._ping is None:
            self._arm_ping()
        return ident

    def _send(self, frame: bytes, header: bytes, buffers: Sequence[Buffer]) -> None:
        outbox = self._outbox
        nbytes = len(header)
        for buffer in buffers:
            nbytes += buffer_nbytes(buffer)
        may_wait = nbytes <= BATCH_BYTES and outbox.sent - self._read + nbytes <= UNREAD_BYTES
        outbox.send(frame, header, buffers, may_wait)

    def _check_open(self) -> None:
        if self._reason is not None:
            raise PeerLost(str(self._reason))

    def _hand_over(self, on_reply: OnReply, reply: Reply | BaseException) -> None:
        self._surroundings.workers.post(partial(on_reply, reply))

    # -- what arrives -----------------------------------------------------------------------------------------

    def _frame(self, fields: wire.Fields, header: memoryview, buffers: list[Buffer]) -> None:
        kind = fields[0]
        if kind == wire.Kind.RESULT or kind == wire.Kind.ERROR:
            pending = self._pending.pop(fields[4], None)
            if pending is not None:  # else it is late: the caller has given up
                self._read = max(self._read, pending.sent)
                pending.deliver(Reply(fields, header, buffers))
        elif kind in (wire.Kind.SAMPLE, wire.Kind.GAP, wire.Kind.END):
            task = self._receiver.receive(self, fields, header, buffers)
            if task is not None:
                self._surroundings.workers.post(task)
        else:
            log.debug("%s sends a frame of kind %d to a client; ignored", self.name, kind)

    def _ended(self, reason: HEROSError) -> None:
        with self._ping_lock:
            if self._ping is not None:
                self._ping.cancel()
        while self._pending:
            try:
                _, pending = self._pending.popitem()
            except KeyError:
                break
            lost = PeerLost(str(reason))
            pending.deliver(lost)

    # -- whether anything was lost ----------------------------------------------------------------------------

    def _arm_ping(self) -> None:
        with self._ping_lock:
            if self._ping is None and not self.closed:
                self._ping = self._surroundings.workers.call_later(limits.NET_PING_SECONDS, self._check_way)

    def _check_way(self) -> None:
        with self._ping_lock:
            self._ping = None
        if self._pending and not self.closed:
            self._outbox.control(Kind.PING)
            self._arm_ping()
