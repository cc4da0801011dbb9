"""How two processes of one host agree to share memory.

Over a connected ``SOCK_SEQPACKET`` unix socket, one message each::

    client                                  server
    HELLO    versions, sizes, who I am  ->
                                        <-  WELCOME  the same, with the rings' memfd and two doorbells
                                            (or REFUSED, with the reason in words)
    PROOF    the nonce in the memfd     ->
                                        <-  OPEN

Each side asks the kernel who is at the other end (``SO_PEERCRED``) and talks to its own user only. Who can connect,
receive the memfd and echo the nonce that lies in it shares memory with this process: no host names are compared.

Messages are JSON, so that a version this one does not know can still be refused in words. A message comes with
exactly the descriptors that belong to it; any that were not expected are closed, and the connection with them.
"""

from __future__ import annotations

import array
import hmac
import json
import os
import secrets
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from heros import limits
from heros.exceptions import DecodeError, RemoteTransportError
from heros.shm import layout
from heros.shm.doorbell import Doorbell
from heros.shm.segment import create_shared, map_shared
from heros.transport import Peer
from heros.wire import PROTOCOL

__all__ = ["MAX_MESSAGE", "Agreement", "Greeting", "close_all", "open_channel", "receive", "send"]

MAX_MESSAGE: Final = 4096
_MOST_DESCRIPTORS: Final = 253  # what Linux lets one message carry: room for all, so that all can be closed
_CREDENTIALS: Final = struct.Struct("3i")
_CAPACITIES: Final = (limits.REQUEST_RING_BYTES, limits.REPLY_RING_BYTES, limits.EVENT_RING_BYTES)


class Agreement(NamedTuple):
    """What a handshake yields: everything an end of a channel is made of."""

    sock: socket.socket
    peer: Peer
    rings: tuple[memoryview, memoryview, memoryview]
    """Memory of ``requests``, ``replies`` and ``events``."""
    request_bell: Doorbell
    reply_bell: Doorbell


# -- messages ---------------------------------------------------------------------------------------------------


