"""Marks on the members of a HERO: what is an event, what stays local, what is offered although it is private.

A mark is an attribute of the function, or of the object that a decorator made of it. It is found through
``property``, ``staticmethod``, ``classmethod``, ``functools.partial``, bound methods and ``functools.wraps``, so the
order of decorators does not matter. Looking for a mark runs no code of the object that is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property, partial, partialmethod, singledispatchmethod
from types import MethodType
from typing import TypeGuard, TypeVar

__all__ = [
    "FORCE_REMOTE_ATTRIBUTE",
    "HERO_EVENT_ATTRIBUTE",
    "HERO_METHOD_ATTRIBUTE",
    "KEEP_ATTRIBUTE",
    "LOCAL_ONLY_ATTRIBUTE",
    "RELIABLE_ATTRIBUTE",
    "event_keep",
    "force_remote",
    "is_force_remote",
    "is_hero_event",
    "is_hero_method",
    "is_local_only",
    "is_reliable",
    "local_only",
    "mark_event_keep",
    "mark_force_remote",
    "mark_hero_event",
    "mark_hero_method",
    "mark_local_only",
    "mark_reliable",
]

HERO_EVENT_ATTRIBUTE = "_is_hero_event"
HERO_METHOD_ATTRIBUTE = "_is_hero_method"
LOCAL_ONLY_ATTRIBUTE = "_is_local_only"
FORCE_REMOTE_ATTRIBUTE = "_is_force_remote"
RELIABLE_ATTRIBUTE = "_is_reliable"
KEEP_ATTRIBUTE = "_event_keep"

_Member = TypeVar("_Member")

_MAX_WRAPPERS = 32
"""Decorators around one member; ends the search in an object that wraps itself."""


def mark_hero_event(member: _Member) -> _Member:
    """Mark ``member`` as an event: what it returns is published."""
    return _mark(member, HERO_EVENT_ATTRIBUTE, True)


def is_hero_event(member: object) -> bool:
    return _marked(member, HERO_EVENT_ATTRIBUTE) is True


def mark_reliable(member: _Member) -> _Member:
    """Mark an event as reliable: its publisher waits for its subscribers instead of dropping samples."""
    return _mark(member, RELIABLE_ATTRIBUTE, True)


def is_reliable(member: object) -> bool:
    return _marked(member, RELIABLE_ATTRIBUTE) is True


def mark_event_keep(member: _Member, keep: int) -> _Member:
    """Mark an event to keep its last ``keep`` values for subscribers that come later."""
    return _mark(member, KEEP_ATTRIBUTE, keep)


def event_keep(member: object) -> int:
    """How many values an event keeps for late subscribers; 0 without a mark."""
    keep = _marked(member, KEEP_ATTRIBUTE)
    return keep if isinstance(keep, int) else 0


def mark_hero_method(member: _Member) -> _Member:
    """Mark ``member`` as a method of a HERO: it can be sent to other processes, which then can call it."""
    return _mark(member, HERO_METHOD_ATTRIBUTE, True)


def is_hero_method(member: object) -> TypeGuard[MethodType]:
    return _marked(member, HERO_METHOD_ATTRIBUTE) is True


def mark_local_only(member: _Member) -> _Member:
    """Mark ``member`` as not to be offered to other processes."""
    return _mark(member, LOCAL_ONLY_ATTRIBUTE, True)


def is_local_only(member: object) -> bool:
    return _marked(member, LOCAL_ONLY_ATTRIBUTE) is True


def mark_force_remote(member: _Member) -> _Member:
    """Mark ``member`` as to be offered to other processes although its name begins with an underscore."""
    return _mark(member, FORCE_REMOTE_ATTRIBUTE, True)


def is_force_remote(member: object) -> bool:
    return _marked(member, FORCE_REMOTE_ATTRIBUTE) is True


def local_only(member: _Member) -> _Member:
    """Decorator: this method or property of a HERO is for its own process only."""
    return mark_local_only(member)


def force_remote(member: _Member) -> _Member:
    """Decorator: other processes may use this method or property although its name begins with an underscore."""
    return mark_force_remote(member)


def _mark(member: _Member, mark: str, value: object) -> _Member:
    """Raises TypeError where a mark finds no place: on a number, a string, a builtin function."""
    for layer in _layers(member):
        try:
            setattr(layer, mark, value)
        except (AttributeError, TypeError):
            continue  # a property or a bound method has no attributes of its own, but the function in it has
        return member
    raise TypeError(f"{member!r} cannot be marked: decorate a function, a property or a method that def has made")


def _marked(member: object, mark: str) -> object:
    for layer in _layers(member):
        value = inspect.getattr_static(layer, mark, None)
        if value is not None:
            return value
    return None


def _layers(member: object) -> Iterator[object]:
    """``member`` and what it wraps, from the outside in."""
    layer: object = member
    for _ in range(_MAX_WRAPPERS):
        yield layer
        layer = _unwrap(layer)
        if layer is None:
            return


def _unwrap(layer: object) -> object:
    """What ``layer`` is a wrapper of, or None."""
    if isinstance(layer, property):
        return layer.fget
    if isinstance(layer, partial | partialmethod | cached_property | singledispatchmethod):
        return layer.func
    if isinstance(layer, staticmethod | classmethod | MethodType):
        return layer.__func__
    if isinstance(layer, type):
        return None
    wrapped = inspect.getattr_static(layer, "__wrapped__", None)  # functools.wraps
    return wrapped if callable(wrapped) else None
