"""What both ends of a channel have in common: the socket, the leases, and the way to the end.

The socket is for what is rare. Each message is one datagram whose first byte says what it is:

    RING      wakes the reader of ``events``
    SEGMENT   an arena segment, with its descriptor: sent before the first record that refers to it
    RETIRED   an arena segment that is not used any more
    BYE       the connection is closed on purpose; the reason as text

Its end of file means that the peer is gone.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from heros.exceptions import DecodeError, PeerLost
from heros.shm.arena import Arena
from heros.shm.doorbell import Doorbell
from heros.shm.handshake import Agreement, close_all, receive, send
from heros.shm.leases import Borrowed, Lent, NoRoom
from heros.shm.outbox import Outbox
from heros.shm.records import leases_of
from heros.shm.segment import Segment
from heros.workers import Timer, Workers

__all__ = ["RING", "Endpoint", "abandon_all", "forget", "remember"]

log = logging.getLogger("heros.shm")

RING: Final = b"R"
_SEGMENT: Final = b"S"
_RETIRED: Final = b"D"
_BYE: Final = b"B"
_NUMBER: Final = struct.Struct("=Q")

_SHORTEST_TICK: Final = 0.02
_LONGEST_TICK: Final = 1.0
"""Between two looks for leases that no record has taken back: doubled each time, up to the longest. The shortest also
between two tries to ring through a full socket."""


class _Abandonable(Protocol):
    def abandon(self) -> None: ...


_open: weakref.WeakSet[_Abandonable] = weakref.WeakSet()


def remember(owner: _Abandonable) -> None:
    """``owner`` has descriptors that a forked child must close."""
    _open.add(owner)


def forget(owner: _Abandonable) -> None:
    """``owner`` has closed its descriptors."""
    _open.discard(owner)


def abandon_all() -> None:
    """In a forked child: close what was inherited of every connection."""
    for owner in list(_open):
        owner.abandon()
    _open.clear()


class Endpoint:
    """One end of a channel; ``channel`` and ``server`` add what differs.

    A subclass makes its rings, then calls ``_watch_socket``; it provides ``_finish`` and, if the peer rings the socket,
    ``_on_ring``.
    """

    def __init__(self, agreement: Agreement, workers: Workers, arena: Arena) -> None:
        self.peer = agreement.peer
        self._workers = workers
        self._arena = arena
        self._socket = agreement.sock
        self._fd = agreement.sock.fileno()
        self._bells: list[Doorbell] = [agreement.request_bell, agreement.reply_bell]
        self._socket_lock = threading.RLock()
        self._rung_for_events = False
        self._lost: BaseException | None = None
        self.closed = False
        """True once the peer is lost or ``close`` was called."""
        self._ending = threading.Lock()
        self._lent = Lent(arena, self._announce, self._retire)
        self._borrowed = Borrowed(self._fetch, self._start_ticking)
        self._returning: Outbox | None = None
        self._timer: Timer | None = None
        self._due: object = None
        """Names the timer that counts: two threads may start one each, of which the last one goes on."""
        self._tick = _SHORTEST_TICK
        remember(self)

    # -- the socket -------------------------------------------------------------------------------------------

    def _watch(self, fd: int, handler: Callable[[], object]) -> None:
        """Watch a descriptor of this connection, unless it has ended, and the descriptor with it."""
        with self._ending:
            if self._lost is None:
                self._workers.watch(fd, handler)

    def _watch_socket(self) -> None:
        self._watch(self._fd, self._on_socket)

    def _on_socket(self) -> None:
        """The socket is readable: what its handler on a worker does. May also be called by anyone."""
        gone = self._read_socket()
        if self._rung_for_events:
            self._rung_for_events = False
            self._on_ring()
        if gone is not None:
            self._lose(gone)

    def _on_ring(self) -> None:
        """The peer rings for ``events``."""

    def _fetch(self) -> None:
        """Read what waits on the socket, from within a ring's reader; the rest is left to a worker."""
        gone = self._read_socket()
        if isinstance(gone, DecodeError):
            raise gone
        if gone is not None or self._rung_for_events:
            self._workers.post(self._on_socket)

    def _read_socket(self) -> BaseException | None:
        """Take every waiting message. Returns why the connection has ended, if it has."""
        with self._socket_lock:
            try:
                while True:
                    data, fds = receive(self._socket, 1)
                    if not data:
                        close_all(fds)
                        return self._peer_lost("has ended, or closed the connection")
                    if reason := self._take_message(data[:1], data[1:], fds):
                        return self._peer_lost(reason)
            except BlockingIOError:
                return None
            except DecodeError as error:
                return error
            except OSError as error:
                return self._peer_lost(f"cannot be reached ({error.strerror})")

    def _take_message(self, kind: bytes, data: bytes, fds: list[int]) -> str | None:
        if kind == _SEGMENT and len(fds) == 1 and len(data) == _NUMBER.size:
            try:
                segment = Segment.receive(fds[0])
            except OSError as error:
                raise DecodeError(f"a segment cannot be mapped: {error}") from error
            self._borrowed.announced(_NUMBER.unpack(data)[0], segment)
            return None
        close_all(fds)
        if fds:
            raise DecodeError("a message on the socket comes with a descriptor that it should not have")
        if kind == RING and not data:
            self._rung_for_events = True
        elif kind == _RETIRED and len(data) == _NUMBER.size:
            self._borrowed.segments.pop(_NUMBER.unpack(data)[0], None)
        elif kind == _BYE:
            return data.decode(errors="replace") or "has closed the connection"
        else:
            raise DecodeError(f"a message on the socket is unknown: {kind!r} and {len(data)} bytes")
        return None

    def _send_message(self, data: bytes, fds: tuple[int, ...] = ()) -> bool:
        with self._socket_lock:
            try:
                send(self._socket, data, fds)
            except BlockingIOError:
                return False
            except OSError:
                return True  # gone, which its end of file says to everybody who needs to know
            return True

    def _ring_socket(self) -> None:
        if not self._send_message(RING):  # full of what wakes the peer, but not its reader of ``events``
            self._workers.call_later(_SHORTEST_TICK, self._ring_socket)

    def _announce(self, segment: Segment) -> None:
        if not self._send_message(_SEGMENT + _NUMBER.pack(segment.number), (segment.fd,)):
            raise NoRoom

    def _retire(self, segment: Segment) -> None:
        self._send_message(_RETIRED + _NUMBER.pack(segment.number))

    # -- leases -----------------------------------------------------------------------------------------------

    def _take_release(self, body: bytes) -> None:
        self._lent.release(leases_of(body))

    def _start_ticking(self) -> None:
        self._tick = _SHORTEST_TICK
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._due = due = object()
        self._timer = self._workers.call_later(self._tick, lambda: self._give_back(due))

    def _give_back(self, due: object) -> None:
        """Give leases back when no record takes them along; while any are held, again and again, ever less often."""
        if self._lost is not None or self._returning is None or due is not self._due:
            return
        if self._borrowed.returned:
            self._returning.flush()
        self._timer = None
        if self._borrowed.outstanding:
            self._tick = min(2 * self._tick, _LONGEST_TICK)
            self._start_timer()

    # -- the end ----------------------------------------------------------------------------------------------

    def _peer_lost(self, what: str) -> PeerLost:
        return PeerLost(f"the process at the other end (node {self.peer.node_id}, pid {self.peer.pid}) {what}")

    def _lose(self, reason: BaseException, bye: str = "") -> None:
        """The connection has ended. The first reason counts."""
        with self._ending:
            if self._lost is not None:
                return
            self._lost = reason
            self.closed = True
        reason.__traceback__ = None  # it refers to the frames that found out, and they to this endpoint
        if isinstance(reason, DecodeError):
            log.error("Disconnecting node %s, pid %d: %s", self.peer.node_id, self.peer.pid, reason)
            bye = f"has disconnected us, because what we sent was malformed: {reason}"
        if bye:
            self._send_message(_BYE + bye.encode()[:1024])
        with self._socket_lock, suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reading_here():
            self._workers.post(self._finish)
        else:
            self._finish()

    def _reading_here(self) -> bool:
        """Whether the calling thread is in the middle of reading a ring."""
        raise NotImplementedError

    def _finish(self) -> None:
        """After the last frame: tell everybody, then call ``_close_descriptors``."""
        raise NotImplementedError

    def _close_descriptors(self) -> None:
        """Undo what ``__init__`` has done. What refers back to this endpoint is cut off, so that its memory and its
        doorbells go when the last thread has left it, and not at some later garbage collection."""
        forget(self)
        self._lent.close()
        self._borrowed.close()
        self._bells.clear()
        timer = self._timer
        if timer is not None:
            timer.cancel()
        self._workers.unwatch(self._fd)
        with self._socket_lock:
            self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, and nothing else. No lock: its holder may not exist here."""
        self._lost = PeerLost("this connection stayed with the parent process")
        self.closed = True
        self._socket.close()
        for bell in self._bells:
            bell.abandon()
