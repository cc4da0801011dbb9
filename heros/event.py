"""Events: ``@event`` on a method of a LocalHERO, and what a RemoteHERO has in its place.

Calling an event runs its method, publishes what it returns, calls the callbacks and returns it. There are four ways
to connect a callback:

====================  =======================  =====================================================================
event of              callback                 where and how it runs
====================  =======================  =====================================================================
LocalHERO             any callable             in the publishing thread, before the event returns
LocalHERO             method of a RemoteHERO   called over its channel, in order, without holding up the publisher
RemoteHERO            any callable             in this process, in order, on a worker thread (``subscription``)
RemoteHERO            method of a RemoteHERO   attached at the event's owner: the two owners talk directly, and this
                                               process may end
====================  =======================  =====================================================================

A callback that raises is logged and stays connected; the others are called.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, NoReturn, cast, overload

from heros.binding import Binding
from heros.bound import Bound
from heros.callbacks import Callback, CallbackDescription, Callbacks, RemoteCallback, is_remote_method
from heros.codec import MemberReference, Reference
from heros.dispatch import Dispatcher
from heros.exceptions import HEROUnavailable
from heros.inspect import event_keep, is_reliable, mark_event_keep, mark_hero_event, mark_reliable
from heros.publisher import Publisher
from heros.references import lower
from heros.subscription import Subscription
from heros.transport import Payload

__all__ = [
    "Callback",
    "EventDescriptor",
    "LocalEventHandler",
    "RemoteEventHandler",
    "event",
    "reliable",
]

log = logging.getLogger("heros.event")

# -- the owner's side -----------------------------------------------------------------------------------------


class LocalEventHandler:
    """An event of one LocalHERO. Call it to publish. Thread-safe.

    Attributes:
        publisher: counts and sends the samples; ``publisher.sequence`` is how many there have been since the HERO was
            exported.
    """

    _is_hero_event = True

    def __init__(self, instance: Any, func: Callable[..., Any], is_reliable: bool, keep: int) -> None:
        functools.update_wrapper(self, func)
        self.instance = instance
        self.callbacks = Callbacks()
        self.publisher = Publisher(f"{type(instance).__name__}.{func.__name__}", is_reliable, keep)
        self._function = func
        self._dispatcher: Dispatcher | None = None

    __name__: str

    def attach(self, dispatcher: Dispatcher, endpoint: str) -> Publisher:
        """The HERO is being exported: from now on there may be subscribers."""
        self._dispatcher = dispatcher
        self.publisher.endpoint = endpoint
        return self.publisher

    def __repr__(self) -> str:
        return f"<event {self.__name__} of {self.instance!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled; pass an event of RemoteHERO(name) to another process")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the method, publish its result, call the callbacks, return the result.

        Raises:
            EncodeError: there are subscribers, and the result cannot be sent. It is as if it had not been published:
                no callback is called, and no subscriber misses a sample.
        """
        result = self._function(self.instance, *args, **kwargs)
        publisher = self.publisher
        dispatcher = self._dispatcher
        if dispatcher is not None and (publisher.wanted or not publisher.skip()):
            publisher.publish(Payload(*dispatcher.encode(result)))
        if self.callbacks:
            self.callbacks.call(publisher.endpoint, result)
        return result

    def connect(self, callback: Callable[..., Any], origin: str | None = None) -> str:
        """Have ``callback`` called with every value, and return its name. ``origin`` is a note on who asked for it.

        Raises:
            TypeError: it is not callable.
            ValueError: it is this event itself.
        """
        _refuse_itself(self, callback)
        if is_remote_method(callback):
            connected: Callback = RemoteCallback(callback, origin, self.publisher.endpoint)
        else:
            connected = Callback(callback, origin)
        self.callbacks.add(connected)
        return connected.name

    def disconnect(self, callback: Callable[..., Any]) -> bool:
        """Undo :meth:`connect`; returns whether it was connected. May be called from the callback itself.

        Raises:
            TypeError: it is not callable.
        """
        return self.callbacks.remove(Callback(callback)) is not None

    def is_callback(self, func: Callable[..., Any]) -> bool:
        """Whether ``func`` is connected. Raises ``TypeError`` if it is not callable."""
        return Callback(func) in self.callbacks

    def get_callbacks(self) -> list[CallbackDescription]:
        """What is connected here, in the order of connecting, as maps of ``name``, ``origin``, ``is_remote_hero``,
        ``func`` and ``context`` (``"LocalHERO"``)."""
        return [callback.describe("LocalHERO") for callback in self.callbacks]


