"""The Zenoh configuration of each member: TLS, where to listen and connect, and who may do what. No I/O.

Access control in Zenoh
    Each node filters what it exchanges with each of its neighbours, by the common name of the neighbour's certificate,
    the key expression, the kind of message and its direction. It does not filter what its own process does, so a
    member's configuration protects that member; what protects it from another is never the other's configuration.
    Everything that no rule allows is dropped (``default_permission``). An allowed key expression must include that of
    the message: ``@object/lab/**`` allows a query for ``@object/lab/*/_discover`` and not one for ``@object/*/**``.

Who is whose neighbour
    Peers connect to each other, all to all, and to routers. A client, who cannot be connected to, connects to one of
    them and has no other neighbour: that one passes on what the client and the others say to each other. What is passed
    on has been filtered where it came in, and is filtered again where it arrives, but there under the name of the one
    who passed it on.

Which names stand in it
    Every other member that shares a realm, and the member itself, because each of its processes is a neighbour of its
    other ones. A name that is missing has no rights, and neither has a certificate without a name of the list: so a
    member is removed by writing all configurations anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from heros.net import keys
from heros.secure.members import OBSERVER, ROUTER, Member

__all__ = ["CA_FILE", "CA_KEY_FILE", "CERTIFICATE_FILE", "CONFIG_FILE", "KEY_FILE", "as_text", "configuration"]

CA_FILE: Final = "ca.pem"
CERTIFICATE_FILE: Final = "cert.pem"
KEY_FILE: Final = "key.pem"
CA_KEY_FILE: Final = "ca-key.pem"
CONFIG_FILE: Final = "zenoh.json5"

MESSAGES: Final = (
    "put",
    "delete",
    "declare_subscriber",
    "query",
    "declare_queryable",
    "reply",
    "liveliness_token",
    "declare_liveliness_subscriber",
    "liveliness_query",
)
"""All that Zenoh's access control knows."""


def configuration(member: Member, others: Iterable[Member]) -> dict[str, Any]:
    """The configuration of ``member`` in a set-up with ``others``.

    If its directory is not known, the paths of its certificate are relative: to the configuration's file where heros
    reads that, and otherwise to the process's current directory.
    """
    others = list(others)
    mode = "router" if member.role == ROUTER else "peer" if member.hosts else "client"
    prefix = member.directory.rstrip("/") + "/" if member.directory else ""
    return {
        "mode": mode,
        "listen": {
            "endpoints": _listen(member),
            "exit_on_failure": member.role == ROUTER,
            **({} if member.role == ROUTER else _for_ever(1000, 1000)),
        },
        "connect": {
            "endpoints": [_endpoint(other.hosts[0], other.port) for other in _meeting_points(member, others)],
            "exit_on_failure": False,
            **_for_ever(100, 4000),
        },
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": True}},
        "transport": {
            "shared_memory": {"enabled": False},  # a killed process would leave its files behind
            "link": {
                "protocols": ["tls"],
                "tls": {
                    "root_ca_certificate": prefix + CA_FILE,
                    "listen_certificate": prefix + CERTIFICATE_FILE,
                    "listen_private_key": prefix + KEY_FILE,
                    "connect_certificate": prefix + CERTIFICATE_FILE,
                    "connect_private_key": prefix + KEY_FILE,
                    "enable_mtls": True,
                    "verify_name_on_connect": True,
                    "close_link_on_expiration": True,
                },
            },
        },
        "access_control": access_control(member, others),
    }


def access_control(member: Member, others: Iterable[Member]) -> dict[str, Any]:
    """What ``member`` lets its neighbours do."""
    neighbours = sorted([member, *others], key=lambda one: one.name)
    rules: dict[str, dict[str, Any]] = {}
    policies: list[dict[str, Any]] = []
    for neighbour in neighbours:
        allowed: list[str] = []
        for realm in member.realms:
            if realm in neighbour.realms:
                found = _look(realm) if neighbour.role == OBSERVER else _everything(realm)
                rules |= found
                allowed += found
        if allowed:
            policies.append({"subjects": [neighbour.name], "rules": allowed})
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": [{"id": name, "permission": "allow", **rule} for name, rule in rules.items()],
        "subjects": [{"id": name, "cert_common_names": [name]} for policy in policies for name in policy["subjects"]],
        "policies": policies,
    }


def _everything(realm: str) -> dict[str, Any]:
    both = ["ingress", "egress"]
    return {f"{realm}: everything": {"messages": list(MESSAGES), "flows": both, "key_exprs": keys.everything(realm)}}


def _look(realm: str) -> dict[str, Any]:
    """An observer asks, and is shown, which HEROs there are. It cannot send packets, so it cannot call."""
    tokens = [keys.health(realm, "*"), keys.alive(realm)]
    entries = [f"{keys.discover(realm, '*')}/**", keys.directory(realm)]
    changes = [keys.changes(realm)]
    rules = {
        "ask for tokens": ("ingress", ["declare_liveliness_subscriber", "liveliness_query"], tokens),
        "ask for entries": ("ingress", ["query"], entries),
        "ask for changes": ("ingress", ["declare_subscriber"], changes),
        "show tokens": ("egress", ["liveliness_token"], tokens),
        "show who answers": ("egress", ["declare_queryable"], [keys.under(realm, "*"), keys.directory(realm)]),
        "show entries": ("egress", ["reply"], entries),
        "show changes": ("egress", ["put"], changes),
    }
    return {
        f"{realm}: {name}": {"messages": messages, "flows": [flow], "key_exprs": key_exprs}
        for name, (flow, messages, key_exprs) in rules.items()
    }


def as_text(member: Member, config: dict[str, Any]) -> str:
    """``config`` as the text of a JSON5 file."""
    use = (
        f"zenohd --config {member.name}/{CONFIG_FILE}"
        if member.role == ROUTER
        else f"HEROS_ZENOH_CONFIG=/path/of/{member.name}/{CONFIG_FILE}"
    )
    return (
        f"// Zenoh's configuration of {member.role} {member.name}, for {use}\n"
        "// Written by `heros secure`, which writes it anew whenever a member is added or removed.\n"
        f"{json.dumps(config, indent=2)}\n"
    )


def _listen(member: Member) -> list[str]:
    """On a port of its own, and, if there is one for all others, on that too: one process of the machine gets it."""
    own = [] if member.role == ROUTER else [_endpoint(host, 0) for host in member.addresses]
    return [_endpoint(host, member.port) for host in member.addresses if member.port] + own


def _meeting_points(member: Member, others: Sequence[Member]) -> list[Member]:
    known = [other for other in others if other.port and set(other.realms) & set(member.realms)]
    return known if member.role == ROUTER or not member.port else [member, *known]


def _endpoint(host: str, port: int) -> str:
    return f"tls/[{host}]:{port}" if ":" in host else f"tls/{host}:{port}"


def _for_ever(first: int, most: int) -> dict[str, Any]:
    """Try again in the background, after so many milliseconds."""
    return {
        "timeout_ms": -1,
        "retry": {"period_init_ms": first, "period_max_ms": most, "period_increase_factor": 2},
    }
