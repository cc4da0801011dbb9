"""When a caller moves to another processor."""

from __future__ import annotations

import os

import pytest

from heros.shm import placement
from heros.shm.placement import Placement, move_away, some_idle


class Machine:
    """One on which another processor is idle, or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *idle: bool) -> None:
        self.now = 100.0
        self.idle = list(idle)
        self.moves = 0
        monkeypatch.setattr(placement.time, "monotonic", lambda: self.now)
        self.placement = Placement(lambda: self.idle.pop(0), self._move)

    def _move(self) -> None:
        self.moves += 1

    def call(self, seconds: float, pause: float = 20e-6) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += pause
            self.placement.sign()


def test_it_moves_to_an_idle_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, True, True, True)
    machine.call(0.005)
    assert (machine.moves, machine.idle) == (1, [])


def test_it_moves_again_if_that_was_in_vain_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, *[True] * 6)
    machine.call(0.015)
    assert (machine.moves, machine.idle) == (2, [])


def test_it_stays_where_the_others_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, True, True, False, False)
    machine.call(0.015)
    assert (machine.moves, machine.idle) == (0, [])


def test_it_stays_where_it_is_when_calls_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.call(1.0, pause=1e-3)
    assert machine.moves == 0


def test_moving_leaves_no_trace() -> None:
    allowed = os.sched_getaffinity(0)
    move_away()
    assert os.sched_getaffinity(0) == allowed


def test_who_may_not_use_all_processors_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 1 << 20)
    assert not some_idle()
