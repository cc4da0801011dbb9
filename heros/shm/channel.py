"""The client end of a channel over shared memory.

Replies are read by the thread that waits for them. When several wait, one has the *reader's role*: it delivers the
replies of the others too, and passes the role on when its own has come. It spins for a while, then sleeps until the
doorbell rings or the socket hangs up. When nobody waits but something is still to come (replies of ``submit``, buffers
of arguments that the server gives back), the ring is marked asleep and a worker reads it when its doorbell rings.

Ctrl-C, and what else a signal handler may raise, comes between any two steps of a call in the main thread. So the role
is an ``RLock``, which can say whether the interrupted thread has it; what was read and not delivered is delivered by a
worker; and what a signal handler or a finaliser itself calls meanwhile goes over a channel of its own.

SYNC POINT: role
    A thread that finds the role taken queues itself in ``_parked`` before it tries once more. Whoever gives the role up
    does so before it looks at ``_parked``, and at what a worker must wait for. So either the newcomer gets the role, or
    the leaver sees it. The same holds for ``submit``, which enters its call before it tries to take the role.

Events are read by workers, as ``lead`` describes.
"""

from __future__ import annotations

import itertools
import logging
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from os import sched_yield
from threading import Lock, RLock
from typing import Any, Final

from heros import limits
from heros.buffers import Buffer
from heros.exceptions import CallTimeout, DecodeError, PeerLost
from heros.shm import layout
from heros.shm.arena import Arena, process_arena
from heros.shm.doorbell import CLOSED
from heros.shm.endpoint import Endpoint
from heros.shm.handshake import Agreement, open_channel
from heros.shm.inbox import Frame, Inbox
from heros.shm.lead import Lead, Spin, process_group
from heros.shm.leases import NoRoom
from heros.shm.outbox import Outbox
from heros.shm.placement import Placement
from heros.shm.records import NO_BUFFERS, SHORT_HEADER, Body, Record, encode, stage
from heros.transport import Nobody, OnReply, Peer, Receiver, Reply, Transport
from heros.wire import FRAME, Kind
from heros.workers import Workers, in_main_thread

__all__ = ["ShmChannel", "connect"]

log = logging.getLogger("heros.shm")

_LOOKS: Final = range(8)
_ONE_LOOK: Final = range(1)
_NET_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 3e-6  # who gets it back sooner had nobody to give it to
_SHORTEST_NAP: Final = 20e-6
_LONGEST_NAP: Final = 2e-3
_CALL: Final = int(Kind.CALL)
_REPLIES: Final = (Kind.RESULT, Kind.ERROR)
_EVENTS: Final = (Kind.SAMPLE, Kind.GAP, Kind.END)


_reply = partial(tuple.__new__, Reply)  # Reply(*frame) takes twice as long


class _Waiter:
    """One thread that waits for its reply while another one reads. ``here``: until it has left, for whatever reason."""

    __slots__ = ("gate", "here", "reply")

    def __init__(self) -> None:
        self.here = True
        self.reply: Reply | BaseException | None = None
        self.gate = Lock()
        self.gate.acquire()

    def open(self) -> None:
        with suppress(RuntimeError):  # open already
            self.gate.release()


