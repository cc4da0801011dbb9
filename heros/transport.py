"""The contract between the runtime above and the three transports below.

A *channel* is a directed link from the node that holds proxies (its client end, :class:`Channel`) to the node that
holds the objects (its server end, :class:`Link`). ``inproc``, ``shm`` and ``net`` each provide both ends, and all of
them pass ``tests/conformance``. The runtime never asks which one it has.

Both ends
    - move frames (see ``wire``) whose header is bytes and whose buffers are numpy arrays or bytes-like objects;
    - hand every frame that arrives to their :class:`Receiver`, in the order in which it was sent, one at a time;
      the receiver never blocks and never runs user code: what remains to be done is the :data:`Task` it returns,
      which the transport runs on one of the ``Workers`` once it no longer keeps later frames waiting;
    - tell the receiver exactly once that the other end is gone, whatever the cause, after the last frame;
    - may be used from any thread, and may be closed from any thread, more than once.

Client end
    - ``call`` blocks until the reply is there, the time-out has passed or the peer is lost. It never returns without
      a reply: it raises ``CallTimeout`` or ``PeerLost``, and a reply that comes later is discarded by its id.
    - ``submit`` does not block; its callback is called exactly once, on any thread, with a reply or an exception.
    - ``post`` sends what has no reply: ONEWAY and ACK. Frames of one thread arrive in the order of sending.

Server end
    - ``reply`` answers one call. A peer that does not read its replies blocks nobody: its replies wait in a bounded
      queue, and past the bound it is disconnected. To a peer that is gone it does nothing.
    - ``publish`` sends SAMPLE, GAP or END to one subscription, and returns False, at once, when there is no room.
      ``collect`` takes the acknowledgements that have come, without waiting for the worker that would do so.
      The same ``Payload`` is published to many links, and each transport stages its buffers once.
    - samples of one link arrive in order or, where a transport can lose one, not at all; never twice.

Buffers
    - A sender's buffers are no longer needed when ``call``, ``submit``, ``post``, ``reply`` or ``publish`` returns:
      the caller may overwrite its arrays. An array that was given out by ``heros.shm`` is sent without a copy, and
      is frozen instead.
    - A receiver's buffers are read-only. They stay valid and unchanged for as long as anything refers to them, also
      when the peer is gone or the channel is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from heros.buffers import Buffer, buffer_nbytes
from heros.wire import Fields

__all__ = ["Channel", "Link", "Nobody", "OnReply", "Payload", "Peer", "Receiver", "Reply", "Task", "Transport"]

Transport: TypeAlias = Literal["inproc", "shm", "net"]

Task: TypeAlias = Callable[[], object]
"""Work left by a receiver. It may run user code and may block."""


class Peer(NamedTuple):
    """The node at the other end."""

    node_id: str
    pid: int
    host: str


class Reply(NamedTuple):
    """What came back for a call: a RESULT or an ERROR frame."""

    fields: Fields
    header: bytes | memoryview
    buffers: Sequence[Buffer]


OnReply: TypeAlias = Callable[[Reply | BaseException], None]


class Payload:
    """One encoded value on its way to many subscribers.

    ``staged`` is a transport's own: what it made of the buffers for the first subscriber (an arena slot, one joined
    payload) and can use again for the next. Keyed by the transport's object that staged it.
    """

    __slots__ = ("buffers", "header", "nbytes", "staged")

    def __init__(self, header: bytes, buffers: Sequence[Buffer]) -> None:
        self.header = header
        self.buffers = buffers
        self.nbytes = len(header) + sum(buffer_nbytes(buffer) for buffer in buffers) if buffers else len(header)
        self.staged: dict[object, object] | None = None


class Channel(Protocol):
    """The client end. See the module's docstring for what it promises."""

    transport: Transport
    peer: Peer

    @property
    def closed(self) -> bool:
        """True once the peer is lost or ``close`` was called; every use then raises ``PeerLost``."""

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
        """Send a CALL and wait for its reply. ``timeout`` in seconds, None: as long as the peer lives.

        Raises:
            CallTimeout: no reply in time.
            PeerLost: the peer is gone, before or during the call.
            OutOfSharedMemory: there is no room for the arguments.
        """

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
        """Send a CALL and return its id; ``on_reply`` gets the reply or a ``PeerLost``. It must not block."""

    def forget(self, call_id: int) -> None:
        """Discard the reply of a submitted call: its ``on_reply`` is not called from now on."""

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
        """Send a frame that has no reply (op 0). Raises ``PeerLost``, ``OutOfSharedMemory``."""

    def close(self) -> None:
        """Let go of the peer. Pending calls end with ``PeerLost``; views of received buffers stay valid."""


class Link(Protocol):
    """The server end of one channel."""

    transport: Transport
    peer: Peer

    @property
    def closed(self) -> bool:
        """True once the peer is lost or ``close`` was called."""

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        """Answer one call with RESULT or ERROR. Raises ``OutOfSharedMemory`` when there is no room for the buffers."""

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        """Send SAMPLE, GAP or END to one subscription; False when it could not be sent now.

        Args:
            in_flight: samples that were sent to this subscription and not acknowledged yet. A reader that holds more
                buffers than that keeps them on purpose.
        """

    def collect(self) -> None:
        """Take what has come and makes room for samples; other frames are left to workers. Never blocks."""

    def close(self, reason: str) -> None:
        """Disconnect this peer, which is told the reason where that is still possible."""


class Receiver(Protocol):
    """What the runtime gives a transport: where frames go. One for the client end, one for the server end."""

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        """Take one frame: CALL, ONEWAY, ACK at a server; SAMPLE, GAP, END at a client.

        Called in order, by one thread at a time for one source. Never blocks, never raises, never runs user code.
        ``header`` is the receiver's to keep (bytes, or a view that is not overwritten).
        """

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        """The other end is gone; no frame follows. Never blocks, never raises."""


class Nobody:
    """The receiver of a channel that is for calls only."""

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> None:
        pass

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        pass
