"""Our HEROs as existing ones see them: the server side of protocol 1.0, for one realm.

Calls
    Each HERO has one queryable for everything under its name (``discovery`` declares it). A query becomes a CALL frame
    for the node's receiver, as if it had come through a channel, and its reply is translated back. Zenoh's threads
    only pass the queries on; everything else runs on workers.

Events
    Nothing is encoded for existing HEROs unless one of them listens. Two steps see to that:

    - One publisher for the whole realm knows whether anybody has subscribed to anything in it, which programs of ours
      do with existing HEROs alone. While that is so, and only then, each event has a publisher, which knows whether
      somebody has subscribed to this very event.
    - While that is so, the event has a *feed*: a subscriber like others, whose samples are sent on in CBOR. It has no
      room when too many bytes wait, so an existing HERO that does not read is a slow subscriber like others too: it
      misses samples, or holds up a reliable event until that loses patience.

    Zenoh reports changes a moment late. So the publishers are also asked before each call: whoever subscribes and
    then calls gets what the call publishes.

Without cbor2
    There are no feeds, and whoever asks for a HERO is told by an error, and the log once, what to install.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from heros import codec, limits
from heros.buffers import Buffer
from heros.codec import ErrorDescription
from heros.entry import Entry
from heros.exceptions import DecodeError, EncodeError, HEROSError, HEROUnavailable, RemoteTransportError
from heros.net import keys
from heros.net.bus import Audience, Bus, Question
from heros.net.legacy import cbor, translate
from heros.net.legacy.descriptor import capabilities_to_legacy, descriptor_of
from heros.net.legacy.links import Calls, Feed
from heros.transport import Receiver, Task
from heros.wire import Fault, Kind, NodeMember, Op
from heros.workers import Workers

__all__ = ["Gateway"]

log = logging.getLogger("heros.net")

SENDERS: Final = 16
"""Replies that are sent at the same time. Zenoh blocks whoever sends to a peer that does not read."""

SMALL: Final = 512
"""Bytes of a reply that is sent whatever waits: of each query one may be under way, which takes as much."""


class _Description(NamedTuple):
    """What the node says of a HERO."""

    object_id: int
    members: dict[str, tuple[int, str]]
    """Index and flavor."""
    capabilities: list[dict[str, Any]]


class _Hero:
    """A HERO of ours."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.description: _Description | None = None
        self.events: list[_Event] | None = None
        """None: nobody in the realm has subscribed to anything."""
        self.withdrawn = False

    @property
    def endpoint(self) -> str:
        return f"{self.entry.realm}/{self.entry.name}"


