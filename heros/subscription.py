"""The subscribing side of an event: counting, delivering, acknowledging, and coming back after a loss.

Rules
    - :meth:`Subscription.receive` runs on the thread that reads the channel. It counts and queues; it runs no callback.
    - Callbacks of one subscription run one at a time, in order (a ``Strand``), on the worker that is at it.
    - A sample is acknowledged when its callbacks are done, many at a time: after an eighth of the window, in samples
      or in bytes. So the publisher always has most of its window, and a slow callback holds up nothing but itself.

Missed samples
    ``missed`` is what was published since the subscription began, as far as the publisher has told, less what was
    received. It is exact: sequences are the publisher's own count, and a drop that no sample tells of is told by GAP.
    Across a lost connection to the same instance the count goes on; a restarted HERO counts anew, and what it
    published before the subscription was back cannot be known.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from heros import limits
from heros.bound import Bound
from heros.buffers import Buffer, buffer_nbytes
from heros.dispatch import Dispatcher
from heros.exceptions import DecodeError, HEROSError
from heros.transport import Channel, Task
from heros.wire import Fields, Kind, NodeMember
from heros.workers import Strand, Timer, Workers

__all__ = ["Subscription"]

log = logging.getLogger("heros.event")

ACK_SAMPLES: Final = limits.EVENT_WINDOW // 8
ACK_BYTES: Final = limits.EVENT_WINDOW_BYTES // 8
RETRY_SECONDS: Final = (0.05, 2.0)

_idents = itertools.count(1)


class Runtime(Protocol):
    """What a subscription needs of its node."""

    workers: Workers
    dispatcher: Dispatcher

    @property
    def closed(self) -> bool: ...
    def bind(self, realm: str, name: str, wait: float = ..., discovery: float = ...) -> Bound: ...
    def call_node(self, channel: Channel, member: NodeMember, arguments: list[Any]) -> Any: ...


class Subscription:
    """One callback on one remote event. Begins with :meth:`open`, ends with :meth:`close`. Thread-safe.

    Args:
        node: this process's node.
        realm, name, event: what to subscribe to.
        deliver: called with each value, in order, one at a time, on a worker. What it raises is logged.
    """

    def __init__(self, node: Runtime, realm: str, name: str, event: str, deliver: Callable[[Any], object]) -> None:
        self._node = node
        self._realm = realm
        self._name = name
        self._event = event
        self._deliver = deliver
        self._strand = Strand()
        self._lock = threading.Lock()
        self._bound: Bound | None = None
        self._ident = 0
        self._instance = ""
        self._start: int | None = None
        self._latest = 0
        self._received = 0
        self._missed_before = 0
        self._acknowledged = 0
        self._unacknowledged_bytes = 0
        self._closed = False
        self._retry: Timer | None = None
        self._delay = RETRY_SECONDS[0]

    @property
    def endpoint(self) -> str:
        return f"{self._realm}/{self._name}/{self._event}"

    @property
    def missed(self) -> int:
        """Samples that were published and not received, since the subscription began."""
        start = self._start
        if start is None:
            return self._missed_before
        return self._missed_before + max(0, self._latest - start - self._received)

    @property
    def attached(self) -> bool:
        """Whether the publisher has this subscription now."""
        return self._start is not None

    @property
    def orphaned(self) -> bool:
        """Whether this is a forked child's copy: the callbacks stay with the parent."""
        return self._node.closed

    # -- life -------------------------------------------------------------------------------------------------

    def open(self, bound: Bound) -> None:
        """Subscribe at the HERO that ``bound`` leads to. Raises what a call may raise."""
        ident = next(_idents)
        member = bound.members[self._event]
        with self._lock:
            if self._closed:
                return
            missed = self.missed
            resumed = bool(self._instance) and self._instance == bound.instance
            latest = self._latest
            # What is received from now on belongs to this subscription; its start is known with the reply.
            self._start = None
            self._missed_before = missed
            self._received = 0
            self._latest = 0
            self._acknowledged = 0
            self._unacknowledged_bytes = 0
            self._bound, self._ident, self._instance = bound, ident, bound.instance
        bound.inbox.add(ident, self)
        try:
            start = self._node.call_node(bound.channel, NodeMember.SUBSCRIBE, [ident, bound.object_id, member])
        except BaseException:
            bound.inbox.remove(ident)
            raise
        with self._lock:
            if resumed and start > latest:
                self._missed_before += start - latest
            self._start = start
            self._latest = max(self._latest, start)
        self._delay = RETRY_SECONDS[0]

    def close(self) -> None:
        """End it. No callback starts after this returns, but one may still be running."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            bound, self._bound = self._bound, None
            retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
        if bound is not None:
            bound.inbox.remove(self._ident)
            # Nobody waits for the answer, and the publisher may be gone or stopped.
            header, buffers = self._node.dispatcher.encode([self._ident])
            try:
                bound.channel.submit(0, NodeMember.UNSUBSCRIBE, 0, 0, header, buffers, lambda reply: None)
            except HEROSError as error:
                log.debug("%s: unsubscribing failed: %s", self.endpoint, error)

    def lost(self, ident: int, reason: str) -> None:
        """The publisher is gone: try to find it, or its successor, until this is closed."""
        with self._lock:
            if self._closed or ident != self._ident:
                return
            self._missed_before = self.missed
            self._received = 0
            self._start = None
            self._bound = None
            log.info("%s: the subscription is interrupted (%s)", self.endpoint, reason)
            self._retry = self._node.workers.call_later(self._delay, self._reopen)

    def _reopen(self) -> None:
        self._delay = min(self._delay * 1.5, RETRY_SECONDS[1])
        try:
            bound = self._node.bind(self._realm, self._name, discovery=self._delay)
            if self._event not in bound.members:
                raise HEROSError(f"it has no event {self._event} any more")
            self.open(bound)
        except Exception as error:
            log.debug("%s: not back yet: %s", self.endpoint, error)
            with self._lock:
                if not self._closed:
                    self._retry = self._node.workers.call_later(self._delay, self._reopen)
        else:
            log.info("%s: the subscription is back (%d samples missed so far)", self.endpoint, self.missed)

    # -- samples ----------------------------------------------------------------------------------------------

    def receive(self, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]) -> Task | None:
        kind, ident, sequence, index = fields[0], fields[4], fields[5], fields[6]
        if kind == Kind.SAMPLE:
            if sequence <= self._latest:
                return None
            self._latest = sequence
            self._received += 1
            if self._strand.acquire():
                return partial(self._run_first, ident, index, header, buffers)
            task: Task = partial(self._run, ident, index, header, buffers)
        elif kind == Kind.GAP:
            self._latest = max(self._latest, sequence)
            task = partial(self._acknowledge, ident, index)
        elif kind == Kind.END:
            self._latest = max(self._latest, sequence)
            task = partial(self.lost, ident, bytes(header).decode(errors="replace"))
        else:
            log.warning("%s: a frame of kind %d makes no sense at a client; ignored", self.endpoint, kind)
            return None
        ready = self._strand.enter(task)
        return None if ready is None else partial(self._strand.go_on, ready)

    def _run_first(self, ident: int, index: int, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        self._run(ident, index, header, buffers)
        del buffers
        self._strand.go_on(self._strand.leave())

    def _run(self, ident: int, index: int, header: bytes | memoryview, buffers: Sequence[Buffer]) -> None:
        """Deliver one sample; acknowledge what is due."""
        nbytes = len(header)
        if buffers:
            nbytes += sum(map(buffer_nbytes, buffers))
        if not self._closed:
            try:
                value = self._node.dispatcher.decode(header, buffers)
            except (DecodeError, HEROSError) as error:
                log.error("%s: a sample could not be decoded: %s", self.endpoint, error)
            else:
                try:
                    self._deliver(value)
                except Exception:
                    log.exception("%s: a callback failed; it stays connected", self.endpoint)
                del value
        self._unacknowledged_bytes += nbytes
        if index - self._acknowledged >= ACK_SAMPLES or self._unacknowledged_bytes >= ACK_BYTES:
            self._acknowledge(ident, index)

    def _acknowledge(self, ident: int, index: int) -> None:
        bound = self._bound
        if bound is None or ident != self._ident or index <= self._acknowledged:
            return
        self._acknowledged = index
        self._unacknowledged_bytes = 0
        try:
            bound.channel.post(Kind.ACK, 0, ident, index, 0)
        except HEROSError as error:
            log.debug("%s: acknowledging failed: %s", self.endpoint, error)  # the channel tells that it is closed
