"""Every key expression that the network transport uses.

========================================  ===================  ======================================================
key expression                            what                 meaning
========================================  ===================  ======================================================
``@object/<realm>/<name>/_health``        liveliness token     a HERO of that name is there (as in protocol 1.0)
``@object/<realm>/<name>/_discover``      queryable            one answer for each HERO of that name: its entry
``@object/<realm>/<name>/<member>``       queryable, samples   a member of a HERO, in protocol 1.0 (``legacy``)
``@object/<realm>/**``                    publisher            never used: whether it has subscribers tells that HEROs
                                                               have listeners in protocol 1.0 (``legacy.gateway``)
``@heros/<realm>/<node>/alive``           liveliness token     the node is there
``@heros/<realm>/<node>/server/<from>``   samples              packets (``packets``) for the ends of channels that serve
``@heros/<realm>/<node>/client/<from>``   samples              packets for the ends that call, but for replies
``@heros/<realm>/<node>/replies/<from>``  samples              packets with replies
``@heros/<realm>/<node>/directory``       queryable            the entries of all HEROs of the node
``@heros/<realm>/<node>/changes``         samples              one HERO added to or removed from the directory
========================================  ===================  ======================================================

A HERO costs a token and a queryable for everything under its name, a node the last six, and the publisher where
``cbor2`` is installed. Who may use which of them, Zenoh's access control can say (``heros.secure``). The sender of a
packet is part of its key, but a node id is not tied to a certificate. Names and realms have passed
``entry.check_name`` and node ids are alphanumeric: none of them can be a wildcard.
"""

from __future__ import annotations

__all__ = [
    "alive",
    "asked_member",
    "changes",
    "directory",
    "discover",
    "everything",
    "health",
    "inbox",
    "member",
    "name_of",
    "node_of",
    "sender_of",
    "under",
]


def health(realm: str, name: str) -> str:
    """``name`` may be ``*``, to see every HERO."""
    return f"@object/{realm}/{name}/_health"


def discover(realm: str, name: str) -> str:
    """``name`` may be ``*``, to ask for every HERO."""
    return f"@object/{realm}/{name}/_discover"


def member(realm: str, name: str, member: str) -> str:
    """A member of a HERO in protocol 1.0; calls ask for ``<member>/**``."""
    return f"@object/{realm}/{name}/{member}"


def under(realm: str, name: str = "") -> str:
    """Everything of one HERO; without ``name``, of all of them."""
    return f"@object/{realm}/{name}/**" if name else f"@object/{realm}/**"


def asked_member(key: str) -> str:
    """The member that a query under a HERO's name asks for, of one HERO or of many; empty: none in particular."""
    chunks = key.split("/")
    if len(chunks) == 5 and chunks[4] == "**":
        del chunks[4]
    return chunks[3] if len(chunks) == 4 and chunks[3].isidentifier() else ""


def alive(realm: str, node_id: str = "*") -> str:
    return f"@heros/{realm}/{node_id}/alive"


_INBOXES = ("server", "client", "replies")


def inbox(realm: str, node_id: str, which: int, sender: str = "*") -> str:
    """Where packets go: ``packets.SERVER``, ``CLIENT`` or ``REPLIES``."""
    return f"@heros/{realm}/{node_id}/{_INBOXES[which]}/{sender}"


def directory(realm: str, node_id: str = "*") -> str:
    return f"@heros/{realm}/{node_id}/directory"


def changes(realm: str, node_id: str = "*") -> str:
    return f"@heros/{realm}/{node_id}/changes"


def name_of(key: str) -> str:
    """The HERO of a ``health``, ``discover`` or ``member`` key."""
    return key.split("/")[2]


def everything(realm: str) -> list[str]:
    """What includes all of the above, and all of protocol 1.0."""
    return [f"@object/{realm}/**", f"@heros/{realm}/**"]


def node_of(key: str) -> str:
    """The node of an ``alive``, ``directory`` or ``changes`` key."""
    return key.split("/")[2]


def sender_of(key: str) -> str:
    """The node that sends to an inbox."""
    return key.rpartition("/")[2]
