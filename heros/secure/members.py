"""Who takes part in a secured lab, and what may be said of a member. No I/O.

===========  =====================================================================================================
role         what others let it do, in each of its realms
===========  =====================================================================================================
``member``   everything: offer HEROs, find them, call them, follow their events
``observer`` see which HEROs there are, with class, tags and host. It calls nothing, reads and writes no attribute,
             follows no event and offers nothing
``router``   pass on what others say to each other. Whoever uses it trusts it
===========  =====================================================================================================
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from heros.entry import check_name
from heros.exceptions import HEROSError

__all__ = ["MEMBER", "OBSERVER", "ROLES", "ROUTER", "Member", "check_realm", "is_address"]

MEMBER: Final = "member"
OBSERVER: Final = "observer"
ROUTER: Final = "router"
ROLES: Final = (MEMBER, OBSERVER, ROUTER)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""A member's name is the common name of its certificate, which X.509 limits to 64, and the name of a directory.

It has no dot. Zenoh also accepts a certificate of a public authority from those to whom it connects, and public
authorities certify names with a dot only: none of their certificates can bear the name of a member and have its rights.
"""

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Member:
    """One machine, person or router, with one certificate."""

    name: str
    role: str
    realms: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    """DNS names and IP addresses under which it can be reached; they stand in its certificate. Who has none connects to
    one router or meeting point, and reaches everybody through that."""
    port: int = 0
    """Where it listens for all others; 0: on any port, which others learn from those whom they know."""
    directory: str = ""
    """Where its files will lie on its machine; empty: its configuration names them relative to itself."""

    def __post_init__(self) -> None:
        """Raises ``HEROSError`` when a field makes no sense."""
        if not _NAME.fullmatch(self.name):
            raise HEROSError(
                f"{self.name!r} cannot name a member: use 1 to 64 letters, digits, - and _ and begin with a letter "
                "or a digit"
            )
        if self.role not in ROLES:
            raise HEROSError(f"{self.role!r} is no role; there are {', '.join(ROLES)}")
        if not self.realms:
            raise HEROSError(f"{self.name} belongs to no realm")
        for realm in self.realms:
            check_realm(realm)
        for host in self.hosts:
            _check_host(host)
        if not 0 <= self.port <= 65535:
            raise HEROSError(f"{self.port} is no port")
        if self.port and not self.hosts:
            raise HEROSError(
                f"{self.name} is to listen on port {self.port}, but under which name or address? Say its host"
            )
        if self.role == ROUTER and not self.port:
            raise HEROSError(f"{self.name} is a router: say the host and the port on which it listens")

    @property
    def addresses(self) -> tuple[str, ...]:
        """What it listens on: its IP addresses, or else its names."""
        return tuple(filter(is_address, self.hosts)) or self.hosts

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Member:
        """Raises ``HEROSError``."""
        try:
            return cls(
                name=str(fields["name"]),
                role=str(fields["role"]),
                realms=tuple(map(str, fields["realms"])),
                hosts=tuple(map(str, fields["hosts"])),
                port=int(fields["port"]),
                directory=str(fields["directory"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise HEROSError(f"it describes a member that makes no sense: {error!r}") from None


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_host(host: str) -> str:
    """Return ``host`` if it is a DNS name or an IP address. Raises ``HEROSError``."""
    named = len(host) <= 253 and all(map(_LABEL.fullmatch, host.split("."))) and not host.replace(".", "").isdigit()
    if not named and not is_address(host):
        raise HEROSError(f"{host!r} is neither a DNS name nor an IP address")
    if "%" in host:
        raise HEROSError(f"{host!r} names an interface of one computer, which means nothing on another")
    return host


def check_realm(realm: str) -> str:
    """Return ``realm`` if it can name one. Raises ``HEROSError``."""
    try:
        return check_name(realm, "realm")
    except ValueError as error:
        raise HEROSError(str(error)) from None
