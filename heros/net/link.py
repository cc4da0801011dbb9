"""The server end of a network channel: replies and samples to one client."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Final

from heros import limits, wire
from heros.buffers import Buffer, buffer_nbytes
from heros.exceptions import HEROSError, RemoteTransportError
from heros.net.end import End, Surroundings
from heros.net.outbox import Outbox, Staged
from heros.net.packets import BATCH_BYTES, REPLIES, SERVER, Body, Kind
from heros.transport import Link, Payload, Peer, Receiver, Task

__all__ = ["NetLink"]

_STAGED: Final = "net"
"""The key of ``Payload.staged``: what is staged for one subscriber on the network serves all, in any realm."""


class NetLink(End):
    """See :class:`heros.transport.Link`."""

    here: ClassVar[int] = SERVER

    def __init__(self, surroundings: Surroundings, peer: Peer, channel: int, receiver: Receiver) -> None:
        self._tasks: deque[Task] = deque()
        super().__init__(surroundings, peer, channel, receiver)
        self._reply_sender, self._replies = self._new_outbox(REPLIES)

    def _self(self) -> Link:
        return self

    def outboxes(self) -> list[Outbox]:
        return [self._outbox, self._replies]

    # -- transport.Link ---------------------------------------------------------------------------------------

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        if self.closed:
            return
        backlog = self._replies.backlog
        if backlog and backlog + len(header) + sum(map(buffer_nbytes, buffers)) > limits.NET_REPLY_BACKLOG_BYTES:
            self.close(f"{backlog} bytes of replies wait for {self.name}, which does not read them")
            return
        if not buffers and len(header) <= BATCH_BYTES and self._replies.send_short(kind, op, 0, call_id, 0, 0, header):
            return
        frame = wire.FRAME.pack(kind, 0, op, 0, call_id, 0, 0, len(header), len(buffers))
        self._replies.send(frame, header, buffers, may_wait=True)

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        if self.closed:
            return False
        backlog = self._outbox.backlog
        if kind != wire.Kind.END and backlog and backlog + payload.nbytes > limits.NET_BACKLOG_BYTES:
            self._outbox.let_by()
            return False
        if backlog > BATCH_BYTES:
            self._outbox.let_by(2e-4)
        header, buffers = payload.header, payload.buffers
        frame = wire.FRAME.pack(kind, 0, 0, 0, ident, sequence, index, len(header), len(buffers))
        self._outbox.enqueue(frame, self._stage(payload))
        return True

    def collect(self) -> None:
        """Acknowledgements are taken as they come, by threads that may wait for the global lock."""
        self._outbox.let_by()

    def close(self, reason: str) -> None:
        self.end(RemoteTransportError(f"{self.name} was disconnected: {reason}"), tell=reason)

    def left(self) -> list[Task]:
        """What the packets that were taken have left to do. Each is given out once."""
        left: list[Task] = []
        tasks = self._tasks
        while tasks:
            try:
                left.append(tasks.popleft())
            except IndexError:  # to another thread
                break
        return left

    # -- what arrives -----------------------------------------------------------------------------------------

    def _stage(self, payload: Payload) -> Staged:
        if payload.staged is None:
            payload.staged = {}
        staged = payload.staged.get(_STAGED)
        if not isinstance(staged, Staged):
            staged = payload.staged[_STAGED] = Staged.copy(
                Body(payload.header, payload.buffers), self._surroundings.bus.share
            )
        return staged

    def _frame(self, fields: wire.Fields, header: bytes | memoryview, buffers: list[Buffer]) -> None:
        task = self._receiver.receive(self, fields, header, buffers)
        if task is not None:
            self._tasks.append(task)

    def _answer_ping(self) -> None:
        self._replies.control(Kind.PONG)

    def _ended(self, reason: HEROSError) -> None:
        self._replies.close()

    def _part(self) -> None:
        super()._part()
        self._surroundings.bus.undeclare(self._reply_sender)
