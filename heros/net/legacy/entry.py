"""A HERO of protocol 1.0 as an entry, so that whatever finds and shows HEROs need not know of two protocols.

The original has no instance ids and no nodes. One HERO of one session is taken for one instance; it is its own node,
since what ends its channel is the end of this HERO and not of its process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from heros.entry import Entry
from heros.exceptions import DecodeError
from heros.net import keys
from heros.net.bus import Answer
from heros.net.legacy import cbor

__all__ = ["LegacyEntry", "read_descriptor"]

PROTOCOLS: Final = (1.0, 2.0)
"""From, and up to but without, the versions of the protocol that are understood."""


@dataclass(frozen=True, slots=True)
class LegacyEntry(Entry):
    """A HERO that speaks protocol 1.0."""

    zid: str = ""
    """The id of the session that it is in; empty if that is not known."""
    obstacle: str = ""
    """Why it cannot be talked to; empty if it can."""


def read_descriptor(answer: Answer, realm: str) -> LegacyEntry:
    """The entry of a HERO that has answered a discovery with its descriptor.

    Raises:
        DecodeError: it makes no sense.
    """
    name = keys.name_of(answer.key)
    if not cbor.available():
        obstacle = f"it speaks protocol 1.0, for which a package is missing in this process: {cbor.INSTALL}"
        return _entry(realm, name, answer.zid, {}, obstacle)
    fields = cbor.decode(answer.payload, "")
    if not isinstance(fields, dict) or fields.get("name") != name:
        raise DecodeError(f"what {name!r} answers is no descriptor of it")
    return _entry(realm, name, answer.zid, fields, _obstacle(fields.get("proto_version", 0.1)))


def _entry(realm: str, name: str, zid: str, fields: dict[str, Any], obstacle: str) -> LegacyEntry:
    instance = hashlib.blake2s(f"{zid}/{name}".encode(), digest_size=16).hexdigest()
    described = Entry.from_dict(
        {
            "realm": realm,
            "name": name,
            "instance": instance,
            "node_id": instance,
            "class_name": fields.get("class", ""),
            "implements": _texts(fields.get("implements", ())),
            "tags": _texts(fields.get("tags", ())),
            "extra_metadata": fields.get("extra_metadata") or {},
        }
    )
    return LegacyEntry(
        **{name: getattr(described, name) for name in Entry.__dataclass_fields__}, zid=zid, obstacle=obstacle
    )


def _texts(value: Any) -> list[str]:
    """In an order that does not depend on the process."""
    if not isinstance(value, (set, frozenset, list, tuple)) or not all(isinstance(text, str) for text in value):
        raise DecodeError(f"a descriptor with a {type(value).__name__} in place of a set of texts")
    return sorted(value)


def _obstacle(version: object) -> str:
    if isinstance(version, (int, float)) and PROTOCOLS[0] <= version < PROTOCOLS[1]:
        return ""
    return f"it speaks version {version!r} of the protocol, which this package does not; update heros there"
