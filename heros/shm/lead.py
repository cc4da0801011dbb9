"""Who reads a ring and runs what arrives: leader and followers.

The worker that holds a ring's lead reads it, and runs the work of a record *inline*, so that there is no hand-over
between threads on the way of a call. Before it runs that work, which may block, it gives up the lead: it marks the ring
asleep, so that a record that comes meanwhile rings the doorbell and wakes another worker, a follower, which takes the
lead. So no slow method keeps later calls waiting, and A may call B which calls A.

Rules
    - Who holds ``_lock`` has the lead. It is never held while user code runs.
    - Whoever leaves the lead marks the ring asleep, gives the lead up, and then looks: with the ring still empty, the
      writer is going to ring; else somebody else is made to look (``_kick``). So whoever finds the lead taken may go
      away.

Two short cuts
    - *Taking the lead back.* A call's work normally ends in a reply, on the same thread. Just before the reply becomes
      visible, the thread takes the lead back and marks the ring awake (``take_back``), so that the client's next call
      finds a reader and need not ring. Should the thread go on with other work than reading, it lets go of it first
      (``workers.let_go``).
    - *Draining.* Frames that are queued behind others, as the samples of an event are behind those whose callbacks
      run, are all taken before the first of them is worked at: one change of the lead for all of them.
    - *Collecting.* A publisher that has no room looks for acknowledgements and returned buffers itself: the worker that
      was rung for them needs the GIL, which a busy publisher gives away once in 5 ms. It leaves SLEEPING as it is, so
      that no second worker is rung for as long as the first is on its way: with two that wait for the GIL, one makes
      the other give it away, in the middle of its work and with the lead. But a worker that comes meanwhile finds the
      lead taken, and nobody would be rung for any more: it leaves ``_called`` behind, and the collector has it come
      again.
    - *Spinning.* With the ring empty, the holder spins for a while before it sleeps: a moment as fast as it can, if the
      last frame came that soon, and then with its processor offered to others in between, for the peer may be waiting
      for this very one: a process that is woken is often put on the processor of the one that woke it. Only one thread
      of a process spins for longer than that moment, as it holds the GIL; it glances at the other rings of its group
      in turn, because the followers whose doorbells ring cannot run before it lets go of the GIL. It does not spin
      where the last frame left no work: then other threads of this process have some, and need the GIL for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from os import sched_yield
from threading import Lock, RLock, get_ident
from typing import Final, TypeAlias

from heros import limits
from heros.buffers import Buffer
from heros.shm.inbox import RELEASED, Inbox
from heros.transport import Task
from heros.wire import Fields, Kind
from heros.workers import Workers, leading, run_task

__all__ = ["Lead", "Spin", "SpinGroup", "process_group"]

Receive: TypeAlias = Callable[[Fields, bytes, Sequence[Buffer]], Task | None]

_COLLECTED: Final = (RELEASED, int(Kind.ACK))
_MANY_LOOKS: Final = range(256)
_FEW_LOOKS: Final = range(2)
_ONE_LOOK: Final = range(1)
_SOON_SECONDS: Final = 10e-6
_TURNS: Final = 8
_SHORTEST: Final = 1 / 16
_SOON: Final = 3


def _nothing(*_: object) -> None:
    """What is called in place of a method of a reader that has ended."""


class Spin:
    """A budget for spinning that adapts: whole after a hit, half after each miss, down to a sixteenth.

    When something comes soon after the budget was spent, the next one is three times the whole. Two sides that both
    sleep take longer to wake up than either spins; they would go on like that for ever, each asleep before the other
    is awake, unless one of them bridges the other's waking up once.

    Attributes:
        quick: the looks that come before a budget is spent or a clock is read: a few microseconds of them while what
            is waited for comes that soon, otherwise few.
        most: the whole budget, in seconds; 0: never spin.
    """

    __slots__ = ("began", "most", "quick", "seconds")

    def __init__(self) -> None:
        self.most = self.seconds = limits.spin_seconds()
        self.quick = _FEW_LOOKS if self.most else _ONE_LOOK
        self.began = 0.0

    def begin(self) -> float:
        """Start to wait; returns until when to spin."""
        self.began = now = time.perf_counter()
        return now + self.seconds

    def hit(self) -> None:
        self.seconds = self.most
        self.quick = _MANY_LOOKS if time.perf_counter() - self.began < _SOON_SECONDS else _FEW_LOOKS

    def missed(self) -> None:
        self.quick = _FEW_LOOKS if self.most else _ONE_LOOK
        self.seconds = max(min(self.seconds, self.most) / 2, self.most * _SHORTEST)

    def woken(self) -> None:
        """Something has come after the budget was spent."""
        if time.perf_counter() - self.began < _SOON * self.most:
            self.seconds = _SOON * self.most


class SpinGroup:
    """The leads of one process that share one spinner."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.spinning = Lock()
        self.leads: list[Lead] = []  # replaced, never changed: read without a lock
        self._changing = Lock()
        self._next = 0

    def add(self, lead: Lead) -> None:
        with self._changing:
            self.leads = [*self.leads, lead]

    def remove(self, lead: Lead) -> None:
        with self._changing:
            self.leads = [other for other in self.leads if other is not lead]

    def abandon(self) -> None:
        """In a forked child: forget the parent's leads, whose rings have a reader there, also for the thread that
        forked in the middle of a call; and the locks, which other threads of the parent may have held."""
        for lead in self.leads:
            lead.abandon()
        self._reset()

    def collect(self) -> None:
        """``Lead.collect``, of all."""
        for lead in self.leads:
            lead.collect()

    def glance(self) -> Lead | None:
        """The next lead in turn, taken, if it has something to read and nobody reads it."""
        leads = self.leads
        self._next = index = (self._next + 1) % len(leads) if leads else 0
        if leads:
            lead = leads[index]
            if lead.ring.ready() and lead.take():
                return lead
        return None


