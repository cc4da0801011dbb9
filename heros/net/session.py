"""This process's presence in the network of one realm.

What there is
    One zenoh session, opened on a thread of its own at once, so that nobody waits for it who does not need it. In it
    six declarations of the node, one of ``legacy`` and two of each HERO (``keys``), and one sender for each peer that
    is talked to.

How two nodes meet
    The client sends HELLO until it is answered, because zenoh loses what has no route yet. The server makes a link at
    the first HELLO, answers WELCOME, or REFUSED with the reason. From then on both ends exchange numbered packets
    (``outbox``, ``inbox``). BYE ends the channel; so does the end of the peer's liveliness token, which zenoh reports
    as soon as the connection to a killed process breaks. An end that gets packets of a channel it does not know, e.g.
    after an interruption of the network, says BYE: the client then connects anew, and gets a new link.

Threads
    Requests are read by workers (``readers``), replies by their callers (``replies``), and samples by zenoh's threads,
    which hand them to receivers that never block. Everything else, above all everything that calls into zenoh, runs on
    workers; a caller sends by itself what surely does not block (``channel``).
"""

from __future__ import annotations

import atexit
import logging
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from heros import limits, wire
from heros.entry import Entry, OnEntry
from heros.exceptions import DecodeError, HEROSError, HEROUnavailable, PeerLost, RemoteTransportError
from heros.net import keys
from heros.net.bus import Bus, Message, unpack
from heros.net.channel import NetChannel
from heros.net.discovery import OUR_QUERY, Discovery, Finder
from heros.net.end import End, Surroundings
from heros.net.greeting import Greeting
from heros.net.legacy.channel import LegacyChannel
from heros.net.legacy.entry import LegacyEntry
from heros.net.legacy.gateway import Gateway
from heros.net.link import NetLink
from heros.net.packets import ALIGNMENT, CLIENT, HEAD, REPLIES, SERVER, SHORT, Kind, Packet, head, parse
from heros.net.readers import Readers
from heros.net.replies import Replies
from heros.transport import Channel, Nobody, Peer, Receiver, Task
from heros.workers import Strand, Workers

if TYPE_CHECKING:
    import zenoh

__all__ = ["Network"]

log = logging.getLogger("heros.net")

CLOSE_SECONDS: Final = 1.0
"""How long ``close`` waits for a session that is still being opened: the process may be about to end."""

FLUSH_SECONDS: Final = 0.5
STUCK_SECONDS: Final = 0.1
"""How long ``close`` has what is queued sent: at all, and while no peer takes any of it."""

MAX_COMPLAINTS: Final = 1000
"""Nodes whose malformed packets are logged, each once; bounds what a flood of invented senders costs."""

PAUSE_SECONDS: Final = 0.001
"""For which others get the global lock: from a reader whose packets came early, for the one that has those before; and
from ``flush``, between two looks."""

MAX_LOST: Final = 1000
"""Nodes whose return is logged; most of those that are lost were ended, and do not return."""

_FRAMES: Final = int(Kind.FRAMES)
_END_OF: Final = {SERVER: SERVER, CLIENT: CLIENT, REPLIES: CLIENT}
"""Which end has an inbox."""


