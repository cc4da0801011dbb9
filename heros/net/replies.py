"""Who reads the replies of a realm: the callers themselves, one at a time.

Why not a thread of ours, or zenoh's
    A reply that its caller reads wakes one thread; one that another thread reads wakes two, and waits for Python's
    global lock twice. So replies wait in a mailbox of zenoh's, which needs no Python to be filled, and a caller that
    finds nobody at it reads until its own reply is there. It delivers those of others on the way, and gives the
    reader's role on when it leaves (``docs/decisions/0012``).

    Where nobody waits for what was submitted, a worker has the role.

What a thread of its own does
    A mailbox has no time-out, one that is full blocks zenoh, and the end of a peer has to come after its last reply.
    The *attendant* sees to all three: it wakes a reader when its time is over, takes what nobody waits for, and puts a
    mark behind what is in the mailbox when a channel ends. It is no worker, as all of these may be waiting for replies.

What may interrupt a reader
    Ctrl-C and signal handlers come between any two steps of the main thread (``docs/decisions/0008``). A sample goes
    from the mailbox into ``_received`` in one step of C, and leaves it only when it has been taken: who reads next
    takes it once more, which does no harm. The role is an RLock, so that whether this thread has it can be asked,
    whatever step it was interrupted at. A call from within a reader on the same thread reads with the role of the
    frames below.

SYNC POINT: role
    A caller parks itself before it tries to get the role for the last time; whoever gives the role up looks for parked
    callers after that. So either the caller gets the role or it is woken.
"""

from __future__ import annotations

import itertools
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from heros import limits
from heros.exceptions import RemoteTransportError
from heros.net.bus import Mailbox, Message
from heros.transport import Task
from heros.workers import Workers

__all__ = ["Replies", "Waits"]

log = logging.getLogger("heros.net")

PARKED_SECONDS: Final = 0.5
"""How long a parked caller sleeps before it looks by itself: who was interrupted may not have woken it."""

SWEEP_SECONDS: Final = 5.0
"""How often it is looked for what nobody waits for; a hundredth of that while there is something."""

CLOSE_SECONDS: Final = 0.2
"""How long the attendant may take to tell of all endings."""


class Waits(Protocol):
    """A call that a thread waits for."""

    @property
    def reply(self) -> object:
        """None while there is none."""

    def sleep(self, seconds: float) -> object:
        """Wait until woken."""

    def wake(self) -> None: ...


