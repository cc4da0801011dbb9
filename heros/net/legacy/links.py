"""The server ends of what existing HEROs have in place of channels: one for all calls, one for each event's samples.

Each is a :class:`heros.transport.Link`, so the dispatcher takes existing HEROs for peers like others.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from heros import codec, limits
from heros.buffers import Buffer, settle_buffer
from heros.exceptions import HEROSError, HEROUnavailable, RemoteTransportError
from heros.net.bus import Audience
from heros.net.legacy import cbor, translate
from heros.transport import Payload, Peer, Receiver, Task, Transport
from heros.wire import Kind, NodeMember, Op
from heros.workers import Strand, Workers

__all__ = ["Calls", "Feed"]

log = logging.getLogger("heros.net")

OLD_PEERS: Final = Peer(cbor.OLD, 0, "a program with protocol 1.0")
"""Who asks: Zenoh does not tell more of it."""

QUEUED_OVERHEAD: Final = 1000
"""Bytes that a waiting sample costs beside its own, in round numbers."""

TakeReply: TypeAlias = "Callable[[int, int, bytes | memoryview, Sequence[Buffer]], None]"
"""Kind and op of the frame, its header and its buffers. Must not block."""


class Calls:
    """The server end of all calls of existing HEROs. A :class:`heros.transport.Link`."""

    transport: Transport = "net"
    peer = OLD_PEERS
    closed = False

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._receiving = threading.Lock()
        self._idents = itertools.count(1)
        self._pending: dict[int, TakeReply] = {}

    def call(
        self, op: int, member: int, object_id: int, header: bytes, buffers: Sequence[Buffer], on_reply: TakeReply
    ) -> None:
        """Carry out a call, in this thread unless it has to wait for others."""
        ident = next(self._idents)
        self._pending[ident] = on_reply
        fields = (Kind.CALL, 0, op, member, ident, object_id, 0, len(header), len(buffers))
        with self._receiving:
            task = self._receiver.receive(self, fields, header, buffers)
        if task is not None:
            task()

    def ask(self, member: NodeMember, arguments: list[Any]) -> Any:
        """What the node itself answers, at once.

        Raises:
            HEROUnavailable: the HERO is gone.
        """
        return _ask(partial(self.call, Op.CALL, member, 0), arguments)

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        on_reply = self._pending.pop(call_id, None)
        if on_reply is not None:
            on_reply(kind, op, header, buffers)

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        return False

    def collect(self) -> None:
        """Nothing waits here."""

    def close(self, reason: str) -> None:
        """There is no single peer that could be disconnected."""


def _ask(call: Callable[[bytes, Sequence[Buffer], TakeReply], None], arguments: list[Any]) -> Any:
    replies: list[tuple[int, Any]] = []
    header, buffers = codec.encode(arguments)
    call(header, buffers, lambda kind, op, *encoded: replies.append((kind, codec.decode(*encoded)[0])))
    (kind, value), *_ = replies or [(Kind.ERROR, "the node does not answer")]
    if kind != Kind.RESULT:
        raise HEROUnavailable(str(value))
    return value


class Feed:
    """The samples of one event, on their way to existing HEROs. A :class:`heros.transport.Link` for this alone: when
    its publisher loses patience, nothing else ends with it."""

    transport: Transport = "net"
    peer = OLD_PEERS
    IDENT: Final = 1

    def __init__(
        self, endpoint: str, audience: Audience, node_id: str, receiver: Receiver, workers: Workers, look: Task
    ) -> None:
        self.closed = False
        self._endpoint = endpoint
        self._audience = audience
        self._node_id = node_id
        self._receiver = receiver
        self._workers = workers
        self._look = look
        self._receiving = threading.Lock()
        self._ending = threading.Lock()
        self._strand = Strand()
        self._count = threading.Lock()
        self._backlog = 0
        self._complained = False
        self._on_reply: TakeReply | None = None

    @property
    def backlog(self) -> int:
        """Bytes that are still to be sent."""
        return 0 if self.closed else self._backlog

    def open(self, object_id: int, index: int) -> None:
        """Subscribe. Raises ``HEROUnavailable``."""
        _ask(self._call, [self.IDENT, object_id, index])

    def _call(self, header: bytes, buffers: Sequence[Buffer], on_reply: TakeReply) -> None:
        self._on_reply = on_reply
        fields = (Kind.CALL, 0, Op.CALL, NodeMember.SUBSCRIBE, 1, 0, 0, len(header), len(buffers))
        with self._receiving:
            task = self._receiver.receive(self, fields, header, buffers)
        if task is not None:
            task()

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is not None:
            on_reply(kind, op, header, buffers)

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        if self.closed:
            return False
        if kind != Kind.SAMPLE:  # protocol 1.0 has no word for what was missed, nor for the end
            return True
        nbytes = payload.nbytes + QUEUED_OVERHEAD
        with self._count:
            if self._backlog and self._backlog + nbytes > limits.EVENT_WINDOW_BYTES:
                return False
            self._backlog += nbytes
        buffers = [settle_buffer(buffer) for buffer in payload.buffers]
        self._strand.post(partial(self._send, nbytes, payload.header, buffers), self._workers)
        # Its credit is given back at once. What waits is bounded here, by bytes: a window of samples would drop most of
        # a burst that the original, whose publishers wait for the network, delivers whole.
        with self._receiving:
            self._receiver.receive(self, (Kind.ACK, 0, 0, 0, self.IDENT, index, 0, 0, 0), b"", ())
        return True

    def _send(self, nbytes: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        try:
            if not self.closed:
                self._audience.put(translate.value_to_cbor(header, buffers, self._node_id))
        except RemoteTransportError:
            pass  # the session is closed, and with it the audience
        except HEROSError as error:
            if not self._complained:
                self._complained = True
                log.error("%s: a sample is not sent to programs with the original package: %s", self._endpoint, error)
        finally:
            with self._count:
                self._backlog -= nbytes
        if self.closed:
            self._look()  # it was disconnected because this took too long; is somebody still there?

    def collect(self) -> None:
        """Nothing waits here."""

    def close(self, reason: str) -> None:
        log.warning("%s: those who listen in protocol 1.0 were disconnected: it %s", self._endpoint, reason)
        self.end(reason)

    def end(self, reason: str) -> None:
        """It takes no further sample. Only the first call has an effect. Never blocks."""
        with self._ending:
            if self.closed:
                return
            self.closed = True
        with self._receiving:
            self._receiver.closed(self, RemoteTransportError(reason))
