"""A HERO that was found and has answered: what its proxies and subscriptions hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from heros.buffers import Buffer
from heros.capabilities import Capability
from heros.transport import Channel, Link, Task, Transport
from heros.wire import Fields

__all__ = ["Bound", "EventSink", "Inbox"]


class EventSink(Protocol):
    """What takes the frames of one subscription."""

    def receive(self, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> Task | None:
        """As ``transport.Receiver.receive``."""

    def lost(self, ident: int, reason: str) -> None:
        """No frame follows for the subscription ``ident``."""


class Inbox:
    """Where the frames of one channel's events go: to the subscription that they name. A ``transport.Receiver``.

    Args:
        on_closed: called once, when the channel is closed and before the subscriptions are told. Like the receiver,
            it must not block or raise.
    """

    def __init__(self, on_closed: Callable[[], object] | None = None) -> None:
        self._subscriptions: dict[int, EventSink] = {}
        self._on_closed = on_closed
        self.closed_at: float | None = None
        """When the channel was closed, by ``time.monotonic``."""

    def add(self, ident: int, subscription: EventSink) -> None:
        self._subscriptions[ident] = subscription

    def remove(self, ident: int) -> None:
        self._subscriptions.pop(ident, None)

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        """Take one SAMPLE, GAP or END."""
        subscription = self._subscriptions.get(fields[4])
        if subscription is None:
            return None  # it has just been closed
        return subscription.receive(fields, header, buffers)

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        """The publisher's node is gone."""
        self.closed_at = time.monotonic()
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()  # first: a subscription that comes back must not find this channel again
        subscriptions, self._subscriptions = self._subscriptions, {}
        for ident, subscription in tuple(subscriptions.items()):  # another thread may still be adding to it
            subscription.lost(ident, str(reason))


@dataclass(frozen=True, slots=True)
class Bound:
    """A HERO that was found and answered: everything that a proxy needs to talk to this one instance."""

    channel: Channel
    inbox: Inbox
    transport: Transport
    object_id: int
    instance: str
    class_name: str
    implements: frozenset[str]
    tags: frozenset[str]
    extra_metadata: dict[str, str]
    capabilities: tuple[Capability, ...]
    members: dict[str, int]
