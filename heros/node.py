"""One process's runtime: its threads, channels, registry entry and networks. It starts on first use, never on import.

What starts when
    - ``current()`` makes the node, which by itself is only a name and two tables.
    - The first HERO, or the first lookup, opens the registry. The first HERO also opens the unix socket.
    - The network of a realm is opened in the background, when the first HERO of that realm appears or when a lookup
      on the host has failed. A program with ``HEROS_NET=off`` never imports zenoh.
    - Threads start with the first channel (see ``workers``).

fork
    The child forgets the node: it closes its copies of the descriptors (so that the parent's peers still see when the
    parent dies), never touches the parent's network session, and starts a node of its own on first use. HEROs stay
    with the parent; proxies in the child connect anew.

exit
    ``close`` runs at exit: HEROs are withdrawn, peers told, files removed, all within a bounded time.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import heros.shm
from heros import inproc, limits, select
from heros.bound import Bound, Inbox
from heros.capabilities import from_list
from heros.codec import decode
from heros.dispatch import Dispatcher, Exported
from heros.entry import Entry, check_name
from heros.exceptions import CallTimeout, DecodeError, HEROSError, HEROUnavailable, NameInUse, RemoteTransportError
from heros.faults import rebuild
from heros.registry import Registry, runtime_directory
from heros.transport import Channel, Peer, Reply, Transport
from heros.wire import Fault, Kind, NodeMember
from heros.workers import Workers, in_main_thread

if TYPE_CHECKING:
    from heros.net.session import Network
    from heros.shm.server import ShmServer

__all__ = ["Node", "current", "existing", "shutdown"]

log = logging.getLogger("heros.node")

WAIT_SECONDS: Final = (0.01, 0.2)
"""Shortest and longest pause between two looks for a HERO that is waited for: soon found, and cheap for long."""

ANSWER_SECONDS: Final = 10.0
"""How long a node may take to answer what is no user's call: it only looks something up."""

EXCLUSIVE_SECONDS: Final = 1.0
"""How long ``exclusive`` asks the network for another HERO of the name: on a quiet network all answer in less."""