class Replies:
    """See the module. Thread-safe.

    Args:
        take: takes one message. Taking the same one again must do no harm.
        mark: puts a message of our own into the mailbox: who takes it calls :meth:`reached`. Blocks while that is full.
    """

    def __init__(self, workers: Workers, take: Callable[[Message], object], mark: Callable[[bytes], None]) -> None:
        self._workers = workers
        self._take = take
        self._mark = mark
        self._endings: dict[bytes, Task] = {}
        self._numbers = itertools.count(1)
        self._mailbox: Mailbox | None = None
        self._role = threading.RLock()
        self._received: deque[Message] = deque()
        self._parked: deque[Waits] = deque()
        self._submitted: set[object] = set()
        self._keeping = False
        self._until = math.inf
        self._alarm = math.inf
        self._orders: queue.SimpleQueue[float | bytes | None] = queue.SimpleQueue()
        """What the attendant is to do: be awake at that time, put that mark, end. Neither a finaliser nor a signal
        handler that comes in the middle of ``put`` does it any harm."""
        self._attendant: threading.Thread | None = None
        self._closed = False

    def open(self, mailbox: Mailbox) -> None:
        """To be called once, before anything else."""
        self._mailbox = mailbox
        self._attendant = threading.Thread(target=self._attend, name="heros-net-replies", daemon=True)
        self._attendant.start()

    def close(self) -> None:
        """The mailbox is closed, or about to be: everything that was to come has come when this returns."""
        self._orders.put(None)
        attendant = self._attendant
        if attendant is not None and attendant is not threading.current_thread():
            attendant.join(CLOSE_SECONDS)

    # -- callers ----------------------------------------------------------------------------------------------

    def wait(self, call: Waits, deadline: float | None, name: str) -> None:
        """Return when ``call`` has its reply, or at the deadline."""
        role = self._role
        if role._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
            self._read(call, deadline, name)
            return
        try:
            if role.acquire(False):
                self._read(call, deadline, name)
            else:
                self._park(call, deadline, name)
            self._leave(call)
        except BaseException:
            self._leave(call)
            raise

    def _park(self, call: Waits, deadline: float | None, name: str) -> None:
        """Wait until another thread has read the reply, or has given up the role."""
        self._parked.append(call)
        while call.reply is None:
            if self._role.acquire(False):  # SYNC POINT: role
                self._read(call, deadline, name)
                return
            remaining = PARKED_SECONDS if deadline is None else min(deadline - time.monotonic(), PARKED_SECONDS)
            if remaining <= 0:
                return
            call.sleep(remaining)

    def _leave(self, call: Waits) -> None:
        role = self._role
        if role._is_owned():  # type: ignore[attr-defined]
            role.release()
        if self._parked or self._submitted:
            with suppress(ValueError):
                self._parked.remove(call)
            self._pass_on()

    def expect(self, submitted: object) -> None:
        """A reply is to be read although nobody waits for it, until :meth:`settle` is called."""
        self._submitted.add(submitted)
        self._pass_on()

    def settle(self, submitted: object) -> None:
        self._submitted.discard(submitted)

    def after(self, task: Task) -> None:
        """Have whoever reads run ``task``, which must not block, after all that is in the mailbox now. Never blocks."""
        mark = b"%d" % next(self._numbers)
        self._endings[mark] = task
        self._orders.put(mark)
        if self._closed:  # after it is in the table, which the attendant looks at when it has set this
            self._workers.post(self._finish)

    def reached(self, mark: bytes) -> None:
        """A mark was taken out of the mailbox."""
        task = self._endings.get(mark)
        if task is not None:
            task()
            self._endings.pop(mark, None)

    # -- the role ---------------------------------------------------------------------------------------------

    def _read(self, call: Waits, deadline: float | None, name: str) -> None:
        """With the role: read until the reply of ``call`` is there, or the deadline has passed."""
        mailbox = self._mailbox
        assert mailbox is not None
        started = now = time.monotonic()
        patience = started + limits.LONG_WAIT_SECONDS
        while True:
            self._take_received()
            if call.reply is not None or (deadline is not None and now >= deadline):
                return
            if now >= patience:
                patience = math.inf
                log.info("A call to %s has waited for %.0f s and goes on waiting", name, now - started)
            self._wake_at(patience if deadline is None else min(patience, deadline))
            if not mailbox.receive_into(self._received):
                self._finish()
                call.sleep(PARKED_SECONDS)  # until the channel is closed as well
            now = time.monotonic()

    def _take_received(self) -> None:
        received = self._received
        while received:
            message = received[0]
            self._take(message)
            if received and received[0] is message:
                received.popleft()

    def _finish(self) -> None:
        """The mailbox is closed: what was to come after something comes now."""
        for mark in list(self._endings):
            self.reached(mark)

    def _pass_on(self) -> None:
        """See to it that somebody reads, if anybody waits."""
        for call in tuple(self._parked):
            if call.reply is None:
                call.wake()
                return
        if self._submitted and not self._keeping:
            self._keeping = True
            self._workers.post(self._keep)

    def _keep(self) -> None:
        """On a worker: read while there is something submitted."""
        role, mailbox = self._role, self._mailbox
        assert mailbox is not None
        if role.acquire(False):
            try:
                while self._submitted:
                    self._until = math.inf
                    if not mailbox.receive_into(self._received):
                        self._finish()
                        return
                    self._take_received()
            finally:
                self._keeping = False
                role.release()
        else:
            self._keeping = False  # SYNC POINT: role; who has it looks for what is submitted after giving it up
            if self._role_is_free():
                self._pass_on()
            return
        if self._parked or self._submitted:
            self._pass_on()

    def _role_is_free(self) -> bool:
        if self._role.acquire(False):
            self._role.release()
            if self._parked:  # whoever came meanwhile has found it taken
                self._pass_on()
            return True
        return False

    def _wake_at(self, until: float) -> None:
        """Have the reader, which is about to wait at the mailbox, woken at ``until``."""
        self._until = until
        if until < self._alarm:
            self._alarm = until
            self._orders.put(until)

    # -- the attendant ----------------------------------------------------------------------------------------

    def _attend(self) -> None:
        sweep = time.monotonic() + SWEEP_SECONDS
        while not self._closed:
            try:
                self._obey(max(0.0, min(sweep, self._alarm) - time.monotonic()))
                now = time.monotonic()
                if now >= self._alarm:
                    self._ring()
                if now >= sweep:
                    sweep = now + (SWEEP_SECONDS / 100 if self._sweep() else SWEEP_SECONDS)
            except Exception:
                log.exception("Replies are not attended to; this is a defect of heros, please report it")
        self._finish()

    def _obey(self, patience: float) -> None:
        """Carry out the next order, if one comes in so many seconds."""
        try:
            order = self._orders.get(timeout=patience)
        except queue.Empty:
            return
        if order is None:
            self._closed = True
        elif isinstance(order, bytes):
            self._sweep()  # first: nobody may be reading, and then the mailbox may be full
            self._put_mark(order)
            self._sweep()
        elif order < self._alarm:  # _ring has overwritten it
            self._alarm = order

    def _ring(self) -> None:
        self._alarm = math.inf
        until = self._until  # after that: a reader that comes now sets the alarm anew
        if until > time.monotonic():
            self._alarm = until
        elif not self._role_is_free():
            self._put_mark(b"")

    def _sweep(self) -> bool:
        """Take what has come too late, or was not asked for, if nobody reads. Whether there was anything."""
        role, mailbox = self._role, self._mailbox
        assert mailbox is not None
        found = False
        if role.acquire(False):
            try:
                while mailbox.take_into(self._received):
                    found = True
                    self._take_received()
            finally:
                role.release()
            if self._parked or self._submitted:
                self._pass_on()
        return found

    def _put_mark(self, mark: bytes) -> None:
        try:
            self._mark(mark)
        except RemoteTransportError:  # the session is closed
            self._finish()
