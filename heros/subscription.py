"""The subscribing side of an event: counting, delivering, acknowledging, and coming back after a loss.

Rules
    - :meth:`Subscription.receive` runs on the thread that reads the channel. It counts and queues; it runs no callback.
    - Callbacks of one subscription run one at a time, in order (a ``Strand``), on the worker that is at it.
    - A sample is acknowledged when its callbacks are done, many at a time: after an eighth of the window, in samples
      or in bytes. So the publisher always has most of its window, and a slow callback holds up nothing but itself.
      It is acknowledged whatever became of it: one that cannot be decoded, or that was received before, took its
      part of the window too. And whatever leaves a callback, the strand is given on.

Coming and going
    Each attempt to subscribe has an id of its own, which is in the inbox, and in ``_ident``, for as long as this is
    the attempt that counts. ``open`` takes part in nothing else: what is lost or closed meanwhile only clears
    ``_ident``, and ``open`` sees it when the reply is there. So there is one attempt, or one timer for the next, and
    an attempt that came to nothing is undone at the publisher, which may have carried it out. A proxy that has found
    the successor does not wait for the timer (``follow``); whichever of the two comes first makes the attempt.

Missed samples
    ``missed`` is what was published since the subscription began, as far as the publisher has told, less what was
    received. It is exact: sequences are the publisher's own count, and a drop that no sample tells of is told by GAP.
    Across a lost connection to the same instance the count goes on, and a kept sample that was received before is
    not delivered again. A restarted HERO began at 0: what it published before the subscription was back is missed.

    ``_latest`` and ``_received`` are written by the thread that reads the channel, ``_floor`` by the one that opens:
    the sequence from which on the publisher sends everything.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from heros import limits
from heros.bound import Bound
from heros.buffers import Buffer, buffer_nbytes
from heros.dispatch import Dispatcher
from heros.exceptions import HEROSError
from heros.transport import Channel, Task
from heros.wire import Fields, Kind, NodeMember
from heros.workers import Strand, Timer, Workers, in_main_thread

__all__ = ["Subscription"]

log = logging.getLogger("heros.event")

ACK_SAMPLES: Final = limits.EVENT_WINDOW // 8
ACK_BYTES: Final = limits.EVENT_WINDOW_BYTES // 8
RETRY_SECONDS: Final = (0.05, 2.0)

_SAMPLE, _GAP, _END, _ACK = map(int, (Kind.SAMPLE, Kind.GAP, Kind.END, Kind.ACK))
_idents = itertools.count(1)


class Runtime(Protocol):
    """What a subscription needs of its node."""

    workers: Workers
    dispatcher: Dispatcher

    @property
    def closed(self) -> bool: ...
    @property
    def ending(self) -> bool: ...
    def bind(self, realm: str, name: str, wait: float = ..., discovery: float = ...) -> Bound: ...
    def call_node(self, channel: Channel, member: NodeMember, arguments: list[Any]) -> Any: ...


class Subscription:
    """One callback on one remote event. Begins with ``open`` or ``start``, ends with ``close``. Thread-safe.

    Args:
        node: this process's node.
        realm, name, event: what to subscribe to.
        deliver: called with each value, in order, one at a time, on a worker. What it raises is logged.
        former: a subscription to the same event that was closed, whose count goes on with this one.
    """

    def __init__(
        self,
        node: Runtime,
        realm: str,
        name: str,
        event: str,
        deliver: Callable[[Any], object],
        former: Subscription | None = None,
    ) -> None:
        self._node = node
        self._realm = realm
        self._name = name
        self._event = event
        self._deliver = deliver
        self._strand = Strand()
        self._lock = threading.Lock()
        self._bound: Bound | None = None
        self._ident = 0
        self._opening = False
        self._attached = False
        self._instance = ""
        self._start: int | None = None
        self._floor = 0
        self._latest = 0
        self._received = 0
        self._missed_before = 0
        self._acknowledged = 0
        self._unacknowledged_bytes = 0
        self._closed = False
        self._retry: Timer | None = None
        self._delay = RETRY_SECONDS[0]
        self._lost_at: float | None = None
        self._missed_then = 0
        if former is not None:
            self._lost_at, self._missed_then = former._lost_at, former._missed_then
            self._instance, self._start, self._floor = former._instance, former._start, former._floor
            self._latest, self._received, self._missed_before = former._latest, former._received, former._missed_before

    @property
    def endpoint(self) -> str:
        return f"{self._realm}/{self._name}/{self._event}"

    @property
    def missed(self) -> int:
        """Samples that were published and not received, since the subscription began."""
        start = self._start
        if start is None:
            return self._missed_before
        return self._missed_before + max(0, max(self._latest, self._floor) - start - self._received)

    @property
    def attached(self) -> bool:
        """Whether the publisher has this subscription now."""
        return self._attached

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Subscribe as soon as the HERO is there and has the event. Returns at once; what fails is tried again."""
        with self._lock:
            if not self._closed:
                self._schedule(0.0)

    def follow(self, bound: Bound) -> None:
        """A proxy has found the HERO anew: subscribe there now, if this waits for its next attempt. What fails is tried
        again."""
        if not self._attached and self._event in bound.members:
            self._attempt(lambda: bound)

    def open(self, bound: Bound) -> None:
        """Subscribe at the HERO that ``bound`` leads to. Does nothing once closed, or when it is being done or is done
        already. Raises what a call may raise."""
        member = bound.members[self._event]
        ident = self._begin(bound)
        if not ident:
            return
        try:
            start = self._node.call_node(bound.channel, NodeMember.SUBSCRIBE, [ident, bound.object_id, member])
        except BaseException:
            self._give_up(bound, ident)
            raise
        with self._lock:
            self._opening = False
            if self._start is None:
                self._start = start
            self._floor = start
            closed, lost = self._closed, self._ident != ident
            self._attached = not lost
            if not lost:
                self._delay = RETRY_SECONDS[0]
            elif not closed:
                self._schedule(self._delay)
            lost_at = self._lost_at
            if self._attached:
                self._lost_at = None
        if closed:
            self._unsubscribe(bound, ident)
        elif lost_at is not None and not lost:
            seconds, missed = time.monotonic() - lost_at, self.missed - self._missed_then
            log.info(
                "%s: the subscription is back after %.2f s; %d samples were missed", self.endpoint, seconds, missed
            )

    def _begin(self, bound: Bound) -> int:
        """Begin an attempt. What is received from now on belongs to it; returns its id, 0 if there is to be none."""
        with self._lock:
            if self._closed or self._opening or self._ident:
                return 0
            self._cancel()
            if self._instance != bound.instance:
                missed = self.missed
                self._start = None if self._start is None else 0  # a successor began at 0
                self._missed_before = missed
                self._instance = bound.instance
                self._floor = self._latest = self._received = 0
            self._acknowledged = 0
            self._unacknowledged_bytes = 0
            self._opening = True
            self._bound, self._ident = bound, next(_idents)
            bound.inbox.add(self._ident, self)
            return self._ident

    def _give_up(self, bound: Bound, ident: int) -> None:
        """Undo an attempt that failed."""
        with self._lock:
            self._opening = False
            if self._ident == ident:
                self._detach()
            if self._start is None and self._latest:
                self._start = self._latest - self._received  # of what came, nothing is known to be missed
        self._unsubscribe(bound, ident)

    def _detach(self) -> None:
        """Nothing is received from now on. With the lock held."""
        bound, ident = self._bound, self._ident
        self._bound, self._ident, self._attached = None, 0, False
        if bound is not None:
            bound.inbox.remove(ident)

    def _unsubscribe(self, bound: Bound, ident: int) -> None:
        """Tell the publisher. Nobody waits for the answer, and the publisher may be gone or stopped."""
        try:
            header, buffers = self._node.dispatcher.encode([ident])
            bound.channel.submit(0, NodeMember.UNSUBSCRIBE, 0, 0, header, buffers, lambda reply: None)
        except HEROSError as error:
            log.debug("%s: unsubscribing failed: %s", self.endpoint, error)

    def close(self) -> None:
        """End it. No callback starts after this returns, but one may still be running."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            bound, ident = self._bound, self._ident
            self._note_loss()
            self._detach()
            self._cancel()
        if bound is not None:
            self._unsubscribe(bound, ident)  # also while it is being opened: the reply may take long

    def lost(self, ident: int, reason: str) -> None:
        """The publisher is gone: try to find it, or its successor, until this is closed."""
        with self._lock:
            if self._closed or ident != self._ident:
                return
            self._note_loss()
            self._detach()
            if not self._opening:
                self._schedule(self._delay)
        if not self._node.ending:  # at the end of a program every subscription ends, which is no news
            log.info("%s: the subscription is interrupted (%s)", self.endpoint, reason)

    def _note_loss(self) -> None:
        """For the message when it is back. With the lock held."""
        if self._lost_at is None:
            self._lost_at, self._missed_then = time.monotonic(), self.missed

    def _schedule(self, delay: float) -> None:
        """Have the one next attempt made ``delay`` seconds from now. With the lock held."""
        self._cancel()
        self._retry = self._node.workers.call_later(delay, self._reopen)

    def _cancel(self) -> None:
        """With the lock held."""
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()

    def _reopen(self) -> None:
        if not self._closed:
            self._delay = min(self._delay * 1.5, RETRY_SECONDS[1])
            self._attempt(partial(self._node.bind, self._realm, self._name, discovery=self._delay))

    def _attempt(self, find: Callable[[], Bound]) -> None:
        """Subscribe where ``find`` says, unless it is done already; if it fails, later."""
        try:
            bound = find()
            if self._event not in bound.members:
                raise HEROSError(f"it has no event {self._event}")
            self.open(bound)
        except Exception as error:
            log.debug("%s: not there yet: %s", self.endpoint, error)
            with self._lock:
                if not (self._closed or self._opening or self._ident):
                    self._schedule(self._delay)

    # -- samples ----------------------------------------------------------------------------------------------

    def receive(self, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> Task | None:
        kind, ident, sequence, index = fields[0], fields[4], fields[5], fields[6]
        if kind == _SAMPLE:
            task: Task
            if sequence > self._latest:
                self._latest = sequence
                self._received += 1
                if self._strand.acquire():
                    return partial(self._run_first, ident, index, header, buffers)
                task = partial(self._run, ident, index, header, buffers)
            else:  # received before the connection was lost, and kept by the publisher
                task = partial(self._acknowledge, ident, index)
        elif kind == _GAP:
            self._latest = max(self._latest, sequence)
            task = partial(self._acknowledge, ident, index)
        elif kind == _END:
            self._latest = max(self._latest, sequence)
            task = partial(self.lost, ident, bytes(header).decode(errors="replace"))
        else:
            log.warning("%s: a frame of kind %d makes no sense at a client; ignored", self.endpoint, kind)
            return None
        ready = self._strand.enter(task)
        return None if ready is None else partial(self._strand.go_on, ready)

    def _run_first(self, ident: int, index: int, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        """Deliver one sample with the strand, which has been taken, and then what waits there."""
        try:
            self._run(ident, index, header, buffers)
        finally:
            del buffers
            self._strand.go_on(self._strand.leave())

    def _run(self, ident: int, index: int, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        """Deliver one sample; acknowledge what is due. Raises nothing but a ``KeyboardInterrupt`` in the main thread,
        and what ends the thread while it decodes."""
        nbytes = len(header)
        if buffers:
            nbytes += sum(map(buffer_nbytes, buffers))
        try:
            if not self._closed:
                try:
                    value = self._node.dispatcher.decode(header, buffers)
                except Exception as error:
                    log.error("%s: a sample could not be decoded: %s: %s", self.endpoint, type(error).__name__, error)
                else:
                    try:
                        self._deliver(value)
                    except BaseException as error:
                        if isinstance(error, KeyboardInterrupt) and in_main_thread():
                            raise
                        log.exception("%s: a callback failed; it stays connected", self.endpoint)
                    del value
        finally:
            self._unacknowledged_bytes += nbytes
            if index - self._acknowledged >= ACK_SAMPLES or self._unacknowledged_bytes >= ACK_BYTES:
                self._acknowledge(ident, index)

    def _acknowledge(self, ident: int, index: int) -> None:
        with self._lock:  # against a new attempt, which counts anew
            bound = self._bound
            if bound is None or ident != self._ident or index <= self._acknowledged:
                return
            self._acknowledged = index
            self._unacknowledged_bytes = 0
        try:
            bound.channel.post(_ACK, 0, ident, index, 0)
        except HEROSError as error:
            log.debug("%s: acknowledging failed: %s", self.endpoint, error)  # the channel tells that it is closed