class Node:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self.node_id = secrets.token_hex(16)
        self.peer = Peer(self.node_id, os.getpid(), socket.gethostname())
        self.workers = Workers()
        self.dispatcher = Dispatcher(self.node_id, self.workers)
        self.dispatcher.session_tags = self._session_tags
        self._lock = threading.RLock()
        self._registry: Registry | None = None
        self._server: ShmServer | None = None
        self._networks: dict[str, Network] = {}
        self._channels: dict[tuple[str, str, str], tuple[Channel, Inbox]] = {}
        self._connecting: dict[tuple[str, str, str], threading.Lock] = {}
        self._told: set[str] = set()
        self._closed = False
        self._exiting = False
        self._inherited = False

    # -- what there is ----------------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """This node's hand in the host's registry."""
        with self._lock:
            self._check_open()
            if self._registry is None:
                self._registry = Registry(runtime_directory(), self.node_id, self.workers)
            return self._registry

    def network(self, realm: str) -> Network:
        """This node's presence in a realm's network; opening it goes on in the background."""
        with self._lock:
            self._check_open()
            network = self._networks.get(realm)
            if network is None:
                from heros.net.session import Network

                network = self._networks[realm] = Network(realm, self.peer, self.workers, self.dispatcher)
                # What is registered last runs first: before the network is closed, which it is before this node.
                atexit.unregister(_begin_exit)
                atexit.register(_begin_exit)
                for exported in self.dispatcher.exported():
                    if exported.entry.realm == realm:
                        network.announce(exported.entry)
            return network

    def leave_networks(self) -> None:
        """Close the network session of every realm. HEROs and proxies go on in shared memory; what needs the network
        next opens it anew."""
        with self._lock:
            networks, self._networks = self._networks, {}
        for network in networks.values():
            network.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to the process that this one was forked from."""
        return self._closed

    @property
    def ending(self) -> bool:
        """Whether it is closed, or about to be because the interpreter ends."""
        return self._closed or self._exiting

    def _session_tags(self, realm: str) -> list[str]:
        network = self._networks.get(realm)
        return [f"_zid:{network.zid}"] if network is not None and network.zid else []

    def _check_open(self) -> None:
        if self._closed:
            raise HEROSError(self._why_closed())

    def _why_closed(self) -> str:
        if self._inherited:
            return "this HERO stayed with the parent process, which this one was forked from: make a new one here"
        if self._exiting:
            return "this process's node is closed: the interpreter is shutting down"
        return "this HERO or proxy belongs to a node that this process has shut down: make a new one"

    # -- offering ---------------------------------------------------------------------------------------------

    def export(self, exported: Exported, exclusive: bool = False) -> None:
        """Offer a HERO on this host and, if it is enabled, on the network.

        Raises:
            NameInUse: ``exclusive`` and there is another HERO of this name.
        """
        networked = select.network_enabled()
        self._serve_host()
        entry = exported.entry
        self.dispatcher.export(exported)  # first: whoever sees the entry can bind it
        others: list[Entry] = []
        try:
            others = self.registry.add(entry, exclusive)
            if networked:
                network = self.network(entry.realm)
                if exclusive:
                    for other in network.find(entry.name, EXCLUSIVE_SECONDS):
                        if other.node_id != self.node_id:
                            raise NameInUse(_taken(entry, other))
                network.announce(entry)
        except BaseException:
            opened = self._networks.get(entry.realm)
            if opened is not None:
                opened.withdraw(entry)
            self.dispatcher.withdraw(exported)
            self.registry.remove(entry)
            raise
        for other in others:
            log.error("%s Proxies may reach either of them.", _taken(entry, other))

    def withdraw(self, exported: Exported) -> None:
        """Withdraw a HERO. Nothing happens if that was done before."""
        entry = exported.entry
        with self._lock:
            if self._closed:
                return
            network = self._networks.get(entry.realm)
        self.registry.remove(entry)
        if network is not None:
            network.withdraw(entry)
        self.dispatcher.withdraw(exported)

    @property
    def address(self) -> str:
        """Path of the socket on which this node serves its host; empty where there is no shared memory."""
        self._serve_host()
        return str(self.registry.socket_path) if self._server is not None else ""

    def _serve_host(self) -> None:
        with self._lock:
            if self._server is None and heros.shm.AVAILABLE:
                from heros.shm.server import ShmServer

                self._server = ShmServer(str(self.registry.socket_path), self.peer, self.workers, self.dispatcher)

    # -- finding ----------------------------------------------------------------------------------------------

    def bind(
        self,
        realm: str,
        name: str,
        wait: float = 0.0,
        discovery: float = limits.DISCOVERY_SECONDS,
        timeout: float | None = None,
    ) -> Bound:
        """Find a HERO, connect to its node and ask for its description.

        Args:
            wait: seconds to wait for it to appear.
            discovery: seconds to wait for the network's answer, if it is not on this host.
            timeout: seconds that its node may take for the description, at most ``ANSWER_SECONDS``; None: that.

        Raises:
            HEROUnavailable: there is no such HERO, or none that could be reached.
            CallTimeout: there is one, and its process did not answer.
        """
        check_name(realm, "realm")
        check_name(name)
        deadline = time.monotonic() + wait
        pause, longest = WAIT_SECONDS
        while True:
            failures: list[tuple[Transport, Exception]] = []
            found = select.ways(
                partial(self._own, realm, name),
                partial(self._on_host, realm, name),
                partial(self._on_network, realm, name, discovery),
            )
            for transport, entry in found:
                try:
                    return self._describe(transport, entry, timeout)
                except (RemoteTransportError, HEROUnavailable, CallTimeout, DecodeError) as error:
                    failures.append((transport, error))
                    self._tell_once(transport, entry, error)
            if time.monotonic() >= deadline:
                silent = any(isinstance(error, CallTimeout) for _, error in failures)
                raise (CallTimeout if silent else HEROUnavailable)(self._not_found(realm, name, wait, failures))
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _not_found(self, realm: str, name: str, wait: float, failures: list[tuple[Transport, Exception]]) -> str:
        waited = f", although this process waited {wait:g} s for it" if wait else ""
        if failures:
            reasons = "; ".join(f"{transport}: {error}" for transport, error in failures)
            return f"HERO {name!r} in realm {realm!r} was found but could not be reached{waited} ({reasons})"
        places, hint = [], ""
        if "shm" in select.preference():
            places.append(f"on this host ({runtime_directory()})")
        if "net" in select.preference() and select.network_enabled():
            places.append("on the network")
            network = self._networks.get(realm)
            if network is not None and network.alone():
                hint = " No other program is connected by the network; if one should be, look at HEROS_ZENOH_CONFIG."
        if not select.network_enabled():
            hint = " HEROS_NET is off, so other hosts were not asked."
        where = " or ".join(places) or "within reach of HEROS_TRANSPORT"
        return (
            f"there is no HERO {name!r} in realm {realm!r} {where}{waited}. "
            f"Is its program running, and its name spelled so?{hint}"
        )

    def _own(self, realm: str, name: str) -> Iterable[Entry]:
        return [exported.entry for exported in self.dispatcher.find(realm, name)]

    def _on_host(self, realm: str, name: str) -> Iterable[Entry]:
        return self.registry.find(realm, name) if heros.shm.AVAILABLE else ()

    def _on_network(self, realm: str, name: str, timeout: float) -> Iterable[Entry]:
        return self.network(realm).find(name, timeout)

    def _tell_once(self, transport: str, entry: Entry, error: Exception) -> None:
        if transport == "shm" and entry.node_id not in self._told:
            self._told.add(entry.node_id)
            log.info("HERO %s cannot be reached through shared memory (%s); trying the network", entry.name, error)

    def _describe(self, transport: Transport, entry: Entry, timeout: float | None) -> Bound:
        channel, inbox = self._channel(transport, entry)
        arguments = [entry.realm, entry.name, entry.instance]
        description = self.call_node(channel, NodeMember.BIND, arguments, f"{entry.realm}/{entry.name}", timeout)
        try:
            if not isinstance(description, dict):
                raise DecodeError(f"{type(description).__name__} instead of a dict")
            described = Entry.from_dict({**asdict(entry), **description})
            object_id = description.get("object_id")
            if type(object_id) is not int or not 0 < object_id < 1 << 64:
                raise DecodeError(f"{object_id!r} is no object")
            capabilities = tuple(from_list(description.get("capabilities")))
        except DecodeError as error:
            raise DecodeError(f"the description of HERO {entry.name!r} makes no sense: {error}") from None
        return Bound(
            channel=channel,
            inbox=inbox,
            transport=transport,
            object_id=object_id,
            instance=described.instance,
            class_name=described.class_name,
            implements=frozenset(described.implements),
            tags=frozenset(described.tags),
            extra_metadata=dict(described.extra_metadata),
            capabilities=capabilities,
            members={capability.name: index for index, capability in enumerate(capabilities)},
        )

    # -- channels ---------------------------------------------------------------------------------------------

    def _channel(self, transport: Transport, entry: Entry) -> tuple[Channel, Inbox]:
        """The channel to the node of ``entry``; one for each node and transport (and realm, on the network)."""
        key = (transport, entry.node_id, entry.realm if transport == "net" else "")
        with self._lock:
            self._check_open()
            connecting = self._connecting.setdefault(key, threading.Lock())
        with connecting:
            known = self._channels.get(key)
            if known is not None and not known[0].closed:
                return known
            inbox = Inbox(on_closed=partial(self._forget, key))
            channel = self._connect(transport, entry, inbox)
            self._channels[key] = (channel, inbox)
            return channel, inbox

    def _forget(self, key: tuple[str, str, str]) -> None:
        """The channel is closed. Another one may have taken its place already."""
        with self._lock:
            known = self._channels.get(key)
            if known is not None and known[0].closed:
                del self._channels[key]
                self._told.discard(key[1])

    def _connect(self, transport: Transport, entry: Entry, inbox: Inbox) -> Channel:
        if transport == "inproc":
            return inproc.connect(self.peer, self.dispatcher, inbox, self.workers)
        if transport == "shm":
            from heros.shm import channel

            return channel.connect(entry.address, self.peer, entry.node_id, self.workers, inbox)
        return self.network(entry.realm).connect(entry, inbox)

    def call_node(
        self,
        channel: Channel,
        member: NodeMember,
        arguments: list[Any],
        endpoint: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Call a member of the node at the other end of ``channel``.

        Args:
            endpoint: what it is about, for messages.
            timeout: in seconds, at most ``ANSWER_SECONDS``; None: that.

        Raises:
            HEROUnavailable: what it was asked for is not there.
            CallTimeout: it did not answer.
        """
        pid = channel.peer.pid  # 0 where it is not known, as of a HERO of protocol 1.0
        header, buffers = self.dispatcher.encode(arguments)
        patience = ANSWER_SECONDS if timeout is None else min(timeout, ANSWER_SECONDS)
        try:
            reply = channel.call(0, member, 0, 0, header, buffers, patience)
        except CallTimeout:
            raise CallTimeout(
                f"{endpoint or 'the node'} did not answer within {patience:g} s; is its process"
                f"{f' (pid {pid})' if pid else ''} stopped, or busy with something that lets no other thread run?"
            ) from None
        return self.result(reply, endpoint or f"node {pid}")

    def result(self, reply: Reply, endpoint: str) -> Any:
        """The value of a reply.

        Raises:
            RemoteHEROError: the member raised.
            HEROUnavailable: the HERO is gone; the call was not carried out.
            HEROSError: the request was refused; it was not carried out.
            DecodeError: the reply makes no sense.
        """
        fields = reply.fields
        if fields[0] == Kind.RESULT:
            return self.dispatcher.decode(reply.header, reply.buffers)
        value, _ = decode(reply.header, ())
        fault = fields[2]
        if fault == Fault.RAISED:
            raise rebuild(value, endpoint)
        if fault == Fault.UNAVAILABLE:
            raise HEROUnavailable(f"{endpoint}: {value}")
        if fault == Fault.MALFORMED:
            raise DecodeError(f"{endpoint} could not read the request: {value}")
        raise HEROSError(f"{endpoint} refused the request: {value}")

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Withdraw everything and let go of everybody, in bounded time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            networks, channels = list(self._networks.values()), list(self._channels.values())
        for exported in self.dispatcher.exported():
            self.dispatcher.withdraw(exported)
        for network in networks:
            network.flush()
        for channel, _ in channels:
            channel.close()
        if self._server is not None:
            self._server.close()
        for network in networks:
            network.close()
        if self._registry is not None:
            self._registry.close()
        self.workers.stop(timeout=0.2)

    def stay_if_exiting(self) -> None:
        """Not return while the interpreter ends, in a daemon thread: a ``PeerLost`` that this very end has caused would
        be nothing but a traceback in somebody's terminal."""
        if self._exiting and not in_main_thread():
            threading.Event().wait()

    def abandon(self) -> None:
        """In a forked child: close what was inherited, without a word to anybody."""
        self._closed = self._inherited = True
        self.dispatcher.abandon()
        for channel, _ in self._channels.values():
            if isinstance(channel, inproc.InprocChannel):
                channel.abandon()
        heros.shm.reset_after_fork()
        for network in self._networks.values():
            network.abandon()
        if self._registry is not None:
            self._registry.abandon()
        self.workers.abandon()


