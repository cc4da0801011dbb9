"""What both ends of a network channel have: a peer, an outbox, an inbox, and one moment at which all of it is over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from heros.buffers import Buffer
from heros.exceptions import HEROSError, PeerLost, RemoteTransportError
from heros.net import keys
from heros.net.bus import Bus, Sender
from heros.net.inbox import Inbox
from heros.net.outbox import Outbox
from heros.net.packets import CLIENT, SERVER, Kind, head
from heros.net.replies import Replies
from heros.transport import Channel, Link, Peer, Receiver, Transport
from heros.wire import Fields
from heros.workers import Workers

__all__ = ["End", "Surroundings"]

log = logging.getLogger("heros.net")


@dataclass(frozen=True)
class Surroundings:
    """What an end needs of the node that it belongs to."""

    realm: str
    own: Peer
    bus: Bus
    workers: Workers
    forget: Callable[[str, int, int], None]
    """Takes an end out of the node's tables: the peer's node id, the channel, ``SERVER`` or ``CLIENT``."""
    replies: Replies


class End:
    """One end of a channel. Thread-safe.

    A subclass says in ``here`` which end it is, and in :meth:`_frame` and :meth:`_ended` what it does.
    """

    here: ClassVar[int]
    transport: Transport = "net"

    def __init__(self, surroundings: Surroundings, peer: Peer, channel: int, receiver: Receiver) -> None:
        self.peer = peer
        self.channel = channel
        self._surroundings = surroundings
        self._receiver = receiver
        self._ending = threading.Lock()
        self._reason: HEROSError | None = None
        self._lock = threading.RLock()
        self._there = CLIENT if self.here == SERVER else SERVER
        self._sender, self._outbox = self._new_outbox(self._there)
        self.inboxes: dict[int, Inbox] = {self.here: self._new_inbox()}

    @property
    def name(self) -> str:
        """How the peer is called in messages."""
        return f"pid {self.peer.pid} on {self.peer.host or 'an unknown host'}"

    @property
    def closed(self) -> bool:
        return self._reason is not None

    def outboxes(self) -> list[Outbox]:
        return [self._outbox]

    def _new_outbox(self, inbox: int) -> tuple[Sender, Outbox]:
        """What sends to that inbox of the other end."""
        own = self._surroundings
        key = keys.inbox(own.realm, self.peer.node_id, inbox, own.own.node_id)
        # Requests and replies do not wait behind samples that the same process sends to the same peer.
        sender = own.bus.sender(key, urgent=inbox != CLIENT)
        return sender, Outbox(
            sender.put, own.bus.share, inbox, self.channel, own.workers, lambda error: self.end(error)
        )

    def _new_inbox(self) -> Inbox:
        return Inbox(
            self.name,
            self._surroundings.workers,
            self._lock,
            self._frame,
            lambda: self._answer_ping(),
            lambda text: self.broken(text),
            lambda text: self.end(PeerLost(f"{self.name} has closed the channel: {text}")),
        )

    def broken(self, text: str) -> None:
        """The stream cannot go on, although the peer is there."""
        self.end(RemoteTransportError(f"{self.name}: {text}"), tell=text)

    def end(self, reason: HEROSError, tell: str | None = None) -> None:
        """It is over; ``tell`` is what the peer is told, if it may still listen. Only the first call has an effect."""
        with self._ending:
            if self._reason is not None:
                return
            self._reason = reason
        self._surroundings.forget(self.peer.node_id, self.channel, self.here)
        if tell is None:
            self._outbox.close()
            self._surroundings.workers.post(self._part)
        else:
            self._outbox.finish(tell.encode(), self._part)
        self.inboxes[self.here].close()
        self._ended(reason)
        self._receiver.closed(self._self(), reason)

    def send_control(self, kind: Kind, text: bytes) -> None:
        """Send what is not part of the stream. On a worker, since it may block."""
        try:
            self._sender.put(head(kind, self._there, self.channel) + text)
        except RemoteTransportError:
            pass  # the session is closed: the peer sees that by itself

    def _part(self) -> None:
        """Give the sender back. On a worker."""
        self._surroundings.bus.undeclare(self._sender)

    # -- for the subclass -------------------------------------------------------------------------------------

    def _answer_ping(self) -> None:
        """Send a PONG."""
        raise NotImplementedError

    def _self(self) -> Channel | Link:
        raise NotImplementedError

    def _frame(self, fields: Fields, header: bytes | memoryview, buffers: list[Buffer]) -> None:
        """Take a frame; called in order, one at a time, by whoever has read it. Must not block."""
        raise NotImplementedError

    def _ended(self, reason: HEROSError) -> None:
        """It is over. Must not block."""
        raise NotImplementedError