class Gateway:
    """See the module. Thread-safe.

    Args:
        node_id: this node's.
        receiver: where the frames of clients go.
    """

    def __init__(self, realm: str, node_id: str, bus: Bus, workers: Workers, receiver: Receiver) -> None:
        self._realm = realm
        self._node_id = node_id
        self._bus = bus
        self._workers = workers
        self._receiver = receiver
        self._calls = Calls(receiver)
        self._outgoing = _Outgoing(workers)
        self._heroes: dict[str, _Hero] = {}
        self._audience: Audience | None = None
        self._lock = threading.Lock()  # of what there is of events; taken by workers only
        self._asked = 0
        self._counting = threading.Lock()
        self._told = False
        self._closed = threading.Event()

    # -- what is offered; on workers --------------------------------------------------------------------------

    def open(self) -> None:
        """The session is open."""
        if cbor.available():
            self._audience = self._bus.audience(keys.under(self._realm), self._look_soon)
            self._look_soon()

    def offer(self, entry: Entry) -> None:
        """Serve a HERO of this node, from now on."""
        hero = self._heroes[entry.instance] = _Hero(entry)
        self._settle(hero)

    def withdraw(self, entry: Entry) -> None:
        """Serve it no more."""
        hero = self._heroes.pop(entry.instance, None)
        if hero is not None:
            with self._lock:
                hero.withdrawn = True
                self._drop_events(hero)

    @property
    def backlog(self) -> int:
        """Bytes of samples and replies that are still to be sent, in round numbers."""
        events = [event for hero in list(self._heroes.values()) for event in hero.events or ()]
        return self._outgoing.backlog + sum(event.backlog for event in events)

    def close(self) -> None:
        """The session is about to be closed. Never blocks."""
        self._closed.set()
        for hero in list(self._heroes.values()):
            self._end_feeds(hero)

    def _end_feeds(self, hero: _Hero) -> None:
        for event in hero.events or ():
            event.end("the network was closed by this process")

    # -- questions --------------------------------------------------------------------------------------------

    def take(self, entry: Entry, question: Question) -> None:
        """Answer a query for that HERO or something of it. On a thread of zenoh: never blocks."""
        hero = self._heroes.get(entry.instance)
        member = keys.asked_member(question.key)
        if hero is None or not member or self._closed.is_set() or self._asked >= limits.QUEUED_REQUESTS:
            question.close()
            return
        with self._counting:
            self._asked += 1
        self._workers.post(partial(self._answer, hero, member, question))

    def _answer(self, hero: _Hero, member: str, question: Question) -> None:
        with self._counting:
            self._asked -= 1
        asked = _Asked(self._outgoing, question, hero.entry, member, self._node_id)
        try:
            if member == "_discover":
                asked.reply(cbor.encode(descriptor_of(hero.entry), self._node_id))
                return
            self._settle(hero)
            description = self._describe(hero)
            if member == "_capabilities":
                asked.reply(cbor.encode(capabilities_to_legacy(description.capabilities), self._node_id))
                return
            index, flavor = description.members.get(member, (0, ""))
            if not flavor:
                asked.fail("AttributeError", "builtins", f"HERO {hero.endpoint} has no member {member!r}")
            elif flavor == "event":
                asked.fail("TypeError", "builtins", f"{member!r} is an event of HERO {hero.endpoint}; subscribe to it")
            else:
                op, (header, buffers) = self._read(flavor, question.payload)
                asked.op = op
                self._calls.call(op, index, description.object_id, header, buffers, asked.take)
        except HEROUnavailable:
            asked.drop()
        except (DecodeError, EncodeError) as error:
            asked.fail(type(error).__name__, "heros.exceptions", str(error))
        except HEROSError as error:  # no cbor2
            asked.refuse(str(error))
            if not self._told:
                self._told = True
                log.warning("A program with the original package asked for HERO %s: %s", hero.endpoint, error)

    def _read(self, flavor: str, payload: bytes | None) -> tuple[Op, codec.Encoded]:
        if flavor == "method":
            if payload is None:
                raise DecodeError("the call of a method without arguments: [[positional, ...], {keyword: ...}]")
            return Op.CALL, translate.read_arguments(payload, self._node_id)
        if payload is None:
            return Op.GET, codec.encode(None)
        return Op.SET, translate.read_value(payload, self._node_id)

    def _describe(self, hero: _Hero) -> _Description:
        if hero.description is None:
            entry = hero.entry
            hero.description = _description(self._calls.ask(NodeMember.BIND, [entry.realm, entry.name, entry.instance]))
        return hero.description

    # -- events; on workers -----------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        self._workers.post(self._look)

    def _look(self) -> None:
        for hero in list(self._heroes.values()):
            self._settle(hero)

    def _settle(self, hero: _Hero) -> None:
        """Have feeds for those events of a HERO that somebody listens to."""
        audience = self._audience
        if self._closed.is_set() or audience is None or (hero.events is None and not audience.present):
            return
        with self._lock:
            try:
                if hero.withdrawn or not audience.present:
                    self._drop_events(hero)
                    return
                if hero.events is None:
                    hero.events = self._declare_events(hero)
                for event in hero.events:
                    event.settle()
                if self._closed.is_set():  # meanwhile
                    self._end_feeds(hero)
            except (RemoteTransportError, HEROUnavailable) as error:  # the session is closed, or the HERO withdrawn
                log.debug("HERO %s: %s", hero.endpoint, error)

    def _declare_events(self, hero: _Hero) -> list[_Event]:
        look = partial(self._workers.post, partial(self._settle, hero))
        description = self._describe(hero)
        events = []
        for name, (index, flavor) in description.members.items():
            if flavor == "event":
                audience = self._bus.audience(keys.member(self._realm, hero.entry.name, name), look)
                events.append(
                    _Event(
                        f"{hero.endpoint}/{name}",
                        audience,
                        partial(self._feed, f"{hero.endpoint}/{name}", audience, description.object_id, index, look),
                    )
                )
        return events

    def _feed(self, endpoint: str, audience: Audience, object_id: int, index: int, look: Task) -> Feed:
        feed = Feed(endpoint, audience, self._node_id, self._receiver, self._workers, look)
        feed.open(object_id, index)
        return feed

    def _drop_events(self, hero: _Hero) -> None:
        events, hero.events = hero.events, None
        for event in events or ():
            event.end("nobody listens any more")
            self._bus.undeclare(event.audience)


