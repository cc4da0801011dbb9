"""From a request to a call to a reply: the server side of a node, whatever the transport.

How a call runs
    A transport hands a frame to :meth:`Dispatcher.receive`, which only looks up the member and asks its *gate* whether
    it may run. If so, the transport gets a task, and the thread that has read the frame decodes the arguments, calls
    the member, encodes the result and replies. If not, the task waits in the gate, and the thread that is at it runs
    it next: a busy method never blocks a thread that reads.

Gates, ``_hero_concurrency``
    ``"method"`` (default): a gate for each member: one call of a method at a time, different methods may overlap.
    ``"object"``: one gate for the HERO: one call at a time, what an instrument driver needs.
    ``"free"``: no gate.
    A gate lets a chain of calls in again that it is already serving, so A may call B, which calls A.

Object 0 is the node itself: clients bind HEROs by name and subscribe to events through it.

Whatever the arguments and whatever the method raises, also SystemExit, there is one reply and the server lives.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Literal, TypeAlias, cast

from heros import limits
from heros.buffers import Buffer
from heros.chain import same_chain, serving
from heros.codec import (
    Encoded,
    ErrorDescription,
    HeroReference,
    MemberReference,
    ObjectReference,
    Reference,
    decode,
    encode,
    replace_references,
)
from heros.entry import Entry
from heros.exceptions import DecodeError, EncodeError, HEROSError, HEROUnavailable
from heros.faults import describe, rebuild
from heros.publisher import Publisher, Subscriber
from heros.references import WeakObjects, lift_hero, lift_member, lower
from heros.transport import Channel, Link, Task
from heros.wire import Fault, Fields, Kind, NodeMember, Op
from heros.workers import Strand, Workers

__all__ = ["Concurrency", "Dispatcher", "Exported", "Gate", "Member"]

log = logging.getLogger("heros.dispatch")

_CALL, _ONEWAY, _ACK, _RESULT, _METHOD = map(int, (Kind.CALL, Kind.ONEWAY, Kind.ACK, Kind.RESULT, Op.CALL))

Concurrency: TypeAlias = Literal["method", "object", "free"]


class Gate(Strand):
    """A strand that knows which chain of calls it is serving: that of the call that holds it, 0 while none does. A call
    that is let in again holds nothing, may outlive the one that does, and leaves the chain alone."""

    __slots__ = ("chain",)

    def __init__(self) -> None:
        super().__init__()
        self.chain = 0

    def abandon(self) -> None:
        """In a forked child: what waits here is the parent's to run, also if the call that forked returns."""
        self._queue.clear()


class Member:
    """One exposed member of one HERO. Built once, when the HERO is exported; a call only reads it."""

    __slots__ = ("flavor", "gate", "hero", "name", "publisher", "writable")

    def __init__(
        self,
        hero: object,
        name: str,
        flavor: str,
        gate: Gate | None,
        writable: bool = False,
        publisher: Publisher | None = None,
    ) -> None:
        self.hero = hero
        self.name = name
        self.flavor = flavor
        self.gate = gate
        self.writable = writable
        self.publisher = publisher


class Exported:
    """A HERO as the dispatcher sees it."""

    __slots__ = ("capabilities", "entry", "members", "object_id")

    def __init__(self, entry: Entry, members: Sequence[Member], capabilities: list[dict[str, Any]]) -> None:
        self.entry = entry
        self.members = tuple(members)
        self.capabilities = capabilities
        self.object_id = 0


