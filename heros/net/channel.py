"""The client end of a network channel: calls, and what arrives for subscriptions.

A call waits as ``replies`` says. It has no deadline of its own while the server's node lives; PING finds out whether
something was lost on the way.

What may block
    zenoh blocks a sender whose peer does not read. A caller must not be caught in that: its time-out and Ctrl-C have
    to work. So it sends by itself only what surely fits into zenoh's queue, because nearly all that was sent before
    has been answered and therefore read; all else is sent by a worker.

Calls within calls
    A signal handler, or a finaliser, that calls in the middle of sending would wait for ever: what it sends comes after
    what this thread is sending, which does not go on before it returns. Such a call goes over a channel of its own.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from heros import limits, wire
from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import CallTimeout, HEROSError, PeerLost
from heros.net.bus import UNREAD_BYTES
from heros.net.end import End, Surroundings
from heros.net.outbox import Lent
from heros.net.packets import BATCH_BYTES, CLIENT, REPLIES, Body, Kind
from heros.transport import Channel, OnReply, Peer, Receiver, Reply
from heros.workers import Timer

__all__ = ["NetChannel"]

log = logging.getLogger("heros.net")

_CALL: Final = int(wire.Kind.CALL)
_RESULT: Final = int(wire.Kind.RESULT)
_ERROR: Final = int(wire.Kind.ERROR)


class _Waiting:
    """A call that a thread waits for."""

    __slots__ = ("_gate", "reply", "sent")

    def __init__(self) -> None:
        self.reply: Reply | BaseException | None = None
        self.sent = 0
        """What the outbox had sent after this call; its reply says that the server has read all of it."""
        self._gate = threading.Lock()
        self._gate.acquire()

    def deliver(self, reply: Reply | BaseException) -> None:
        """A second reply is discarded."""
        if self.reply is None:
            self.reply = reply
            self.wake()

    def wake(self) -> None:
        with suppress(RuntimeError):  # it has not slept since it was woken
            self._gate.release()

    def sleep(self, seconds: float) -> object:
        return self._gate.acquire(True, seconds)


class _Submitted:
    """A call whose reply is passed on."""

    __slots__ = ("deliver", "sent")

    def __init__(self, deliver: OnReply) -> None:
        self.deliver = deliver
        self.sent = 0


class NetChannel(End):
    """See :class:`heros.transport.Channel`."""

    here: ClassVar[int] = CLIENT

    def __init__(
        self,
        surroundings: Surroundings,
        peer: Peer,
        channel: int,
        receiver: Receiver,
        connect_apart: Callable[[], Channel],
    ) -> None:
        self._apart: Channel | None = None
        self._connect_apart = connect_apart
        self._pending: dict[int, _Waiting | _Submitted] = {}
        self._idents = itertools.count(1)
        self._read = 0
        self._ping: Timer | None = None
        self._ping_lock = threading.Lock()
        super().__init__(surroundings, peer, channel, receiver)
        self.inboxes[REPLIES] = self._new_inbox()

    def _answer_ping(self) -> None:
        """Servers do not ask."""

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
        if self._outbox.sending_here:
            return self._call_apart(op, member, object_id, chain, header, buffers, timeout)
        call = _Waiting()
        deadline = None if timeout is None else time.monotonic() + timeout
        ident = next(self._idents)
        lent = None
        try:
            if buffers and (body := Body(header, buffers)).nbytes > BATCH_BYTES:
                lent = Lent(body)
            self._begin(ident, call, op, member, object_id, chain, header, buffers, lent)
            self._surroundings.replies.wait(call, deadline, self.name)
        finally:
            self._pending.pop(ident, None)
            if lent is not None:
                lent.take_back()
        reply = call.reply
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
        ident = next(self._idents)
        call = _Submitted(partial(self._hand_over, ident, on_reply))
        self._surroundings.replies.expect(call)
        try:
            self._begin(ident, call, op, member, object_id, chain, header, buffers)
        except BaseException:
            self._surroundings.replies.settle(call)
            if self._pending.pop(ident, None) is not None:  # else it was told already
                raise
        return ident

    def forget(self, call_id: int) -> None:
        call = self._pending.pop(call_id, None)
        if call is not None:
            self._surroundings.replies.settle(call)

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

    def _call_apart(self, *request: Any) -> Reply:
        self._check_open()
        apart = self._apart
        if apart is None or apart.closed:
            apart = self._apart = self._connect_apart()
        return apart.call(*request)

    def _begin(
        self,
        ident: int,
        call: _Waiting | _Submitted,
        op: int,
        member: int,
        object_id: int,
        chain: int,
        header: bytes,
        buffers: Sequence[Buffer],
        lent: Lent | None = None,
    ) -> None:
        """Send a call, whose buffers may be ``lent``. Raises what keeps it from being sent."""
        self._pending[ident] = call
        if self._reason is not None:  # after the call is in the table, which _ended empties once it has set this
            raise PeerLost(str(self._reason))
        outbox = self._outbox
        if (
            buffers
            or outbox.sent - self._read + len(header) > UNREAD_BYTES
            or not outbox.send_short(_CALL, op, member, ident, object_id, chain, header)
        ):
            frame = wire.FRAME.pack(_CALL, 0, op, member, ident, object_id, chain, len(header), len(buffers))
            if lent is not None:
                outbox.lend(frame, lent)
            else:
                self._send(frame, header, buffers)
        call.sent = outbox.sent
        if self._ping is None:
            self._arm_ping()

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

    def _hand_over(self, ident: int, on_reply: OnReply, reply: Reply | BaseException) -> None:
        # A worker calls it: on_reply may run user code, which has no place on the thread that reads.
        self._surroundings.workers.post(partial(self._settle, ident, on_reply, reply))

    def _settle(self, ident: int, on_reply: OnReply, reply: Reply | BaseException) -> None:
        call = self._pending.pop(ident, None)
        if call is not None:  # else it was delivered already, or is forgotten
            self._surroundings.replies.settle(call)
            on_reply(reply)

    # -- what arrives -----------------------------------------------------------------------------------------

    def _frame(self, fields: wire.Fields, header: bytes | memoryview, buffers: list[Buffer]) -> None:
        kind = fields[0]
        if kind in (_RESULT, _ERROR):
            pending = self._pending.get(fields[4])
            if pending is not None:  # else it is late: the caller has given up
                if pending.sent > self._read:
                    self._read = pending.sent
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
        if self._apart is not None:
            self._apart.close()
        # What was sent before the peer was lost still counts.
        self._surroundings.replies.after(partial(self._lose, reason))

    def _lose(self, reason: HEROSError) -> None:
        """No reply follows."""
        self.inboxes[REPLIES].close()
        for pending in list(self._pending.values()):
            pending.deliver(PeerLost(str(reason)))

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