def _taken(entry: Entry, other: Entry) -> str:
    if other.node_id == entry.node_id:
        where, remedy = f"this process ({other.pid})", "withdraw that one with its _destroy_hero()"
    else:
        where = f"process {other.pid} on {other.host}" if other.pid else "a process with the original package"
        remedy = "end that process"
    return (
        f"HERO {entry.name!r} in realm {entry.realm!r} exists already: {other.class_name} in {where}. "
        f"Choose another name, or {remedy}."
    )


# -- the node of this process ---------------------------------------------------------------------------------

_node: Node | None = None
_node_lock = threading.Lock()
_forgotten: list[Node] = []


def current() -> Node:
    """This process's node; made when it is first asked for. At exit it stays the one that was closed."""
    global _node
    node = _node
    if node is None:
        with _node_lock:
            if _node is None:
                _node = Node()
            node = _node
    return node


def existing() -> Node | None:
    """This process's node, if there is one."""
    return _node


def shutdown() -> None:
    """Close this process's node. The next use starts a new one; HEROs and proxies of the old one are gone."""
    global _node
    with _node_lock:
        node, _node = _node, None
    if node is not None:
        node.close()


def _begin_exit() -> None:
    if _node is not None:
        _node._exiting = True


def _close_at_exit() -> None:
    _begin_exit()
    if _node is not None:
        _node.close()


def _forget_in_child() -> None:
    global _node, _node_lock
    _node_lock = threading.Lock()  # another thread of the parent may have held it
    node, _node = _node, None
    if node is not None:
        _forgotten.append(node)  # never collected: its network session must not be touched here, not even to free it
        node.abandon()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
