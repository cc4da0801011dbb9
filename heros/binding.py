"""How a proxy calls: the client side of one HERO, above whatever transport.

A binding holds on to one instance of a HERO. When that instance is gone, the next call looks the name up again and
goes to its successor. A call that was under way when its server died is never repeated: it may have been carried out.
A call that the server refused because the instance was withdrawn was not carried out, and is sent to the successor.
"""

from __future__ import annotations

import threading
from typing import Any

from heros import chain, limits
from heros.bound import Bound
from heros.codec import decode, encode, replace_references
from heros.exceptions import CallTimeout, EncodeError, PeerLost
from heros.node import Node, current
from heros.transport import OnReply
from heros.wire import Fault, Kind
from heros.workers import rest

__all__ = ["Binding"]

_RESULT = int(Kind.RESULT)


class Binding:
    """One proxy's way to its HERO. Thread-safe.

    Args:
        timeout: seconds for each call that has no time-out of its own; None: ``HEROS_CALL_TIMEOUT``, or for ever.
        wait: seconds to wait for the HERO to appear.

    Raises:
        HEROUnavailable: there is no such HERO.
    """

    __slots__ = ("_lock", "_lower", "bound", "name", "node", "realm", "timeout")

    def __init__(self, node: Node, realm: str, name: str, timeout: float | None, wait: float) -> None:
        self.node = node
        self.realm = realm
        self.name = name
        self.timeout = limits.call_timeout() if timeout is None else timeout
        self._lock = threading.Lock()
        self._lower = node.dispatcher.lower
        self.bound = node.bind(realm, name, wait)

    def rebind(self, stale: Bound) -> Bound:
        """Look the name up again, unless another thread has done so since ``stale`` was found to be gone."""
        with self._lock:
            if self.bound is stale:
                self.node = current()  # another one than before, in a forked child
                self._lower = self.node.dispatcher.lower
                self.bound = self.node.bind(self.realm, self.name)
            return self.bound

    def current(self) -> Bound:
        """The instance that the next call goes to."""
        bound = self.bound
        return self.rebind(bound) if bound.channel.closed else bound

    def member(self, bound: Bound, name: str) -> int:
        member = bound.members.get(name)
        if member is None:
            raise self._no_member(name)
        return member

    def _no_member(self, name: str) -> AttributeError:
        return AttributeError(
            f"HERO {self.name!r} was restarted and has no member {name!r} any more. Make a new RemoteHERO of it."
        )

    def endpoint(self, name: str) -> str:
        return f"{self.realm}/{self.name}/{name}"

    def encode(self, name: str, value: object) -> tuple[bytes, list[Any]]:
        try:
            return encode(value, self._lower)
        except EncodeError as error:
            raise self._refused(name, error) from None

    def _refused(self, name: str, error: EncodeError) -> EncodeError:
        return EncodeError(f"{self.name}.{name}: an argument cannot be sent: {error}")

    def call(self, op: int, name: str, value: object, timeout: float | None) -> Any:
        """Ask the HERO to call, get or set one member, and wait for the result.

        Args:
            op: one of ``wire.Op``.
            value: CALL: ``[positional, keyword]``; SET: the new value; GET: None.
            timeout: seconds; None: as long as the server lives.

        Raises:
            RemoteHEROError: the member raised; also the builtin that it raised.
            HEROUnavailable: the HERO is gone.
            CallTimeout, PeerLost: the outcome is unknown.
            EncodeError: an argument cannot be sent.
        """
        bound = self.bound
        if bound.channel.closed:
            bound = self.rebind(bound)
        try:
            header, buffers = encode(value, self._lower)
        except EncodeError as error:
            raise self._refused(name, error) from None
        rest()
        try:
            member = bound.members.get(name)
            if member is None:
                raise self._no_member(name)
            reply = bound.channel.call(op, member, bound.object_id, chain.next_call(), header, buffers, timeout)
            if reply.fields[0] != _RESULT and reply.fields[2] == Fault.UNAVAILABLE:
                bound = self.rebind(bound)
                reply = bound.channel.call(
                    op, self.member(bound, name), bound.object_id, chain.next_call(), header, buffers, timeout
                )
        except CallTimeout:
            raise CallTimeout(
                f"{self.endpoint(name)} did not reply within {timeout:g} s; whether it was carried out is unknown"
            ) from None
        except PeerLost as error:
            self.node.stay_if_exiting()
            raise PeerLost(f"{self.endpoint(name)}: {error}; whether the call was carried out is unknown") from None
        if reply.fields[0] != _RESULT:
            return self.node.result(reply, self.endpoint(name))
        result, has_references = decode(reply.header, reply.buffers)
        return replace_references(result, self.node.dispatcher.lift) if has_references else result

    def send(self, op: int, name: str, message: tuple[bytes, list[Any]], on_reply: OnReply) -> None:
        """Ask, with an encoded value, and do not wait. ``on_reply`` gets a ``Reply`` or an exception, on any thread;
        it must not block."""
        bound = self.current()
        bound.channel.submit(op, self.member(bound, name), bound.object_id, chain.next_call(), *message, on_reply)

    def oneway(self, name: str, value: object) -> None:
        """Call a method and wait for nothing; what it raises is logged at the server."""
        bound = self.current()
        header, buffers = self.encode(name, value)
        bound.channel.post(
            Kind.ONEWAY, self.member(bound, name), 0, bound.object_id, chain.next_call(), header, buffers
        )
