"""The receiving half of a channel's end: packets in any order in, frames in the order of sending out.

Zenoh keeps the order on one connection. When it finds a better route, packets may overtake one another, and when a
connection breaks, some may be lost. The numbers of the packets tell: one that came early is held back until those
before it are there; if they do not come, the stream is broken and ``broken`` is called, because a caller must not
wait for ever for a reply that will not come.

Everything here comes from the network and is checked. A malformed packet is dropped and logged, once for each stream,
and the next one works.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias

from heros import limits, wire
from heros.buffers import Buffer
from heros.exceptions import DecodeError
from heros.net.packets import HEAD, Kind, Packet, split_body, split_frames
from heros.net.recycler import lend
from heros.workers import Timer, Workers

__all__ = ["Inbox"]

log = logging.getLogger("heros.net")

FEW: Final = 2
"""Packets that may well be early when several threads read."""


OnFrame: TypeAlias = "Callable[[wire.Fields, bytes | memoryview, list[Buffer]], None]"


class _Assembly:
    """A large frame of which some pieces are there. Memory is used up by what arrives, not by what is declared."""

    def __init__(self, fields: wire.Fields, total: int) -> None:
        if total > limits.NET_FRAME_BYTES:
            raise DecodeError(f"a message of {total} bytes is declared; the limit is {limits.NET_FRAME_BYTES}")
        self.fields = fields
        try:
            self.body = lend(total).data
        except MemoryError:
            raise DecodeError(f"there is no memory for a message of {total} bytes") from None
        self._last = (0, 0)
        """The piece that was added last, by its packet's sequence, and where it begins."""
        self._filled = 0

    def add(self, sequence: int, piece: bytes) -> bool:
        """Whether the frame is complete now. Adding the last piece once more does no harm."""
        if sequence != self._last[0]:
            self._last = (sequence, self._filled)
        begin = self._last[1]
        end = begin + len(piece)
        if end > len(self.body) or not piece:
            raise DecodeError(f"a piece of {len(piece)} bytes for a message of {len(self.body)} that has {begin}")
        self.body[begin:end] = piece
        self._filled = end
        return end == len(self.body)


class Inbox:
    """See the module. Thread-safe; ``on_frame`` and ``on_ping`` are called by one thread at a time, in order.

    Args:
        peer: how the peer is called in log messages.
        lock: held during the calls; re-entrant.
        broken: called when the stream cannot go on.
        on_bye: called with the reason when the other end has said that this was all.
    """

    def __init__(
        self,
        peer: str,
        workers: Workers,
        lock: AbstractContextManager[Any],
        on_frame: OnFrame,
        on_ping: Callable[[], None],
        broken: Callable[[str], None],
        on_bye: Callable[[str], None],
    ) -> None:
        self._peer = peer
        self._workers = workers
        self._lock = lock
        self._on_frame = on_frame
        self._on_ping = on_ping
        self._broken = broken
        self._on_bye = on_bye
        self._expected = 1
        self._held: dict[int, Packet] = {}
        self._held_bytes = 0
        self._timer: Timer | None = None
        self._assembly: _Assembly | None = None
        self._complained = False
        self._closed = False

    def take(self, packet: Packet) -> bool:
        """Take a packet that is part of the stream. True when many came early: their reader should let others by."""
        with self._lock:
            if self._closed or packet.sequence < self._expected:
                return False
            if packet.sequence > self._expected:
                self._hold(packet)
                return len(self._held) > FEW
            self._process(packet)
            self._expected = packet.sequence + 1
            if self._held:
                self._process_held()
            return False

    def take_short(self, sequence: int, fields: wire.Fields, header: bytes) -> bool:
        """Take a FRAMES packet with one frame without buffers; False if it needs :meth:`take`."""
        with self._lock:
            if sequence != self._expected or self._held or self._closed:
                return False
            self._assembly = None  # of a frame whose sender gave it up
            self._on_frame(fields, header, [])
            self._expected = sequence + 1
            return True

    def take_frames(self, sequence: int, payload: bytes) -> bool:
        """Take a FRAMES packet, the short way for nearly all of them; False if it needs :meth:`take`."""
        with self._lock:
            if sequence != self._expected or self._held or self._closed:
                return False
            self._assembly = None
            try:
                for fields, header, buffers in split_frames(payload):
                    self._on_frame(fields, header, buffers)
            except DecodeError as error:
                self._malformed(error)
            self._expected = sequence + 1
            return True

    def close(self) -> None:
        """Take nothing more; no frame is passed on after this."""
        with self._lock:
            self._closed = True
            self._held.clear()
            self._assembly = None
            if self._timer is not None:
                self._timer.cancel()

    # -- with the lock ----------------------------------------------------------------------------------------

    def _hold(self, packet: Packet) -> None:
        if packet.sequence in self._held:
            return
        self._held_bytes += len(packet.payload)
        self._held[packet.sequence] = packet
        if len(self._held) > limits.NET_HELD_PACKETS or self._held_bytes > limits.NET_BACKLOG_BYTES:
            self._broken("messages were lost on the network")
        elif self._timer is None:
            self._arm()

    def _process_held(self) -> None:
        while not self._closed and (packet := self._held.get(self._expected)) is not None:
            self._process(packet)
            self._expected = packet.sequence + 1
            if self._held.pop(packet.sequence, None) is not None:
                self._held_bytes -= len(packet.payload)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held and not self._closed:
            self._arm()

    def _arm(self) -> None:
        expected = self._expected
        self._timer = self._workers.call_later(limits.NET_HELD_SECONDS, lambda: self._overdue(expected))

    def _overdue(self, expected: int) -> None:
        with self._lock:
            if not self._closed and self._expected == expected and self._held:
                self._broken("messages were lost on the network")

    def _process(self, packet: Packet) -> None:
        try:
            kind = packet.kind
            if kind == Kind.FRAMES:
                for fields, header, buffers in split_frames(packet.payload):
                    self._on_frame(fields, header, buffers)
            elif kind == Kind.BEGIN:
                self._begin(packet)
            elif kind == Kind.MORE:
                self._more(packet.sequence, packet.payload)
            elif kind == Kind.PING:
                self._on_ping()
            elif kind == Kind.BYE:
                self._on_bye(packet.payload[HEAD.size :].decode(errors="replace"))
            elif kind != Kind.PONG:
                raise DecodeError(f"a packet of unknown kind {kind}")
        except DecodeError as error:
            self._malformed(error)

    def _malformed(self, error: DecodeError) -> None:
        self._assembly = None
        if not self._complained:
            self._complained = True
            log.warning("%s sends malformed messages, which are dropped: %s", self._peer, error)

    def _begin(self, packet: Packet) -> None:
        attachment, total = packet.attachment or b"", packet.total
        if len(attachment) != HEAD.size + wire.FRAME.size:
            raise DecodeError(f"the attachment of a large message has {len(attachment)} bytes")
        fields: wire.Fields = wire.FRAME.unpack_from(attachment, HEAD.size)
        if len(packet.payload) == total:
            self._assembly = None
            self._on_frame(fields, *split_body(fields, memoryview(packet.payload)))
        else:
            self._assembly = _Assembly(fields, total)
            self._more(packet.sequence, packet.payload)

    def _more(self, sequence: int, piece: bytes) -> None:
        assembly = self._assembly
        if assembly is None:
            raise DecodeError("a piece of a message that was not begun")
        if assembly.add(sequence, piece):
            fields = assembly.fields
            self._on_frame(fields, *split_body(fields, assembly.body.toreadonly()))
            self._expected = sequence + 1  # first: an interrupted reader takes it again, but not without the assembly
            self._assembly = None
