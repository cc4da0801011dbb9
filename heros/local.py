"""LocalHERO: inherit from it, and other processes can use the object."""

from __future__ import annotations

import logging
import types
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, get_args

from heros.callbacks import CallbackDescription
from heros.capabilities import AttributeCapability, Capability, EventCapability
from heros.codec import HeroReference, MemberReference, Reference
from heros.dispatch import Concurrency, Exported, Gate, Member
from heros.entry import Entry, check_name
from heros.event import LocalEventHandler
from heros.exceptions import HEROSError
from heros.inspect import force_remote, local_only
from heros.introspection import collect
from heros.metadata import Metadata
from heros.node import Node, current
from heros.peer import HEROPeer
from heros.references import lower

__all__ = ["LocalHERO"]

log = logging.getLogger("heros.local")


class LocalHERO(HEROPeer):
    """An object that other processes can use as if it were theirs.

    Every member of the class that is not private becomes a capability: callables are methods, annotated or class-level
    values and properties are attributes, methods with ``@event`` are events. ``@local_only`` hides a member,
    ``@force_remote`` offers a private one. It is offered until ``_destroy_hero()``, the end of a ``with`` block, or
    the end of the process.

    Args:
        name: how others find it; unique in its realm.
        args: accepted for existing programs and ignored, with a warning in the log; give ``realm`` by name.
        realm: the namespace it is in.
        implements: interfaces that it implements; joined with ``_hero_implements`` of the class.
        tags: to find and group it; joined with ``_hero_tags`` of the class.
        extra_metadata: free texts; joined with ``_hero_extra_metadata`` of the class.
        session_manager: accepted for existing programs.
        exclusive: refuse to be the second of this name, instead of only reporting it.

    Class attribute ``_hero_concurrency``: ``"method"`` (default): one call at a time for each method, different
    methods may overlap; ``"object"``: one call at a time for the whole HERO, what an instrument driver needs;
    ``"free"``: no limit.

    Raises:
        ValueError: an impossible name of HERO or realm.
        TypeError: the name is not a string, or tags, interfaces or metadata are not of strings.
        NameInUse: ``exclusive`` and the name is taken.
        HEROSError: the runtime directory cannot be used (and why), or ``_hero_concurrency`` is none of the three.

    Calls come on worker threads, while the owner's own threads go on: what both use needs a lock of yours.
    """

    _hero_concurrency: Concurrency = "method"

    def __init__(
        self,
        name: str,
        *args: Any,
        realm: str = "heros",
        implements: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        extra_metadata: Mapping[str, str] | None = None,
        session_manager: Any = None,
        exclusive: bool = False,
    ) -> None:
        HEROPeer.__init__(self, realm, session_manager)
        self._name = check_name(name)
        if args:
            log.warning("LocalHERO %s: arguments behind the name are ignored; give realm by name: %r", name, args)
        self.capabilities: list[Capability] = collect(type(self), excluded=_OWN_NAMES)
        metadata = Metadata.of(type(self), implements, tags, extra_metadata)
        self._node = current()
        entry = Entry(
            realm=realm,
            name=name,
            instance=uuid.uuid4().hex,
            node_id=self._node.node_id,
            pid=self._node.peer.pid,
            host=self._node.peer.host,
            class_name=type(self).__name__,
            implements=metadata.implements,
            tags=metadata.tags,
            extra_metadata=metadata.extra_metadata,
            address=self._node.address,
        )
        self._exported = Exported(entry, self._members(self._node), [each.to_dict() for each in self.capabilities])
        self._node.export(self._exported, exclusive)

    def _members(self, node: Node) -> list[Member]:
        """What the dispatcher needs to know of each capability, in the same order."""
        shared = Gate()
        gates: dict[str, Callable[[], Gate | None]] = {"method": Gate, "object": lambda: shared, "free": lambda: None}
        concurrency = self._hero_concurrency
        if concurrency not in gates:
            raise HEROSError(
                f"{type(self).__name__}._hero_concurrency is {concurrency!r}; it must be one of {get_args(Concurrency)}"
            )
        members = []
        for capability in self.capabilities:
            publisher = None
            if isinstance(capability, EventCapability):
                handler: LocalEventHandler = getattr(self, capability.name)
                publisher = handler.attach(node.dispatcher, f"{self._realm}/{self._name}/{capability.name}")
            members.append(
                Member(
                    hero=self,
                    name=capability.name,
                    flavor=capability.flavor,
                    gate=gates[concurrency](),
                    writable=isinstance(capability, AttributeCapability) and "w" in capability.access,
                    publisher=publisher,
                )
            )
        return members

    @local_only
    def _destroy_hero(self) -> None:
        """Withdraw the HERO: nobody finds it any more, calls to it raise ``HEROUnavailable``, subscribers are told.

        Calls that run are finished. May be called from any thread, also from a call, and more than once.
        """
        super()._destroy_hero()

    def _hero_leave(self) -> None:
        exported = getattr(self, "_exported", None)
        if exported is not None:
            self._node.withdraw(exported)
        super()._hero_leave()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} {getattr(self, '_name', '')!r} cannot be pickled: it stays in its process. Pass "
            f"RemoteHERO({getattr(self, '_name', 'name')!r}) to another one."
        )

    # -- how a method of a RemoteHERO is attached to an event -------------------------------------------------

    @force_remote
    def _connect_local_hero_callback(
        self, event: Any, remote_hero_method: Callable[..., Any], origin: str | None = None
    ) -> str:
        """Have a method of another HERO called with every value of ``event``, directly from here. Returns its name."""
        return self._event(event).connect(remote_hero_method, origin)

    @force_remote
    def _disconnect_local_hero_callback(self, event: Any, remote_hero_method: Callable[..., Any]) -> bool:
        """Undo ``_connect_local_hero_callback``; returns whether it was connected."""
        return self._event(event).disconnect(remote_hero_method)

    @force_remote
    def _get_local_hero_callbacks(self, event: Any) -> list[CallbackDescription]:
        """What is connected to ``event`` at its owner."""
        return self._event(event).get_callbacks()

    def _event(self, event: Any) -> LocalEventHandler:
        name = getattr(event, "__name__", event)
        handler = getattr(self, name, None) if isinstance(name, str) else None
        if not isinstance(handler, LocalEventHandler):
            raise TypeError(f"{event!r} is no event of HERO {self._name!r}")
        return handler


_OWN_NAMES = frozenset(dir(LocalHERO)) | frozenset(LocalHERO.__annotations__) | {"capabilities"}


@lower.register
def _(value: LocalHERO) -> Reference | None:
    return HeroReference(value._realm, value._name) if hasattr(value, "_exported") else None


@lower.register
def _(value: types.MethodType) -> Reference | None:
    hero = value.__self__
    if isinstance(hero, LocalHERO) and any(each.name == value.__name__ for each in hero.capabilities):
        return MemberReference(hero._realm, hero._name, value.__name__, "method")
    return None