process_group: Final = SpinGroup()
"""All leads of this process: those of its links and those of its channels."""


class Lead:
    """Reads one ring, and runs what arrives.

    Args:
        ring: the ring.
        workers: where followers come from.
        receive: takes one frame, returns the work that is left; runs with the lead held and must not block.
        kick: has ``enter`` called soon, on a worker.
        failed: told when the ring or a record is nonsense, after which nothing is read.
        group: the leads of this process.
        drains: take all that is there before any of it is worked at.
    """

    def __init__(
        self,
        ring: Inbox,
        workers: Workers,
        receive: Receive,
        kick: Callable[[], None],
        failed: Callable[[BaseException], None],
        group: SpinGroup,
        drains: bool = False,
    ) -> None:
        self.ring = ring
        self._workers = workers
        self._receive = receive
        self._ring_kick = kick
        self._failed = failed
        self._group = group
        self._drains = drains
        self._spin = Spin()
        self._lock = RLock()  # re-entrant only so that it can say who has it
        self._owner = 0
        self._runner = 0
        self._running = 0
        self._kicked = False
        self._called = False
        self._stopped = False

    def start(self) -> None:
        """Have the ring read. To be called when whatever ``receive`` and ``kick`` need is complete, as a thread that
        spins may begin at once."""
        with self._lock:
            if self._stopped:
                return
            asleep = self.ring.sleep()  # before anybody else can read
            self._group.add(self)
        if not asleep:
            self._kick()

    # -- taking and leaving the lead --------------------------------------------------------------------------

    def take(self) -> bool:
        """Take the lead, unless somebody has it."""
        me = get_ident()
        if self._owner != me and self._lock.acquire(False):
            if self._stopped:
                self._lock.release()
                return False
            self._owner = me
            self._called = False
            self.ring.wake()
            return True
        return False

    def take_back(self, ident: int) -> None:
        """Take the lead back before the reply to the call ``ident`` is published, if it is this thread that left the
        lead, and for that very call: a thread may also come to reply to others, from within it."""
        me = get_ident()
        if ident == self._running and me == self._runner and self._lock.acquire(False):
            self._running = 0  # first of all: each call has one reply, and nobody takes the lead twice for it
            if self._stopped:
                self._lock.release()
                return
            self._owner = me
            self.ring.wake()
            leading[me] = self

    def let_go(self) -> None:
        """Give up the lead, with the ring asleep."""
        self._owner = 0
        # SYNC POINT: lead. What came before the ring was asleep has not rung; and whoever was woken while the lead was
        # held has gone away. ``enter`` clears the kick before it tries to take the lead.
        if self.ring.leave(self._lock.release):  # the fence of ``ring``'s SYNC POINT: sleep
            self._kick()

    @property
    def mine(self) -> bool:
        """Whether the calling thread holds the lead."""
        return self._owner == get_ident()

    def collect(self) -> None:
        """Take the acknowledgements and returned buffers that have come, unless somebody else reads. Calls are left to
        the worker that was rung for them: this thread may be the main one, and Ctrl-C must not lose a call."""
        me = get_ident()
        if not self.ring.ready() or self._owner == me:
            return
        try:
            if not self._lock.acquire(False):
                return
            self._owner = me
            if not self._stopped:
                self._collect()
            self._owner = 0
            self._lock.release()
        except BaseException:
            if self._lock._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
                self._owner = 0
                self._lock.release()
            self._kick()
            raise
        if self._called:  # SYNC POINT: lead
            self._kick()

    def _collect(self) -> None:
        ring = self.ring
        try:
            while (kind := ring.next_kind()) is not None and kind in _COLLECTED:
                frame = ring.read_frame()
                task = None if frame is None else self._receive(*frame)
                if task is not None:  # of a call behind leases that it took along
                    self._workers.post(task)
        except Exception as error:
            self._stopped = True
            self._workers.post(partial(self._failed, error))

    def stop(self) -> None:
        """Wait for the lead, take what is left, and read no more."""
        with self._lock:
            self._group.remove(self)
            if not self._stopped:
                self._stopped = True
                try:
                    self._drain()
                except Exception as error:
                    self._failed(error)
            self.ring.close()
            self._receive = self._ring_kick = self._failed = _nothing

    def abandon(self) -> None:
        """In a forked child: read nothing more."""
        self._stopped = True

    def _kick(self) -> None:
        if not self._kicked:
            self._kicked = True
            self._ring_kick()

    # -- reading ----------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Read and run for as long as there is something. What the doorbell's handler calls."""
        self._kicked = False  # SYNC POINT: lead
        lead: Lead | None = self
        if not self.take():
            self._called = True  # before the second try
            lead = self if self.take() else None
        self._spin.woken()
        while lead is not None:
            lead = lead._serve()

    def _serve(self) -> Lead | None:
        """With the lead held: read and run. Returns the lead to go on with, which is then held; None: none."""
        read, receive, ensure_follower = self.ring.read_frame, self._receive, self._workers.ensure_follower
        spin, drains = self._spin, self._drains
        me = get_ident()
        alone = False
        while True:
            task = None
            try:
                frame = read(spin.quick)
                task = None if frame is None else receive(*frame)
                if drains and task is not None:
                    self._drain()
            except Exception as error:  # a DecodeError, or, as it were, a MemoryError: who reads on would lose a frame
                if task is not None:  # of the frame before it; it may hold a strand
                    self._workers.post(task)
                self._fail(error)
                return None
            if frame is None:
                following = self._idle(alone)
                if following is not self:
                    return following
                continue
            alone = task is not None
            if task is None:
                continue
            # Give up the lead, run the task, and take the lead again.
            ensure_follower()
            self._runner = me
            self._running = frame[0][4]
            self.let_go()
            run_task(task)
            if leading.pop(me, None) is not self and not self.take():
                return None

    def _fail(self, error: Exception) -> None:
        """With the lead held: give it up for good."""
        self._stopped = True
        self._owner = 0
        self._lock.release()
        self._failed(error)

    def _drain(self) -> None:
        """Take what else is there. What needs a thread of its own gets one."""
        while (frame := self.ring.read_frame()) is not None:
            task = self._receive(*frame)
            if task is not None:
                self._workers.post(task)

    def _idle(self, may_spin: bool) -> Lead | None:
        """The ring is empty: spin, then sleep. Returns what ``_serve`` shall go on with."""
        spin = self._spin
        group = self._group
        other = None
        if may_spin and spin.most and group.spinning.acquire(False):
            try:
                until = spin.begin()
                while True:
                    if self.ring.spin(_TURNS):
                        spin.hit()
                        return self
                    sched_yield()
                    other = group.glance() if len(group.leads) > 1 else None
                    if other is not None or time.perf_counter() > until:
                        break
            finally:
                group.spinning.release()
        if other is None:
            spin.missed()
            if not self.ring.sleep():
                self.ring.wake()
                return self
            self._owner = 0
            self._lock.release()
            # SYNC POINT: lead.
            return self if self.ring.ready() and self.take() else None
        self.let_go()
        return other
