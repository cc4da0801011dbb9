"""The HERO ``camera``: publishes numbered frames out of a ``FramePool`` as fast as it can, and waits for nobody."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heros.demo.frames import SHAPE, Scene
from heros.demo.measured import Acquisition
from heros.demo.photos import mosaic
from heros.event import event
from heros.inspect import local_only
from heros.local import LocalHERO
from heros.shm import FramePool

__all__ = ["Camera"]

POOL_FRAMES: Final = 256
"""Frames of 1 MiB. Each of three readers may hold 64 MiB on the way to it; the rest is for the camera."""


class Camera(LocalHERO):
    """A camera that looks at the photographs."""

    exposure: float = 0.0
    """Least time from one frame to the next, in seconds; 0: as fast as it can."""

    def __init__(self, name: str, realm: str) -> None:
        self._scene = Scene(mosaic())
        self._pool = FramePool(SHAPE, np.uint8, POOL_FRAMES)
        self._overrun = np.empty(SHAPE, np.uint8)
        self._number = 0
        super().__init__(name, realm=realm)

    def add(self, a: int, b: int) -> int:
        """The sum of two numbers: the smallest useful call."""
        return a + b

    def published(self) -> int:
        """How many frames have been published; also the number of the last one."""
        return self._number

    @event
    def frames(self, number: int, checksum: int, image: NDArray[np.uint8]) -> dict[str, Any]:
        """A frame: ``number`` counts from 1, ``checksum`` is the CRC-32 of ``image``, a (1024, 1024) uint8 array."""
        return {"number": number, "checksum": checksum, "image": image}

    @local_only
    def acquire(self, seconds: float) -> Acquisition:
        """Publish frames for so long. When readers hold every frame of the pool, frames are skipped and counted."""
        first, skipped, longest = self._number, 0, 0.0
        begin = now = time.perf_counter()
        while now - begin < seconds:
            image = self._pool.acquire_nowait()
            if image is None:
                # The sensor reads out at its own pace, whether or not there is a place for the image.
                self._scene.expose(self._overrun, self._number + 1)
                skipped += 1
            else:
                checksum = self._scene.expose(image, self._number + 1)
                self._number += 1
                before = time.perf_counter()
                self.frames(self._number, checksum, image)
                longest = max(longest, time.perf_counter() - before)
            if self.exposure > 0:
                time.sleep(self.exposure)
            now = time.perf_counter()
        return Acquisition(self._number - first, now - begin, longest, skipped)
