"""What is known of a HERO before anyone talks to it: one entry in the registry, one answer to a discovery.

It is stored and sent as a JSON object in UTF-8:

==============  =================  ================================================================================
field           type               meaning
==============  =================  ================================================================================
realm           string             its realm
name            string             its name, unique in the realm (two of one name are an error that is reported)
instance        string             letters and digits; tells two HEROs of one name apart
node_id         string             letters and digits; the node that it belongs to
pid             int                of the process, for messages
host            string             name of the computer, for messages
class_name      string             name of its class
implements      list of strings    names of the interfaces that it implements
tags            list of strings    on the network also ``_zid:`` and the id of the node's Zenoh session
extra_metadata  object of strings  free texts
address         string             path of the node's unix socket; empty when only the network reaches it
==============  =================  ================================================================================

The first four are needed; the others may be missing, and unknown ones are ignored. Entries come from files and from the
network, so they are checked here, once, when they are made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from heros.exceptions import DecodeError
from heros.limits import MAX_NAME_LENGTH

__all__ = ["Entry", "OnEntry", "check_name"]

_FORBIDDEN = "/*$#?"


def check_name(name: str, what: str = "HERO") -> str:
    """Return ``name`` if it can name a HERO (or, with ``what="realm"``, a realm).

    Raises:
        ValueError: it is empty, too long, not printable, begins with ``@``, or has one of ``/ * $ # ?``, which mean
            something in the key expressions of the network.
        TypeError: it is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} must be a str, not {type(name).__name__}")
    found = [character for character in _FORBIDDEN if character in name]
    if found:
        raise ValueError(
            f"{name!r} cannot name a {what}: it contains {' '.join(found)}. Use letters, digits, - _ . or :"
        )
    if not name or len(name) > MAX_NAME_LENGTH or name in (".", "..") or name.startswith("@") or not name.isprintable():
        raise ValueError(
            f"{name!r} cannot name a {what}: a name has 1 to {MAX_NAME_LENGTH} printable characters and does not "
            "begin with @. Use letters, digits, - _ . or :"
        )
    return name


@dataclass(frozen=True, slots=True)
class Entry:
    """One HERO, as others find it. ``instance`` tells two HEROs of one name apart."""

    realm: str
    name: str
    instance: str
    node_id: str
    pid: int = 0
    host: str = ""
    class_name: str = ""
    implements: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    extra_metadata: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Path of the node's unix socket; empty when only the network reaches it."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes | memoryview) -> Entry:
        """Raises ``DecodeError`` for anything that :meth:`to_json` would not have written."""
        try:
            fields = json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"an entry of the registry is not JSON: {error}") from None
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Any) -> Entry:
        """Raises ``DecodeError`` for a missing field, a wrong type or an impossible name."""
        try:
            entry = cls(
                realm=check_name(fields["realm"], "realm"),
                name=check_name(fields["name"]),
                instance=_text(fields["instance"]),
                node_id=_text(fields["node_id"]),
                pid=int(fields.get("pid", 0)),
                host=_text(fields.get("host", "")),
                class_name=_text(fields.get("class_name", "")),
                implements=tuple(map(_text, fields.get("implements", ()))),
                tags=tuple(map(_text, fields.get("tags", ()))),
                extra_metadata={_text(k): _text(v) for k, v in fields.get("extra_metadata", {}).items()},
                address=_text(fields.get("address", "")),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DecodeError(f"not an entry of the registry: {error!r}") from None
        if not (entry.instance.isalnum() and entry.node_id.isalnum()):  # they become parts of paths and keys
            raise DecodeError(f"not an entry of the registry: ids {entry.instance!r} and {entry.node_id!r}")
        return entry


OnEntry: TypeAlias = Callable[[Entry], object]
"""Called with the entry of a HERO that has come or gone."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a str")
    return value