class EventDescriptor:
    """What ``@event`` makes of a method: each instance gets a :class:`LocalEventHandler` of its own."""

    def __init__(self, func: Callable[..., Any], is_reliable: bool = False, keep: int = 0) -> None:
        functools.update_wrapper(cast("Any", self), func)
        self.func = func
        self.reliable = is_reliable
        self.keep = keep
        self._name = func.__name__
        mark_hero_event(self)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> EventDescriptor: ...
    @overload
    def __get__(self, instance: object, owner: type) -> LocalEventHandler: ...
    def __get__(self, instance: object | None, owner: type) -> EventDescriptor | LocalEventHandler | MethodType:
        if instance is None:
            return self
        if inspect.getattr_static(type(instance), self._name, None) is not self:
            # By super(), from what overrides it: it is that which is the event, or no event, and publishes, or not.
            return MethodType(self.func, instance)
        handler = LocalEventHandler(instance, self.func, self.reliable, self.keep)
        # Kept in the instance, where it hides this descriptor: the next look finds it at once. ``setdefault`` makes
        # two threads that look for the first time agree on one.
        kept: LocalEventHandler = instance.__dict__.setdefault(self._name, handler)
        return kept


@overload
def event(func: Callable[..., Any], /) -> EventDescriptor: ...
@overload
def event(*, reliable: bool = False, keep: int = 0) -> Callable[[Callable[..., Any]], EventDescriptor]: ...
def event(
    func: Callable[..., Any] | None = None, /, *, reliable: bool = False, keep: int = 0
) -> EventDescriptor | Callable[[Callable[..., Any]], EventDescriptor]:
    """Decorator: make a method of a LocalHERO an event. Calling it publishes what it returns.

    Args:
        reliable: the publisher waits for slow subscribers instead of dropping samples (see :func:`reliable`).
        keep: this many of the last values are sent first to a subscriber that comes later.

    Raises:
        TypeError: what it decorates is no method.
        ValueError: ``keep`` is negative.
    """
    if func is None:
        return functools.partial(_make_event, reliable=reliable, keep=keep)
    return _make_event(func, reliable=reliable, keep=keep)


def _make_event(func: Callable[..., Any], reliable: bool, keep: int) -> EventDescriptor:
    if not hasattr(func, "__name__"):
        raise TypeError(f"@event decorates a method; {func!r} is none")
    if keep < 0:
        raise ValueError(f"@event(keep={keep}): keep is a number of values, 0 or more")
    descriptor = EventDescriptor(func, reliable or is_reliable(func), keep or event_keep(func))
    if descriptor.keep:
        mark_event_keep(descriptor, descriptor.keep)
    if descriptor.reliable:
        mark_reliable(descriptor)
    return descriptor


def reliable(func: Any) -> Any:
    """Decorator, above or below ``@event``: lose no sample. The publisher waits for a subscriber that is slow, and
    disconnects one that has taken nothing for ``limits.RELIABLE_SECONDS``."""
    if isinstance(func, EventDescriptor):
        func.reliable = True
    return mark_reliable(func)


def _refuse_itself(handler: object, callback: object) -> None:
    if callback is handler:
        raise ValueError(f"{handler!r} cannot be its own callback: it would call itself without end")


# -- the other side -------------------------------------------------------------------------------------------