def send(sock: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one message with descriptors. Raises ``OSError``."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, expected: int) -> tuple[bytes, list[int]]:
    """Receive one message; empty at the end of the stream. Descriptors are the caller's to close.

    Raises:
        DecodeError: more than ``expected`` descriptors, or a message that is too long. They are closed.
        OSError: as ``recvmsg``.
    """
    data, ancillary, flags, _ = sock.recvmsg(
        MAX_MESSAGE, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
            fds.extend(received)
    if len(fds) > expected or flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        close_all(fds)
        raise DecodeError(f"a message on the socket is too long, or has {len(fds)} descriptors instead of {expected}")
    return data, fds


def close_all(fds: list[int]) -> None:
    """Close every descriptor in the list."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def _credentials(sock: socket.socket) -> tuple[int, int]:
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _introduction(own: Peer) -> dict[str, Any]:
    return {
        "shm": layout.VERSION,
        "protocol": PROTOCOL,
        "byteorder": sys.byteorder,
        "word": struct.calcsize("P"),
        "rings": list(_CAPACITIES),
        "node": own.node_id,
        "pid": own.pid,
        "host": own.host,
    }


def _parse(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a message of the handshake is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DecodeError("a message of the handshake is not a JSON object")
    return fields


def _disagreement(fields: dict[str, Any]) -> str | None:
    """Why this process cannot share memory with a peer that says ``fields`` of itself; None if it can."""
    if fields.get("shm") != layout.VERSION or fields.get("protocol") != PROTOCOL:
        return (
            f"this process speaks version {layout.VERSION} of shared memory and {PROTOCOL} of the protocol, the peer "
            f"{fields.get('shm')!r} and {fields.get('protocol')!r}. Install the same version of heros on both sides."
        )
    if fields.get("byteorder") != sys.byteorder or fields.get("word") != struct.calcsize("P"):
        return "the peer has another byte order or word size"
    if fields.get("rings") != list(_CAPACITIES):
        return f"the peer's rings have {fields.get('rings')!r} bytes, this process's {list(_CAPACITIES)}"
    return None


def _peer(fields: dict[str, Any], sock: socket.socket) -> Peer:
    node, host = fields.get("node"), fields.get("host")
    if not (isinstance(node, str) and node and isinstance(host, str)):
        raise DecodeError("the peer does not say which node it is")
    pid, _ = _credentials(sock)  # 0 in another pid namespace
    return Peer(node, pid or int(fields.get("pid") or 0), host)


def _rings(memory: NDArray[np.uint8]) -> tuple[memoryview, memoryview, memoryview]:
    view = memoryview(cast(Any, memory))
    rings, offset = [], layout.RINGS_OFFSET
    for capacity in _CAPACITIES:
        rings.append(view[offset : offset + layout.ring_bytes(capacity)])
        offset += layout.ring_bytes(capacity)
    return rings[0], rings[1], rings[2]


# -- the client's side ------------------------------------------------------------------------------------------


def open_channel(path: str, own: Peer, node_id: str, timeout: float) -> Agreement:
    """Connect to the node that listens at ``path``, which must be ``node_id``; at most ``timeout`` seconds a step.

    Raises:
        RemoteTransportError: there is nobody, it does not answer, or memory cannot be shared with it; says why.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
        return _introduce(sock, own, node_id)
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise RemoteTransportError(f"the process at {path} did not answer within {timeout:g} s") from error
        if isinstance(error, (OSError, DecodeError)):
            raise RemoteTransportError(f"no shared memory with the process at {path}: {error}") from error
        raise


def _introduce(sock: socket.socket, own: Peer, node_id: str) -> Agreement:
    _, uid = _credentials(sock)
    if uid != os.geteuid():
        raise RemoteTransportError(f"the process at the other end belongs to user {uid}, not to user {os.geteuid()}")
    send(sock, json.dumps(_introduction(own)).encode())
    data, fds = receive(sock, 3)
    try:
        if not data:
            raise RemoteTransportError("the process at the other end hung up during the handshake")
        fields = _parse(data)
        refused = fields.get("refused") or _disagreement(fields)
        if refused:
            raise RemoteTransportError(f"shared memory was refused: {refused}")
        peer = _peer(fields, sock)
        if peer.node_id != node_id:
            raise RemoteTransportError(f"the socket now belongs to another node ({peer.node_id})")
        if len(fds) != 3:
            raise DecodeError(f"{len(fds)} descriptors arrived instead of 3")
        memory = map_shared(fds[0], layout.channel_bytes(_CAPACITIES))
        send(sock, bytes(memory[: layout.NONCE_BYTES]))
        if not sock.recv(MAX_MESSAGE):
            raise RemoteTransportError("the process at the other end hung up at the end of the handshake")
        sock.setblocking(False)
        request_bell, reply_bell = Doorbell(fds.pop()), Doorbell(fds.pop())
        return Agreement(sock, peer, _rings(memory), request_bell, reply_bell)
    finally:
        close_all(fds)


# -- the server's side ------------------------------------------------------------------------------------------


class Greeting:
    """The server's side of one handshake, driven by messages: nobody waits for a client.

    ``sock`` is non-blocking; it stays the caller's until ``advance`` returns an agreement.
    """

    def __init__(self, sock: socket.socket, own: Peer) -> None:
        """Raises ``RemoteTransportError`` for a process of another user."""
        _, uid = _credentials(sock)
        if uid != os.geteuid():
            raise RemoteTransportError(f"a process of user {uid} was refused")
        self.lock = threading.Lock()
        """Held by whoever calls ``advance``."""
        self._sock = sock
        self._own = own
        self._nonce = b""
        self._agreement: Agreement | None = None

    def advance(self) -> Agreement | None:
        """Take one message. The agreement when this was the last; None when another one is awaited.

        Raises:
            BlockingIOError: no message is there.
            RemoteTransportError, DecodeError, OSError: the handshake has failed.
        """
        try:
            return self._advance()
        except BlockingIOError:
            raise
        except BaseException:
            self._agreement = None  # the doorbells go now, whoever keeps the error, and with it this object
            raise

    def _advance(self) -> Agreement | None:
        data, _ = receive(self._sock, 0)
        if not data:
            raise RemoteTransportError("the client hung up during the handshake")
        if self._agreement is None:
            self._welcome(_parse(data))
            return None
        if not hmac.compare_digest(data, self._nonce):
            raise RemoteTransportError("the client does not see the same memory")
        send(self._sock, b"{}")
        return self._agreement

    def _welcome(self, fields: dict[str, Any]) -> None:
        refused = _disagreement(fields)
        if refused:
            send(self._sock, json.dumps({**_introduction(self._own), "refused": refused}).encode())
            raise RemoteTransportError(f"a client was refused: {refused}")
        peer = _peer(fields, self._sock)
        self._nonce = secrets.token_bytes(layout.NONCE_BYTES)
        fd, memory = create_shared("heros-channel", layout.channel_bytes(_CAPACITIES))
        try:
            memory[: layout.NONCE_BYTES] = np.frombuffer(self._nonce, np.uint8)
            request_bell, reply_bell = Doorbell(), Doorbell()
            message = json.dumps(_introduction(self._own)).encode()
            send(self._sock, message, (fd, reply_bell.fd, request_bell.fd))
        finally:
            os.close(fd)
        self._agreement = Agreement(self._sock, peer, _rings(memory), request_bell, reply_bell)