class _Attempt:
    """A client that waits for the answer to its HELLO."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.refused: str | None = None

    def answer(self, refused: str | None) -> None:
        self.refused = refused
        self.answered.set()


class Network:
    """See the module. Thread-safe.

    Args:
        realm: a realm's name, checked.
        own: this node.
        workers: where everything runs that may block.
        receiver: where the frames go that clients send to this node.
    """

    def __init__(self, realm: str, own: Peer, workers: Workers, receiver: Receiver) -> None:
        self.realm = realm
        self._own = own
        self._workers = workers
        self._receiver = receiver
        self._bus = Bus()
        self._replies = Replies(workers, self._on_reply, self._mark)
        self._surroundings = Surroundings(realm, own, self._bus, workers, self._forget, self._replies)
        self._gateway = Gateway(realm, own.node_id, self._bus, workers, receiver)
        self._discovery = Discovery(realm, own.node_id, self._bus, workers, self._gateway)
        self._finder: Finder | None = None
        self._alive: set[str] = set()
        self._alive_changed = threading.Condition()
        self._ends: dict[tuple[str, int, int], End] = {}
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._legacy: set[LegacyChannel] = set()
        self._greetings = Strand()
        self._strays: set[tuple[str, int, int]] = set()
        self._complained: set[str] = set()
        self._lost: dict[str, tuple[str, float]] = {}
        self._opened = threading.Event()
        self._error: HEROSError | None = None
        self._closed = False
        atexit.register(self.close)  # zenoh aborts a process that ends with an open session
        threading.Thread(target=self._open, name="heros-net-open", daemon=True).start()

    def _open(self) -> None:
        try:
            self._bus.open(self.realm)
            if self._closed:
                self._bus.close()
                return
            self._finder = Finder(self.realm, self._bus)
            own = self._own.node_id
            self._bus.subscribe(keys.inbox(self.realm, own, CLIENT), self._on_client_packet)
            self._replies.open(self._bus.mailbox(keys.inbox(self.realm, own, REPLIES), limits.NET_MAILBOX_PACKETS))
            mailbox = self._bus.mailbox(keys.inbox(self.realm, own, SERVER), limits.NET_MAILBOX_PACKETS)
            Readers(mailbox, self._workers, self._on_request)
            self._bus.answer(keys.directory(self.realm, own), self._on_directory)
            self._bus.watch_tokens(keys.alive(self.realm), self._on_presence)
            self._bus.token(keys.alive(self.realm, own))  # last: whoever sees it may talk to us
            self._discovery.opened()
        except HEROSError as error:
            self._error = error
            if not self._closed:
                log.error("%s", error)
        except Exception as error:
            self._error = HEROSError(f"the network of realm {self.realm!r} cannot be opened: {error!r}")
            log.exception("%s", self._error)
        finally:
            self._opened.set()

    def ready(self, timeout: float | None) -> bool:
        """Wait until the session is open; False when that takes longer than ``timeout`` seconds.

        Raises:
            HEROSError: it could not be opened, and why.
        """
        opened = self._opened.wait(timeout)
        if self._closed:
            raise HEROSError(f"the network of realm {self.realm!r} was closed by this process")
        if self._error is not None:
            raise HEROSError(str(self._error))
        return opened

    def session(self) -> zenoh.Session:
        """The session itself, for programs that have a use of their own for it. Waits until it is open.

        Raises:
            HEROSError: it could not be opened, or is closed.
        """
        self.ready(None)
        return self._bus.session

    @property
    def zid(self) -> str:
        """The id that zenoh has given the session; empty while there is none."""
        return self._bus.zid if self._finder is not None and not self._closed else ""

    def alone(self) -> bool:
        """Whether the session is open and connected to nobody."""
        try:
            return self._finder is not None and not self._bus.connected()
        except RemoteTransportError:  # it was closed just now
            return False

    # -- discovery --------------------------------------------------------------------------------------------

    def announce(self, entry: Entry) -> None:
        """Offer a HERO of this node. Does not wait for the session."""
        self._discovery.announce(entry)

    def withdraw(self, entry: Entry) -> None:
        """Take a HERO back. Nothing happens when it was not announced."""
        self._discovery.withdraw(entry)

    def find(self, name: str, timeout: float) -> list[Entry]:
        """The HEROs called ``name``, this node's own included; empty when there is none.

        Returns as soon as the answers are complete. While the session is not open or has no peers yet, it waits up
        to ``timeout`` seconds for the HERO to appear.

        Raises:
            HEROSError: the session could not be opened.
        """
        deadline = time.monotonic() + timeout
        if not self.ready(timeout) or self._finder is None:
            return []
        return self._finder.find(name, max(0.0, deadline - time.monotonic()))

    def entries(self, timeout: float) -> list[Entry]:
        """All HEROs of the realm, this node's own included. Waits and raises as :meth:`find` does."""
        return self.find("*", timeout)

    def watch(self, added: OnEntry, removed: OnEntry) -> Callable[[], None]:
        """Call ``added`` for every HERO that is there and for each that comes, ``removed`` for each that goes.

        The calls come in order, one at a time, on a worker. Returns what ends it; a call that is under way then may
        still finish.
        """
        return self._discovery.watch(added, removed)

    def _on_directory(self, query: bytes) -> list[bytes]:
        return [self._discovery.directory.to_json()] if query == OUR_QUERY else []

    # -- the client's side ------------------------------------------------------------------------------------

    def connect(self, entry: Entry, receiver: Receiver, timeout: float = limits.NET_CONNECT_SECONDS) -> Channel:
        """A channel to the node of ``entry``, or to the HERO itself where that speaks protocol 1.0.

        Args:
            receiver: where the frames go that this node sends to us.
            timeout: seconds to wait for its answer.

        Raises:
            HEROUnavailable: the node is not there.
            RemoteTransportError: it is there, but refuses (and why) or does not answer in time.
            HEROSError: the session could not be opened.
        """
        deadline = time.monotonic() + timeout
        if not self.ready(timeout):
            raise RemoteTransportError(f"the network of realm {self.realm!r} was not open within {timeout:g} s")
        if isinstance(entry, LegacyEntry):
            return self._connect_legacy(entry, receiver, deadline - time.monotonic())
        if not self._wait_alive(entry.node_id, deadline):
            raise HEROUnavailable(f"HERO {entry.name!r}: its process (pid {entry.pid} on {entry.host}) is gone")
        peer = Peer(entry.node_id, entry.pid, entry.host)
        apart = partial(self.connect, entry, Nobody())
        channel = NetChannel(self._surroundings, peer, secrets.randbits(64), receiver, apart)
        try:
            self._greet(channel, deadline, timeout)
        except BaseException:
            channel.close()
            raise
        return channel

    def _connect_legacy(self, entry: LegacyEntry, receiver: Receiver, timeout: float) -> Channel:
        channel = LegacyChannel(self._bus, self._own.node_id, self._workers, entry, receiver, self._legacy.discard)
        self._legacy.add(channel)
        try:
            channel.connect(timeout)
        except BaseException:
            channel.close()
            raise
        if self._closed:
            channel.close()
        return channel

    def _wait_alive(self, node_id: str, deadline: float) -> bool:
        """Whether the node's token is there; a session that is young is given time to see it."""
        finder = self._finder
        if finder is None:
            return False
        until = min(deadline, max(finder.settled, time.monotonic()))
        with self._alive_changed:
            return self._alive_changed.wait_for(lambda: node_id in self._alive, max(0.0, until - time.monotonic()))

    def _greet(self, channel: NetChannel, deadline: float, timeout: float) -> None:
        peer = channel.peer
        attempt = self._attempts[peer.node_id, channel.channel] = _Attempt()
        self._ends[peer.node_id, channel.channel, CLIENT] = channel
        try:
            while not channel.closed and peer.node_id in self._alive:
                self._workers.post(partial(channel.send_control, Kind.HELLO, Greeting.of(self._own).to_json()))
                remaining = deadline - time.monotonic()
                if attempt.answered.wait(min(limits.NET_HELLO_SECONDS, max(0.0, remaining))):
                    if attempt.refused is not None:
                        raise RemoteTransportError(f"{channel.name} refuses the connection: {attempt.refused}")
                    return
                if remaining <= 0:
                    raise RemoteTransportError(f"{channel.name} is there but did not answer within {timeout:g} s")
            raise HEROUnavailable(f"{channel.name} is gone")
        finally:
            self._attempts.pop((peer.node_id, channel.channel), None)

    # -- what arrives: samples on zenoh's threads, requests on those of ``readers``, replies on their callers' ---

    def _on_client_packet(self, key: str, payload: bytes, attachment: bytes | None) -> None:
        self._on_packet(key, payload, attachment, CLIENT)

    def _on_request(self, message: Message) -> list[Task]:
        end = self._on_packet(*unpack(message), SERVER)
        return end.left() if isinstance(end, NetLink) else []

    def _on_reply(self, message: Message) -> None:
        key, payload, attachment = unpack(message)
        if len(payload) < HEAD.size and attachment is None and keys.sender_of(key) == self._own.node_id:
            self._replies.reached(payload)
        else:
            self._on_packet(key, payload, attachment, REPLIES)

    def _mark(self, mark: bytes) -> None:
        own = self._own.node_id
        self._bus.put(keys.inbox(self.realm, own, REPLIES, own), mark, here=True)

    def _on_packet(self, key: str, payload: bytes, attachment: bytes | None, inbox: int) -> End | None:
        """The end that has taken the packet."""
        sender = keys.sender_of(key)
        if attachment is None and len(payload) >= SHORT.size:
            numbers = SHORT.unpack_from(payload)
            if numbers[0] == _FRAMES:
                end = self._ends.get((sender, numbers[4], _END_OF[inbox]))
                if end is not None:
                    length = numbers[7]
                    if len(payload) - SHORT.size - length < ALIGNMENT and numbers[16] == 0 and numbers[15] == length:
                        header = payload[SHORT.size : SHORT.size + length]
                        if end.inboxes[inbox].take_short(numbers[5], numbers[8:], header):
                            return end
                    elif end.inboxes[inbox].take_frames(numbers[5], payload):
                        return end
        try:
            packet = parse(payload, attachment)
            if packet.kind < Kind.FRAMES and not packet.sequence:
                self._on_control(sender, _END_OF[inbox], packet)
                return None
            end = self._ends.get((sender, packet.channel, _END_OF[inbox]))
            if end is not None:
                if end.inboxes[inbox].take(packet) and inbox == SERVER:
                    time.sleep(PAUSE_SECONDS)
                return end
            if packet.kind != Kind.BYE:
                self._on_stray(sender, _END_OF[inbox], packet)
        except DecodeError as error:
            if sender not in self._complained and len(self._complained) < MAX_COMPLAINTS:
                self._complained.add(sender)
                log.warning("Node %s sends malformed packets, which are dropped: %s", sender, error)
        return None

    def _on_control(self, sender: str, here: int, control: Packet) -> None:
        text = control.payload[HEAD.size :]
        if control.kind == Kind.HELLO:
            greeting = Greeting.from_json(text)
            self._workers.post(partial(self._greetings.run, partial(self._welcome, sender, control.channel, greeting)))
        elif control.kind in (Kind.WELCOME, Kind.REFUSED):
            attempt = self._attempts.get((sender, control.channel))
            if attempt is not None:
                attempt.answer(None if control.kind == Kind.WELCOME else text.decode(errors="replace"))
        elif control.kind == Kind.BYE:
            end = self._ends.get((sender, control.channel, here))
            if end is not None:
                end.end(PeerLost(f"{end.name} has closed the channel: {text.decode(errors='replace')}"))
        else:
            raise DecodeError(f"a packet of unknown kind {control.kind}")

    def _on_stray(self, sender: str, here: int, stray: Packet) -> None:
        """Tell a node that it sends to an end which does not exist, one word at a time."""
        address = (sender, stray.channel, CLIENT if here == SERVER else SERVER)
        if sender in self._alive and address not in self._strays:
            self._strays.add(address)
            self._workers.post(partial(self._say_bye, address))

    def _say_bye(self, address: tuple[str, int, int]) -> None:
        try:
            self._say(*address, Kind.BYE, b"it is not known here, perhaps after an interruption of the network")
        finally:
            self._strays.discard(address)

    def _say(self, node_id: str, channel: int, end: int, kind: Kind, text: bytes) -> None:
        try:
            key = keys.inbox(self.realm, node_id, end, self._own.node_id)
            self._bus.put(key, head(kind, end, channel) + text)
        except RemoteTransportError:
            pass  # the session is closed, and with it the channel

    def _on_presence(self, key: str, present: bool) -> None:
        node_id = keys.node_of(key)
        with self._alive_changed:
            (self._alive.add if present else self._alive.discard)(node_id)
            self._alive_changed.notify_all()
        if present:
            self._discovery.node_came(node_id)
            if node_id in self._lost:
                name, lost_at = self._lost.pop(node_id)
                seconds = time.monotonic() - lost_at
                log.info("%s is back in the network of realm %s after %.2f s", name, self.realm, seconds)
            return
        self._discovery.node_went(node_id)
        for end in self._ends_of(node_id):
            log.info("%s is gone from the network of realm %s", end.name, self.realm)
            self._lost[node_id] = end.name, time.monotonic()
            if len(self._lost) > MAX_LOST:
                del self._lost[next(iter(self._lost))]
            end.end(PeerLost(f"{end.name} is gone"))

    # -- the server's side, on workers ------------------------------------------------------------------------

    def _welcome(self, sender: str, channel: int, greeting: Greeting) -> None:
        if self._closed or sender not in self._alive:
            return  # the client says HELLO again; without its token we would not see it go
        if (sender, channel, SERVER) not in self._ends:
            refusal = self._refusal(sender, greeting)
            if refusal is not None:
                self._say(sender, channel, CLIENT, Kind.REFUSED, refusal.encode())
                return
            peer = Peer(sender, greeting.pid, greeting.host)
            link = self._ends[sender, channel, SERVER] = NetLink(self._surroundings, peer, channel, self._receiver)
            if sender not in self._alive:
                link.end(PeerLost(f"{link.name} is gone"))
                return
        self._say(sender, channel, CLIENT, Kind.WELCOME, Greeting.of(self._own).to_json())

    def _refusal(self, sender: str, greeting: Greeting) -> str | None:
        if greeting.protocol != wire.PROTOCOL:
            return (
                f"it speaks version {greeting.protocol} of the protocol and this process version {wire.PROTOCOL}; "
                "install the same version of heros on both machines"
            )
        links = sum(1 for node_id, _, end in list(self._ends) if node_id == sender and end == SERVER)
        if links >= limits.NET_LINKS_PER_PEER:
            return f"it has {links} channels to this process already"
        return None

    # -- the tables -------------------------------------------------------------------------------------------

    def _ends_of(self, node_id: str) -> list[End]:
        return [end for address, end in list(self._ends.items()) if address[0] == node_id]

    def _forget(self, node_id: str, channel: int, end: int) -> None:
        self._ends.pop((node_id, channel, end), None)

    # -- the end ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Have sent what was accepted: the last samples and replies of a program that ends. Waits for those peers that
        read, and not long."""
        deadline = time.monotonic() + FLUSH_SECONDS
        before, since = (0, 0), 0.0
        while True:
            outboxes = [outbox for end in list(self._ends.values()) if not end.closed for outbox in end.outboxes()]
            backlog = sum(outbox.backlog for outbox in outboxes) + self._gateway.backlog
            if not backlog:
                return
            now, state = time.monotonic(), (backlog, sum(outbox.packets for outbox in outboxes))
            if state != before:
                before, since = state, now
            if now >= deadline or now - since >= STUCK_SECONDS:
                log.info("%d bytes are not sent, as this process closes the network", backlog)
                return
            time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """End every channel and the session, in less than two seconds, whatever the peers do."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        atexit.unregister(self.close)
        self._discovery.close()
        self._gateway.close()
        reason = PeerLost(f"the network of realm {self.realm!r} was closed by this process")
        for end in list(self._ends.values()):
            end.end(reason)
        for channel in list(self._legacy):
            channel.end(reason)
        if self._opened.wait(CLOSE_SECONDS):
            self._bus.close()
        self._replies.close()

    def abandon(self) -> None:
        """In a forked child: forget everything without a word. The session stays the parent's."""
        self._closed = True
        atexit.unregister(self.close)
        for channel in self._legacy:
            channel.abandon()
        self._bus.abandon()