class RemoteEventHandler:
    """An event of a RemoteHERO. Thread-safe.

    There is one subscription, from the first callback that is connected to the last that is disconnected. In a forked
    child there is none: the callbacks stay with the parent.
    """

    _is_hero_event = True

    def __init__(self, instance: Any, name: str, doc: str = "") -> None:
        self.instance = instance
        self.__name__ = name
        # A text in any case: without one, help() describes this class.
        self.__doc__ = doc or f"An event of HERO {instance._name!r}, which says no more about it."
        self._endpoint = f"{instance._realm}/{instance._name}/{name}"
        self._warned = False
        self._begin()
        _handlers.add(self)

    def _begin(self) -> None:
        self.callbacks = Callbacks()
        self._lock = threading.Lock()
        self._subscription: Subscription | None = None
        self._missed_before = 0

    def __repr__(self) -> str:
        return f"<event {self.__name__} of {self.instance!r}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (self.instance, self.__name__)

    def __call__(self, payload: Any) -> None:
        """Call the callbacks of this process with ``payload``, as an arriving sample does. Nothing is published."""
        if not self.callbacks and not self._warned:
            self._warned = True
            log.warning(
                "%r was called, which calls only the callbacks that are connected to this proxy, and there are none. "
                "To have it published, call a method of the HERO that does",
                self,
            )
        self._deliver(payload)

    def _deliver(self, payload: Any) -> None:
        self.callbacks.call(self._endpoint, payload)

    @property
    def missed(self) -> int:
        """Samples that were published while a callback was connected and that this subscriber did not get.

        Exact up to the last sample, or notice of dropped samples, that has arrived.
        """
        subscription = self._subscription
        return self._missed_before + (subscription.missed if subscription is not None else 0)

    def connect(self, callback: Callable[..., Any], origin: str | None = None) -> str:
        """Have ``callback`` called with every value, and return its name.

        A callable of this process is called on a worker thread. A method of a RemoteHERO is attached at the owner of
        the event; it then works without this process.

        Raises:
            HEROUnavailable: the HERO is gone.
            AttributeError: it was restarted and has no such event any more.
            PeerLost: its process died meanwhile.
            CallTimeout: it did not answer within the proxy's time-out.
            TypeError: the callback is not callable.
            ValueError: it is this event itself.
        """
        _refuse_itself(self, callback)
        if is_remote_method(callback):
            name: str = self.instance._connect_local_hero_callback(
                event=self, remote_hero_method=callback, origin=origin or self.instance._name
            )
            return name
        connected = Callback(callback, origin)
        with self._lock:
            self.callbacks.add(connected)
            try:
                if self._subscription is None:
                    self._subscribe()
                elif not self._subscription.attached:  # it is waiting for the HERO; is there one?
                    binding: Binding = self.instance._binding
                    binding.member(binding.rebind(binding.bound, binding.timeout), self.__name__)
            except BaseException:
                self.callbacks.remove(connected)
                raise
        return connected.name

    def _subscribe(self) -> None:
        binding: Binding = self.instance._binding
        bound = binding.current()
        try:
            self._open(binding, bound)
        except HEROUnavailable:  # withdrawn, and maybe created anew
            self._open(binding, binding.rebind(bound, binding.timeout))

    def _open(self, binding: Binding, bound: Bound) -> None:
        binding.member(bound, self.__name__)  # it may be gone with a restart
        subscription = Subscription(binding.node, binding.realm, binding.name, self.__name__, self._deliver)
        self._subscription = subscription
        try:
            subscription.open(bound)
        except BaseException:
            self._subscription = None
            subscription.close()
            raise
        binding.subscriptions[subscription] = None

    def disconnect(self, callback: Callable[..., Any]) -> bool:
        """Undo :meth:`connect`; returns whether it was connected. May be called from the callback itself.

        Raises:
            HEROUnavailable, PeerLost, CallTimeout: it is a method of a RemoteHERO, and the owner of the event was not
                reached. For a callable of this process nothing is asked of anybody.
            TypeError: it is not callable.
        """
        if is_remote_method(callback):
            return bool(self.instance._disconnect_local_hero_callback(event=self, remote_hero_method=callback))
        with self._lock:
            found = self.callbacks.remove(Callback(callback)) is not None
            if not self.callbacks:
                self._end()
        return found

    def is_callback(self, func: Callable[..., Any]) -> bool:
        """Whether ``func`` is connected through this proxy; what is attached at the owner is in :meth:`get_callbacks`.
        Raises ``TypeError`` if it is not callable."""
        return Callback(func) in self.callbacks

    def get_callbacks(self) -> list[CallbackDescription]:
        """Callbacks of this proxy (context ``"RemoteHERO"``) and those attached at the owner (``"LocalHERO"``), as maps
        of ``name``, ``origin``, ``is_remote_hero``, ``func`` and ``context``.

        Raises:
            HEROUnavailable, PeerLost, CallTimeout: the owner was not reached.
        """
        here = [callback.describe("RemoteHERO") for callback in self.callbacks]
        return [*here, *self.instance._get_local_hero_callbacks(event=self)]

    def close(self) -> None:
        """Disconnect everything."""
        with self._lock:
            for callback in self.callbacks:
                self.callbacks.remove(callback)
            self._end()

    def _end(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self.instance._binding.subscriptions.pop(subscription, None)
            subscription.close()
            self._missed_before += subscription.missed


_handlers: weakref.WeakSet[RemoteEventHandler] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for handler in tuple(_handlers):
        handler.instance._binding.subscriptions.clear()
        handler._begin()  # also the lock, which another thread of the parent may have held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)


@lower.register
def _(value: LocalEventHandler) -> Reference | None:
    hero = value.instance
    return MemberReference(hero._realm, hero._name, value.__name__, "event") if hasattr(hero, "_realm") else None


@lower.register
def _(value: RemoteEventHandler) -> Reference:
    hero = value.instance
    return MemberReference(hero._realm, hero._name, value.__name__, "event")
