"""The publishing side of one event: who has subscribed, and what each of them was sent, missed and still may get.

Rules
    - ``publish`` is the only thing that is called from user code, and for a best-effort event it never waits.
    - Samples of one event have one order, the same for every subscriber: ``_order`` is held while one is published.
    - A subscriber has a *window*: so many samples, and so many bytes, may be on their way to it. It is opened by ACK
      frames, which name the index up to which its callbacks are done; an ACK also covers what a transport lost.

No silent loss
    Every sample carries the event's sequence number, so a subscriber that sees a jump knows how many it missed. When
    the last thing that happened to a subscriber was a drop, no sample will tell it: a timer does, ``REPORT_SECONDS``
    later, with a GAP frame, again and again until there was room for it. A GAP also carries the index, so that a
    subscriber whose whole window was lost on the way can acknowledge what it never saw and opens the window again.

Who writes what
    ``index``, ``sent_bytes``, ``lost_through`` are written by the publishing thread (under ``_order``); ``done``,
    ``done_bytes`` by the thread that reads the channel. Each has one writer, and reading a stale value only errs on
    the careful side, so there is no lock between publishing and acknowledging.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from typing import Final

from heros import limits
from heros.net import qos
from heros.transport import Link, Payload
from heros.wire import Kind
from heros.workers import Workers

__all__ = ["Publisher", "Subscriber"]

log = logging.getLogger("heros.event")

REPORT_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 0.001

_EMPTY = Payload(b"", ())


class Subscriber:
    """One subscription, as its publisher sees it."""

    __slots__ = (
        "_reporting",
        "_room",
        "_sizes",
        "_waiting",
        "_workers",
        "done",
        "done_bytes",
        "dropped",
        "ident",
        "index",
        "link",
        "lost_through",
        "sent_bytes",
    )

    def __init__(self, link: Link, ident: int, workers: Workers) -> None:
        self.link = link
        self.ident = ident
        self.index = 0
        self.sent_bytes = 0
        self.done = 0
        self.done_bytes = 0
        self.dropped = 0
        self.lost_through = 0
        self._sizes: deque[int] = deque()
        self._room = threading.Event()
        self._waiting = False
        self._reporting = False
        self._workers = workers

    # -- the publishing thread --------------------------------------------------------------------------------

    def _has_room(self, nbytes: int) -> bool:
        in_flight = self.index - self.done
        return in_flight == 0 or (
            in_flight < limits.EVENT_WINDOW and self.sent_bytes - self.done_bytes + nbytes <= limits.EVENT_WINDOW_BYTES
        )

    def send(self, sequence: int, payload: Payload) -> bool:
        """Send one sample if there is room; returns whether it was sent."""
        if not self._has_room(payload.nbytes):
            return False
        index = self.index + 1
        # Its size goes first: the acknowledgement may overtake the return of ``publish``.
        self._sizes.append(payload.nbytes)
        self.sent_bytes += payload.nbytes
        if not self.link.publish(Kind.SAMPLE, self.ident, sequence, index, payload):
            with contextlib.suppress(IndexError):  # a peer that acknowledges what it was never sent
                self._sizes.pop()
            self.sent_bytes -= payload.nbytes
            return False
        self.index = index
        return True

    def send_or_drop(self, sequence: int, payload: Payload) -> None:
        if not self.send(sequence, payload):
            self.dropped += 1
            self.lost_through = sequence
            if not self._reporting:
                self._reporting = True
                self._workers.call_later(REPORT_SECONDS, self._report)

    def send_reliably(self, sequence: int, payload: Payload, endpoint: str) -> None:
        """Wait for room; disconnect a subscriber that has given none for ``RELIABLE_SECONDS``."""
        patience = time.monotonic() + limits.RELIABLE_SECONDS
        while not self.link.closed and not self.send(sequence, payload):
            self._room.clear()
            self._waiting = True  # before the second look, so that an ACK between the two looks sets ``_room``
            try:
                if self._has_room(payload.nbytes):
                    time.sleep(RETRY_SECONDS)  # the channel itself is full; it does not say when it is not
                else:
                    done = self.done
                    self._room.wait(1.0)
                    if self.done != done:
                        patience = time.monotonic() + limits.RELIABLE_SECONDS
            finally:
                self._waiting = False
            if time.monotonic() > patience:
                self.link.close(
                    f"took no sample of the reliable event {endpoint} for {limits.RELIABLE_SECONDS:g} s; "
                    "it held up the publisher"
                )

    # -- the thread that reads the channel --------------------------------------------------------------------

    def acknowledge(self, index: int) -> None:
        """The subscriber is done with everything up to ``index``."""
        sizes = self._sizes
        done = self.done
        nbytes = 0
        # An index from the other side is not trusted: more than there is to be done with is ignored.
        while done < index and sizes:
            nbytes += sizes.popleft()
            done += 1
        self.done_bytes += nbytes
        self.done = done
        if self._waiting:
            self._room.set()

    def wake(self) -> None:
        """End a wait for room: the link is closed."""
        self._room.set()

    # -- a worker ---------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Tell the subscriber of the drops that no sample has told it of."""
        self._reporting = False
        if self.link.closed:
            return
        if not self.link.publish(Kind.GAP, self.ident, self.lost_through, self.index, _EMPTY):
            self._reporting = True
            self._workers.call_later(REPORT_SECONDS, self._report)


