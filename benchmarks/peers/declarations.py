"""What a process has declared in the network, counted where zenoh is called, whichever package calls it.

It also runs beside the original: the standard library only. (Zenoh would say it itself, in its admin space, but lists
no keys that begin with ``@``, as those of HEROs do.)
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["count_declarations"]


def count_declarations(zenoh: Any, set_attribute: Callable[[Any, str, Any], object] = setattr) -> Counter[str]:
    """From now on: kind to number of what is declared and not taken back.

    Args:
        zenoh: the module.
        set_attribute: how its classes are changed.
    """
    declared: Counter[str] = Counter()
    kinds: dict[int, str] = {}  # by identity, as what is declared takes no attributes

    def count_declare(owner: Any, what: str, kind: str) -> None:
        declare = getattr(owner, what)

        @functools.wraps(declare)
        def counting(*arguments: Any, **options: Any) -> Any:
            entity = declare(*arguments, **options)
            declared[kind] += 1
            kinds[id(entity)] = kind
            return entity

        set_attribute(owner, what, counting)

    def count_undeclare(entity: Any) -> None:
        undeclare = entity.undeclare

        @functools.wraps(undeclare)
        def counting(self: Any) -> Any:
            result = undeclare(self)
            if (kind := kinds.pop(id(self), None)) is not None:
                declared[kind] -= 1
            return result

        set_attribute(entity, "undeclare", counting)

    for kind in ("publisher", "subscriber", "queryable", "querier"):
        count_declare(zenoh.Session, f"declare_{kind}", kind)
    count_declare(zenoh.Liveliness, "declare_token", "token")
    count_declare(zenoh.Liveliness, "declare_subscriber", "liveliness subscriber")
    count_declare(zenoh.Publisher, "declare_matching_listener", "matching listener")
    for name in ("Publisher", "Subscriber", "Queryable", "Querier", "LivelinessToken", "MatchingListener"):
        count_undeclare(getattr(zenoh, name))
    return declared