class ShmChannel(Endpoint):
    """See ``transport.Channel``.

    Attributes:
        caught: how often a sleeping caller was woken by its time-out although a reply was there; stays 0.
    """

    transport: Transport = "shm"

    def __init__(
        self,
        agreement: Agreement,
        workers: Workers,
        receiver: Receiver,
        arena: Arena,
        connect_apart: Callable[[], ShmChannel],
    ) -> None:
        super().__init__(agreement, workers, arena)
        requests, replies, events = agreement.rings
        self._receiver = receiver
        self._request_bell = agreement.request_bell
        self._server_slept = False
        self._requests = Outbox(requests, self._ring_requests, workers, self._borrowed)
        self._returning = self._requests
        self._replies = Inbox(replies, _REPLIES, self._borrowed.borrow, self._take_release)
        self._reply_bell = agreement.reply_bell
        self._role = RLock()  # re-entrant only so that it can say who has it
        self._reading = False
        self._apart: ShmChannel | None = None
        self._connect_apart = connect_apart
        # What a call needs, so that it need not be looked for: a quarter of a call is finding methods.
        self._acquire_role, self._release_role = self._role.acquire, self._role.release
        self._send_short, self._read_frame = self._requests.send_short, self._replies.read_frame
        self._ids = itertools.count(1)
        self._pending: dict[int, _Waiter | OnReply] = {}
        self._parked: deque[_Waiter] = deque()
        self._watching = False
        self._spin = Spin()
        self._placement = Placement()
        self.caught = 0
        self._poll = select.poll()
        self._poll.register(self._reply_bell.fd, select.POLLIN)
        inbox = Inbox(events, _EVENTS, self._borrowed.borrow)
        self._events = Lead(
            inbox, workers, partial(receiver.receive, self), self._kick_events, self._lose, process_group, drains=True
        )
        self._events.start()
        self._watch_socket()

    # -- the contract -----------------------------------------------------------------------------------------

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
        """Send a CALL and wait for its reply. See ``transport.Channel``."""
        call_id = next(self._ids)
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._reading:
            return self._call_beside(call_id, deadline, op, member, object_id, chain, header, buffers)
        frame = None
        try:
            if not self._acquire_role(False):
                return self._call_beside(call_id, deadline, op, member, object_id, chain, header, buffers)
            # With the role before the request is out: its reply finds a reader that is awake.
            self._reading = True
            self._replies.wake()
            if (
                self._lost is not None
                or buffers
                or len(header) > SHORT_HEADER
                or not self._send_short(_CALL, op, member, call_id, object_id, chain, header)
            ):
                self._request(call_id, deadline, op, member, object_id, chain, header, buffers, reading=True)
            frame = self._read_frame(self._spin.quick)
            if frame is None or frame[0][4] != call_id:
                frame = self._read_until(call_id, deadline, frame)
            elif self._server_slept:
                self._placement.sign()  # and has replied before this thread could look
            self._server_slept = False
            self._reading = False
            self._release_role()
            if self._parked or self._pending or self._lent.loans:  # SYNC POINT: role
                self._pass_role_on()
            return _reply(frame)
        except BaseException as error:
            self._stop_reading(frame)
            if isinstance(error, DecodeError):
                raise self._refuse(error) from error
            raise

    def _call_beside(self, call_id: int, deadline: float | None, *request: Any) -> Reply:
        """Call while the role is taken. Whoever has it delivers this reply too, or hands it over."""
        if self._role._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
            return self._call_apart(request, deadline)
        waiter = self._pending[call_id] = _Waiter()
        try:
            self._request(call_id, deadline, *request)
            while waiter.reply is None:
                # If it is not pending any more, its reply has been delivered, or is about to be.
                if self._park(waiter, deadline) and self._pending.pop(call_id, None) is not None:
                    waiter.reply = _reply(self._read_until(call_id, deadline, None))
        except DecodeError as error:
            raise self._refuse(error) from error
        finally:
            waiter.here = False  # first: whoever passes the role on must not give it to this thread any more
            self._pending.pop(call_id, None)
            self._stop_reading()  # also when the role was given to this thread, which does not use it
        if isinstance(waiter.reply, BaseException):
            raise waiter.reply
        return waiter.reply

    def _call_apart(self, request: tuple[Any, ...], deadline: float | None) -> Reply:
        """Call from within a call of this very thread, which a signal handler or a finaliser may do at any point of it.
        The rings are in use by the frames below, so that there is another channel for it."""
        apart = self._apart
        if apart is None or apart.closed:
            apart = self._apart = self._connect_apart()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        return apart.call(*(*request, timeout))

    def _request(
        self,
        call_id: int,
        deadline: float | None,
        op: int,
        member: int,
        object_id: int,
        chain: int,
        header: bytes,
        buffers: Sequence[Buffer],
        reading: bool = False,
    ) -> None:
        self._check_open()
        frame = FRAME.pack(_CALL, 0, op, member, call_id, object_id, chain, len(header), len(buffers))
        self._write(frame, header, buffers, deadline, reading=reading)

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
        """Send a CALL; ``on_reply`` gets its reply. See ``transport.Channel``."""
        call_id = next(self._ids)
        frame = FRAME.pack(_CALL, 0, op, member, call_id, object_id, chain, len(header), len(buffers))
        self._pending[call_id] = on_reply
        try:
            self._check_open()
            self._write(frame, header, buffers, None, may_queue=True)
        except BaseException:
            self._pending.pop(call_id, None)
            raise
        self._pass_role_on()
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
        """Send a frame that has no reply. See ``transport.Channel``."""
        self._check_open()
        self._write(
            FRAME.pack(kind, 0, 0, member, ident, first, second, len(header), len(buffers)), header, buffers, None
        )
        if self._lent.loans:
            self._pass_role_on()

    def close(self) -> None:
        """Let go of the peer. See ``transport.Channel``."""
        self._lose(PeerLost("this channel was closed"), bye="has closed the connection")

    # -- requests ---------------------------------------------------------------------------------------------

    def _ring_requests(self) -> None:
        self._server_slept = True
        self._request_bell.ring()

    def _check_open(self) -> None:
        if self._lost is not None:
            raise PeerLost(str(self._lost))

    def _write(
        self,
        frame: bytes,
        header: bytes,
        buffers: Sequence[Buffer],
        deadline: float | None,
        may_queue: bool = False,
        reading: bool = False,
    ) -> None:
        """Write one request; wait for room until the deadline, unless it may be queued. ``reading``: whoever waits for
        room with the role delivers replies meanwhile, as the server may have no room for these."""
        requests = self._requests
        record: Record | None = None
        try:
            if not buffers and len(data := frame + header) <= requests.max_record:
                if requests.send(layout.FRAME, data):
                    return
                record = Record(layout.FRAME, data, ())
            body = stage(self._arena, buffers) if buffers else NO_BUFFERS
            nap = _SHORTEST_NAP
            while True:
                if record is None:
                    record = self._encode(frame, header, body)
                if record is not None and (
                    requests.send(record.tag, record.body)
                    or (may_queue and requests.send_or_queue(record.tag, record.body))
                ):
                    return
                self._check_open()
                if reading:
                    self._deliver_all()
                if deadline is not None and time.monotonic() >= deadline:
                    raise CallTimeout(f"node {self.peer.node_id} (pid {self.peer.pid}) takes no requests")
                time.sleep(nap)
                nap = min(2 * nap, _LONGEST_NAP)
        except DecodeError as error:
            raise self._refuse(error) from error
        except Exception:  # after Ctrl-C it may have been written: then the peer gives the leases back
            if record is not None:
                self._lent.release(list(record.leases))
            raise

    def _encode(self, frame: bytes, header: bytes, body: Body) -> Record | None:
        """The record, or None when its segments cannot be announced now."""
        try:
            return encode(frame, header, body, self._lent, self._arena, self._requests.max_record)
        except NoRoom:
            return None

    # -- who reads the replies --------------------------------------------------------------------------------

    def _take_role(self) -> bool:
        if self._reading or not self._acquire_role(False):
            return False
        self._reading = True
        self._replies.wake()
        return True

    def _stop_reading(self, frame: Frame | None = None) -> None:
        """Give the role up if this thread has it, in whatever state it was interrupted.

        Args:
            frame: has been read, and perhaps not been delivered.
        """
        if frame is not None:
            self._workers.post(partial(self._deliver, frame))
        torn = False
        if self._role._is_owned():  # type: ignore[attr-defined]
            torn, self._replies.torn = self._replies.torn, False
            self._reading = False
            self._release_role()
        if torn and self._pending:  # it may have been the reply to any of them
            self._lose(PeerLost("this channel was interrupted while it read a reply, which may have been another's"))
        self._pass_role_on()

    def _pass_role_on(self) -> None:
        """Without the role: see to it that what is still to come has a reader."""
        while True:
            try:
                waiter = self._parked[0]
            except IndexError:
                if not (self._pending or self._lent.loans) or self._lost is not None or not self._take_role():
                    return
                try:
                    if not self._watching:
                        self._watch(self._reply_bell.fd, self._on_replies)
                        self._watching = True
                    self._replies.sleep()
                finally:
                    self._reading = False
                    self._release_role()
                if not self._parked:  # SYNC POINT: role
                    # A worker whom a doorbell woke while the role was held has gone away: look again for it.
                    if self._replies.ready():
                        self._workers.post(self._on_replies)
                    return
            else:
                waits = waiter.here and waiter.reply is None
                if waits:
                    waiter.open()
                with suppress(ValueError):  # another thread has passed the role on to it, too
                    self._parked.remove(waiter)
                if waits:
                    return

    def _park(self, waiter: _Waiter, deadline: float | None) -> bool:
        """Wait until the reply is there, or the role may be free; True if this thread has the role now."""
        if waiter not in self._parked:
            self._parked.append(waiter)
        if self._take_role():  # SYNC POINT: role
            return True
        if waiter.reply is None:
            remaining = _NET_SECONDS if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                raise self._timed_out()
            waiter.gate.acquire(timeout=min(remaining, _NET_SECONDS))
        return False

    def _timed_out(self) -> CallTimeout:
        return CallTimeout(
            f"node {self.peer.node_id} (pid {self.peer.pid}) has not replied in time; it may still carry the call out"
        )

    # -- replies ----------------------------------------------------------------------------------------------

    def _read_until(self, call_id: int, deadline: float | None, frame: Frame | None) -> Frame:
        """With the role: deliver replies, the first of which may be ``frame``, until that of ``call_id`` is there."""
        spin = self._spin
        until = spin.begin()
        slept = False
        offered = 0.0
        try:
            while True:
                lost = self._lost  # before the last look: what a peer wrote before it died still counts
                if frame is None:
                    frame = self._read_frame(_LOOKS)
                if frame is not None:
                    if frame[0][4] == call_id:
                        if offered and time.perf_counter() - offered > _AWAY_SECONDS:
                            self._placement.sign()
                        break
                    self._deliver(frame)
                    frame = None
                    if deadline is not None and time.monotonic() > deadline:
                        raise self._timed_out()
                elif lost is not None:
                    raise PeerLost(str(lost))
                elif (now := time.perf_counter()) > until:
                    self._sleep(deadline, spin.began)
                    slept = True
                    offered = 0.0
                else:
                    offered = now
                    sched_yield()  # the server may be waiting for this very processor
        except BaseException:
            if frame is not None:
                self._workers.post(partial(self._deliver, frame))
            raise
        if slept:
            spin.missed()
            spin.woken()
        else:
            spin.hit()
        return frame

    def _refuse(self, error: DecodeError) -> PeerLost:
        """What the peer has written is nonsense: disconnect. Returns what to raise."""
        self._lose(error)
        return PeerLost(str(error))

    def _deliver(self, frame: Frame) -> None:
        """Hand a reply to whoever waits for it, if anybody still does. May be called again when it was interrupted."""
        call_id = frame[0][4]
        entry = self._pending.get(call_id)
        if isinstance(entry, _Waiter):
            self._settle(entry, _reply(frame))
            self._pending.pop(call_id, None)
        elif entry is not None:
            if in_main_thread():  # a worker cannot be interrupted between the table and the callback
                self._workers.post(partial(self._deliver, frame))
            elif self._pending.pop(call_id, None) is not None:
                self._settle(entry, _reply(frame))

    def _deliver_all(self) -> None:
        """With the role: deliver what is there."""
        frame = None
        try:
            while (frame := self._read_frame(_ONE_LOOK)) is not None:
                self._deliver(frame)
        except BaseException:
            if frame is not None:
                self._workers.post(partial(self._deliver, frame))
            raise

    @staticmethod
    def _settle(entry: _Waiter | OnReply, reply: Reply | BaseException) -> None:
        if isinstance(entry, _Waiter):
            entry.reply = reply
            entry.open()
            return
        try:
            entry(reply)
        except Exception:
            log.exception("Delivering a reply failed")

    def _sleep(self, deadline: float | None, started: float) -> None:
        """With the role: wait for the doorbell, which also rings when the peer is lost, or a time-out."""
        ring = self._replies
        if self._watching and not self._pending and not self._lent.loans:
            self._watching = False  # or a worker would wake up beside this thread
            self._workers.unwatch(self._reply_bell.fd)
        seconds = _NET_SECONDS
        if deadline is not None:
            seconds = min(seconds, deadline - time.monotonic())
            if seconds <= 0:
                raise self._timed_out()
        try:
            if not ring.sleep() or self._lost is not None:
                return
            ready = self._poll.poll(seconds * 1000)
            if not ready and seconds == _NET_SECONDS and ring.ready():
                self.caught += 1
        finally:
            ring.wake()
        if ready:
            self._reply_bell.clear()
        waited = time.perf_counter() - started
        if not ready and limits.LONG_WAIT_SECONDS <= waited < limits.LONG_WAIT_SECONDS + seconds:
            log.warning(
                "A call to node %s (pid %d) has been waiting for %.0f s", self.peer.node_id, self.peer.pid, waited
            )

    def _on_replies(self) -> None:
        """On a worker: deliver what is there, when no caller does."""
        if self._lost is not None or not self._take_role():
            return
        try:
            self._deliver_all()
        except DecodeError as error:
            self._lose(error)
        finally:
            self._stop_reading()

    # -- events -----------------------------------------------------------------------------------------------

    def _on_ring(self) -> None:
        self._events.enter()

    def _kick_events(self) -> None:
        self._workers.post(self._events.enter)

    # -- the end ----------------------------------------------------------------------------------------------

    def _reading_here(self) -> bool:
        return self._role._is_owned() or self._events.mine  # type: ignore[attr-defined]

    def _finish(self) -> None:
        reason = self._lost
        assert reason is not None
        self._reply_bell.ring()  # whoever has the role wakes up, and leaves
        with self._role:
            with suppress(DecodeError):
                self._deliver_all()
            self._replies.close()
            if self._watching:
                self._workers.unwatch(self._reply_bell.fd)
        while self._pending:
            with suppress(KeyError):  # a caller has left by itself
                self._settle(self._pending.popitem()[1], PeerLost(str(reason)))
        if self._apart is not None:
            self._apart.close()
        self._events.stop()
        self._requests.close()
        self._reply_bell = self._request_bell = CLOSED
        self._close_descriptors()
        self._receiver.closed(self, reason)


def connect(
    path: str, own: Peer, node_id: str, workers: Workers, receiver: Receiver, timeout: float = limits.CONNECT_SECONDS
) -> ShmChannel:
    """Open a channel to the node ``node_id``, which listens at ``path``. Blocks at most ``timeout`` seconds a step.

    Args:
        path: of its unix socket.
        own: what this process is called.
        node_id: the node that must be there.
        workers: run what is left to do when a frame has arrived.
        receiver: takes the frames.

    Raises:
        RemoteTransportError: shared memory cannot be used with it; says why.
    """
    apart = partial(connect, path, own, node_id, workers, Nobody(), timeout)
    return ShmChannel(open_channel(path, own, node_id, timeout), workers, receiver, process_arena(), apart)
