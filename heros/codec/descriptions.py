"""What stands in a message for something that does not travel: HEROs, their members, objects, exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = [
    "ErrorDescription",
    "HeroReference",
    "MemberReference",
    "ObjectReference",
    "Plain",
    "Reference",
    "replace_references",
]


class HeroReference(NamedTuple):
    """A HERO, by its name."""

    realm: str
    name: str


class MemberReference(NamedTuple):
    """A method or an event of a HERO."""

    realm: str
    name: str
    member: str
    flavor: Literal["method", "event"]


class ObjectReference(NamedTuple):
    """An object that cannot be sent and stays with the node ``node_id``."""

    node_id: str
    object_id: int
    type_name: str
    representation: str


Plain: TypeAlias = bool | int | float | str | bytes | None


class ErrorDescription(NamedTuple):
    """An exception that was raised. (Not a reference: there is nothing to look up.) ``arguments`` are those that a
    builtin exception is made of again; empty for others, and where they cannot be sent."""

    type: str
    module: str
    message: str
    traceback: str
    arguments: tuple[Plain, ...] = ()


Reference: TypeAlias = HeroReference | MemberReference | ObjectReference | ErrorDescription


def replace_references(value: Any, lift: Callable[[Reference], object]) -> Any:
    """A copy of a decoded ``value`` with ``lift(reference)`` in place of each reference in its lists, dicts (keys
    too), sets and the tuples that are keys. ``value`` itself is not changed; what ``lift`` raises passes through."""
    kind = type(value)
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return kind(replace_references(item, lift) for item in value)
    if kind is dict:
        return {replace_references(key, lift): replace_references(item, lift) for key, item in value.items()}
    if kind is HeroReference or kind is MemberReference or kind is ObjectReference or kind is ErrorDescription:
        return lift(value)
    return value