class Dispatcher:
    """The HEROs of one node and the calls to them. A ``transport.Receiver`` for server ends. Thread-safe."""

    def __init__(self, node_id: str, workers: Workers) -> None:
        self._objects: dict[int, Exported] = {}
        self._ids = itertools.count(1)
        self._subscribers: dict[Link, dict[int, tuple[Publisher, Subscriber]]] = {}
        self._lock = threading.Lock()
        self._workers = workers
        self.weak_objects = WeakObjects(node_id)
        self.session_tags: Callable[[str], list[str]] = lambda realm: []
        """Tags that a HERO of that realm has while this node is on the network."""
        self._node_members: dict[int, Callable[[Link, list[Any]], object]] = {
            NodeMember.BIND: self._bind,
            NodeMember.SUBSCRIBE: self._subscribe,
            NodeMember.UNSUBSCRIBE: self._unsubscribe,
        }

    # -- what this node offers --------------------------------------------------------------------------------

    def export(self, exported: Exported) -> None:
        """Offer a HERO. From now on it can be bound."""
        exported.object_id = next(self._ids)  # never used again, so that a late call cannot meet another HERO
        self._objects[exported.object_id] = exported

    def withdraw(self, exported: Exported) -> None:
        """Withdraw a HERO. Calls that run are finished; later ones get ``HEROUnavailable``."""
        self._objects.pop(exported.object_id, None)
        for member in exported.members:
            if member.publisher is not None:
                for subscriber in member.publisher.end("the HERO was withdrawn"):
                    self._subscribers.get(subscriber.link, {}).pop(subscriber.ident, None)

    def find(self, realm: str, name: str) -> list[Exported]:
        """The HEROs of this node with that name, the newest first."""
        found = [
            each for each in tuple(self._objects.values()) if each.entry.name == name and each.entry.realm == realm
        ]
        return found[::-1]

    def exported(self) -> list[Exported]:
        """Everything that this node offers."""
        return list(self._objects.values())

    def abandon(self) -> None:
        """In a forked child: serve nothing more."""
        for exported in self.exported():
            for member in exported.members:
                if member.gate is not None:
                    member.gate.abandon()

    # -- values -----------------------------------------------------------------------------------------------

    def lower(self, value: object) -> Reference:
        """What stands for a value that has no serialised form. For ``codec.encode``."""
        reference = lower(value)
        if reference is not None:
            return reference
        return describe(value) if isinstance(value, BaseException) else self.weak_objects.refer(value)

    def lift(self, reference: Reference) -> object:
        """The object or proxy that a reference means. May connect to its owner."""
        if isinstance(reference, ObjectReference):
            return self.weak_objects.resolve(reference)
        if isinstance(reference, HeroReference):
            return lift_hero(reference)
        if isinstance(reference, ErrorDescription):
            return rebuild(reference, "")  # an exception that was sent, and not raised
        assert isinstance(reference, MemberReference)
        return lift_member(reference)

    def encode(self, value: object) -> Encoded:
        """``value`` as header and buffers, with references for what stays here."""
        return encode(value, self.lower)

    def decode(self, header: bytes | memoryview, buffers: Sequence[Buffer]) -> Any:
        """The value, with proxies for its references. May connect to other nodes if there are any."""
        value, has_references = decode(header, buffers)
        return replace_references(value, self.lift) if has_references else value

    # -- transport.Receiver -----------------------------------------------------------------------------------

    def receive(self, link: Any, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> Task | None:
        """Take one CALL, ONEWAY or ACK. ``link`` is a ``Link``: this receiver is given to server ends only."""
        kind, _, _, index, _, object_id, chain_id, _, _ = fields
        exported = self._objects.get(object_id)
        if exported is None or index >= len(exported.members) or (kind != _CALL and kind != _ONEWAY):
            return self._receive_other(link, fields, header, buffers)
        member = exported.members[index]
        gate = member.gate
        if gate is None or (gate.chain and chain_id and same_chain(gate.chain, chain_id)):
            return partial(self._serve, None, link, member, fields, header, buffers)
        if gate.acquire():
            return partial(self._serve, gate, link, member, fields, header, buffers)
        if len(gate) >= limits.QUEUED_REQUESTS:
            return partial(
                self._refuse,
                link,
                fields,
                Fault.BUSY,
                f"{len(gate)} calls already wait for {exported.entry.name}.{member.name}; it takes too long for the "
                "rate at which it is called",
            )
        ready = gate.enter(partial(self._serve_in_turn, gate, link, member, fields, header, buffers))
        return None if ready is None else partial(gate.go_on, ready)

    def _receive_other(
        self, link: Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        """Take what is no call of a member that is there."""
        kind, _, _, _, ident, first, _, _, _ = fields
        if kind == _ACK:
            self._acknowledge(link, ident, first)
        elif kind != _CALL and kind != _ONEWAY:
            log.warning("A frame of kind %d from pid %d makes no sense at a server; ignored", kind, link.peer.pid)
        elif first == 0:
            return partial(self._serve_node, link, fields, header, buffers)
        else:
            text = "the HERO was withdrawn by its owner; look it up again"
            return partial(self._refuse, link, fields, Fault.UNAVAILABLE, text)
        return None

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        """Forget what a client had subscribed to."""
        with self._lock:
            subscribers = self._subscribers.pop(cast("Link", source), {})
        for publisher, subscriber in subscribers.values():
            subscriber.leave()  # at once: a publisher may be waiting for it
            self._workers.post(partial(publisher.unsubscribe, subscriber))  # it may wait for one that publishes

    def _acknowledge(self, link: Link, ident: int, index: int) -> None:
        subscribers = self._subscribers.get(link)
        if subscribers is not None and (found := subscribers.get(ident)) is not None:
            found[1].acknowledge(index)

    # -- calls ------------------------------------------------------------------------------------------------

    def _serve(
        self,
        taken: Gate | None,
        link: Link,
        member: Member,
        fields: Fields,
        header: bytes | memoryview,
        buffers: Sequence[Buffer],
    ) -> None:
        """Run one call and reply. Raises nothing but a ``KeyboardInterrupt`` in the main thread.

        Args:
            taken: the gate that has been taken for this call, and is left after it; what waits there is run too.
        """
        kind, _, op, _, call_id, _, chain_id, _, _ = fields
        me = get_ident()
        outer = serving.get(me)
        serving[me] = chain_id
        if taken is not None:
            taken.chain = chain_id
        try:
            try:
                try:
                    value, has_references = decode(header, buffers)
                except DecodeError as error:
                    self._refuse(link, fields, Fault.MALFORMED, str(error))
                    return
                if has_references:
                    value = replace_references(value, self.lift)
                if op == _METHOD and member.flavor == "method":
                    positional, keyword = value
                    result = getattr(member.hero, member.name)(*positional, **keyword)
                else:
                    result = _invoke(member, op, value)
                try:
                    header, buffers = encode(result, self.lower)
                except EncodeError as error:
                    raise EncodeError(f"what {member.name} returned cannot be sent: {error}") from None
                value = positional = keyword = result = None  # first: their finalisers may run anything
                if kind == _CALL:
                    link.reply(_RESULT, 0, call_id, header, buffers)
                return
            except BaseException as error:
                described = self._describe(link, member, fields, error)
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    self._reply_raised(link, call_id, described)
                    raise  # not the method's: Ctrl-C, in a call within this process
            value = positional = keyword = result = None  # first, as the error is by now
            self._reply_raised(link, call_id, described)
        finally:
            if outer is None:
                del serving[me]
            else:
                serving[me] = outer
            if taken is not None:
                taken.chain = 0
                if (ready := taken.leave()) is not None:
                    taken.go_on(ready)

    def _serve_in_turn(
        self,
        gate: Gate,
        link: Link,
        member: Member,
        fields: Fields,
        header: bytes | memoryview,
        buffers: Sequence[Buffer],
    ) -> None:
        """Run a call that has waited in ``gate``, which is held meanwhile by whoever runs its queue."""
        gate.chain = fields[6]
        try:
            self._serve(None, link, member, fields, header, buffers)
        finally:
            gate.chain = 0

    def _describe(self, link: Link, member: Member, fields: Fields, error: BaseException) -> bytes:
        """What the caller is told of ``error``. Nobody waits for a oneway call: it is logged, and this is empty."""
        if fields[0] == Kind.ONEWAY:
            log.error("A oneway call of %s by pid %d raised", member.name, link.peer.pid, exc_info=error)
            return b""
        return encode(describe(error))[0]

    def _reply_raised(self, link: Link, call_id: int, described: bytes) -> None:
        if described:
            link.reply(Kind.ERROR, Fault.RAISED, call_id, described, ())

    def _refuse(self, link: Link, fields: Fields, fault: Fault, text: str) -> None:
        if fields[0] == Kind.ONEWAY:
            log.error("A oneway call by pid %d was not carried out: %s", link.peer.pid, text)
        else:
            link.reply(Kind.ERROR, fault, fields[4], encode(text)[0], ())

    # -- object 0 ---------------------------------------------------------------------------------------------

    def _serve_node(self, link: Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        try:
            serve = self._node_members[fields[3]]
            arguments, _ = decode(header, buffers)
            result = serve(link, cast("list[Any]", arguments))  # whatever it is, it is checked by use
            reply_header, reply_buffers = encode(result)
        except HEROUnavailable as error:
            self._refuse(link, fields, Fault.UNAVAILABLE, str(error))
        except (TypeError, ValueError, LookupError) as error:  # also what could not be decoded
            self._refuse(link, fields, Fault.MALFORMED, f"the node cannot serve this request: {error!r}")
        except HEROSError as error:  # there is no room for what is kept for a new subscriber
            if fields[0] == _CALL:
                self._reply_raised(link, fields[4], encode(describe(error))[0])
        else:
            if fields[0] == _CALL:
                link.reply(_RESULT, 0, fields[4], reply_header, reply_buffers)

    def _bind(self, link: Link, arguments: list[Any]) -> object:
        realm, name, instance = arguments
        for exported in self.find(realm, name):
            if instance in ("", exported.entry.instance):
                entry = exported.entry
                return {
                    "object_id": exported.object_id,
                    "instance": entry.instance,
                    "class_name": entry.class_name,
                    "implements": list(entry.implements),
                    "tags": [*entry.tags, *self.session_tags(realm)],
                    "extra_metadata": dict(entry.extra_metadata),
                    "capabilities": exported.capabilities,
                }
        raise HEROUnavailable(f"HERO {name!r} in realm {realm!r} was withdrawn by its owner")

    def _subscribe(self, link: Link, arguments: list[Any]) -> object:
        ident, object_id, index = arguments
        _check_ident(ident)
        exported = self._objects.get(object_id)
        if exported is None:
            raise HEROUnavailable("the HERO was withdrawn by its owner; look it up again")
        publisher = exported.members[index].publisher
        if publisher is None:
            raise ValueError(f"{exported.members[index].name} is no event")
        with self._lock:
            subscribers = self._subscribers.setdefault(link, {})
            if ident in subscribers:
                raise ValueError(f"there is a subscription {ident} already")
            subscriber = Subscriber(link, ident, self._workers)
            subscribers[ident] = (publisher, subscriber)  # first: what it is sent may be acknowledged at once
        try:
            start = publisher.subscribe(subscriber)
        except BaseException:
            subscribers.pop(ident, None)
            publisher.unsubscribe(subscriber)
            raise
        if link.closed:  # it may have closed before it was in the table
            self.closed(link, HEROSError("closed"))
        return start

    def _unsubscribe(self, link: Link, arguments: list[Any]) -> object:
        (ident,) = arguments
        _check_ident(ident)
        found = self._subscribers.get(link, {}).pop(ident, None)
        if found is not None:
            publisher, subscriber = found
            publisher.unsubscribe(subscriber)
        return None


def _check_ident(ident: object) -> None:
    """Refuse a subscription id that no frame could carry."""
    if not isinstance(ident, int) or not 0 <= ident < 1 << 64:
        raise ValueError(f"{ident!r} is no subscription: its id is an integer of 64 bits, from 0 on")


def _invoke(member: Member, op: int, value: Any) -> object:
    """Do what the request asks of the member, but for the call of a method. Raises whatever the member raises."""
    if op == Op.CALL:
        raise TypeError(f"{member.name} is an {member.flavor} and cannot be called")
    if member.flavor != "attribute":
        raise TypeError(f"{member.name} is no attribute, but of the flavor {member.flavor}")
    if op == Op.GET:
        return _read(member)
    if op == Op.SET:
        if not member.writable:
            raise AttributeError(f"{member.name} is read-only")
        setattr(member.hero, member.name, value)
        return None
    raise ValueError(f"there is no operation {op}")


def _read(member: Member) -> object:
    """The value of an attribute. One that is only annotated, and that nobody has set yet, is None to others."""
    try:
        return getattr(member.hero, member.name)
    except AttributeError:
        if inspect.getattr_static(member.hero, member.name, _read) is not _read:
            raise  # it is there; its getter has raised
        log.debug("%s is annotated and has no value yet; it is read as None", member.name)
        return None
