"""The arena: a slot, a frame, and an array on its way into shared memory, which passes over its bytes once or never."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Compare
from benchmarks.measure import each, loop
from heros.shm import FramePool, empty
from heros.shm.arena import Arena

LOOPS = 400
COPIES = 3
MIB = 1 << 20


class Piece:
    """What a slot would be without an arena."""

    __slots__ = ("first", "second", "third")

    def __init__(self, first: object, second: int, third: int) -> None:
        self.first, self.second, self.third = first, second, third


@pytest.mark.parametrize("size", [pytest.param(64 << 10, id="64 KiB"), pytest.param(8 * MIB, id="8 MiB")])
def test_slot(compare: Compare, size: int) -> None:
    arena = Arena()
    compare(loop(lambda: arena.allocate(size), LOOPS), loop(lambda: Piece(arena, 1, 2), LOOPS), "an object")


def test_place_ordinary(compare: Compare) -> None:
    """The guard against a second pass over the bytes."""
    arena, array, target = Arena(), np.ones(8 * MIB, np.uint8), np.ones(8 * MIB, np.uint8)
    place, copy = lambda: arena.place(array, array.nbytes), lambda: np.copyto(target, array)
    compare(each(place, COPIES), each(copy, COPIES), "np.copyto of 8 MiB")


def test_place_pooled(compare: Compare) -> None:
    """The guard against a first one."""
    arena, array, small = Arena(), empty(8 * MIB, np.uint8), empty(8192, np.uint8)
    case = loop(lambda: arena.place(array, array.nbytes), LOOPS)
    compare(case, loop(lambda: arena.place(small, small.nbytes), LOOPS), "the same of 8 KiB")


def test_frame(compare: Compare) -> None:
    memory = np.ones(MIB, np.uint8).data
    with FramePool((1024, 1024), np.uint8, 4) as pool:
        view = loop(lambda: np.frombuffer(memory, np.uint8).reshape(1024, 1024), LOOPS)
        compare(loop(pool.acquire, LOOPS), view, "a view by numpy")
