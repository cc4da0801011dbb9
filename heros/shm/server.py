"""The server end of channels over shared memory: the listening socket, and a link for each client."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from os import sched_yield
from typing import Final, cast

from heros import limits
from heros.buffers import Buffer
from heros.exceptions import DecodeError, PeerLost, RemoteTransportError
from heros.shm import layout
from heros.shm.arena import Arena, Loan, process_arena
from heros.shm.doorbell import CLOSED
from heros.shm.endpoint import Endpoint, forget, remember
from heros.shm.handshake import Agreement, Greeting
from heros.shm.inbox import Inbox
from heros.shm.lead import Lead, process_group
from heros.shm.leases import NoRoom
from heros.shm.outbox import Outbox
from heros.shm.records import NO_BUFFERS, SHORT_HEADER, Body, encode, stage
from heros.transport import Payload, Peer, Receiver, Transport
from heros.wire import FRAME, Kind
from heros.workers import Timer, Workers

__all__ = ["ShmLink", "ShmServer"]

log = logging.getLogger("heros.shm")

_MOST_GREETINGS: Final = 64
_BACKLOG: Final = 128
_REQUESTS: Final = (Kind.CALL, Kind.ONEWAY, Kind.ACK)


class ShmLink(Endpoint):
    """See ``transport.Link``."""

    transport: Transport = "shm"

    def __init__(
        self,
        agreement: Agreement,
        workers: Workers,
        receiver: Receiver,
        arena: Arena,
        ended: Callable[[ShmLink], None],
    ) -> None:
        super().__init__(agreement, workers, arena)
        requests, replies, events = agreement.rings
        self._receiver = receiver
        self._ended = ended
        self._request_bell = agreement.request_bell
        self._replies = Outbox(replies, agreement.reply_bell.ring, workers, self._borrowed)
        self._returning = self._replies
        self._events = Outbox(events, self._ring_socket, workers)
        self._offered = False
        inbox = Inbox(requests, _REQUESTS, self._borrowed.borrow, self._take_release)
        receive = partial(receiver.receive, self)
        self._requests = Lead(inbox, workers, receive, self._request_bell.ring, self._lose, process_group)

    def start(self) -> None:
        """Begin to serve."""
        self._requests.start()
        self._watch(self._request_bell.fd, self._requests.enter)
        self._watch_socket()

    # -- the contract -----------------------------------------------------------------------------------------

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: Sequence[Buffer]) -> None:
        """Answer one call. See ``transport.Link``."""
        if self._lost is not None:
            return
        replies = self._replies
        try:
            body = stage(self._arena, buffers) if buffers else NO_BUFFERS
            self._requests.take_back(call_id)
            if not buffers and len(header) <= SHORT_HEADER and replies.send_short(kind, op, 0, call_id, 0, 0, header):
                return
            frame = FRAME.pack(kind, 0, op, 0, call_id, 0, 0, len(header), len(buffers))
            tag, data, _ = encode(frame, header, body, self._lent, self._arena, replies.max_record)
            if replies.send_or_queue(tag, data):
                return
        except NoRoom:
            pass
        except DecodeError as error:
            self._lose(error)
            return
        self.close("it does not read its replies")

    def publish(self, kind: int, ident: int, sequence: int, index: int, payload: Payload, in_flight: int = 0) -> bool:
        """Send one event frame to one subscription. See ``transport.Link``."""
        if self._lost is not None:
            return False
        header, buffers = payload.header, payload.buffers
        events = self._events
        try:
            if not buffers and len(header) <= SHORT_HEADER:
                self._offered = False
                return events.send_short(kind, 0, 0, ident, sequence, index, header)
            frame = FRAME.pack(kind, 0, 0, 0, ident, sequence, index, len(header), len(buffers))
            if not buffers and len(frame) + len(header) <= events.max_record:
                return events.send(layout.FRAME, frame + header)
            body = self._staged(payload)
            if self._lent.over_share(body.entries):
                self.collect()
                if self._must_wait(body, in_flight):
                    return False
            record = encode(frame, header, body, self._lent, self._arena, events.max_record)
            if events.send(record.tag, record.body):
                self._offered = False
                return True
            self._lent.release(list(record.leases))
        except NoRoom:
            pass
        except DecodeError as error:
            self._lose(error)
        return False

    def collect(self) -> None:
        """Take what has come of acknowledgements and returned buffers. See ``transport.Link``.

        With none there, the processor is offered once, for the reader may be waiting for this very one: it was woken by
        this process. A reader that is stopped, or elsewhere, costs nothing.
        """
        requests = self._requests
        if not self._offered and not requests.ring.ready():
            self._offered = True
            sched_yield()
        requests.collect()

    def close(self, reason: str) -> None:
        """Disconnect this peer. See ``transport.Link``."""
        lost = PeerLost(f"node {self.peer.node_id} was disconnected: {reason}")
        self._lose(lost, bye=f"has disconnected us: {reason}")

    # -- events -----------------------------------------------------------------------------------------------

    def _staged(self, payload: Payload) -> Body:
        """The payload's buffers, put into the arena for its first subscriber."""
        if not payload.buffers:
            return NO_BUFFERS
        if payload.staged is None:
            payload.staged = {}
        body = payload.staged.get(self._arena)
        if body is None:
            body = payload.staged[self._arena] = stage(self._arena, payload.buffers)
        return cast(Body, body)

    def _must_wait(self, body: Body, in_flight: int) -> bool:
        """Whether this reader gets no frame for now, as it has its share of a pool. One that keeps frames whose samples
        it is done with is told to copy instead, and gives the frame back at once. But most are only not done yet; and
        one that does not even read, because it is stopped, would keep the frame."""
        lent = self._lent
        return any(
            lent.over_share((entry,))
            and (lent.held_of(entry) - in_flight < entry.share // 2 or not self._events.consumed)
            for entry in body.entries
            if isinstance(entry, Loan)
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def _reading_here(self) -> bool:
        return self._requests.mine

    def _finish(self) -> None:
        reason = self._lost
        assert reason is not None
        self._requests.stop()
        self._replies.close()
        self._events.close()
        self._workers.unwatch(self._request_bell.fd)
        self._request_bell = CLOSED
        self._close_descriptors()
        self._ended(self)
        self._receiver.closed(self, reason)


class ShmServer:
    """Listens at ``path`` and makes a link for each client that completes the handshake.

    Args:
        path: of the unix socket; must not exist. It is removed by ``close``.
        own: what this process is called.
        workers: run everything.
        receiver: takes the frames of all links.

    Raises:
        RemoteTransportError: it cannot listen there; says why.
    """

    def __init__(self, path: str, own: Peer, workers: Workers, receiver: Receiver) -> None:
        self._path = path
        self._own = own
        self._workers = workers
        self._receiver = receiver
        self._lock = threading.Lock()
        self._links: set[ShmLink] = set()
        self._greetings: dict[int, tuple[socket.socket, Greeting, Timer]] = {}
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(path)
            os.chmod(path, 0o600)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise RemoteTransportError(f"cannot listen at {path}: {error}") from error
        remember(self)
        process_arena().reclaim = process_group.collect
        workers.watch(self._socket.fileno(), self._accept)

    @property
    def links(self) -> list[ShmLink]:
        """The clients that are connected now."""
        with self._lock:
            return list(self._links)

    def close(self) -> None:
        """Stop listening and disconnect every client."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            greetings = list(self._greetings)
        self._workers.unwatch(self._socket.fileno())
        self._socket.close()
        with suppress(OSError):
            os.unlink(self._path)
        for fd in greetings:
            self._forget(fd, close=True)
        for link in self.links:
            link.close("this node is closing")
        forget(self)

    # -- accepting --------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError as error:  # nobody left, or closed
                if not isinstance(error, BlockingIOError) and not self._closed:
                    log.warning("A client could not be accepted: %s", error)
                    self._workers.call_later(0.1, self._accept)  # out of descriptors, perhaps; others may close some
                return
            sock.setblocking(False)
            try:
                self._greet(sock)
            except (RemoteTransportError, OSError) as error:
                log.warning("A client was refused: %s", error)
                sock.close()

    def _greet(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        greeting = Greeting(sock, self._own)
        with self._lock:
            if self._closed or len(self._greetings) >= _MOST_GREETINGS:
                raise RemoteTransportError("too many handshakes at the same time")
            timer = self._workers.call_later(limits.CONNECT_SECONDS, lambda: self._forget(fd, greeting, close=True))
            self._greetings[fd] = (sock, greeting, timer)
        self._workers.watch(fd, lambda: self._advance(fd, greeting))

    def _advance(self, fd: int, greeting: Greeting) -> None:
        """A client in its handshake has sent something."""
        with greeting.lock:
            if not self._greets(fd, greeting):
                return  # another worker was told of the same message, and has taken it
            try:
                while (agreement := greeting.advance()) is None:
                    pass
            except BlockingIOError:
                return
            except (RemoteTransportError, DecodeError, OSError, MemoryError) as error:
                if self._forget(fd, greeting, close=True):
                    log.warning("A handshake has failed: %s", error)
                return
            if not self._forget(fd, greeting, close=False):
                return
        link = ShmLink(agreement, self._workers, self._receiver, process_arena(), self._ended)
        with self._lock:
            closed = self._closed
            if not closed:
                self._links.add(link)
        link.start()
        if closed:
            link.close("this node is closing")

    def _greets(self, fd: int, greeting: Greeting) -> bool:
        with self._lock:
            entry = self._greetings.get(fd)
            return entry is not None and entry[1] is greeting

    def _forget(self, fd: int, greeting: Greeting | None = None, close: bool = False) -> bool:
        """End a handshake; False when it has ended already."""
        with self._lock:
            entry = self._greetings.get(fd)
            if entry is None or (greeting is not None and entry[1] is not greeting):
                return False
            del self._greetings[fd]
        sock, _, timer = entry
        timer.cancel()
        self._workers.unwatch(fd)
        if close:
            sock.close()
        return True

    def _ended(self, link: ShmLink) -> None:
        with self._lock:
            self._links.discard(link)

    def abandon(self) -> None:
        """In a forked child: close the descriptors; the path and everything else stay the parent's."""
        self._closed = True
        self._socket.close()
        for sock, _, _ in self._greetings.values():
            sock.close()
