"""A channel to one HERO of protocol 1.0: it keeps the contract of ``transport`` towards a peer that knows none of it.

========================  ==========================================================================================
frame                     what it becomes
========================  ==========================================================================================
CALL, GET, SET, ONEWAY    a query of ``<base>/<member>/**``, whose answer is the reply
BIND                      a query of ``<base>/_capabilities``, once
SUBSCRIBE                 a subscription in zenoh to ``<base>/<event>``; then a query, so that the HERO's process has
                          heard of the subscription before anybody relies on it
ACK                       nothing is sent: see *Samples*
RESULT, ERROR             comes of an answer, or of an error reply with an exception
SAMPLE                    comes of a sample, with a number of ours, as those of protocol 1.0 have none
========================  ==========================================================================================

When there is no reply
    Zenoh says that a query is over when whoever would answer it is gone. A call that was not answered by then ends with
    ``PeerLost``, and so does the channel, which also ends with the HERO's liveliness token; the next call looks the
    name up again. There is no other end to a call: zenoh's own time-out is set to ``FOREVER``.

    Two HEROs of one name both get a query, as zenoh can address neither of them; the answers of the other one are
    ignored.

Samples
    A publisher of protocol 1.0 knows no window, and nothing tells whether its event is reliable. So a window is kept
    here, of as many bytes as ours have and any number of samples, that a burst arrives whole. What comes while it is
    full is dropped and counted, and the subscriber is told by the numbers, or by GAP when no sample follows.

Threads
    Zenoh's only queue what they bring. Values are translated by the caller, or by a worker for what nobody waits for.
    A caller sends by itself what surely fits into zenoh's queue; all else is sent by a worker (see ``net.channel``).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from heros import codec, limits
from heros.buffers import Buffer
from heros.exceptions import (
    CallTimeout,
    DecodeError,
    EncodeError,
    HEROSError,
    HEROUnavailable,
    PeerLost,
    RemoteTransportError,
)
from heros.net import keys
from heros.net.bus import UNREAD_BYTES, Answer, Bus, Declared, in_callback
from heros.net.legacy import cbor, translate
from heros.net.legacy.descriptor import capabilities_from_legacy
from heros.net.legacy.entry import LegacyEntry
from heros.net.legacy.waiter import Waiter
from heros.transport import OnReply, Peer, Receiver, Reply, Task, Transport
from heros.wire import Fault, Fields, Kind, NodeMember, Op
from heros.workers import Strand, Workers

__all__ = ["LegacyChannel"]

log = logging.getLogger("heros.net")

FOREVER: Final = 10 * 365 * 86400.0
"""Zenoh's time-out for a query: a call takes as long as its server lives."""

TOKEN_SECONDS: Final = 5.0
"""How long a HERO that has just answered a discovery may take to show its liveliness token, which it declares last."""

QUERY_OVERHEAD: Final = 100
"""Bytes that a query costs beside its payload, in round numbers."""

SAMPLE_OVERHEAD: Final = 512
"""Bytes that a sample takes beside its payload while it waits, in round numbers."""

OBJECT: Final = 1
"""The id of the HERO; 0 is the node, as everywhere."""

_numbers = itertools.count(1)

Outcome: TypeAlias = "Reply | BaseException"


class _Call(NamedTuple):
    """A call that waits for its answer."""

    deliver: Callable[[_Answered], None]
    read: Callable[[Answer], Reply]


class _Answered(NamedTuple):
    """How a call has ended: with an answer that is still to be read, on a thread that may take time for it."""

    call: _Call | None
    answer: Answer | None
    other: Outcome | None = None

    def read(self) -> Outcome:
        if self.other is not None:
            return self.other
        assert self.call is not None
        assert self.answer is not None
        try:
            return self.call.read(self.answer)
        except Exception as error:  # whatever it is, whoever waits for it must hear of it
            return error


