"""This package, over shared memory or over the network, and the original: they have the same API."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer import FIRST, LAST, Client, Server, checksum, content, main

import heros

Array = NDArray[np.uint8]

POOL_BYTES = 128 << 20
"""A pool is as large as that, and has 4 to 128 frames: one reader may hold half of them."""


@functools.cache
def ordinary(nbytes: int) -> Array:
    """An array of the program's own, made once."""
    return np.frombuffer(content(nbytes), np.uint8).copy()


@functools.cache
def pool(nbytes: int) -> Any:
    """A pool whose memory has been written to; NotImplementedError where there are no pools."""
    if not hasattr(heros, "shm"):
        raise NotImplementedError
    frames = heros.shm.FramePool(nbytes, np.uint8, max(4, min(128, POOL_BYTES // nbytes)))
    all_of_them = [frames.acquire() for _ in range(frames.count)]
    for frame in all_of_them:
        frame[:] = ordinary(nbytes)
    return frames


def pooled(nbytes: int) -> Array:
    """A frame whose two ends are written, as if it had been filled."""
    frame: Array = pool(nbytes).acquire(10)
    frame[0], frame[-1] = FIRST, LAST
    return frame


class Bench(heros.LocalHERO):
    def add(self, a: int, b: int) -> int:
        return a + b

    def ordinary(self, nbytes: int) -> Array:
        return ordinary(nbytes)

    def pooled(self, nbytes: int) -> Array:
        return pooled(nbytes)

    def take(self, array: Array) -> int:
        return checksum(array)

    @heros.event
    def sample(self, data: Any) -> Any:
        return data


class HEROSServer(Server):
    distributions = ("heros", "eclipse-zenoh")

    def open(self) -> None:
        self._hero = Bench("bench")

    def close(self) -> None:
        self._hero._destroy_hero()

    def publisher(self, nbytes: int, memory: str) -> Callable[[], None]:
        sample = self._hero.sample
        if memory == "pooled":
            pool(nbytes)
            return lambda: sample(pooled(nbytes))
        return functools.partial(sample, content(nbytes) if nbytes < 1024 else ordinary(nbytes))


class HEROSClient(Client):
    distributions = ("heros", "eclipse-zenoh")

    def open(self) -> None:
        self._hero: Any = heros.RemoteHERO("bench")
        self._hero.add(1, 2)
        if (expected := self.options.get("transport")) and (used := heros.transport_of(self._hero)) != expected:
            raise RuntimeError(f"calls go over {used}, not over {expected}")

    def close(self) -> None:
        self._hero._destroy_hero()

    def adder(self) -> Callable[[int, int], int]:
        return self._hero.add  # type: ignore[no-any-return]

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        if memory == "pooled":
            pool(1024)  # is there such a thing?
        return functools.partial(getattr(self._hero, memory), nbytes)

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        take = self._hero.take
        if memory == "pooled":
            pool(nbytes)
            return lambda: take(pooled(nbytes))  # type: ignore[no-any-return]
        return functools.partial(take, ordinary(nbytes))

    def subscriber(self, nbytes: int, memory: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        if memory == "pooled":
            pool(1024)
        sample = self._hero.sample
        sample.connect(callback)
        return functools.partial(sample.disconnect, callback)


main(HEROSServer, HEROSClient)
