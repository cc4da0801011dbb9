"""The threads that run calls and callbacks: one leader, and followers when they are needed.

How it works
    A worker waits until a descriptor is ready, a task is posted or a timer is due; it then does that work itself.
    Nothing is handed from thread to thread. Before a worker runs code that may take long (user code), it makes sure
    that another one is waiting: that follower takes what arrives meanwhile. So a quiet process has two threads,
    however many HEROs it holds, and a process with N slow calls has N + 1, up to a bound. At the bound new work
    waits for a worker; nothing is lost.

    Extra workers end after ``IDLE_SECONDS`` without work.

    One of those that wait, the *keeper*, waits no longer than until the next timer is due. A keeper that gets other
    work to do sees to it, in ``ensure_follower``, that another one keeps the timers meanwhile.

Rules
    - A task never assumes which thread it runs on. It may block; a watch handler may not, beyond what it runs as a
      task.
    - ``post``, ``call_later``, ``watch`` and ``unwatch`` may be called from any thread, also from a worker, and
      never block. None of them may be called from a finaliser (``__del__``, a weakref callback): they take a lock.
    - A task that raises is logged and ends only itself, whatever it raises. (Only Ctrl-C in the main thread passes
      through, where a strand is run there.)

SYNC POINT: waiting
    A worker counts itself as waiting (``_waiting``) before it looks for tasks the last time, and ``post`` appends its
    task before it looks at ``_waiting``. So either the worker sees the task or ``post`` sees the worker. The wake-up
    itself (an eventfd, or a condition) stays pending when nobody waits, and cannot be missed.

Only Linux has epoll and eventfd. Elsewhere there is nothing to watch (shared memory is not used), and the same
workers wait on a condition.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Final, Protocol

from heros.limits import MAX_WORKERS
from heros.transport import Task

__all__ = ["Strand", "Timer", "Workers", "in_main_thread", "leading", "let_go", "run_task"]

log = logging.getLogger("heros.workers")

IDLE_SECONDS: Final = 10.0
KEPT_WAITING: Final = 2


class Leader(Protocol):
    """Something that one thread at a time reads."""

    def let_go(self) -> None:
        """Let another thread read."""


leading: Final[dict[int, Leader]] = {}
"""What a thread, by ``threading.get_ident()``, has taken the lead of again before the work that it runs for it has
ended. Each thread writes its own entry only."""


def let_go() -> None:
    """Give up what this thread leads. To be called before more work is done after a call was replied to."""
    held = leading.pop(get_ident(), None)
    if held is not None:
        held.let_go()


def in_main_thread() -> bool:
    """Whether this is the thread that signals interrupt."""
    return threading.current_thread() is threading.main_thread()


class Timer:
    """A task that is due later. ``cancel`` may be called at any time, from any thread."""

    __slots__ = ("due", "task")

    def __init__(self, due: float, task: Task) -> None:
        self.due = due
        self.task: Task | None = task

    def cancel(self) -> None:
        self.task = None


class Strand:
    """A queue that runs its tasks one at a time, in order, on whichever thread is there.

    ``enter`` either gives the task back, and the caller runs it and then what :meth:`leave` returns until that is
    None; or it keeps the task, because another thread is at it, which will run it. ``run`` is that loop.
    """

    __slots__ = ("_busy", "_queue")

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._queue: deque[Task] = deque()

    def __len__(self) -> int:
        """Tasks that wait."""
        return len(self._queue)

    def acquire(self) -> bool:
        """Take the strand if nobody is at it or waits: the short way of ``enter`` for a task not yet built. Whoever
        gets True runs its task and then, as after ``enter``, what ``leave`` returns."""
        return not self._queue and self._busy.acquire(False)

    def enter(self, task: Task) -> Task | None:
        """The next task to run, or None if the thread that holds the strand will run it."""
        self._queue.append(task)
        if self._busy.acquire(False):
            return self.leave()
        return None

    def leave(self) -> Task | None:
        """The next task, or None: then the strand was given up and the caller must not run another."""
        queue = self._queue
        while True:
            if queue:  # only the thread that holds the strand takes from it
                if leading:
                    let_go()
                return queue.popleft()
            self._busy.release()
            # A task that was queued between the look and the release has nobody: take the strand back for it.
            if not queue or not self._busy.acquire(False):
                return None

    def run(self, task: Task) -> None:
        """Run ``task``, and whatever is queued behind it, unless another thread is at it."""
        self.go_on(self.enter(task))

    def post(self, task: Task, workers: Workers) -> None:
        """Have ``task`` run on a worker. Tasks that are posted one after the other run in that order."""
        ready = self.enter(task)
        if ready is not None:
            workers.post(partial(self.go_on, ready))

    def go_on(self, ready: Task | None) -> None:
        """Run ``ready``, which ``enter`` or ``leave`` gave back, and whatever is queued behind it."""
        while ready is not None:
            try:
                run_task(ready)
            except BaseException:  # Ctrl-C ends this thread's part; others wait for what is queued
                ready = self.leave()
                if ready is not None:
                    threading.Thread(target=self.go_on, args=(ready,), name="heros-strand", daemon=True).start()
                raise
            ready = self.leave()


def run_task(task: Task) -> None:
    """Run one task; log what it raises. Only in the main thread, Ctrl-C and its like pass through."""
    try:
        task()
    except Exception:
        log.exception("A task of heros failed; this is a defect of heros, please report it")
    except BaseException:
        if in_main_thread():
            raise
        log.exception("A task of heros ended in an exception that ends programs; it ended only the task")


class Workers:
    """A bounded group of daemon threads. Thread-safe. The first thread starts with the first use.

    Args:
        name: prefix of the threads' names.
        limit: the most threads there will be.
    """

    def __init__(self, name: str = "heros", limit: int = MAX_WORKERS) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._tasks: deque[Task] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._threads: set[threading.Thread] = set()
        self._starting: set[threading.Thread] = set()  # those of _threads that have not begun yet
        self._numbers = itertools.count()
        self._waiting = 0
        self._keeper: threading.Thread | None = None
        self._keeper_due = 0.0
        self._stopped = False
        self._handlers: dict[int, Callable[[], object]] = {}
        self._waiter: _EpollWaiter | _ConditionWaiter = (
            _EpollWaiter() if hasattr(select, "epoll") and hasattr(os, "eventfd") else _ConditionWaiter()
        )

    # -- from any thread --------------------------------------------------------------------------------------

    def post(self, task: Task) -> None:
        """Have ``task`` run on a worker, soon. Does nothing once stopped."""
        if self._stopped:
            return
        self._tasks.append(task)
        self._waiter.wake()
        self.ensure_follower()

    def call_later(self, delay: float, task: Task) -> Timer:
        """Have ``task`` run on a worker ``delay`` seconds from now."""
        timer = Timer(time.monotonic() + delay, task)
        with self._lock:
            heapq.heappush(self._timers, (timer.due, next(self._order), timer))
            first = self._timers[0][2] is timer
        if first:
            self._waiter.wake()
        self.ensure_follower()
        return timer

    def watch(self, fd: int, handler: Callable[[], object]) -> None:
        """Call ``handler`` on a worker each time ``fd`` becomes readable (edge-triggered).

        One worker at a time is told of one edge, but a new edge may come while the handler still runs: the handler
        must be safe to be entered twice.
        """
        if fd in self._handlers:
            raise ValueError(f"descriptor {fd} is watched already; unwatch it first")
        self._handlers[fd] = handler  # first: it may be ready at once
        try:
            self._waiter.add(fd)
        except BaseException:
            del self._handlers[fd]
            raise
        self.ensure_follower()

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``, before it is closed. A handler that has started is not waited for."""
        if self._handlers.pop(fd, None) is not None:
            self._waiter.remove(fd)

    def ensure_follower(self) -> None:
        """See to it that a worker is waiting. Called before anything that may take long; cheap when there is one."""
        if self._stopped:
            return
        if self._waiting == 0:
            self._start_follower()
        elif self._timers and self._keeper is None:
            self._waiter.wake()  # one of those that wait looks at the timers again

    def spare(self) -> bool:
        """Whether a worker waits, or another one may be started."""
        return not self._stopped and (self._waiting > 0 or len(self._threads) < self._limit)

    def _start_follower(self) -> None:
        with self._lock:
            if self._waiting or len(self._threads) >= self._limit or self._stopped:
                return
            name = f"{self._name}-worker-{next(self._numbers)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.add(thread)
            self._starting.add(thread)
            self._waiting += 1  # it counts as waiting from now on, so that nobody starts a second one for it
        try:
            thread.start()
        except BaseException as error:
            with self._lock:
                if thread in self._starting:  # else it runs: what came was Ctrl-C, while this thread waited for it
                    self._starting.discard(thread)
                    self._threads.discard(thread)
                    self._waiting -= 1
                alone = not self._threads
            if alone or not isinstance(error, (RuntimeError, MemoryError)):
                raise
            log.warning("No further thread can be started (%s): work waits for one of %d", error, len(self._threads))

    def stop(self, timeout: float = 1.0) -> None:
        """Have what was posted still done, end the workers and close the descriptors, but do not wait longer than
        ``timeout`` seconds: what has not begun by then is dropped, and a worker in user code ends when that returns."""
        with self._lock:
            self._stopped = True
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        deadline = time.monotonic() + timeout
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline:
                self._waiter.wake(force=True)
                thread.join(0.01)
        self._tasks.clear()
        if not any(thread.is_alive() for thread in threads):  # else the last of them does it
            self._waiter.close()

    def abandon(self) -> None:
        """In a forked child: close the descriptors of a group whose threads exist only in the parent."""
        self._stopped = True
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._handlers.clear()
        self._tasks.clear()
        self._timers.clear()
        leading.clear()
        self._waiter.abandon()

    # -- the workers ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        me = threading.current_thread()
        with self._lock:
            if me not in self._starting:
                return  # given up by who started it
            self._starting.discard(me)
        idle_since = time.monotonic()
        while True:
            # This thread counts as waiting here: set by _start_follower for a new thread, or below.
            ready, timed_out = self._wait(me, idle_since)
            with self._lock:
                self._waiting -= 1
                if self._keeper is me:
                    self._keeper = None
                idle = timed_out and time.monotonic() - idle_since >= IDLE_SECONDS
                if (self._stopped and not self._tasks) or (idle and self._waiting >= KEPT_WAITING):
                    self._threads.discard(me)
                    last = not self._threads
                    break
            handled = self._handle(ready)
            if self._run_due() or handled:
                idle_since = time.monotonic()
            with self._lock:
                self._waiting += 1
        if self._stopped and last:
            self._waiter.close()
        else:
            self._waiter.wake(force=True)  # whoever is next to end, or to keep the timers

    def _wait(self, me: threading.Thread, idle_since: float) -> tuple[int, bool]:
        """The descriptor that is ready (-1: none, look at tasks and timers) and whether the time ran out."""
        if self._tasks or self._stopped:
            return -1, False
        return self._waiter.wait(self._patience(me, idle_since))

    def _handle(self, fd: int) -> bool:
        """Run the handler of ``fd``, if any. (On its own: a waiting thread must not keep the handler alive.)"""
        handler = self._handlers.get(fd)
        if handler is None:
            return False
        run_task(handler)
        return True

    def _run_due(self) -> bool:
        """Run what is due, until nothing is; whether there was anything."""
        task = self._next_due()
        if task is None:
            return False
        while task is not None:
            if self._tasks:
                self._waiter.wake()  # the follower takes the next one beside us
            self.ensure_follower()
            run_task(task)
            task = self._next_due()
        return True

    def _next_due(self) -> Task | None:
        if self._timers:
            with self._lock:
                while self._timers and (self._timers[0][2].task is None or self._timers[0][0] <= time.monotonic()):
                    task = heapq.heappop(self._timers)[2].task
                    if task is not None:
                        return task
        try:
            return self._tasks.popleft()
        except IndexError:
            return None

    def _patience(self, me: threading.Thread, idle_since: float) -> float | None:
        """Seconds to wait until an extra worker may go, or as keeper for the next timer; None: as long as it takes."""
        patience = None
        if self._waiting > KEPT_WAITING:
            patience = max(0.0, idle_since + IDLE_SECONDS - time.monotonic())
        if self._timers:
            with self._lock:
                if self._timers and (self._keeper is None or self._timers[0][0] < self._keeper_due):
                    self._keeper, self._keeper_due = me, self._timers[0][0]
                    until = max(0.0, self._keeper_due - time.monotonic())
                    patience = until if patience is None else min(patience, until)
        return patience


