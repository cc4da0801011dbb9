"""RemoteHERO: a HERO of another process, used as if it were here."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable
from inspect import Signature
from numbers import Real
from typing import Any, NoReturn, cast

from heros import limits
from heros.binding import Binding, lower_here
from heros.capabilities import AttributeCapability, Capability, EventCapability, MethodCapability, usable_name
from heros.codec import HeroReference, MemberReference, Reference, encode, encode_arguments
from heros.event import RemoteEventHandler
from heros.exceptions import EncodeError, HEROSError
from heros.inspect import local_only
from heros.node import current
from heros.peer import HEROPeer
from heros.references import lower, register_lift
from heros.transport import Transport
from heros.wire import Op

__all__ = ["RemoteHERO", "RemoteMethod", "transport_of"]

log = logging.getLogger("heros.remote")

_failed = threading.local()
"""``read``: the attribute whose reading has just raised an AttributeError in this thread: proxy, name, error."""

_CALL, _GET, _SET = int(Op.CALL), int(Op.GET), int(Op.SET)
_NO_VALUE = encode(None)


class RemoteMethod:
    """A method of a RemoteHERO. ``inspect.signature`` gives the remote signature. Thread-safe."""

    _is_hero_method = True

    def __init__(
        self,
        hero: RemoteHERO,
        binding: Binding,
        name: str,
        signature: Signature,
        doc: str | None,
        timeout: float | None,
    ) -> None:
        self.__self__ = hero
        self.__name__ = name
        # A text in any case: without one, help() describes this class.
        self.__doc__ = doc or f"A method of HERO {hero._name!r}, which says no more about it."
        self.__signature__ = signature
        self.binding = binding
        self._timeout = timeout

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__
        try:
            message = encode_arguments(args, kwargs, lower_here)
        except EncodeError as error:
            raise self.binding.refused(name, error) from None
        return self.binding.call(_CALL, name, message, self._timeout)

    def options(self, *, timeout: float | None) -> RemoteMethod:
        """The same method with other options: ``hero.move.options(timeout=2.0)(x=3)``.

        Args:
            timeout: seconds to wait for the reply; None: as long as the server lives.
        """
        return RemoteMethod(
            self.__self__,
            self.binding,
            self.__name__,
            self.__signature__,
            self.__doc__,
            _check_timeout(timeout),
        )

    def oneway(self, /, *args: Any, **kwargs: Any) -> None:
        """Call it and wait for nothing, not even for what serves the call that this is part of.

        What it raises is logged at the server. A call that reaches the server just after the HERO was withdrawn is
        lost, and logged there; the proxy then looks for the HERO's successor.
        """
        binding, name = self.binding, self.__name__
        binding.oneway(name, binding.encode_arguments(name, args, kwargs))

    def __repr__(self) -> str:
        return f"<method {self.__name__}{self.__signature__} of {self.__self__!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteMethod):
            return NotImplemented
        return self.__name__ == other.__name__ and self.__self__ == other.__self__

    def __hash__(self) -> int:
        return hash((self.__self__, self.__name__))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self._timeout == self.binding.timeout:
            return getattr, (self.__self__, self.__name__)
        return _unpickle_method, (self.__self__, self.__name__, self._timeout)


class RemoteHERO(HEROPeer):
    """A HERO of another process, of this host or any other, used as if it were local.

    Its members mirror the remote capabilities: methods with the remote signature, attributes that are read and written
    at the owner, events as ``RemoteEventHandler``. On one host everything goes through shared memory, between hosts
    over the network; ``heros.transport_of`` tells which. When the HERO is restarted, the proxy goes on with its
    successor. Thread-safe. Two proxies of one HERO are equal. It pickles as a reference, with its time-out.

    Args:
        name: the HERO's name.
        realm: the HERO's realm.
        session_manager: accepted for existing programs.
        timeout: seconds for each call; None: ``HEROS_CALL_TIMEOUT``, and without it as long as the server lives.
        wait: seconds to wait for the HERO to appear.

    Attributes:
        _hero_tags: the HERO's tags, a set.
        _hero_implements: names of the interfaces that it implements, a set.
        _hero_extra_metadata: its free texts, a dict.

    Raises:
        HEROUnavailable: (a ``NameError``) there is no such HERO.
        ValueError: an impossible name, or a time that is negative.
        TypeError: a name that is no text, or a time that is no number.
    """

    _hero_base: type[RemoteHERO]

    def __new__(
        cls,
        name: str,
        realm: str = "heros",
        session_manager: Any = None,
        *args: Any,  # of subclasses
        timeout: float | None = None,
        wait: float = 0.0,
        **kwargs: Any,
    ) -> RemoteHERO:
        # A class for each proxy: attributes of the remote object become properties of it.
        return super().__new__(type(f"RemoteHERO_{realm}_{name}", (cls,), {"_hero_base": cls}))

    def __init__(
        self,
        name: str,
        realm: str = "heros",
        session_manager: Any = None,
        *,
        timeout: float | None = None,
        wait: float = 0.0,
    ) -> None:
        HEROPeer.__init__(self, realm, session_manager)
        self._name = name
        self._use_binding(Binding(current(), realm, name, _check_timeout(timeout), _check_wait(wait)))

    @local_only
    def _use_binding(self, binding: Binding) -> None:
        self._binding = binding
        bound = binding.bound
        self._hero_tags = set(bound.tags)
        self._hero_implements = set(bound.implements)
        self._hero_extra_metadata = dict(bound.extra_metadata)
        self._remote_capabilities = bound.capabilities
        self._remote_class = bound.class_name
        for capability in self._remote_capabilities:
            self._mirror(capability)

    def _mirror(self, capability: Capability) -> None:
        """Give this proxy one member of the remote HERO."""
        name = capability.name
        if not usable_name(name) or name in _OWN_NAMES - _REMOTE_NAMES:
            log.warning("HERO %s has a member called %r, which a proxy cannot have; it is ignored", self._name, name)
        elif isinstance(capability, MethodCapability):
            binding = self._binding
            method = RemoteMethod(self, binding, name, capability.signature(), capability.doc or None, binding.timeout)
            self.__dict__[name] = method
        elif isinstance(capability, AttributeCapability):
            setattr(type(self), name, self._property(capability))
        elif isinstance(capability, EventCapability):
            self.__dict__[name] = RemoteEventHandler(self, name, capability.doc)

    @staticmethod
    def _property(capability: AttributeCapability) -> property:
        name = capability.name

        def read(self: RemoteHERO) -> Any:
            binding = self._binding
            try:
                return binding.call(_GET, name, _NO_VALUE, binding.timeout)
            except AttributeError as error:
                _failed.read = self, name, error
                raise

        def write(self: RemoteHERO, value: Any) -> None:
            binding = self._binding
            binding.call(_SET, name, binding.encode(name, value), binding.timeout)

        return property(read, write if "w" in capability.access else None, None, capability.doc or None)

    def _get_capabilities(self) -> list[Capability]:
        """What the remote HERO offers."""
        return list(self._remote_capabilities)

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        member = self.__dict__.get(name)
        if isinstance(member, (RemoteMethod, RemoteEventHandler)):
            raise AttributeError(f"{member!r} cannot be assigned")
        if not name.startswith("_") and cls._hero_base is RemoteHERO and not hasattr(cls, name):
            raise AttributeError(
                f"HERO {self._name!r} has no attribute {name!r}; a proxy takes no attributes of its own, as they would "
                "not reach the HERO. (A subclass of RemoteHERO may have its own.)"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> NoReturn:
        hero, member, error = _failed.__dict__.pop("read", (None, "", None))
        if hero is self and member == name:
            try:
                raise error  # from there Python has come here, and has dropped it
            finally:
                del error
        raise AttributeError(
            f"HERO {self.__dict__.get('_name', '?')!r} has no member {name!r}. It offers what its class defines or "
            "annotates, without underscore; what __init__ alone sets is not offered."
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(capability.name for capability in self._remote_capabilities)})

    @local_only
    def _destroy_hero(self) -> None:
        """Disconnect this proxy's callbacks. The HERO itself stays."""
        if not self.__dict__.get("_hero_destroyed", True):  # not by getattr, which asks the HERO
            super()._destroy_hero()

    def _hero_leave(self) -> None:
        for member in tuple(self.__dict__.values()):
            if isinstance(member, RemoteEventHandler):
                member.close()
        super()._hero_leave()

    def __repr__(self) -> str:
        known = self.__dict__
        if "_remote_class" not in known:
            return f"<RemoteHERO {known.get('_name')!r}, not connected>"
        transport = self._binding.bound.transport  # as it was last; to show a proxy must not look for its HERO
        return f"<RemoteHERO {self._name!r} ({self._remote_class}) in realm {self._realm!r} by {transport}>"

    @property
    def _transport(self) -> Transport:
        return self._binding.current().transport

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteHERO):
            return NotImplemented
        return self._realm == other._realm and self._name == other._name

    def __hash__(self) -> int:
        return hash((self._realm, self._name))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        cls = type(self)._hero_base
        timeout = self._binding.timeout
        if timeout == limits.call_timeout():
            return cls, (self._name, self._realm)
        return _unpickle_hero, (cls, self._name, self._realm, timeout)