def _description(value: Any) -> _Description:
    capabilities = value["capabilities"]
    members = {each["name"]: (index, each["flavor"]) for index, each in enumerate(capabilities)}
    return _Description(value["object_id"], members, capabilities)


class _Asked:
    """A question on its way through the node. What is replied is sent by a worker."""

    def __init__(self, outgoing: _Outgoing, question: Question, entry: Entry, member: str, node_id: str) -> None:
        self.op = Op.CALL
        self._outgoing = outgoing
        self._question = question
        self._key = keys.member(entry.realm, entry.name, member)
        self._by_name = question.key.startswith(self._key)
        self._node_id = node_id

    def reply(self, payload: bytes) -> None:
        self._send(len(payload), partial(self._question.reply, self._key, payload, "cbor"))

    def fail(self, kind: str, module: str, message: str) -> None:
        self._send_error(cbor.encode_error(ErrorDescription(kind, module, message, "")))

    def refuse(self, message: str) -> None:
        """Tell that there is no ``cbor2``; but not to those who look for all HEROs, and would hear it from each."""
        if self._by_name:
            self.fail("HEROSError", "heros.exceptions", message)
        else:
            self.drop()

    def drop(self) -> None:
        """Not answer. A HERO that was withdrawn does not, as there may be another one of its name already."""
        self._outgoing.post(0, self._question.close)

    def _send_error(self, payload: bytes) -> None:
        self._send(len(payload), partial(self._question.fail, payload, "cbor"))

    def _send(self, nbytes: int, send: Task) -> None:
        question = self._question

        def send_and_close() -> None:
            try:
                send()
            finally:
                question.close()

        if not self._outgoing.post(nbytes, send_and_close):
            log.warning("A reply to %s is dropped: too many wait for peers that do not read them", question.key)
            self.fail("HEROSError", "heros.exceptions", "the reply is lost: too many wait for peers that do not read")

    def take(self, kind: int, op: int, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        """The node's reply."""
        try:
            if kind == Kind.RESULT:
                self.reply(translate.value_to_cbor(header, buffers, self._node_id))
            elif op == Fault.UNAVAILABLE:
                self.drop()
            elif self.op == Op.GET and op == Fault.RAISED and codec.decode(header)[0].type == "AttributeError":
                # Its getter has raised that. Programs of protocol 1.0 read None then, and some rely on it.
                log.info("%s was read in protocol 1.0 and raised AttributeError; it is sent as None", self._key)
                self.reply(cbor.encode(None, self._node_id))
            else:
                self._send_error(translate.error_to_cbor(op, header, self._node_id))
        except (EncodeError, DecodeError) as error:
            self.fail(type(error).__name__, "heros.exceptions", f"what {self._key} returned cannot be sent: {error}")


class _Outgoing:
    """Sends replies, a few at a time, so that a peer which does not read holds up a few workers at most."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Task]] = deque()
        self._nbytes = 0
        self._senders = 0

    @property
    def backlog(self) -> int:
        return self._nbytes + self._senders

    def post(self, nbytes: int, send: Task) -> bool:
        """Have ``send`` called by a worker. False: it is large, and too much waits already. Never blocks."""
        with self._lock:
            if self._waiting and nbytes > SMALL and self._nbytes + nbytes > limits.NET_REPLY_BACKLOG_BYTES:
                return False
            self._waiting.append((nbytes, send))
            self._nbytes += nbytes
            if self._senders == SENDERS:
                return True
            self._senders += 1
        self._workers.post(self._drain)
        return True

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._senders -= 1
                    return
                nbytes, send = self._waiting.popleft()
                self._nbytes -= nbytes
            try:
                send()
            except Exception:
                log.exception("A reply in protocol 1.0 was not sent; this is a defect of heros, please report it")


class _Event:
    """One event while somebody in the realm listens to something. Used with the gateway's lock held."""

    def __init__(self, endpoint: str, audience: Audience, open_feed: Callable[[], Feed]) -> None:
        self.endpoint = endpoint
        self.audience = audience
        self._open_feed = open_feed
        self._feed: Feed | None = None

    @property
    def backlog(self) -> int:
        feed = self._feed
        return 0 if feed is None else feed.backlog

    def settle(self) -> None:
        present = self.audience.present
        if self._feed is not None and (self._feed.closed or not present):
            self.end("nobody listens any more")
        if present and self._feed is None:
            self._feed = self._open_feed()

    def end(self, reason: str) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.end(reason)
