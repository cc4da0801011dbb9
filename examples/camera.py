"""A camera whose frames reach every process on this computer without being copied.

A FramePool hands out arrays that lie in shared memory. A driver fills one in place, the event sends it, and whoever
receives it looks at the very same bytes. A frame that was sent can no longer be written; its place is used again when
the camera and all viewers have let go of it. Leave this running, and start camera_viewer.py. Ctrl-C ends it.
"""

import time

import numpy as np

from heros import LocalHERO, event
from heros.inspect import local_only
from heros.shm import FramePool


class Camera(LocalHERO):
    exposure: float = 0.01

    def __init__(self, name: str, shape: tuple[int, int] = (512, 512)) -> None:
        self._pool = FramePool(shape, np.uint16, 8)
        self._number = 0
        super().__init__(name)

    @event
    def frame(self, image: np.ndarray) -> np.ndarray:
        """A new image; its first pixel is its number."""
        return image

    @local_only
    def expose(self) -> None:
        image = self._pool.acquire_nowait()
        if image is None:  # the viewers hold all eight: skip one rather than wait
            return
        image[:] = np.random.poisson(100 * self.exposure)  # here the hardware would write
        image[0, 0] = self._number
        self._number += 1
        self.frame(image)


with Camera("camera") as camera:
    print("The HERO 'camera' is there. Ctrl-C withdraws it.", flush=True)
    try:
        while True:
            time.sleep(camera.exposure)
            camera.expose()
    except KeyboardInterrupt:
        print("The HERO 'camera' is gone.")
