"""A HERO of protocol 1.0 as an entry, so that whatever finds and shows HEROs need not know of two protocols.

The original has no instance ids and no nodes. One HERO of one session is taken for one instance; it is its own node,
since what ends its channel is the end of this HERO and not of its process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from heros.entry import Entry
from heros.exceptions import DecodeError, HEROSError
from heros.net import keys
from heros.net.bus import Answer
from heros.net.legacy import cbor
from heros.net.legacy.descriptor import Descriptor

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
    try:
        descriptor = Descriptor.of(cbor.decode(answer.payload, ""))
    except DecodeError:
        raise
    except HEROSError as error:  # cbor2 is missing
        return _entry(realm, name, answer.zid, Descriptor(name, "", (), (), {}, PROTOCOLS[0]), str(error))
    if descriptor.name != name:
        raise DecodeError(f"{name!r} answers with the descriptor of {descriptor.name!r}")
    return _entry(realm, name, answer.zid, descriptor, _obstacle(descriptor.protocol))


def _entry(realm: str, name: str, zid: str, descriptor: Descriptor, obstacle: str) -> LegacyEntry:
    instance = hashlib.blake2s(f"{zid}/{name}".encode(), digest_size=16).hexdigest()
    return LegacyEntry(
        realm=realm,
        name=name,
        instance=instance,
        node_id=instance,
        class_name=descriptor.class_name,
        implements=descriptor.implements,
        tags=descriptor.tags,
        extra_metadata=descriptor.extra_metadata,
        zid=zid,
        obstacle=obstacle,
    )


def _obstacle(version: float) -> str:
    if PROTOCOLS[0] <= version < PROTOCOLS[1]:
        return ""
    return f"it speaks version {version:g} of the protocol, which this package does not; update heros there"
