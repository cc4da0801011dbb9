"""How a proxy calls: the client side of one HERO, above whatever transport.

A binding holds on to one instance of a HERO. When that instance is gone, the next call looks the name up again and
goes to its successor. A call that was under way when its server died is never repeated: it may have been carried out.
A call that the server refused because the instance was withdrawn was not carried out, and is sent to the successor.

The subscriptions of its proxies go along: they are open at the successor before the call that it is looked up for.

A oneway call has no reply that could tell of such a refusal; it is lost, and logged at the server. So that the next
one does better, the binding asks the node whether the instance is still there, without waiting for the answer, along
with the first oneway call in ``CHECK_SECONDS``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from functools import partial
from typing import Any, Final

from heros import chain, limits
from heros.bound import Bound
from heros.codec import Encoded, Reference, decode, encode, encode_arguments, replace_references
from heros.exceptions import CallTimeout, EncodeError, HEROSError, PeerLost
from heros.node import Node, current
from heros.subscription import Subscription
from heros.transport import OnReply, Reply
from heros.wire import Fault, Kind, NodeMember

__all__ = ["Binding", "lower_here"]

log = logging.getLogger("heros.binding")

CHECK_SECONDS: Final = 0.1

_RESULT = int(Kind.RESULT)


class Binding:
    """One HERO's proxies' way to it. Thread-safe.

    Args:
        timeout: seconds for each call that has no time-out of its own, and for finding the HERO; None:
            ``HEROS_CALL_TIMEOUT``, or for ever.
        wait: seconds to wait for the HERO to appear.

    Raises:
        HEROUnavailable: there is no such HERO.
        CallTimeout: there is one, and its process does not answer.
    """

    __slots__ = ("__weakref__", "_check_due", "_lock", "bound", "name", "node", "realm", "subscriptions", "timeout")

    def __init__(self, node: Node, realm: str, name: str, timeout: float | None = None, wait: float = 0.0) -> None:
        self.node = node
        self.realm = realm
        self.name = name
        self.timeout = limits.call_timeout() if timeout is None else timeout
        self._lock = threading.Lock()
        self._check_due = 0.0
        self.subscriptions: dict[Subscription, None] = {}
        self.bound = node.bind(realm, name, wait, timeout=self.timeout)
        _bindings.add(self)

    def rebind(self, stale: Bound, timeout: float | None) -> Bound:
        """Look the name up again, unless another thread has done so since ``stale`` was found to be gone.

        Args:
            timeout: seconds that the network may take to find it, at most ``limits.DISCOVERY_SECONDS``, and its node to
                describe it; None: as long as these may take.
        """
        discovery = limits.DISCOVERY_SECONDS if timeout is None else min(timeout, limits.DISCOVERY_SECONDS)
        try:
            with self._lock:
                if self.bound is stale:
                    self.node = current()  # another one than before, in a forked child
                    self.bound = self.node.bind(self.realm, self.name, discovery=discovery, timeout=timeout)
                    self._tell(stale, self.bound)
                bound = self.bound
        except HEROSError:
            self.node.stay_if_exiting()
            raise
        for subscription in tuple(self.subscriptions):
            subscription.follow(bound)
        return bound

    def _tell(self, stale: Bound, bound: Bound) -> None:
        lost_at = stale.inbox.closed_at
        peer = bound.channel.peer
        log.info(
            "%s/%s: calls go on%s with %s in %s, by %s",
            self.realm,
            self.name,
            "" if lost_at is None else f" {time.monotonic() - lost_at:.2f} s after it was lost,",
            "the same HERO" if bound.instance == stale.instance else "its successor",
            f"process {peer.pid} on {peer.host}" if peer.pid else "a process with the original package",
            bound.transport,
        )

    def current(self) -> Bound:
        """The instance that the next call goes to."""
        bound = self.bound
        return self.rebind(bound, self.timeout) if bound.channel.closed else bound

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

    def encode(self, name: str, value: object) -> Encoded:
        """A new value for an attribute."""
        try:
            return encode(value, lower_here)
        except EncodeError as error:
            raise self.refused(name, error) from None

    def encode_arguments(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The arguments of a call."""
        try:
            return encode_arguments(args, kwargs, lower_here)
        except EncodeError as error:
            raise self.refused(name, error) from None

    def refused(self, name: str, error: EncodeError) -> EncodeError:
        """What to raise for arguments that cannot be sent."""
        return EncodeError(f"{self.name}.{name}: an argument cannot be sent: {error}")

    def call(self, op: int, name: str, message: Encoded, timeout: float | None) -> Any:
        """Ask the HERO to call, get or set one member, and wait for the result.

        Args:
            op: one of ``wire.Op``.
            message: CALL: from ``encode_arguments``; SET: from ``encode``; GET: None, encoded.
            timeout: seconds; None: as long as the server lives.

        Raises:
            RemoteHEROError: the member raised; also the builtin that it raised.
            HEROUnavailable: the HERO is gone.
            CallTimeout, PeerLost: the outcome is unknown.
        """
        header, buffers = message
        bound = self.bound
        channel = bound.channel
        if channel.closed:
            bound = self.rebind(bound, timeout)
            channel = bound.channel
        for is_last in (False, True):
            member = bound.members.get(name)
            if member is None:
                raise self._no_member(name)
            try:
                reply = channel.call(op, member, bound.object_id, chain.next_call(), header, buffers, timeout)
            except CallTimeout:
                raise CallTimeout(
                    f"{self.endpoint(name)} did not reply within {timeout:g} s; whether it was carried out is unknown"
                ) from None
            except PeerLost as error:
                self.node.stay_if_exiting()
                raise PeerLost(f"{self.endpoint(name)}: {error}. It may or may not have been carried out") from None
            if reply.fields[0] == _RESULT:
                break
            if is_last or reply.fields[2] != Fault.UNAVAILABLE:
                return self.node.result(reply, self.endpoint(name))  # raises
            bound = self.rebind(bound, timeout)
            channel = bound.channel
        result, has_references = decode(reply.header, reply.buffers)
        return replace_references(result, self.node.dispatcher.lift) if has_references else result

    def send(self, op: int, name: str, message: Encoded, on_reply: OnReply) -> None:
        """Ask, with an encoded value, and do not wait: a chain of its own. ``on_reply`` gets a ``Reply`` or an
        exception, on any thread; it must not block. Messages that are sent again, to a successor, may be overtaken."""
        bound = self.current()

        def replied(reply: Reply | BaseException) -> None:
            if isinstance(reply, Reply) and _is_withdrawn(reply):
                self.node.workers.post(partial(self._send_again, bound, op, name, message, on_reply))
            else:
                on_reply(reply)

        self._submit(bound, op, name, message, replied)

    def _send_again(self, stale: Bound, op: int, name: str, message: Encoded, on_reply: OnReply) -> None:
        try:
            self._submit(self.rebind(stale, self.timeout), op, name, message, on_reply)
        except Exception as error:
            on_reply(error)

    def _submit(self, bound: Bound, op: int, name: str, message: Encoded, on_reply: OnReply) -> None:
        bound.channel.submit(op, self.member(bound, name), bound.object_id, chain.new_chain(), *message, on_reply)

    def oneway(self, name: str, message: Encoded) -> None:
        """Call a method and wait for nothing: a chain of its own. What it raises is logged at the server."""
        bound = self.current()
        bound.channel.post(Kind.ONEWAY, self.member(bound, name), 0, bound.object_id, chain.new_chain(), *message)
        now = time.monotonic()
        if now >= self._check_due:
            self._check_due = now + CHECK_SECONDS
            self._check(bound)

    def _check(self, bound: Bound) -> None:
        """Look the name up again if the instance turns out to be withdrawn. Waits for nothing."""

        def replied(reply: Reply | BaseException) -> None:
            if isinstance(reply, Reply) and _is_withdrawn(reply):
                self.node.workers.post(partial(self._look_up_again, bound))

        header, buffers = encode([self.realm, self.name, bound.instance])
        with contextlib.suppress(HEROSError):  # the channel tells the next call that it is closed
            bound.channel.submit(0, NodeMember.BIND, 0, 0, header, buffers, replied)

    def _look_up_again(self, stale: Bound) -> None:
        try:
            self.rebind(stale, self.timeout)
        except HEROSError:
            self._check_due = 0.0  # there is no successor yet; the next call asks again


def lower_here(value: object) -> Reference:
    """Of this process's node: a forked child has another than its parent, to which a binding may still refer."""
    return current().dispatcher.lower(value)


def _is_withdrawn(reply: Reply) -> bool:
    return reply.fields[0] != _RESULT and reply.fields[2] == Fault.UNAVAILABLE


_bindings: weakref.WeakSet[Binding] = weakref.WeakSet()


def _renew_locks_in_child() -> None:
    for binding in tuple(_bindings):
        binding._lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_in_child)