class _Feed:
    """One subscription: what of its event has arrived, and how much of that the subscriber still has to do with."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.declared: Declared | None = None
        self.closed = False
        self._lock = threading.Lock()
        self._sequence = 0
        self._index = 0
        self._acknowledged = 0
        self._sizes: deque[int] = deque()
        self._nbytes = 0
        self._dropped = False

    def admit(self, nbytes: int) -> tuple[int, int] | None:
        """Count a sample; its sequence and index, or None when there is no room for it."""
        with self._lock:
            self._sequence += 1
            nbytes += SAMPLE_OVERHEAD
            if self._sizes and self._nbytes + nbytes > limits.EVENT_WINDOW_BYTES:
                self._dropped = True
                return None
            self._dropped = False
            return self._sequence, self._take(nbytes)

    def acknowledge(self, index: int) -> tuple[int, int] | None:
        """Everything up to ``index`` is done. The sequence and index of the GAP that is to be sent, if any."""
        with self._lock:
            while self._sizes and self._acknowledged < index:
                self._acknowledged += 1
                self._nbytes -= self._sizes.popleft()
            if not self._dropped:
                return None
            self._dropped = False
            return self._sequence, self._take(0)

    def _take(self, nbytes: int) -> int:
        self._index += 1
        self._sizes.append(nbytes)
        self._nbytes += nbytes
        return self._index


class LegacyChannel:
    """See the module, and :class:`heros.transport.Channel`. Made by :meth:`connect`.

    Args:
        own: this node's id.
        forget: called once, with this channel, when it is over.
    """

    transport: Transport = "net"

    def __init__(
        self,
        bus: Bus,
        own: str,
        workers: Workers,
        entry: LegacyEntry,
        receiver: Receiver,
        forget: Callable[[LegacyChannel], object],
    ) -> None:
        self.peer = Peer(entry.node_id, 0, "")
        self.name = f"HERO {entry.name!r} (protocol 1.0)"
        self._bus = bus
        self._own = own
        self._workers = workers
        self._entry = entry
        self._receiver = receiver
        self._forget = forget
        self._ending = threading.Lock()
        self._reason: HEROSError | None = None
        self._there = threading.Event()
        self._token: Declared | None = None
        self._idents = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._turn = threading.RLock()  # an RLock can be asked whether this thread has it (docs/decisions/0008)
        self._queue: deque[Task] = deque()
        self._unanswered = 0
        self._counting = threading.Lock()
        self._arrivals = Strand()
        self._feeds: dict[int, _Feed] = {}
        self._members: list[tuple[str, str]] = []
        self._description: Reply | None = None
        self._instance = f"{entry.instance}n{next(_numbers)}"
        """Of the HERO as it is seen over this channel: a subscription over another one counts anew."""

    def connect(self, timeout: float) -> None:
        """Wait until the HERO is there.

        Raises:
            HEROUnavailable: it is gone.
            RemoteTransportError: it cannot be talked to, and why.
        """
        if self._entry.obstacle:
            raise RemoteTransportError(f"{self._entry.name!r} cannot be used: {self._entry.obstacle}")
        self._token = self._bus.watch_tokens(keys.health(self._entry.realm, self._entry.name), self._on_presence)
        if not self._there.wait(min(timeout, TOKEN_SECONDS)) or self.closed:
            raise HEROUnavailable(f"{self.name} is gone")

    # -- transport.Channel ------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._reason is not None

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
        waiter: Waiter[_Answered] = Waiter()
        deadline = None if timeout is None else time.monotonic() + timeout
        ident = self._begin(waiter.deliver, op, member, object_id, header, buffers)
        try:
            waiter.wait(deadline, self.name)
        finally:
            self._calls.pop(ident, None)
        if waiter.reply is None:
            raise CallTimeout(f"no reply from {self.name} within {timeout:g} s; it may still carry out the call")
        outcome = waiter.reply.read()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

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
        def deliver(answered: _Answered) -> None:
            self._workers.post(lambda: on_reply(answered.read()))

        return self._begin(deliver, op, member, object_id, header, buffers)

    def forget(self, call_id: int) -> None:
        self._calls.pop(call_id, None)

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
        if kind == Kind.ACK:
            feed = self._feeds.get(ident)
            gap = None if feed is None else feed.acknowledge(first)
            if feed is not None and gap is not None:
                self._arrivals.post(partial(self._hand_on, feed, Kind.GAP, *gap, b"", ()), self._workers)
        else:  # ONEWAY
            self._begin(partial(self._log_failure, member), Op.CALL, member, first, header, buffers)

    def close(self) -> None:
        self.end(PeerLost(f"the channel to {self.name} was closed by this process"))

    # -- calls ------------------------------------------------------------------------------------------------

    def _begin(
        self,
        deliver: Callable[[_Answered], None],
        op: int,
        member: int,
        object_id: int,
        header: bytes,
        buffers: Sequence[Buffer],
    ) -> int:
        self._check_open()
        if object_id == 0:
            return self._begin_at_node(deliver, member, header)
        if object_id != OBJECT or member >= len(self._members):
            return self._answer_here(deliver, _fault(Fault.UNAVAILABLE, "there is no such member; look it up again"))
        name, flavor = self._members[member]
        if flavor != ("method" if op == Op.CALL else "attribute"):
            wrong = codec.ErrorDescription("TypeError", "builtins", f"{name} is of the flavor {flavor}", "")
            return self._answer_here(deliver, _raised(wrong))
        payload = None if op == Op.GET else self._payload(name, header, buffers)
        return self._ask(deliver, f"{name}/**", payload, self._read_result)

    def _payload(self, member: str, header: bytes, buffers: Sequence[Buffer]) -> bytes:
        try:
            return translate.value_to_cbor(header, buffers, self._own)
        except EncodeError as error:
            raise EncodeError(f"{member} of {self.name}: {error}") from None

    def _begin_at_node(self, deliver: Callable[[_Answered], None], member: int, header: bytes) -> int:
        arguments, _ = codec.decode(header)
        if member == NodeMember.BIND:
            _, name, instance = arguments
            if name != self._entry.name or instance not in ("", self._entry.instance, self._instance):
                return self._answer_here(deliver, _fault(Fault.UNAVAILABLE, "this instance of the HERO is gone"))
            if self._description is not None:
                return self._answer_here(deliver, self._description)
            return self._ask(deliver, "_capabilities", None, self._read_capabilities)
        if member == NodeMember.SUBSCRIBE:
            ident, _, index = arguments
            self._open_feed(ident, index)
            return self._ask(deliver, "_discover", None, lambda _: _result(0))
        (ident,) = arguments
        self._close_feed(ident)
        return self._answer_here(deliver, _result(None))

    def _answer_here(self, deliver: Callable[[_Answered], None], outcome: Outcome) -> int:
        deliver(_Answered(None, None, outcome))
        return next(self._idents)

    def _ask(
        self,
        deliver: Callable[[_Answered], None],
        suffix: str,
        payload: bytes | None,
        read: Callable[[Answer], Reply],
    ) -> int:
        ident = next(self._idents)
        nbytes = len(payload or b"") + QUERY_OVERHEAD
        self._calls[ident] = _Call(deliver, read)
        if self.closed:  # ``end`` empties the table after it has closed the channel
            self._lose(ident, PeerLost(str(self._reason)))
            return ident
        with self._counting:
            may_wait = self._unanswered + nbytes <= UNREAD_BYTES
            self._unanswered += nbytes
        send = partial(self._send, ident, nbytes, keys.member(self._entry.realm, self._entry.name, suffix), payload)
        if may_wait and not in_callback():
            if self._turn._is_owned():  # type: ignore[attr-defined]  # in a signal handler, which must not wait for itself
                send()
                return ident
            if not self._queue and self._send_now(send):
                return ident
        self._queue.append(send)
        self._workers.post(self._send_queued)
        return ident

    def _send_now(self, send: Task) -> bool:
        """False, and nothing is done, when others are sending."""
        try:
            if not self._turn.acquire(False):
                return False
            send()
            self._end_turn()
        except BaseException:
            self._end_turn()
            raise
        return True

    def _end_turn(self) -> None:
        """Give up the turn, if this thread has it. SYNC POINT: what is queued is looked for after that."""
        if self._turn._is_owned():  # type: ignore[attr-defined]
            self._turn.release()
        if self._queue:
            self._workers.post(self._send_queued)

    def _send_queued(self) -> None:
        if self._turn.acquire(False):  # else who has it looks at the queue after giving it up
            try:
                while self._queue:
                    self._queue.popleft()()
            finally:
                self._end_turn()

    def _send(self, ident: int, nbytes: int, key: str, payload: bytes | None) -> None:
        if ident not in self._calls:  # it was given up, or the HERO is gone
            self._count_read(nbytes)
            return
        try:
            self._bus.query(
                key, payload, FOREVER, partial(self._on_answer, ident), partial(self._on_done, ident, nbytes)
            )
        except RemoteTransportError as error:
            self._count_read(nbytes)
            self._lose(ident, PeerLost(str(error)))

    def _count_read(self, nbytes: int) -> None:
        with self._counting:
            self._unanswered -= nbytes

    def _lose(self, ident: int, reason: HEROSError) -> bool:
        call = self._calls.pop(ident, None)
        if call is not None:
            call.deliver(_Answered(None, None, reason))
        return call is not None

    def _on_answer(self, ident: int, answer: Answer) -> None:
        of_another = answer.zid and self._entry.zid and answer.zid != self._entry.zid
        if of_another and (answer.is_cbor or not answer.is_error):  # else it is zenoh's word, of whichever session
            return
        call = self._calls.pop(ident, None)
        if call is not None:
            call.deliver(_Answered(call, answer))

    def _on_done(self, ident: int, nbytes: int) -> None:
        self._count_read(nbytes)
        lost = PeerLost(f"{self.name} has ended the call without a reply, or is gone")
        if self._lose(ident, lost):
            self.end(lost)

    def _check_open(self) -> None:
        if self._reason is not None:
            raise PeerLost(str(self._reason))

    # -- answers ----------------------------------------------------------------------------------------------

    def _check_reached(self, answer: Answer) -> None:
        """Raises ``PeerLost`` if it is zenoh that answers, as it does not reach the HERO."""
        if answer.is_error and not answer.is_cbor:
            raise PeerLost(f"{self.name}: the network has given up: {answer.payload[:200].decode(errors='replace')}")

    def _read_result(self, answer: Answer) -> Reply:
        self._check_reached(answer)
        if answer.is_error:
            return Reply(_fields(Kind.ERROR, op=Fault.RAISED), translate.read_error(answer.payload, self._own), ())
        return Reply(_fields(Kind.RESULT), *translate.read_value(answer.payload, self._own))

    def _read_capabilities(self, answer: Answer) -> Reply:
        self._check_reached(answer)
        if answer.is_error:
            raise DecodeError(f"{self.name} does not tell what it offers")
        members = capabilities_from_legacy(cbor.decode(answer.payload, self._own))
        self._members = [(str(each["name"]), each["flavor"]) for each in members]
        entry = self._entry
        self._description = _result(
            {
                "object_id": OBJECT,
                "instance": self._instance,
                "class_name": entry.class_name,
                "implements": list(entry.implements),
                "tags": list(entry.tags),
                "extra_metadata": dict(entry.extra_metadata),
                "capabilities": members,
            }
        )
        return self._description

    def _log_failure(self, member: int, answered: _Answered) -> None:
        self._workers.post(partial(self._log_error, self._members[member][0], answered))

    def _log_error(self, member: str, answered: _Answered) -> None:
        outcome = answered.read()
        if isinstance(outcome, BaseException):
            log.error("A oneway call of %s of %s failed: %s", member, self.name, outcome)
        elif outcome.fields[0] == Kind.ERROR:
            log.error("A oneway call of %s of %s: %s", member, self.name, codec.decode(outcome.header)[0])

    # -- events -----------------------------------------------------------------------------------------------

    def _open_feed(self, ident: int, member: int) -> None:
        name, flavor = self._members[member]
        if flavor != "event":
            raise DecodeError(f"{name} of {self.name} is no event")
        feed = _Feed(ident)
        self._feeds[ident] = feed
        key = keys.member(self._entry.realm, self._entry.name, name)
        try:
            feed.declared = self._bus.subscribe(key, lambda _, payload, __: self._on_sample(feed, payload))
        except RemoteTransportError as error:
            self._feeds.pop(ident, None)
            raise PeerLost(str(error)) from None
        if self.closed:  # perhaps before it was declared
            self._close_feed(ident)

    def _close_feed(self, ident: int) -> None:
        feed = self._feeds.pop(ident, None)
        if feed is not None:
            feed.closed = True
            self._workers.post(partial(self._undeclare, feed))

    def _undeclare(self, feed: _Feed) -> None:
        declared, feed.declared = feed.declared, None
        if declared is not None:
            self._bus.undeclare(declared)

    def _on_sample(self, feed: _Feed, payload: bytes) -> None:
        admitted = feed.admit(len(payload))
        if admitted is not None:
            self._arrivals.post(partial(self._translate, feed, *admitted, payload), self._workers)

    def _translate(self, feed: _Feed, sequence: int, index: int, payload: bytes) -> None:
        try:
            header, buffers = translate.read_value(payload, self._own)
        except Exception as error:
            log.error("A sample of %s could not be read: %s: %s", self.name, type(error).__name__, error)
            self._hand_on(feed, Kind.GAP, sequence, index, b"", ())  # as if it had been dropped
        else:
            self._hand_on(feed, Kind.SAMPLE, sequence, index, header, buffers)

    def _hand_on(
        self, feed: _Feed, kind: Kind, sequence: int, index: int, header: bytes, buffers: Sequence[Buffer]
    ) -> None:
        if not feed.closed:
            fields = _fields(kind, feed.ident, sequence, index)
            task = self._receiver.receive(self, fields, header, buffers)
            if task is not None:
                self._workers.post(task)

    # -- the end ----------------------------------------------------------------------------------------------

    def _on_presence(self, key: str, present: bool) -> None:
        if present:
            self._there.set()
        else:
            log.info("%s is gone from the network of realm %s", self.name, self._entry.realm)
            self.end(PeerLost(f"{self.name} is gone"))

    def end(self, reason: HEROSError) -> None:
        """It is over; only the first call has an effect. Never blocks."""
        with self._ending:
            if self._reason is not None:
                return
            self._reason = reason
        self._there.set()
        self._forget(self)
        for ident in tuple(self._calls):
            self._lose(ident, PeerLost(str(reason)))
        self._workers.post(self._take_back)
        self._arrivals.post(partial(self._receiver.closed, self, reason), self._workers)

    def _take_back(self) -> None:
        """What was declared. What has arrived by now is still delivered."""
        token, self._token = self._token, None
        if token is not None:
            self._bus.undeclare(token)
        for feed in tuple(self._feeds.values()):
            self._undeclare(feed)

    def abandon(self) -> None:
        """In a forked child: it is the parent's."""
        self._reason = PeerLost("this process was forked from the one that has the channel")


def _fields(kind: int, ident: int = 0, first: int = 0, second: int = 0, op: int = 0) -> Fields:
    return kind, 0, op, 0, ident, first, second, 0, 0


def _result(value: Any) -> Reply:
    return Reply(_fields(Kind.RESULT), *codec.encode(value))


def _fault(fault: Fault, text: str) -> Reply:
    return Reply(_fields(Kind.ERROR, op=fault), codec.encode(text)[0], ())


def _raised(error: codec.ErrorDescription) -> Reply:
    return Reply(_fields(Kind.ERROR, op=Fault.RAISED), codec.encode(error)[0], ())