def transport_of(hero: RemoteHERO) -> Transport:
    """How this proxy reaches its HERO now: ``"inproc"``, ``"shm"`` or ``"net"``."""
    if not isinstance(hero, RemoteHERO):
        raise TypeError(f"transport_of takes a RemoteHERO, not {type(hero).__name__}")
    return hero._transport


def _unpickle_hero(cls: type[RemoteHERO], name: str, realm: str, timeout: float | None) -> RemoteHERO:
    hero = cls(name, realm)  # a subclass may take no time-out
    hero._binding.timeout = timeout
    for member in hero.__dict__.values():
        if isinstance(member, RemoteMethod):
            member._timeout = timeout
    return hero


def _unpickle_method(hero: RemoteHERO, name: str, timeout: float | None) -> RemoteMethod:
    method: RemoteMethod = getattr(hero, name)
    return method.options(timeout=timeout)


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    hint = "or None to wait as long as it takes"
    if not isinstance(cast(object, timeout), Real):
        raise TypeError(f"timeout={timeout!r}: give a number of seconds, {hint}")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give a number of seconds above 0, {hint}")
    return float(timeout) if timeout < math.inf else None


def _check_wait(wait: float) -> float:
    if not isinstance(cast(object, wait), Real):
        raise TypeError(f"wait={wait!r}: give a number of seconds to wait for the HERO")
    if not wait >= 0:
        raise ValueError(f"wait={wait!r}: give a number of seconds from 0 on to wait for the HERO")
    return float(wait)


