"""What is connected to an event: the callbacks of one event, and how each is called.

A method of a RemoteHERO that is connected to an event of this process is called over its channel, in order, without
holding up the publisher (:class:`RemoteCallback`); any other callable is called as it is (:class:`Callback`).
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any, TypedDict, TypeGuard, cast

from heros import limits
from heros.binding import Binding
from heros.buffers import settle_buffer
from heros.codec import Encoded
from heros.inspect import is_hero_event, is_hero_method
from heros.transport import Reply
from heros.wire import Op
from heros.workers import Strand

__all__ = ["Callback", "CallbackDescription", "Callbacks", "RemoteCallback", "is_remote_method"]

log = logging.getLogger("heros.event")


class CallbackDescription(TypedDict):
    """What ``get_callbacks`` tells of one callback."""

    name: str
    origin: str | None
    is_remote_hero: bool
    func: Any
    context: str


_Bound = (MethodType, BuiltinMethodType, MethodWrapperType)
"""Made anew whenever a method is looked up; two of one method of one object are equal."""


def is_remote_method(func: object) -> TypeGuard[Any]:
    """Whether it is a method of a RemoteHERO itself. What wraps one is called like any other callable."""
    return is_hero_method(func) and hasattr(func, "binding")


def _name(func: Any) -> str:
    """``"<HERO>.<member>"`` of a method of a RemoteHERO or of an event itself, not of what wraps one."""
    hero: Any = None
    if is_remote_method(func):
        hero = func.__self__
    elif is_hero_event(func):
        hero = getattr(func, "instance", None)
    return f"{hero._name}.{func.__name__}" if hasattr(hero, "_name") else repr(func)


class Callback:
    """One connected callback. Two of the same callable are equal: of the same object; for a method, of the same method
    of the same object, and of a RemoteHERO that is: of the same realm, HERO and method.

    Attributes:
        name: for people: ``"<HERO>.<method>"`` for a method of a RemoteHERO or an event, else the ``repr`` of the
            callable.
        origin: who connected it, free text, or None.
        is_remote_hero: whether it is a method of a RemoteHERO.
        func: the callable.
    """

    def __init__(self, func: Callable[..., Any], origin: str | None = None) -> None:
        if not callable(func):
            raise TypeError(f"a callback must be callable; {func!r} is not")
        self.func = func
        self.origin = origin
        self.is_remote_hero = is_remote_method(func)
        self.name = _name(func)
        # Not the callable's own equality: two objects that compare equal are two callbacks.
        self._identity: object = func if self.is_remote_hero or isinstance(func, _Bound) else id(func)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def describe(self, context: str) -> CallbackDescription:
        return {
            "name": self.name,
            "origin": self.origin,
            "is_remote_hero": self.is_remote_hero,
            "func": self.func,
            "context": context,
        }


class Callbacks:
    """The callbacks of one event, in the order in which they were connected. Thread-safe; iterating is a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: tuple[Callback, ...] = ()

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._callbacks)

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callback) -> None:
        """Add it, in place of an equal one."""
        with self._lock:
            others = tuple(each for each in self._callbacks if each != callback)
            self._callbacks = (*others, callback)

    def remove(self, callback: Callback) -> Callback | None:
        """Remove the one that equals it and return that, None if there is none."""
        with self._lock:
            found = next((each for each in self._callbacks if each == callback), None)
            self._callbacks = tuple(each for each in self._callbacks if each != callback)
            return found

    def call(self, endpoint: str, value: object) -> None:
        for callback in self._callbacks:
            try:
                callback.run(value) if isinstance(callback, RemoteCallback) else callback.func(value)
            except Exception:
                log.exception("%s: callback %s failed; it stays connected", endpoint, callback.name)


class RemoteCallback(Callback):
    """A method of a RemoteHERO that is connected to an event of this process.

    It is called without holding up the publisher: a call is sent as soon as the value is there, by a worker, and its
    reply is only looked at for an error. At most ``limits.CALLBACK_QUEUE`` calls are under way; beyond, samples are
    dropped for this callback, and counted. When its HERO is created anew, the calls go to the new one.

    Args:
        event: what it is connected to, for messages.
    """

    def __init__(self, func: Callable[..., Any], origin: str | None, event: str) -> None:
        super().__init__(func, origin)
        self._event = event
        self._binding: Binding = cast("Any", func).binding
        self._member: str = func.__name__
        self._strand = Strand()
        self._lock = threading.Lock()
        self._under_way = 0
        self.dropped = 0

    def run(self, value: object) -> None:
        """Have the method called with ``value``, soon."""
        with self._lock:
            if self._under_way >= limits.CALLBACK_QUEUE:
                self.dropped += 1
                if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8, ...
                    log.warning(
                        "%s: callback %s is too slow: %d samples dropped so far", self._event, self.name, self.dropped
                    )
                return
            self._under_way += 1
        try:
            header, buffers = self._binding.encode_arguments(self._member, (value,), {})
            message = header, [settle_buffer(buffer) for buffer in buffers]
            send = functools.partial(self._send, message)
            self._strand.post(send, self._binding.node.workers)
        except BaseException:
            self._done()
            raise

    def _send(self, message: Encoded) -> None:
        try:
            self._binding.send(Op.CALL, self._member, message, self._replied)
        except Exception as error:
            self._done()
            self._log("could not be called", error)

    def _replied(self, reply: Reply | BaseException) -> None:
        self._done()
        try:
            if isinstance(reply, BaseException):
                raise reply
            self._binding.node.result(reply, self._binding.endpoint(self._member))
        except Exception as error:
            self._log("failed; it stays connected", error)

    def _log(self, what: str, error: Exception) -> None:
        kind = getattr(error, "remote_type", "") or type(error).__name__
        text = getattr(error, "message", str(error))
        log.error("%s: callback %s %s: %s: %s", self._event, self.name, what, kind, text)

    def _done(self) -> None:
        with self._lock:
            self._under_way -= 1
