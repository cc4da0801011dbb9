"""A process that finds and uses HEROs as it is told, and says what came of it: ``python security_peer.py REALM``.

It reads commands as JSON lines, ``["name", argument, ...]``, and answers each with a line ``DONE`` and JSON.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
from collections.abc import Iterable
from typing import Any

import zenoh

import heros
import heros.node
from heros.exceptions import HEROSError
from heros.net import keys
from heros.net.discovery import OUR_QUERY
from heros.net.greeting import Greeting
from heros.net.packets import CLIENT, HEAD, SERVER, Kind, head, parse
from heros.transport import Peer
from heros.zenoh import session_manager
from tests.harness import DEADLINE, wait_until
from tests.system.lab import Instrument


class Commands:
    """What it can be told. Most take what they find first and then what they should find."""

    def __init__(self, realm: str) -> None:
        self.realm = realm
        self.observer = heros.HEROObserver(realm)
        self.kept: list[object] = []
        self.heard: list[str] = []
        self.own = [heros.node.current().node_id]

    def offer(self, name: str) -> None:
        self.kept.append(Instrument(name, self.realm))
        self.own.append(f"/{name}/")

    def peers(self, least: int) -> int:
        """With how many processes it is connected, once they are that many."""
        info = session_manager.request_session(self, self.realm).info
        return wait_until(lambda: (n := count(info.peers_zid()) + count(info.routers_zid())) >= least and n)

    def lonely(self) -> bool:
        """True once it is connected with nobody."""
        info = session_manager.request_session(self, self.realm).info
        return wait_until(lambda: count(info.peers_zid()) == 0)

    def sees(self, *names: str) -> list[str]:
        """All the HEROs that its observer knows, once it knows these."""
        wait_until(
            lambda: set(names) <= set(self.observer.known_objects), what=lambda: str(self.observer.known_objects)
        )
        return sorted(self.observer.known_objects)

    def call(self, name: str, a: int, b: int, wait: float = DEADLINE) -> int:
        hero = heros.RemoteHERO(name, self.realm, wait=wait)
        assert heros.transport_of(hero) == "net"
        return hero.add(a, b)

    def follow(self, name: str, count: int) -> list[int]:
        """The samples of an event."""
        hero = heros.RemoteHERO(name, self.realm, wait=DEADLINE)
        samples: queue.SimpleQueue[int] = queue.SimpleQueue()
        hero.surely.connect(samples.put)
        hero.fire_reliably(count)
        return [samples.get(timeout=DEADLINE) for _ in range(count)]

    def node_of(self, name: str) -> str:
        """The id of the node of a HERO."""
        entry = wait_until(lambda: heros.node.current().network(self.realm).find(name, 1.0))[0]
        return entry.node_id

    def greet(self, node_id: str, patience: float = DEADLINE) -> str:
        """Say HELLO to a node whose id it knows, by Zenoh alone; the kind of its answer, or none."""
        session = session_manager.request_session(self, self.realm)
        own = secrets.token_hex(16)
        self.own.append(own)
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        subscriber = session.declare_subscriber(
            keys.inbox(self.realm, own, CLIENT), lambda sample: answers.put(sample.payload.to_bytes())
        )
        token = session.liveliness().declare_token(keys.alive(self.realm, own))
        self.kept += [subscriber, token]
        hello = head(Kind.HELLO, SERVER, 1) + Greeting.of(Peer(own, os.getpid(), "here")).to_json()
        for _ in range(int(patience / 0.1)):
            session.put(keys.inbox(self.realm, node_id, SERVER, own), hello)
            try:
                answer = answers.get(timeout=0.1)
            except queue.Empty:
                continue
            packet = parse(answer, None)
            assert packet.inbox == CLIENT
            assert len(answer) > HEAD.size
            return Kind(packet.kind).name
        return "none"

    def listen(self, key: str) -> None:
        """Keep the keys of what arrives, of tokens and of samples, except for its own."""
        session = session_manager.request_session(self, self.realm)
        keep = lambda sample: self.heard.append(str(sample.key_expr))  # noqa: E731
        self.kept.append(session.declare_subscriber(key, keep, allowed_origin=zenoh.Locality.REMOTE))
        self.kept.append(session.liveliness().declare_subscriber(key, keep, history=True))

    def hears(self) -> list[str]:
        return sorted({key for key in self.heard if not any(own in key for own in self.own)})

    def ask(self, key: str) -> list[str]:
        """Which others answer a query."""
        session = session_manager.request_session(self, self.realm)
        replies = session.get(key, payload=OUR_QUERY, timeout=5, allowed_destination=zenoh.Locality.REMOTE)
        return sorted(str(reply.ok.key_expr) for reply in replies if reply.ok)


def count(ids: Iterable[object]) -> int:
    return len(list(ids))


def main(realm: str) -> None:
    commands = Commands(realm)
    print("READY", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            result: Any = getattr(commands, name)(*arguments)
        except (HEROSError, AssertionError) as error:
            result = f"{type(error).__name__}: {error}"
        print("DONE", json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
