"""The other process of a benchmark: a HERO with what calls and events need, or a subscriber to one.

python serving.py serve NAME
python serving.py follow NAME HOW_OFTEN
"""

from __future__ import annotations

import sys

import numpy as np

from heros import LocalHERO, RemoteHERO, event
from heros.shm import FramePool

MESSAGE = bytes(64)
MIB = 1 << 20
FRAMES = 64
"""In a pool of frames of up to ``MIB``; of larger ones there are few."""
FEW_FRAMES = 4


class Bench(LocalHERO):
    gain: float = 1.5

    def __init__(self, name: str) -> None:
        self._pools: dict[int, FramePool] = {}
        self._arrays: dict[int, np.ndarray] = {}
        super().__init__(name)

    def add(self, a: int, b: int) -> int:
        return a + b

    def pooled(self, nbytes: int) -> np.ndarray:
        return self._frame(nbytes)

    def ordinary(self, nbytes: int) -> np.ndarray:
        return self._array(nbytes)

    def take(self, array: np.ndarray) -> None:
        """An argument that is not looked at."""

    def publish_small(self, count: int) -> None:
        for _ in range(count):
            self.sample(MESSAGE)

    def publish_pooled(self, count: int, nbytes: int) -> None:
        for _ in range(count):
            self.sample(self._frame(nbytes))

    def publish_ordinary(self, count: int, nbytes: int) -> None:
        array = self._array(nbytes)
        for _ in range(count):
            self.sample(array)

    def _frame(self, nbytes: int) -> np.ndarray:
        pool = self._pools.get(nbytes)
        if pool is None:
            pool = self._pools[nbytes] = FramePool(nbytes, np.uint8, FRAMES if nbytes <= MIB else FEW_FRAMES)
        return pool.acquire()

    def _array(self, nbytes: int) -> np.ndarray:
        if nbytes not in self._arrays:
            self._arrays[nbytes] = np.ones(nbytes, np.uint8)
        return self._arrays[nbytes]

    @event
    def sample(self, value: object) -> object:
        return value


class Follower(LocalHERO):
    """Follows the samples of another HERO, with so many subscriptions, and says how many have come."""

    def __init__(self, name: str, how_often: int) -> None:
        self._seen = 0
        self._proxies = [RemoteHERO(name) for _ in range(how_often)]
        for proxy in self._proxies:
            proxy.sample.connect(self._see)
        super().__init__(f"{name}-follower")

    def _see(self, _: object) -> None:
        self._seen += 1

    def seen(self) -> int:
        return self._seen


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        hero: LocalHERO = Bench(sys.argv[2])
    else:
        hero = Follower(sys.argv[2], int(sys.argv[3]))
    print("READY", flush=True)
    sys.stdin.read()
    hero._destroy_hero()