class _EpollWaiter:
    """Waits on descriptors. An edge goes to one waiting thread; the wake-up is an eventfd among them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pending = False
        self._writing = threading.Lock()  # so that nobody writes to a number that was closed and given out anew
        self.add(self._wake)

    def wake(self, force: bool = False) -> None:
        if not self._pending or force:
            with self._writing:
                if self._wake >= 0:
                    self._pending = True
                    os.eventfd_write(self._wake, 1)

    def wait(self, timeout: float | None) -> tuple[int, bool]:
        """The descriptor that is ready (-1: none) and whether the time ran out."""
        try:
            ready = self._epoll.poll(timeout, 1)
        except (OSError, ValueError):
            return -1, False  # closed by stop()
        if not ready:
            return -1, True
        fd = ready[0][0]
        if fd == self._wake:
            self._pending = False  # before the tasks are looked at: a task posted after that look wakes anew
            return -1, False
        return fd, False

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def remove(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed already, or closed by stop()
            self._epoll.unregister(fd)

    def close(self) -> None:
        with self._writing:
            self._close()

    def abandon(self) -> None:
        self._writing = threading.Lock()  # a thread of the parent may have held it
        self._close()

    def _close(self) -> None:
        self._epoll.close()
        wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)


class _ConditionWaiter:
    """The same without descriptors, for systems that have no epoll."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._wakes = 0

    def wake(self, force: bool = False) -> None:
        with self._condition:
            self._wakes = min(self._wakes + 1, MAX_WORKERS)
            self._condition.notify()

    def wait(self, timeout: float | None) -> tuple[int, bool]:
        with self._condition:
            if not self._condition.wait_for(lambda: self._wakes > 0, timeout):
                return -1, True
            self._wakes -= 1
            return -1, False

    def add(self, fd: int) -> None:
        raise OSError("this system has no epoll: descriptors cannot be watched")

    def remove(self, fd: int) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        self._condition = threading.Condition()
