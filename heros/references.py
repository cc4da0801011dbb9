"""Objects that stay where they are and travel as references: HEROs, their members, and what cannot be serialised.

``lower`` turns such an object into a reference when a value is encoded; ``lift`` turns a reference into a proxy after
a value was decoded. The classes above (LocalHERO, RemoteHERO, event handlers) register how they are lowered and
lifted, so that nothing here needs to know them.

An object that has no serialised form and is no HERO stays with its owner. The owner keeps a weak reference and sends
a number; the other side gets an :class:`UnserializableRemoteObject`, and when that comes back to its owner it is the
object again. Of the objects that allow no weak reference (a range, the view of a dict, a builtin exception, what has
``__slots__``) the owner keeps the last ``KEPT_OBJECTS`` that it has sent.

The path of a file travels as its text.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final

from heros.codec import HeroReference, MemberReference, ObjectReference, Reference

__all__ = ["UnserializableRemoteObject", "WeakObjects", "lift_hero", "lift_member", "lower", "register_lift"]


KEPT_OBJECTS: Final = 256
"""Enough for those that are handed back, and little to keep for one that forgets to."""


class UnserializableRemoteObject:
    """Stands for an object that lives in another process and cannot be sent.

    It can be handed back: as an argument of a call to its owner it becomes the object itself.

    Attributes:
        type: full name of the object's class.
        id: the owner's number for it.
        representation: what ``str`` of it gave at the owner.
    """

    __slots__ = ("_node_id", "id", "representation", "type")

    def __init__(self, type: str, id: int, representation: str, node_id: str = "") -> None:
        self.type = type
        self.id = id
        self.representation = representation
        self._node_id = node_id

    def __repr__(self) -> str:
        return f"<UnserializableRemoteObject {self.type}: {self.representation}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnserializableRemoteObject):
            return NotImplemented
        return (self._node_id, self.id) == (other._node_id, other.id)

    def __hash__(self) -> int:
        return hash((self._node_id, self.id))

    def reference(self) -> ObjectReference:
        return ObjectReference(self._node_id, self.id, self.type, self.representation)


class WeakObjects:
    """The objects of one node that others hold references to. Thread-safe.

    An object has one number while it lives, so that it is recognised when it is sent twice. A number is never used
    again, so that a late reference cannot meet another object (as it could at an address that was used again).
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._next = itertools.count(1)
        self._objects: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
        self._kept: dict[int, object] = {}
        self._numbers: dict[int, tuple[Callable[[], object], int]] = {}  # by address, as an object may not be hashable
        self._lock = threading.Lock()

    def _number(self, value: object) -> int:
        address = id(value)
        with self._lock:
            known = self._numbers.get(address)
            if known is not None and known[0]() is value:
                return known[1]
            number = next(self._next)
            try:
                reference: Callable[[], object] = weakref.ref(value, functools.partial(self._forget, address))
                self._objects[number] = value
            except TypeError:
                reference = self._keep(number, value)
            self._numbers[address] = reference, number
            return number

    def _keep(self, number: int, value: object) -> Callable[[], object]:
        """Hold on to an object that allows no weak reference, and let go of the oldest of them. With the lock held."""
        self._kept[number] = value
        if len(self._kept) > KEPT_OBJECTS:
            del self._numbers[id(self._kept.pop(next(iter(self._kept))))]
        return lambda: value

    def _forget(self, address: int, dead: weakref.ref[object]) -> None:
        """Without the lock, as the garbage collector calls this at any moment, also while this thread holds it."""
        known = self._numbers.get(address)
        if known is not None and known[0] is dead:
            self._numbers.pop(address, None)

    def refer(self, value: object) -> ObjectReference:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        number = self._number(value)
        try:
            text = str(value)
        except Exception as error:
            text = f"<{kind}, whose text could not be made: {type(error).__name__}>"
        return ObjectReference(self._node_id, number, kind, text)

    def resolve(self, reference: ObjectReference) -> object:
        """The object, if it is one of ours; else what stands for it.

        Raises:
            ReferenceError: it was ours, and is gone.
        """
        if reference.node_id != self._node_id:
            node_id, object_id, type_name, representation = reference
            return UnserializableRemoteObject(type_name, object_id, representation, node_id)
        value = self._objects.get(reference.object_id)
        if value is None:
            value = self._kept.get(reference.object_id)
        if value is None:
            raise ReferenceError(
                f"{reference.type_name} ({reference.representation}) no longer exists: its owner keeps only a weak "
                "reference to what it sends. Keep the object in an attribute for as long as others use it."
            )
        return value


@functools.singledispatch
def lower(value: object) -> Reference | None:
    """The reference that stands for ``value``, None if its class has none of its own. (It may be any other value that
    can be sent, too.)"""
    return None


@lower.register
def _(value: UnserializableRemoteObject) -> Reference:
    return value.reference()


@lower.register
def _(value: PurePath) -> Any:
    return str(value)


_lifts: dict[type, Callable[[Any], object]] = {}


def register_lift(kind: type[Reference], lift: Callable[[Any], object]) -> None:
    """Say how references of one kind become objects again."""
    _lifts[kind] = lift


def lift_hero(reference: HeroReference) -> object:
    return _lifts[HeroReference](reference)


def lift_member(reference: MemberReference) -> object:
    return _lifts[MemberReference](reference)
