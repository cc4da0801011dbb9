"""Who may read a ring, in one thread: every step is exact here. Two processes: tests/conformance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from heros.buffers import Buffer
from heros.shm import layout
from heros.shm.inbox import Inbox
from heros.shm.lead import Lead, SpinGroup
from heros.shm.outbox import Outbox
from heros.transport import Task
from heros.wire import Fields, Kind
from heros.workers import Workers
from tests.harness import wait_until


class Rig:
    """A ring whose lead takes note of what it receives."""

    def __init__(self, workers: Workers) -> None:
        memory = memoryview(bytearray(layout.ring_bytes(1024)))
        self.rings = 0
        self.outbox = Outbox(memory, self._ring, workers)
        self.group = SpinGroup()
        self.received: list[bytes] = []
        self.kicks: list[None] = []
        self.task: Task | None = None
        self.failures: list[BaseException] = []
        self.on_receive: Callable[[], object] = lambda: None
        inbox = Inbox(memory, Kind, lambda *_: b"")
        self.lead = Lead(inbox, workers, self._receive, lambda: self.kicks.append(None), self._failed, self.group)

    def send(self, header: bytes) -> None:
        assert self.outbox.send_short(Kind.CALL, 0, 0, 1, 1, 0, header)

    def _ring(self) -> None:
        self.rings += 1

    def enter_elsewhere(self) -> None:
        thread = threading.Thread(target=self.lead.enter)
        thread.start()
        thread.join()

    def _receive(self, fields: Fields, header: bytes, buffers: Sequence[Buffer]) -> Task | None:
        self.on_receive()
        self.received.append(header)
        return self.task

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)


@pytest.fixture
def rig() -> Iterator[Rig]:
    workers = Workers("lead-test")
    rig = Rig(workers)
    expected = rig.failures
    yield rig
    workers.stop()
    assert all("no memory" in str(failure) for failure in expected)


def test_nobody_reads_before_the_start(rig: Rig) -> None:
    """A thread that spins for another ring must not enter a link that is still being made."""
    rig.send(b"early")
    assert rig.group.glance() is None
    assert rig.kicks == []
    rig.lead.start()
    assert rig.kicks == [None]
    assert rig.group.glance() is rig.lead


def test_a_lead_that_was_stopped_does_not_start(rig: Rig) -> None:
    """A link may be closed by one thread while another is about to start it."""
    rig.lead.stop()
    rig.send(b"late")
    rig.lead.start()
    assert rig.group.leads == []
    assert rig.kicks == []


def test_an_empty_ring_is_asleep_from_the_start(rig: Rig) -> None:
    rig.lead.start()
    rig.send(b"first")
    assert rig.rings == 1
    rig.lead.enter()
    assert rig.received == [b"first"]
    assert rig.outbox.consumed


def test_who_leaves_the_lead_looks_again_for_what_did_not_ring(rig: Rig) -> None:
    rig.lead.start()
    assert rig.lead.take()
    rig.send(b"unheard")
    assert rig.rings == 0
    rig.lead.let_go()
    assert rig.kicks == [None]
    rig.send(b"not rung for twice")
    rig.lead.enter()
    assert rig.received == [b"unheard", b"not rung for twice"]


def test_a_collector_takes_acknowledgements_and_leaves_calls(rig: Rig) -> None:
    rig.lead.start()
    assert rig.outbox.send_short(Kind.ACK, 0, 0, 1, 1, 0, b"first")
    assert rig.outbox.send_short(Kind.ACK, 0, 0, 1, 2, 0, b"second")
    rig.send(b"a call")
    rig.lead.collect()
    assert rig.received == [b"first", b"second"]
    assert rig.rings == 1, "the worker that was rung is on its way"
    rig.lead.enter()
    assert rig.received[2:] == [b"a call"]


def test_a_worker_that_comes_while_another_thread_collects_is_called_again(rig: Rig) -> None:
    """It was rung in this epoch, and nobody is rung for twice in one."""
    rig.lead.start()
    assert rig.outbox.send_short(Kind.ACK, 0, 0, 1, 1, 0, b"x")
    rig.on_receive = rig.enter_elsewhere
    rig.lead.collect()
    assert rig.kicks == [None]


def test_what_a_collector_cannot_take_ends_the_reading(rig: Rig) -> None:
    rig.lead.start()
    assert rig.outbox.send_short(Kind.ACK, 0, 0, 1, 1, 0, b"x")

    def fail() -> None:
        raise RuntimeError("no memory, say")

    rig.on_receive = fail
    rig.lead.collect()
    wait_until(lambda: rig.failures)
    assert not rig.lead.take()


def test_a_call_behind_returned_leases_is_carried_out_though_a_collector_reads_it(rig: Rig) -> None:
    rig.lead.start()
    rig.lead.ring._released = lambda body: None
    assert rig.outbox.send(layout.RELEASE, bytes(8))
    rig.send(b"a call")
    done = threading.Event()
    rig.task = done.set
    rig.lead.collect()
    wait_until(done.is_set)


def test_the_work_of_a_frame_is_done_though_the_one_behind_it_makes_no_sense(rig: Rig) -> None:
    """The task may hold a strand, which would otherwise be taken for good: also after a new connection."""
    rig.lead._drains = True
    done = threading.Event()
    rig.task = done.set

    def fail_at_the_second() -> None:
        if rig.received:
            raise MemoryError("no memory")

    rig.on_receive = fail_at_the_second
    rig.lead.start()
    rig.send(b"first")
    rig.send(b"second")
    rig.lead.enter()
    assert len(rig.failures) == 1
    wait_until(done.is_set)