_OWN_NAMES = frozenset(dir(RemoteHERO))
_REMOTE_NAMES = frozenset(
    {"_connect_local_hero_callback", "_disconnect_local_hero_callback", "_get_local_hero_callbacks"}
)


# -- references become proxies --------------------------------------------------------------------------------

_bindings: weakref.WeakValueDictionary[tuple[str, str], Binding] = weakref.WeakValueDictionary()
"""Of lifted proxies, so that a nested HERO costs its lookup once."""


def _lift_hero(reference: HeroReference) -> RemoteHERO:
    """A new proxy for a reference, so that whoever gets it can be done with it; only the binding is shared."""
    key = reference.realm, reference.name
    node = current()
    binding = _bindings.get(key)
    if binding is None or binding.node is not node:  # of the parent, in a forked child
        binding = _bindings[key] = Binding(node, reference.realm, reference.name)
    hero = RemoteHERO.__new__(RemoteHERO, reference.name, reference.realm)
    HEROPeer.__init__(hero, reference.realm)
    hero._name = reference.name
    hero._use_binding(binding)
    return hero


def _lift_member(reference: MemberReference) -> object:
    member = getattr(_lift_hero(HeroReference(reference.realm, reference.name)), reference.member, None)
    if not isinstance(member, (RemoteMethod, RemoteEventHandler)):
        raise HEROSError(f"HERO {reference.name!r} has no {reference.flavor} {reference.member!r}")
    return member


register_lift(HeroReference, _lift_hero)
register_lift(MemberReference, _lift_member)


@lower.register
def _(value: RemoteHERO) -> Reference:
    return HeroReference(value._realm, value._name)


@lower.register
def _(value: RemoteMethod) -> Reference:
    return MemberReference(value.__self__._realm, value.__self__._name, value.__name__, "method")
