"""Calls between two processes over shared memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from msgpack import packb, unpackb

from benchmarks.conftest import Compare
from benchmarks.measure import Round, each, loop
from benchmarks.references import bells, pipe, spin_word
from heros import RemoteHERO, transport_of
from heros.shm import empty
from tests.harness import Child

SERVING = Path(__file__).with_name("serving.py")
WARM_UP = 500
CALLS = 60
SILENCES = 7
TURNS = 300
MIB = 1 << 20
SILENCE_SECONDS = 1e-3
COPIES = 5
_1_MIB, _8_MIB = pytest.param(MIB, id="1 MiB"), pytest.param(8 * MIB, id="8 MiB")
_32_MIB = pytest.param(32 * MIB, id="32 MiB", marks=pytest.mark.slow)
POOLED = pytest.mark.parametrize("size", [_1_MIB, _32_MIB])
ORDINARY = pytest.mark.parametrize("size", [_1_MIB, _8_MIB])


def copies(nbytes: int) -> Round:
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    return each(lambda: np.copyto(target, source), COPIES)


@pytest.fixture
def hero() -> Iterator[RemoteHERO]:
    with served() as proxy:
        yield proxy


@contextmanager
def served() -> Iterator[RemoteHERO]:
    """A HERO of another process, called until it is warm."""
    with Child(SERVING, "serve", "bench") as child:
        child.ready()
        proxy = RemoteHERO("bench")
        assert transport_of(proxy) == "shm"
        for _ in range(WARM_UP):
            assert proxy.add(1, 2) == 3
        yield proxy


def test_add(compare: Compare, hero: RemoteHERO) -> None:
    with pipe() as reference:
        compare(each(partial(hero.add, 1, 2), CALLS), each(reference, CALLS), "Pipe round trip")


def test_add_above_the_floor(compare: Compare, hero: RemoteHERO) -> None:
    with spin_word(TURNS) as reference:
        compare(each(partial(hero.add, 1, 2), CALLS), reference, "spin on a word")


def test_add_above_packing(compare: Compare, hero: RemoteHERO) -> None:
    """The one reference of a call that no neighbour and no arrangement of the processors changes."""

    def packing() -> None:
        unpackb(packb(((1, 2), {})))
        unpackb(packb(3))

    compare(each(partial(hero.add, 1, 2), CALLS), loop(packing, CALLS), "msgpack, both ways")


def test_read(compare: Compare, hero: RemoteHERO) -> None:
    with pipe() as reference:
        compare(each(lambda: hero.gain, CALLS), each(reference, CALLS), "Pipe round trip")


@POOLED
def test_pooled_result(compare: Compare, hero: RemoteHERO, size: int) -> None:
    case, reference = partial(hero.pooled, size), partial(hero.pooled, 1 << 10)
    compare(each(case, CALLS), each(reference, CALLS), "the same of 1 KiB")


@POOLED
def test_pooled_argument(compare: Compare, hero: RemoteHERO, size: int) -> None:
    """The same array again and again: what is sent is not looked at, and not written to."""
    array, small = empty(size, np.uint8), empty(1 << 10, np.uint8)
    compare(each(lambda: hero.take(array), CALLS), each(lambda: hero.take(small), CALLS), "the same of 1 KiB")


@ORDINARY
def test_ordinary_result(compare: Compare, hero: RemoteHERO, size: int) -> None:
    compare(each(partial(hero.ordinary, size), COPIES), copies(size), "np.copyto")


@ORDINARY
def test_ordinary_argument(compare: Compare, hero: RemoteHERO, size: int) -> None:
    array = np.ones(size, np.uint8)
    compare(each(lambda: hero.take(array), COPIES), copies(size), "np.copyto")


def test_add_after_silence(compare: Compare, hero: RemoteHERO) -> None:
    silence = partial(time.sleep, SILENCE_SECONDS)
    with bells() as reference:
        case = each(partial(hero.add, 1, 2), SILENCES, before=silence)
        compare(case, each(reference, SILENCES, before=silence), "eventfd, as long silent")


def test_oneway(compare: Compare, hero: RemoteHERO) -> None:
    """Bursts that fit into the ring, with a call after each, so that none waits for room."""
    burst = 100
    send = loop(partial(hero.add.oneway, 1, 2), burst)

    def case() -> float:
        taken = send()
        hero.add(1, 2)
        return taken

    compare(case, each(partial(hero.add, 1, 2), CALLS), "hero.add(1, 2)")
