"""The transport within one process: frames are handed over as they are, and a call is a function call.

How it works
    ``connect`` makes both ends at once. What the client end sends is given to the server's receiver in the sending
    thread, under a lock that keeps frames in order. ``call`` then runs the task itself, so that a call costs no change
    of threads; with a time-out, a worker runs the task and the caller waits for it. ``submit`` and ``post`` never
    block, so their tasks go to the workers.

    What the server end publishes goes through a strand: a worker gives it to the client's receiver. So the publisher's
    thread never runs a subscriber's code, and neither receiver is ever entered from within the other. (A server may
    publish while it takes an ACK, a client may acknowledge while it takes a sample: with two locks, that would be a
    dead-lock.)

Rules
    - A task that a receiver has returned is run, whatever has happened to the channel meanwhile: it may hold a strand.
    - ``on_reply`` runs on a worker, not in the thread that replied: that one may hold the strand of a busy method,
      which ``on_reply`` is free to call. Only ``close`` calls it itself, as the workers may be about to stop.
    - Nobody's code is called with a lock held, but for the receivers, which never block.

Value semantics
    What can still be changed is copied, once (``buffers.settle_buffer``). What nobody in this process can write to, as
    is the case with everything that was received, is handed over as it is.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from heros import limits
from heros.buffers import Buffer, settle_buffer
from heros.exceptions import CallTimeout, PeerLost
from heros.transport import OnReply, Payload, Peer, Receiver, Reply, Task, Transport
from heros.wire import Fields, Kind
from heros.workers import Strand, Workers, run_task

__all__ = ["InprocChannel", "InprocLink", "connect"]

log = logging.getLogger("heros.inproc")


def connect(own: Peer, server_receiver: Receiver, client_receiver: Receiver, workers: Workers) -> InprocChannel:
    """Connect this process's node, ``own``, with itself: the client end; its ``link`` is the server end.

    Calls and what else the client end sends go to ``server_receiver``, events to ``client_receiver``. Thread-safe.
    """
    return InprocChannel(own, server_receiver, client_receiver, workers)


class InprocChannel:
    """The client end. A :class:`heros.transport.Channel`."""

    transport: Transport = "inproc"

    def __init__(self, own: Peer, server_receiver: Receiver, client_receiver: Receiver, workers: Workers) -> None:
        self.peer = own
        self.link = InprocLink(self, client_receiver, workers)
        self._receiver = server_receiver
        self._workers = workers
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._lost: str | None = None
        self._sending = threading.RLock()  # re-entrant: a receiver may close the channel within ``receive``
        self._receiving = False
        self._closed_within = False

    @property
    def closed(self) -> bool:
        return self._lost is not None

    # -- calls ------------------------------------------------------------------------------------------------

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
        """Call and wait. Without a time-out the task runs here, and Ctrl-C interrupts it as it would any function."""
        waiting = _Waiting()
        call_id = next(self._ids)
        self._pending[call_id] = waiting
        try:
            task = self._send(Kind.CALL, op, member, call_id, object_id, chain, header, buffers)
            if timeout is not None:
                if task is not None:
                    self._workers.post(task)
                if not waiting.wait(timeout) and self._pending.pop(call_id, None) is not None:
                    raise CallTimeout(f"no reply from this process within {timeout:g} s; the call may still be running")
            elif task is not None:
                task()
            if not waiting.wait(limits.LONG_WAIT_SECONDS):
                log.info("Call %d (member %d of object %d) waits for its reply", call_id, member, object_id)
                waiting.wait(None)
        finally:
            self._pending.pop(call_id, None)
        return waiting.result()

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
        """Call and go on; the task and then ``on_reply`` run on workers."""
        call_id = next(self._ids)
        self._pending[call_id] = _Submitted(on_reply, self._workers)
        try:
            task = self._send(Kind.CALL, op, member, call_id, object_id, chain, header, buffers)
        except BaseException:
            if self._pending.pop(call_id, None) is None:
                return call_id  # it was closed this moment, and ``on_reply`` has been told
            raise
        if task is not None:
            self._workers.post(task)
        return call_id

    def forget(self, call_id: int) -> None:
        """Discard the reply of a submitted call."""
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
        """Send a ONEWAY or an ACK."""
        task = self._send(kind, 0, member, ident, first, second, header, buffers)
        if task is not None:
            self._workers.post(task)

    def _send(
        self,
        kind: int,
        op: int,
        member: int,
        ident: int,
        first: int,
        second: int,
        header: bytes,
        buffers: Sequence[Buffer],
    ) -> Task | None:
        """Give one frame to the server's receiver. Raises ``PeerLost`` when the channel is closed."""
        settled = [settle_buffer(buffer) for buffer in buffers] if buffers else ()
        fields: Fields = (kind, 0, op, member, ident, first, second, len(header), len(settled))
        with self._sending:
            if self._lost is not None:
                raise PeerLost(self._lost)
            self._receiving = True
            try:
                task = self._receiver.receive(self.link, fields, header, settled)
            finally:
                self._receiving = False
                closed_within, self._closed_within = self._closed_within, False
        if closed_within:
            self._end(f"{self._lost}")
        return task

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        """Hand a reply to the call that waits for it; for the link."""
        if call_id not in self._pending:
            return  # timed out or forgotten: no need to copy anything
        settled = [settle_buffer(buffer) for buffer in buffers] if buffers else ()
        pending = self._pending.pop(call_id, None)
        if pending is not None:
            pending.replied(Reply((kind, 0, op, 0, call_id, 0, 0, len(header), len(settled)), header, settled))

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close both ends. Pending calls end with ``PeerLost``."""
        self.shut("the channel is closed")

    def shut(self, reason: str) -> None:
        """Close both ends for ``reason``; for the link."""
        with self._sending:
            if self._lost is not None:
                return
            self._lost = reason
            if self._receiving:  # by this thread, as it has the lock: ``_send`` goes on when the receiver has returned
                self._closed_within = True
                return
        self._end(reason)

    def abandon(self) -> None:
        """In a forked child: the HEROs stayed with the parent. A call that this thread is in may still end."""
        self._lost = "this process was forked from the one that has the HERO"
        self._sending = threading.RLock()  # another thread of the parent may have held it

    def _end(self, reason: str) -> None:
        """Tell whoever waits, and both receivers. No frame is sent any more."""
        for call_id in list(self._pending):
            pending = self._pending.pop(call_id, None)
            if pending is not None:
                pending.failed(PeerLost(reason))
        self._receiver.closed(self.link, PeerLost(reason))
        self.link.end(PeerLost(reason))


class InprocLink:
    """The server end. A :class:`heros.transport.Link`."""

    transport: Transport = "inproc"

    def __init__(self, channel: InprocChannel, receiver: Receiver, workers: Workers) -> None:
        self.peer = channel.peer
        self._channel = channel
        self._receiver = receiver
        self._workers = workers
        self._way = Strand()
        self._queueing = threading.Lock()
        self._ended = False
        self._frames = 0
        self._bytes = 0

    @property
    def closed(self) -> bool:
        return self._channel.closed

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        """Answer one call."""
        self._channel.reply(kind, op, call_id, header, buffers)

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        """Send SAMPLE, GAP or END; False when closed, or when too much waits for a worker already."""
        nbytes = payload.nbytes
        full = self._frames >= limits.EVENT_WINDOW or self._bytes + nbytes > limits.EVENT_WINDOW_BYTES
        if self._channel.closed or (full and self._frames):
            return False
        buffers = _stage(payload)
        fields: Fields = (kind, 0, 0, 0, ident, sequence, index, len(payload.header), len(buffers))
        with self._queueing:
            if self._ended:
                return False
            self._frames += 1
            self._bytes += nbytes
            ready = self._way.enter(partial(self._deliver, fields, payload.header, buffers, nbytes))
        self._go_on(ready)
        return True

    def collect(self) -> None:
        """Nothing waits here: what the client sends is taken as it is sent."""

    def close(self, reason: str) -> None:
        """Close both ends for ``reason``."""
        self._channel.shut(reason)

    def end(self, reason: PeerLost) -> None:
        """Tell the client's receiver, after the last frame; for the channel."""
        with self._queueing:
            self._ended = True
            ready = self._way.enter(partial(self._receiver.closed, self._channel, reason))
        self._go_on(ready)

    def _go_on(self, ready: Task | None) -> None:
        if ready is not None:
            self._workers.post(partial(self._way.go_on, ready))

    def _deliver(self, fields: Fields, header: bytes, buffers: Sequence[Buffer], nbytes: int) -> None:
        task = self._receiver.receive(self._channel, fields, header, buffers)
        if task is None:
            self._taken(nbytes)
        else:
            self._workers.post(partial(self._run, task, nbytes))

    def _run(self, task: Task, nbytes: int) -> None:
        self._taken(nbytes)
        task()

    def _taken(self, nbytes: int) -> None:
        with self._queueing:
            self._frames -= 1
            self._bytes -= nbytes


