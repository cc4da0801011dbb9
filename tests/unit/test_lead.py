"""Who may read a ring, in one thread: every step is exact here. Two processes: tests/conformance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heros.shm import layout
from heros.shm.lead import Lead, SpinGroup
from heros.shm.ring import Reader, Writer
from heros.workers import Workers


class Rig:
    """A ring whose lead takes note of what it receives."""

    def __init__(self, workers: Workers) -> None:
        memory = memoryview(bytearray(layout.ring_bytes(1024)))
        self.writer = Writer(memory)
        self.group = SpinGroup()
        self.received: list[bytes] = []
        self.kicks: list[None] = []
        self.lead = Lead(
            Reader(memory), workers, self._receive, lambda: self.kicks.append(None), self._failed, self.group
        )

    def _receive(self, tag: int, body: bytes) -> None:
        self.received.append(body)

    def _failed(self, error: BaseException) -> None:
        raise error


@pytest.fixture
def rig() -> Iterator[Rig]:
    workers = Workers("lead-test")
    yield Rig(workers)
    workers.stop()


def test_nobody_reads_before_the_start(rig: Rig) -> None:
    """A thread that spins for another ring must not enter a link that is still being made."""
    rig.writer.write(layout.FRAME, b"early")
    assert rig.group.glance() is None
    assert rig.kicks == []
    rig.lead.start()
    assert rig.kicks == [None]
    assert rig.group.glance() is rig.lead


def test_a_lead_that_was_stopped_does_not_start(rig: Rig) -> None:
    """A link may be closed by one thread while another is about to start it."""
    rig.lead.stop()
    rig.writer.write(layout.FRAME, b"late")
    rig.lead.start()
    assert rig.group.leads == []
    assert rig.kicks == []


def test_an_empty_ring_is_asleep_from_the_start(rig: Rig) -> None:
    rig.lead.start()
    rig.writer.write(layout.FRAME, b"first")
    assert rig.writer.must_ring()
    rig.lead.enter()
    assert rig.received == [b"first"]
    assert rig.writer.consumed