class Publisher:
    """One event of one HERO. Thread-safe.

    Args:
        endpoint: ``realm/name/event``, for messages.
        reliable: wait for slow subscribers instead of dropping.
        keep: so many of the last samples are sent to a late subscriber first.
    """

    def __init__(self, endpoint: str, reliable: bool = False, keep: int = 0) -> None:
        self.endpoint = endpoint
        self.reliable = reliable
        self.sequence = 0
        self._order = threading.RLock()  # re-entrant: a callback may publish the event that it is called for
        self._subscribers: tuple[Subscriber, ...] = ()
        self._kept: deque[tuple[int, Payload]] = deque(maxlen=keep)

    @property
    def wanted(self) -> bool:
        """Whether anybody would see what is published now: if not, it need not be encoded."""
        return bool(self._subscribers) or bool(self._kept.maxlen)

    @property
    def reliability(self) -> object:
        """The ``zenoh.Reliability`` that programs for the original HEROS ask for. Imports zenoh."""
        return qos.reliability(self.reliable)

    @property
    def congestion_control(self) -> object:
        """The ``zenoh.CongestionControl`` that programs for the original HEROS ask for. Imports zenoh."""
        return qos.congestion_control(self.reliable)

    def skip(self) -> None:
        """Count one sample that nobody wanted."""
        with self._order:
            self.sequence += 1

    def publish(self, payload: Payload) -> None:
        """Send one sample to every subscriber; waits only if the event is reliable."""
        with self._order:
            self.sequence = sequence = self.sequence + 1
            if self._kept.maxlen:
                self._kept.append((sequence, payload))
            for subscriber in self._subscribers:
                self._send(subscriber, sequence, payload)

    def _send(self, subscriber: Subscriber, sequence: int, payload: Payload) -> None:
        if self.reliable:
            subscriber.send_reliably(sequence, payload, self.endpoint)
        else:
            subscriber.send_or_drop(sequence, payload)

    def subscribe(self, subscriber: Subscriber) -> int:
        """Add a subscriber. Returns the sequence after which it gets everything."""
        with self._order:
            start = self._kept[0][0] - 1 if self._kept else self.sequence
            self._subscribers = (*self._subscribers, subscriber)
            for sequence, payload in self._kept:
                self._send(subscriber, sequence, payload)
        return start

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber. Does not wait for a ``publish`` that is under way."""
        with self._order:
            self._subscribers = tuple(each for each in self._subscribers if each is not subscriber)
        if subscriber.dropped:
            log.info(
                "%s: a subscriber (pid %d) left; %d samples were dropped for it",
                self.endpoint,
                subscriber.link.peer.pid,
                subscriber.dropped,
            )

    def end(self, reason: str) -> tuple[Subscriber, ...]:
        """Tell every subscriber that there will be no further sample. Returns who they were."""
        with self._order:
            subscribers, self._subscribers = self._subscribers, ()
            self._kept.clear()
            payload = Payload(reason.encode(), ())
            for subscriber in subscribers:
                subscriber.link.publish(Kind.END, subscriber.ident, self.sequence, subscriber.index, payload)
        return subscribers
