"""The limits of nesting and length, which both directions keep.

msgpack's own limit of nesting is 511 levels in one direction and 1,024 in the other, and a walk over each value would
cost more than the packing. But each level takes at least one byte that is the head of an array or a map: a header
without many bytes that look like one is not deep. Only a value whose header has them is walked, level by level.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from heros import limits
from heros.codec.descriptions import ErrorDescription, HeroReference, MemberReference, ObjectReference

__all__ = ["LEAVES", "excess", "may_be_deep"]

LEAVES = frozenset({bool, int, float, str, type(None), bytes})
"""Types of which most values consist, and which hold no others."""

_DESCRIPTIONS = frozenset({HeroReference, MemberReference, ObjectReference, ErrorDescription})
_NO_CONTAINER_HEADS = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))


def may_be_deep(header: bytes) -> bool:
    """False: what ``header`` holds is not nested more than ``limits.MAX_DEPTH`` deep. True: it has to be looked at."""
    return len(header.translate(None, _NO_CONTAINER_HEADS)) > limits.MAX_DEPTH


def excess(value: object) -> str | None:
    """What in ``value`` passes the limits of nesting and of length, in words; None: nothing."""
    level = _containers((value,))
    for _ in range(limits.MAX_DEPTH):
        if not level:
            return None
        inner: list[Collection[Any]] = []
        for container in level:
            if len(container) > limits.MAX_ITEMS:
                return f"a {type(container).__name__} of more than {limits.MAX_ITEMS} items; use a numpy array"
            inner += _containers(container)
            if isinstance(container, dict):
                inner += _containers(container.values())
        level = inner
    return f"nested more than {limits.MAX_DEPTH} deep" if level else None


def _containers(items: Collection[Any]) -> list[Collection[Any]]:
    if LEAVES.issuperset(map(type, items)):
        return []
    kinds = (list, tuple, dict, set, frozenset)
    return [item for item in items if isinstance(item, kinds) and type(item) not in _DESCRIPTIONS]
