"""Events from one process to a Python callback in another, over shared memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest

from benchmarks.conftest import Compare
from benchmarks.measure import Round, each
from benchmarks.references import flood
from benchmarks.serving import FRAMES, MIB, Bench
from benchmarks.test_call import SERVING, copies, served
from heros import RemoteHERO, limits
from tests.harness import Child, wait_until

BURST = limits.EVENT_WINDOW // 4
FRAME_BURST = FRAMES * 3 // 8
"""Less than what one reader may hold of a pool without getting copies, which is half of it."""


@pytest.fixture
def hero() -> Iterator[RemoteHERO]:
    with served() as proxy:
        yield proxy


class Arrivals:
    """Counts what a callback gets, and says when it was all."""

    def __init__(self, hero: RemoteHERO) -> None:
        self._left = 0
        self._all = threading.Event()
        hero.sample.connect(self._arrived)

    def _arrived(self, _: object) -> None:
        self._left -= 1
        if not self._left:
            self._all.set()

    def a_round(self, publish: Callable[[int], object], count: int) -> Round:
        """From the call that asks for ``count`` samples, no more than may be on their way, to the last callback."""

        def one_round() -> float:
            self._left = count
            self._all.clear()
            start = time.perf_counter()
            publish(count)
            assert self._all.wait(20), f"{self._left} of {count} samples did not arrive"
            return (time.perf_counter() - start) / count

        return one_round


def test_small(compare: Compare, hero: RemoteHERO) -> None:
    with flood(BURST) as reference:
        compare(Arrivals(hero).a_round(hero.publish_small, BURST), reference, "64 B through a Pipe")


def test_pooled_frames(compare: Compare, hero: RemoteHERO) -> None:
    with flood(BURST) as reference:
        case = Arrivals(hero).a_round(partial(hero.publish_pooled, nbytes=MIB), FRAME_BURST)
        compare(case, reference, "64 B through a Pipe")


def test_pooled_frames_of_any_size(compare: Compare, hero: RemoteHERO) -> None:
    arrivals = Arrivals(hero)
    large, small = (
        arrivals.a_round(partial(hero.publish_pooled, nbytes=nbytes), FRAME_BURST) for nbytes in (MIB, 8192)
    )
    compare(large, small, "the same of 8 KiB")


def test_ordinary_frames(compare: Compare, hero: RemoteHERO) -> None:
    case = Arrivals(hero).a_round(partial(hero.publish_ordinary, nbytes=MIB), FRAME_BURST)
    compare(case, copies(MIB), "np.copyto of 1 MiB")


@pytest.mark.slow
def test_four_subscribers(compare: Compare) -> None:
    """Publishing 1 MiB arrays: a subscriber more is one small record more, and no pass over the bytes."""
    with ExitStack() as stack:
        compare(*(_publishing_to(how_many, stack) for how_many in (4, 1)), "to one subscriber")


def _publishing_to(how_many: int, stack: ExitStack) -> Round:
    """Publishing is timed; before each time, everybody has got the sample before."""
    name = f"to-{how_many}"
    array = np.ones(MIB, np.uint8)
    published = 0
    hero = Bench(name)
    stack.callback(hero._destroy_hero)
    stack.enter_context(Child(SERVING, "follow", name, how_many)).ready()
    follower = RemoteHERO(f"{name}-follower")

    def quiet() -> None:
        wait_until(lambda: follower.seen() == how_many * published)

    def publish() -> None:
        nonlocal published
        published += 1
        hero.sample(array)

    return each(publish, 7, before=quiet)
