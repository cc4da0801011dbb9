"""The publishing side of one event: who has subscribed, and what each of them was sent, missed and still may get.

Rules
    - ``publish`` is the only thing that is called from user code, and for a best-effort event it never waits.
    - Samples of one event have one order, the same for every subscriber. ``_order`` is held while one is counted, and,
      if the event is best-effort, while it is sent.
    - A reliable event is sent with ``_turn`` held instead: the publisher may wait there, and whoever comes, leaves or
      ends the event meanwhile takes ``_order`` only, and does not wait with it.
    - A subscriber is ``gone`` from the moment in which somebody means to remove it; no publisher waits for it then.
    - A subscriber has a *window*: so many samples, and so many bytes, may be on their way to it. It is opened by ACK
      frames, which name the index up to which its callbacks are done; an ACK also covers what a transport lost.

No silent loss
    Every sample carries the event's sequence number, so a subscriber that sees a jump knows how many it missed. When
    the last thing that happened to a subscriber was a drop, no sample will tell it: a timer does, ``REPORT_SECONDS``
    later, with a GAP frame, again and again until there was room for it. A GAP also carries the index, so that a
    subscriber whose whole window was lost on the way can acknowledge what it never saw and opens the window again.
    END is repeated in the same way: who never hears of it would wait for samples of a HERO that is no more.

Who writes what
    ``index``, ``sent_bytes``, ``lost_through`` are written by the publishing thread; ``done``, ``done_bytes`` by the
    thread that reads the channel. Each has one writer, and reading a stale value only errs on the careful side, so
    there is no lock between publishing and acknowledging. ``_reporting`` is a lock that is only ever tried: who has it
    owns the one timer that there may be. It is released before ``lost_through`` is looked at for the last time, and
    ``lost_through`` is written before it is tried, so no drop is left without a report.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from functools import partial
from typing import Final

from heros import limits
from heros.exceptions import HEROUnavailable
from heros.net import qos
from heros.transport import Link, Payload
from heros.wire import Kind
from heros.workers import Workers

__all__ = ["Publisher", "Subscriber"]

log = logging.getLogger("heros.event")

REPORT_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 0.001
WAIT_SECONDS: Final = 1.0

_SAMPLE: Final = int(Kind.SAMPLE)
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
        "gone",
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
        self.gone = False
        self._sizes: deque[int] = deque()
        self._room = threading.Event()
        self._waiting = False
        self._reporting = threading.Lock()
        self._workers = workers

    # -- the publishing thread --------------------------------------------------------------------------------

    def _has_room(self, nbytes: int) -> bool:
        in_flight = self.index - self.done
        return in_flight == 0 or (
            in_flight < limits.EVENT_WINDOW and self.sent_bytes - self.done_bytes + nbytes <= limits.EVENT_WINDOW_BYTES
        )

    def send(self, sequence: int, payload: Payload) -> bool:
        """Send one sample if there is room; returns whether it was sent. Raises what the link raises."""
        if not self._has_room(payload.nbytes):
            self.link.collect()
            if not self._has_room(payload.nbytes):
                return False
        index = self.index + 1
        # Its size goes first: the acknowledgement may overtake the return of ``publish``.
        self._sizes.append(payload.nbytes)
        self.sent_bytes += payload.nbytes
        sent = False
        try:
            sent = self.link.publish(_SAMPLE, self.ident, sequence, index, payload, self.index - self.done)
        except BaseException as error:
            sent = not isinstance(error, Exception)  # Ctrl-C: it may be; if not, the next acknowledgement covers it
            raise
        finally:
            if sent:
                self.index = index
            else:
                with contextlib.suppress(IndexError):  # a peer that acknowledges what it was never sent
                    self._sizes.pop()
                self.sent_bytes -= payload.nbytes
        return sent

    def send_or_drop(self, sequence: int, payload: Payload) -> None:
        """Send one sample, or count it as dropped. Raises what the link raises."""
        sent = False
        try:
            sent = self.send(sequence, payload)
        finally:
            if not sent:
                self._drop(sequence)

    def send_reliably(self, sequence: int, payload: Payload, endpoint: str) -> None:
        """Wait for room; disconnect a subscriber that has given none for ``RELIABLE_SECONDS``. Raises what the link
        raises; the sample counts as dropped then."""
        try:
            if not self.send(sequence, payload):
                self._waiting = True
                self._wait_and_send(sequence, payload, endpoint)
        except BaseException:
            self._drop(sequence)
            raise
        finally:
            self._waiting = False

    def _drop(self, sequence: int) -> None:
        self.dropped += 1
        self.lost_through = sequence
        if self._reporting.acquire(False):
            self._workers.call_later(REPORT_SECONDS, self._report)

    def _wait_and_send(self, sequence: int, payload: Payload, endpoint: str) -> None:
        done = self.done
        patience = time.monotonic() + limits.RELIABLE_SECONDS
        while True:
            self._room.clear()  # before the looks, so that what changes after them sets it again
            if self.gone or self.link.closed or self.send(sequence, payload):
                return
            if self.done != done:
                done = self.done
                patience = time.monotonic() + limits.RELIABLE_SECONDS
            elif time.monotonic() > patience:
                break
            # Where the window has room, the channel itself is full; it does not say when it is not.
            self._room.wait(RETRY_SECONDS if self._has_room(payload.nbytes) else WAIT_SECONDS)
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
            try:
                nbytes += sizes.popleft()
            except IndexError:  # the publisher has taken it back this moment
                break
            done += 1
        self.done_bytes += nbytes
        self.done = done
        if self._waiting:
            self._room.set()

    # -- any thread -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """It is to be sent nothing more: a publisher that waits for it goes on. Never blocks."""
        self.gone = True
        self._room.set()

    def end(self, sequence: int, payload: Payload) -> None:
        """Tell it that there will be no further sample, now or as soon as there is room."""
        if not self.link.publish(Kind.END, self.ident, sequence, self.index, payload) and not self.link.closed:
            self._workers.call_later(REPORT_SECONDS, partial(self.end, sequence, payload))

    # -- a worker ---------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Tell the subscriber of the drops that no sample has told it of. Runs with ``_reporting`` taken."""
        if self.gone or self.link.closed:
            return
        told = self.lost_through
        if self.link.publish(Kind.GAP, self.ident, told, self.index, _EMPTY):
            self._reporting.release()
            if self.lost_through == told or not self._reporting.acquire(False):
                return
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
        # Both re-entrant: a callback may publish the event that it is called for. ``_turn`` is taken before ``_order``.
        self._turn = threading.RLock()
        self._order = threading.RLock()
        self._ended = False
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

    def skip(self) -> bool:
        """Count one sample that nobody wanted. False, and it was not counted: by now there is a subscriber."""
        with self._order:
            if self._subscribers:
                return False
            self.sequence += 1
            return True

    def publish(self, payload: Payload) -> None:
        """Send one sample to every subscriber; waits only if the event is reliable.

        Raises what was raised for one of them (there is no memory for its buffers, Ctrl-C), after the others have had
        their turn.
        """
        if self.reliable:
            self._publish_reliably(payload)
            return
        failure: BaseException | None = None
        with self._order:
            sequence = self._count(payload)
            for subscriber in self._subscribers:
                if not subscriber.gone:
                    try:
                        subscriber.send_or_drop(sequence, payload)
                    except BaseException as error:
                        failure = error
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # which refers to this frame

    def _publish_reliably(self, payload: Payload) -> None:
        failure: BaseException | None = None
        with self._turn:
            with self._order:
                sequence = self._count(payload)
                subscribers = self._subscribers
            for subscriber in subscribers:
                if subscriber.gone:
                    continue
                try:
                    if failure is None or isinstance(failure, Exception):
                        subscriber.send_reliably(sequence, payload, self.endpoint)
                    else:  # Ctrl-C: wait for nobody any more
                        subscriber.send_or_drop(sequence, payload)
                except BaseException as error:
                    failure = error
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # which refers to this frame

    def _count(self, payload: Payload) -> int:
        self.sequence = sequence = self.sequence + 1
        if self._kept.maxlen:
            self._kept.append((sequence, payload))
        return sequence

    def subscribe(self, subscriber: Subscriber) -> int:
        """Add a subscriber. Returns the sequence after which it gets everything.

        Raises:
            HEROUnavailable: the event has ended.
        """
        with self._order:
            if self._ended:
                raise HEROUnavailable("the HERO was withdrawn by its owner; look it up again")
            start = self._kept[0][0] - 1 if self._kept else self.sequence
            if subscriber.gone:  # it has left before it came
                return start
            self._subscribers = (*self._subscribers, subscriber)
            for sequence, payload in self._kept:
                if self.reliable:
                    subscriber.send_reliably(sequence, payload, self.endpoint)
                else:
                    subscriber.send_or_drop(sequence, payload)
        return start

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a subscriber. Does not wait for a publisher that waits."""
        subscriber.leave()
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
        """Tell every subscriber that there will be no further sample. Returns who they were.

        What a reliable publisher waits to send at this moment is not sent; its subscribers see that they missed it.
        """
        for subscriber in self._subscribers:
            subscriber.leave()  # before ``_order``: ``subscribe`` may be waiting to send what is kept
        with self._order:
            self._ended = True
            subscribers, self._subscribers = self._subscribers, ()
            self._kept.clear()
            sequence = self.sequence
        for subscriber in subscribers:
            subscriber.leave()
        payload = Payload(reason.encode(), ())
        with self._turn:  # a sample that is being sent goes first
            for subscriber in subscribers:
                subscriber.end(sequence, payload)
        return subscribers