# -- calls that wait ------------------------------------------------------------------------------------------


class _Pending(Protocol):
    """A call without a reply as yet. One of the two is called, once, by whoever took it from the table."""

    def replied(self, reply: Reply) -> None: ...

    def failed(self, error: PeerLost) -> None: ...


class _Waiting:
    """A thread waits for it."""

    __slots__ = ("_ready", "_result")

    def __init__(self) -> None:
        self._ready = threading.Lock()
        self._ready.acquire()
        self._result: Reply | PeerLost | None = None

    def replied(self, reply: Reply | PeerLost) -> None:
        self._result = reply
        self._ready.release()

    failed = replied

    def wait(self, timeout: float | None) -> bool:
        """Whether the result is there after at most ``timeout`` seconds; None: as long as it takes."""
        if self._result is None:
            seconds = -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            self._ready.acquire(timeout=seconds)
        return self._result is not None

    def result(self) -> Reply:
        result = self._result
        assert result is not None
        if isinstance(result, PeerLost):
            raise result
        return result


class _Submitted:
    """A callback is told of it."""

    __slots__ = ("_on_reply", "_workers")

    def __init__(self, on_reply: OnReply, workers: Workers) -> None:
        self._on_reply = on_reply
        self._workers = workers

    def replied(self, reply: Reply) -> None:
        self._workers.post(partial(self._on_reply, reply))

    def failed(self, error: PeerLost) -> None:
        run_task(partial(self._on_reply, error))


# -- buffers --------------------------------------------------------------------------------------------------

_STAGED: Final = "inproc"


def _stage(payload: Payload) -> Sequence[Buffer]:
    """The payload's buffers, settled once for all subscribers."""
    if not payload.buffers:
        return ()
    if payload.staged is None:
        payload.staged = {}
    staged = payload.staged.get(_STAGED)
    if staged is None:
        staged = payload.staged[_STAGED] = [settle_buffer(buffer) for buffer in payload.buffers]
    return staged  # type: ignore[return-value]  # what is under a key is its owner's affair
