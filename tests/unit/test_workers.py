"""Workers and strands: order, growth, the bound, retirement, timers, descriptors, and every way of ending."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from heros import workers as module
from heros.workers import Strand, Workers
from tests.harness import wait_until

HAS_EPOLL = hasattr(select, "epoll") and hasattr(os, "eventfd")
KINDS = ["epoll", "condition"] if HAS_EPOLL else ["condition"]

needs_epoll = pytest.mark.skipif(not HAS_EPOLL, reason="descriptors are watched with epoll")


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workers]]:
    """Makes Workers that wait on epoll, or on a condition as on other systems; all are stopped in the end."""
    if request.param == "condition" and HAS_EPOLL:
        monkeypatch.delattr(select, "epoll")
    made: list[Workers] = []

    def make(**options: int) -> Workers:
        made.append(Workers("test", **options))
        return made[-1]

    yield make
    for workers in made:
        workers.stop(10)
        assert not workers._threads


@pytest.fixture
def workers(make: Callable[..., Workers]) -> Workers:
    return make()


@pytest.fixture
def epoll_workers() -> Iterator[Workers]:
    workers = Workers("test")
    yield workers
    workers.stop(10)


class Blocker:
    """A task that blocks its thread until it is let go; counts how many are inside at a time."""

    made: ClassVar[list[Blocker]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.go = threading.Event()
        self.inside = 0
        self.done = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.inside += 1
        assert self.go.wait(60)
        with self._lock:
            self.inside -= 1
            self.done += 1


@pytest.fixture(autouse=True)
def _free_whoever_is_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Also when a test fails half-way. Set up last, so that it ends before the groups are stopped."""
    for name in ("make", "epoll_workers"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    yield
    while Blocker.made:
        Blocker.made.pop().go.set()


# -- strands --------------------------------------------------------------------------------------------------


def test_a_strand_runs_one_at_a_time_in_order_of_entering() -> None:
    strand, order, inside, wrong = Strand(), list[tuple[int, int]](), [0], list[int]()

    def work(thread: int, number: int) -> None:
        inside[0] += 1
        if inside[0] != 1:
            wrong.append(inside[0])
        order.append((thread, number))
        time.sleep(0)
        inside[0] -= 1

    def enter(thread: int) -> None:
        for number in range(500):
            strand.run(lambda number=number: work(thread, number))  # type: ignore[misc]

    threads = [threading.Thread(target=enter, args=(thread,)) for thread in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert len(order) == 8 * 500
    assert len(strand) == 0
    for thread in range(8):
        assert [number for who, number in order if who == thread] == list(range(500))


def test_a_strand_lets_nobody_wait() -> None:
    strand, blocker, ran = Strand(), Blocker(), threading.Event()
    thread = threading.Thread(target=strand.run, args=(blocker,))
    thread.start()
    wait_until(lambda: blocker.inside == 1)
    strand.run(ran.set)  # returns although the strand is busy
    assert not strand.acquire()
    assert len(strand) == 1
    assert not ran.is_set()
    blocker.go.set()
    thread.join()
    assert ran.is_set()
    assert strand.acquire()
    assert strand.leave() is None


def test_a_task_may_enter_its_own_strand() -> None:
    strand, order = Strand(), list[str]()

    def outer() -> None:
        strand.run(lambda: order.append("inner"))
        order.append("outer")

    strand.run(outer)
    assert order == ["outer", "inner"]


def test_a_task_queued_while_the_strand_is_given_up_is_not_lost() -> None:
    """Another thread queues it, and finds the strand taken, after the last look and before the release."""
    strand, ran = Strand(), list[int]()

    class Lock:
        def __init__(self) -> None:
            self.held = False
            self.late: Callable[[], None] | None = lambda: ran.append(2)

        def acquire(self, blocking: bool) -> bool:
            taken, self.held = not self.held, True
            return taken

        def release(self) -> None:
            if self.late is not None:
                late, self.late = self.late, None
                assert strand.enter(late) is None
            self.held = False

    strand._busy = Lock()  # type: ignore[assignment]
    strand.run(lambda: ran.append(1))
    assert ran == [1, 2]
    assert strand.acquire()


def test_a_strand_outlives_what_its_tasks_raise(caplog: pytest.LogCaptureFixture) -> None:
    strand, ran = Strand(), list[int]()
    strand.run(lambda: 1 / 0)
    strand.run(lambda: ran.append(1))
    assert ran == [1]
    assert "ZeroDivisionError" in caplog.text


def test_ctrl_c_in_a_strand_passes_through_and_the_rest_is_done_by_another_thread() -> None:
    strand, done = Strand(), threading.Event()

    def interrupted() -> None:
        strand.run(done.set)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        strand.run(interrupted)
    assert done.wait(10)
    wait_until(lambda: strand.acquire(), what="the strand is free")
    assert strand.leave() is None


# -- posting --------------------------------------------------------------------------------------------------


def test_every_task_runs_once_whoever_posts_it(workers: Workers) -> None:
    ran: list[int] = []

    def post(thread: int) -> None:
        for number in range(500):
            workers.post(lambda number=thread * 500 + number: ran.append(number))  # type: ignore[misc]

    def post_from_worker(depth: int) -> None:
        ran.append(-depth)
        if depth:
            workers.post(lambda: post_from_worker(depth - 1))

    threads = [threading.Thread(target=post, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    workers.post(lambda: post_from_worker(500))
    for thread in threads:
        thread.join()
    wait_until(lambda: len(ran) == 4000 + 501, what=lambda: f"{len(ran)} of 4501 tasks ran")
    assert sorted(ran) == sorted([*range(4000), *range(-500, 1)])


def test_single_tasks_are_never_missed(workers: Workers) -> None:
    """Each is posted at another phase of a worker that goes to sleep."""
    chance = random.Random(1)
    for number in range(2000):
        ran = threading.Event()
        workers.post(ran.set)
        assert ran.wait(10), f"task {number} was never run"
        if number % 10 == 0:
            time.sleep(chance.random() * 1e-4)


def test_a_quiet_group_has_few_threads(workers: Workers) -> None:
    for _ in range(200):
        ran = threading.Event()
        workers.post(ran.set)
        assert ran.wait(10)
    assert 1 <= len(workers._threads) <= 3


def test_nothing_starts_before_it_is_needed(make: Callable[..., Workers]) -> None:
    before = threading.active_count()
    workers = make()
    assert threading.active_count() == before
    workers.stop()
    assert threading.active_count() == before


# -- growth and bound -----------------------------------------------------------------------------------------


def test_tasks_that_block_keep_nobody_waiting(workers: Workers) -> None:
    blocker = Blocker()
    for number in range(1, 21):
        workers.post(blocker)
        wait_until(lambda number=number: blocker.inside == number, what=f"{number} run at a time")  # type: ignore[misc]
    ran = threading.Event()
    workers.post(ran.set)
    assert ran.wait(10)
    assert len(workers._threads) <= 20 + 3
    blocker.go.set()
    wait_until(lambda: blocker.done == 20)


def test_at_the_bound_work_waits_and_is_not_lost(make: Callable[..., Workers]) -> None:
    workers, blocker = make(limit=4), Blocker()
    for _ in range(50):
        workers.post(blocker)
    ran = threading.Event()
    wait_until(lambda: blocker.inside == 4)
    workers.call_later(0, ran.set)
    assert len(workers._threads) == 4
    assert not ran.is_set()
    blocker.go.set()
    wait_until(lambda: blocker.done == 50)
    assert ran.wait(10)
    assert len(workers._threads) <= 4


def test_followers_start_from_within_a_task(make: Callable[..., Workers]) -> None:
    """A worker that waits for other workers, five deep, gets them."""
    workers, deepest = make(limit=8), threading.Event()

    def nest(depth: int) -> None:
        if depth == 5:
            deepest.set()
            return
        inner = threading.Event()

        def below() -> None:
            nest(depth + 1)
            inner.set()

        workers.post(below)
        assert inner.wait(30)

    workers.post(lambda: nest(0))
    assert deepest.wait(10)


def test_extra_workers_retire_even_while_a_timer_repeats(
    make: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
    workers, blocker, ticks = make(), Blocker(), [0]

    def tick() -> None:
        ticks[0] += 1
        workers.call_later(0.05, tick)

    tick()
    for _ in range(10):
        workers.post(blocker)
    wait_until(lambda: blocker.inside == 10)
    assert len(workers._threads) > 10
    blocker.go.set()
    wait_until(lambda: len(workers._threads) <= 3, 30, lambda: f"{len(workers._threads)} workers are left")
    before = ticks[0]
    wait_until(lambda: ticks[0] > before + 3, what="the timer still ticks")
    assert len(workers._threads) >= 1
    ran = threading.Event()
    workers.post(ran.set)
    assert ran.wait(10)


def test_a_thread_that_cannot_start_is_an_error_only_when_there_is_none(
    make: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers, start = make(), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        workers.post(lambda: None)

    monkeypatch.setattr(threading.Thread, "start", start)
    blocker, both = Blocker(), list[int]()
    workers.post(lambda: both.append(1))
    wait_until(lambda: both and workers._waiting == len(workers._threads), what="all workers wait")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(len(workers._threads)):
        workers.post(blocker)
    wait_until(lambda: blocker.inside == len(workers._threads))
    workers.post(lambda: both.append(2))  # no error in the middle: it waits
    assert both == [1]
    blocker.go.set()
    wait_until(lambda: both == [1, 2])
    assert "No further thread" in caplog.text
    assert workers._waiting <= len(workers._threads)


def test_ctrl_c_while_a_worker_starts_does_not_confuse_the_count(
    make: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, start = make(), threading.Thread.start

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    ran = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        workers.post(ran.set)
    monkeypatch.undo()
    more = threading.Event()
    workers.post(more.set)
    assert more.wait(10)
    wait_until(lambda: workers._waiting == len(workers._threads), what="the count is right")
    assert workers._waiting >= 0


# -- what tasks raise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_task_that_raises_ends_only_itself(
    make: Callable[..., Workers], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    workers = make(limit=2)

    def fail() -> None:
        raise error("on purpose")

    for _ in range(10):
        workers.post(fail)
    ran = threading.Event()
    workers.post(ran.set)
    assert ran.wait(10)
    wait_until(lambda: caplog.text.count("on purpose") >= 10)
    wait_until(lambda: workers._waiting == len(workers._threads))
    assert len(workers._threads) <= 2


# -- timers ---------------------------------------------------------------------------------------------------


def test_timers_run_in_order_when_due_and_not_when_cancelled(workers: Workers) -> None:
    ran: list[tuple[str, float]] = []
    start = time.monotonic()

    def note(name: str) -> Callable[[], None]:
        return lambda: ran.append((name, time.monotonic() - start))

    workers.call_later(0.15, note("third"))
    workers.call_later(0.05, note("first"))
    cancelled = workers.call_later(0.07, note("cancelled"))
    workers.call_later(0.10, note("second"))
    cancelled.cancel()
    wait_until(lambda: len(ran) == 3)
    assert [name for name, _ in sorted(ran, key=lambda entry: entry[1])] == ["first", "second", "third"]
    for (_, when), due in zip(sorted(ran, key=lambda entry: entry[1]), (0.05, 0.10, 0.15), strict=True):
        assert when >= due
    cancelled.cancel()


def test_a_timer_is_on_time_while_the_worker_that_would_have_run_it_is_busy(make: Callable[..., Workers]) -> None:
    """Whoever waits for the timer passes that on before it runs something else."""
    for _ in range(20):
        workers, blocker, ran = make(), Blocker(), threading.Event()
        for _ in range(3):
            workers.post(lambda: None)
        wait_until(lambda workers=workers: workers._waiting == len(workers._threads))  # type: ignore[misc]
        workers.call_later(0.05, ran.set)
        for _ in range(random.randint(1, 5)):
            workers.post(blocker)
        assert ran.wait(10), "the timer was forgotten"
        blocker.go.set()
        workers.stop(10)


def test_a_worker_that_becomes_busy_later_passes_the_timer_on(make: Callable[..., Workers]) -> None:
    workers, ran = make(), threading.Event()
    blocker = Blocker()
    workers.call_later(0.3, ran.set)
    end = time.monotonic() + 0.2
    posted = 0
    while time.monotonic() < end:
        workers.post(blocker if posted < 10 else (lambda: None))
        posted += 1
        time.sleep(0.005)
    assert ran.wait(10)
    blocker.go.set()


def test_a_timer_set_by_a_timer(workers: Workers) -> None:
    ran: list[int] = []

    def again() -> None:
        ran.append(1)
        if len(ran) < 50:
            workers.call_later(0.001, again)

    workers.call_later(0, again)
    wait_until(lambda: len(ran) == 50)


def test_many_timers_from_many_threads(workers: Workers) -> None:
    ran: list[int] = []
    chance = random.Random(2)
    delays = [chance.random() * 0.2 for _ in range(800)]

    def add(thread: int) -> None:
        for number in range(thread * 100, thread * 100 + 100):
            timer = workers.call_later(delays[number], lambda number=number: ran.append(number))  # type: ignore[misc]
            if number % 4 == 0:
                timer.cancel()

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {number for number in range(800) if number % 4}
    wait_until(lambda: expected <= set(ran))
    assert len(set(ran)) == len(ran)


# -- descriptors ----------------------------------------------------------------------------------------------


@needs_epoll
def test_each_edge_is_handled(epoll_workers: Workers) -> None:
    bell, handled = os.eventfd(0, os.EFD_NONBLOCK), [0]

    def handle() -> None:
        try:
            handled[0] += os.eventfd_read(bell)
        except BlockingIOError:
            pass  # another worker was faster

    epoll_workers.watch(bell, handle)
    for number in range(1, 2001):
        os.eventfd_write(bell, 1)
        if number % 20 == 0:
            wait_until(lambda number=number: handled[0] == number, what="the edge is handled")  # type: ignore[misc]
    epoll_workers.unwatch(bell)
    os.eventfd_write(bell, 1)
    ran = threading.Event()
    epoll_workers.post(ran.set)
    assert ran.wait(10)
    assert handled[0] == 2000
    os.close(bell)


@needs_epoll
def test_what_is_ready_already_is_handled(epoll_workers: Workers) -> None:
    bell, handled = os.eventfd(1), threading.Event()
    epoll_workers.watch(bell, handled.set)
    assert handled.wait(10)
    epoll_workers.unwatch(bell)
    os.close(bell)


@needs_epoll
def test_a_handler_that_blocks_after_ensuring_a_follower_delays_no_other(epoll_workers: Workers) -> None:
    blocker, bells = Blocker(), [os.eventfd(0) for _ in range(10)]

    def handle() -> None:
        epoll_workers.ensure_follower()
        blocker()

    for bell in bells:
        epoll_workers.watch(bell, handle)
    for number, bell in enumerate(bells, 1):
        os.eventfd_write(bell, 1)
        wait_until(lambda number=number: blocker.inside == number)  # type: ignore[misc]
    timer = threading.Event()
    epoll_workers.call_later(0.01, timer.set)
    assert timer.wait(10)
    blocker.go.set()
    wait_until(lambda: blocker.done == 10)
    for bell in bells:
        epoll_workers.unwatch(bell)
        os.close(bell)


@needs_epoll
def test_a_handler_that_raises_stays(epoll_workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    bell = os.eventfd(0)

    def fail() -> None:
        raise SystemExit("on purpose")

    epoll_workers.watch(bell, fail)
    for number in range(1, 6):
        os.eventfd_write(bell, 1)
        wait_until(lambda number=number: caplog.text.count("SystemExit: on purpose") >= number)  # type: ignore[misc]
    epoll_workers.unwatch(bell)
    os.close(bell)


@needs_epoll
def test_watching_twice_or_nonsense_is_refused_and_changes_nothing(epoll_workers: Workers) -> None:
    bell, handled = os.eventfd(0), threading.Event()
    epoll_workers.watch(bell, handled.set)
    with pytest.raises(ValueError, match="watched already"):
        epoll_workers.watch(bell, lambda: pytest.fail("the refused handler was called"))
    os.eventfd_write(bell, 1)
    assert handled.wait(10)
    epoll_workers.unwatch(bell)
    os.close(bell)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        epoll_workers.watch(bell, lambda: None)
    epoll_workers.unwatch(bell)  # never watched: nothing happens


@needs_epoll
def test_descriptors_come_and_go_from_many_threads(epoll_workers: Workers) -> None:
    """Their numbers are given out anew all the time; each handler hears of its own bell at least."""
    missed: list[int] = []

    def come_and_go() -> None:
        for _ in range(100):
            bell, handled = os.eventfd(0), threading.Event()
            epoll_workers.watch(bell, handled.set)
            os.eventfd_write(bell, 1)
            if not handled.wait(20):
                missed.append(bell)
            epoll_workers.unwatch(bell)
            os.close(bell)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed


def test_without_epoll_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    if HAS_EPOLL:
        monkeypatch.delattr(select, "epoll")
    workers = Workers("test")
    with pytest.raises(OSError, match="no epoll"):
        workers.watch(0, lambda: None)
    workers.unwatch(0)
    workers.stop()


# -- the end --------------------------------------------------------------------------------------------------


def test_stop_does_what_was_posted_and_nothing_after(make: Callable[..., Workers]) -> None:
    workers, ran = make(), list[int]()
    for number in range(200):
        workers.post(lambda number=number: ran.append(number))  # type: ignore[misc]
    workers.stop(30)
    assert sorted(ran) == list(range(200))
    workers.post(lambda: ran.append(-1))
    workers.call_later(0, lambda: ran.append(-2))
    workers.ensure_follower()
    workers.stop()
    assert len(ran) == 200
    assert not workers._threads


def test_stop_waits_no_longer_than_it_is_told(make: Callable[..., Workers]) -> None:
    workers, blocker, ran = make(limit=1), Blocker(), list[int]()
    workers.post(blocker)
    wait_until(lambda: blocker.inside == 1)
    workers.post(lambda: ran.append(1))
    workers.stop(0.05)
    assert blocker.inside == 1
    blocker.go.set()
    wait_until(lambda: not workers._threads)
    assert not ran  # it had not begun in time


def test_a_worker_may_stop_its_own_group(make: Callable[..., Workers]) -> None:
    workers, stopped = make(), threading.Event()

    def stop() -> None:
        workers.stop()
        stopped.set()

    workers.post(stop)
    assert stopped.wait(10)
    wait_until(lambda: not workers._threads)


def test_everybody_may_stop_at_once(make: Callable[..., Workers]) -> None:
    for _ in range(20):
        workers = make()
        for _ in range(5):
            workers.post(lambda: None)
        threads = [threading.Thread(target=workers.stop, args=(10,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            workers.post(lambda: None)
        for thread in threads:
            thread.join()
        assert not workers._threads


@needs_epoll
@pytest.mark.parametrize("busy", [False, True])
def test_no_descriptor_is_left(busy: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        workers, blocker = Workers("test"), Blocker()
        for _ in range(5):
            workers.post(blocker)
        if not busy:
            blocker.go.set()
        workers.stop(0.02 if busy else 10)
        blocker.go.set()  # the last of them closes what ``stop`` could not
        wait_until(lambda workers=workers: not workers._threads)  # type: ignore[misc]
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before)


@needs_epoll
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_abandons_the_group_whatever_the_parent_was_at() -> None:
    workers, end = Workers("test"), threading.Event()
    hammer = threading.Thread(target=lambda: [workers.post(lambda: None) for _ in iter(end.is_set, True)])
    hammer.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                before = len(os.listdir("/proc/self/fd"))
                workers.abandon()
                workers.post(lambda: None)
                workers.call_later(0, lambda: None)
                workers.ensure_follower()
                workers.stop(0)
                os._exit(0 if len(os.listdir("/proc/self/fd")) == before - 2 else 1)
            done: list[int] = []
            wait_until(lambda child=child, done=done: _ended(child, done), what="the child is not stuck")  # type: ignore[misc]
            assert done == [0]
    finally:
        end.set()
        hammer.join()
        workers.stop(10)


def _ended(child: int, done: list[int]) -> bool:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        done.append(os.waitstatus_to_exitcode(status))
    return bool(pid)
